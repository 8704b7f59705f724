/* A script of operations, read from bytes: everything that a process does with a table, as the
 * binding does it. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include "fuzz.h"
#include "promises.h"

#define SCRIPT_BUCKETS 3
#define SCRIPT_KEYS 60 /* more than fit */
#define SCRIPT_PEERS 3
#define SCRIPT_NAME(bucket) (UINT64_C(101) + (bucket))
#define SCRIPT_EPOCH(peer, life) (UINT64_C(0xa00) * (peer) + (life))
#define SCRIPT_DECISIONS 8
#define SCRIPT_FRAME 2048

typedef struct {
    outcome_t o;
    uint32_t slot;
    uint64_t lo, hi;
    int64_t left;
} decision_t;

typedef struct {
    table_t *t;
    bytes_t in;
    /* The table may hold any numbers, so that answers mean nothing. */
    int damaged;
    int64_t place; /* where columns of the dead are removed next */
    uint32_t decisions;
    decision_t decision[SCRIPT_DECISIONS];
    /* The sender of the frames that come next, see script_frames.h. */
    merge_context_t sender;
    int hides, relays;
    uint32_t leaver; /* the node that is being given up, 0: none */
    int64_t given_up, near, settled;
    int cancelled;
} script_t;

static void script_fill(table_t *t)
{
    rig_define(t, SCRIPT_NAME(0), 100, SECOND, 1);
    rig_define(t, SCRIPT_NAME(1), 10, SECOND, 3);
    rig_define(t, SCRIPT_NAME(2), 1000000, 1000, 7);
    for (uint32_t peer = 1; peer <= SCRIPT_PEERS; peer++)
        for (uint32_t life = 0; life < 2; life++)
            t->nodes[peer] =
                (node_t){.last_seen = NOW,
                         .known_by = BY_LINK,
                         .connected = peer > 1,
                         .origin = (uint16_t)origin_add(t, peer, SCRIPT_EPOCH(peer, life))};
}

/* ---- takes and what follows on them ---- */

static uint64_t script_key(script_t *s, uint64_t *lo, uint64_t *hi)
{
    uint32_t which = choose(&s->in, SCRIPT_BUCKETS * SCRIPT_KEYS);
    uint64_t name = SCRIPT_NAME(which % SCRIPT_BUCKETS);
    key_hash(name, (int)(which / SCRIPT_BUCKETS), lo, hi);
    return name;
}

/* The definition that a key has now, NONE when its bucket is gone. */
static uint32_t script_slot(const table_t *t, uint64_t name, uint64_t hi)
{
    uint32_t slot = definition_current(t, name);
    return slot == NONE ? NONE : definition_for(t, slot, hi);
}

static int64_t script_cost(script_t *s, const definition_t *d)
{
    int64_t most = d->capacity, n = (int64_t)(choose_number(&s->in) & INT64_MAX);
    return n < 1 ? 1 : n > most ? most : n;
}

static void script_take(script_t *s)
{
    table_t *t = s->t;
    decision_t x = {0};
    uint64_t name = script_key(s, &x.lo, &x.hi), word;
    uint32_t e, gone;
    if ((x.slot = script_slot(t, name, x.hi)) == NONE)
        return;
    definition_t *d = &t->definitions[x.slot];
    x.left = script_cost(s, d);
    int64_t now = clock_ns(t);
    for (int locked = 0; (e = entry_at_hand(t, x.lo, x.hi, x.slot, &word)) == NONE
                         || take(t, d, e, x.left, 0, now, word, &x.o) == NEEDS_LOCK;
         locked++) {
        CHECK(locked < 3, "a key is stuck");
        table_lock(t);
        int got = entry_for_take(t, d, x.slot, x.lo, x.hi, x.left, now, &e, &gone);
        table_unlock(t);
        if (got != ALLOWED)
            return;
    }
    CHECK(is_attempted(t, e), "an attempt is not marked");
    CHECK(s->damaged || x.o.allowed || x.o.wait_ns > 0, "denied, to come back after %ld ns",
          (long)x.o.wait_ns);
    CHECK(s->damaged
              || (x.o.debt_ns >= 0
                  && (!x.o.allowed
                      || (i128)x.o.debt_ns * d->p + x.o.rest <= full_units(d) + slack_units(d))),
          "a debt of %ld ns", (long)x.o.debt_ns);
    if (x.o.allowed)
        s->decision[s->decisions++ % SCRIPT_DECISIONS] = x;
}

static void script_refund(script_t *s)
{
    table_t *t = s->t;
    decision_t *x = &s->decision[choose(&s->in, SCRIPT_DECISIONS)];
    int64_t n = x->left < 1 ? 0 : 1 + (int64_t)(choose_number(&s->in) % (uint64_t)x->left);
    if (!n)
        return;
    x->left -= n;
    table_lock(t);
    uint32_t e = table_find(t, x->lo, x->hi);
    if (e != NONE && still_charged(t, e, x->o.generation, x->o.origin, x->slot))
        refund_if_charged(t, &t->definitions[x->slot], e, x->o.full_count, n, clock_ns(t));
    table_unlock(t);
}

/* The current entry of a key, made with `make`; NONE when there is none. The lock is held. */
static uint32_t script_entry(script_t *s, int make, definition_t **d)
{
    table_t *t = s->t;
    uint64_t lo, hi, name = script_key(s, &lo, &hi);
    uint32_t slot = script_slot(t, name, hi), e, gone;
    if (slot == NONE)
        return NONE;
    *d = &t->definitions[slot];
    e = table_find(t, lo, hi);
    if (e == NONE && make)
        return entry_for_take(t, *d, slot, lo, hi, 1, clock_ns(t), &e, &gone) == ALLOWED ? e : NONE;
    return e != NONE && entry_renew(t, e, slot, clock_ns(t)) ? e : NONE;
}

static void script_on_entry(script_t *s)
{
    table_t *t = s->t;
    definition_t *d;
    outcome_t o;
    uint32_t what = choose(&s->in, 6), e;
    int64_t n = (int64_t)(choose_number(&s->in) & (UINT64_MAX >> 2)), most = INT64_C(1) << 53;
    table_lock(t);
    if ((e = script_entry(s, what > 1, &d)) != NONE)
        switch (what) {
        case 0:
            reset(t, d, e, INT64_MAX, clock_ns(t));
            break;
        case 1:
            peek(t, d, e, 1 + n % d->capacity, 0, clock_ns(t), &o);
            break;
        case 2:
            settle(t, d, e, n, clock_ns(t));
            break;
        case 3:
            book(t, d, e, n % most, n % most, clock_ns(t));
            break;
        case 4:
            book(t, d, e, n % most, 0, clock_ns(t));
            break;
        default:
            count_offered(t, d, e, n % most, 0);
        }
    table_unlock(t);
}

#endif
