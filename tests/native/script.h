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
            reset(t, d, e, clock_ns(t));
            break;
        case 1:
            peek(t, d, e, 1 + n % d->capacity, clock_ns(t), &o);
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

/* ---- frames ---- */

static wire_column_t script_column(script_t *s, const table_t *t, const wire_column_t *known)
{
    wire_column_t c = known ? *known : (wire_column_t){0};
    uint32_t how = choose(&s->in, 16);
    if (!known)
        c.origin = choose(&s->in, 12);
    if (how & 1)
        c.taken += (int64_t)(choose_number(&s->in) & TOKEN_MASK);
    if (how & 2)
        c.refunded += (int64_t)(choose_number(&s->in) & TOKEN_MASK);
    if (how & 4)
        c.generation += choose(&s->in, 4) - (c.generation > 0);
    if (how & 8)
        c.taken -= (int64_t)choose(&s->in, 100);
    c.origin += !c.origin && t->h->own_origin == 0;
    return c;
}

/* An entry as a peer might state it that knows what is known here, or something else. */
static uint8_t *script_state(script_t *s, uint8_t *out)
{
    table_t *t = s->t;
    wire_column_t column[WATCHED + 8], sorted[WATCHED + 8];
    wire_entry_t w = {.column = sorted};
    uint64_t name = script_key(s, &w.lo, &w.hi);
    uint32_t how = choose(&s->in, 16), e = table_find(t, w.lo, w.hi), count = 0,
             slot = script_slot(t, name, w.hi);
    w.definition = slot == NONE ? 0 : slot;
    if (e != NONE && (how & 1)) {
        count = columns_of(t, e, column, WATCHED);
        for (uint32_t i = 0; i < count; i++)
            column[i] = script_column(s, t, &column[i]);
    }
    for (uint32_t more = choose(&s->in, 8); more; more--)
        column[count++] = script_column(s, t, NULL);
    for (uint32_t place = 0; place < MAX_ORIGINS; place++)
        for (uint32_t i = 0; i < count; i++)
            if (column[i].origin == place && (!w.columns || sorted[w.columns - 1].origin != place))
                sorted[w.columns++] = column[i];
    w.flags = (uint8_t)((how & 2 ? WIRE_REFUNDS : 0) | (how & 4 ? WIRE_RATES : 0));
    w.debt_ns = (int64_t)(choose_number(&s->in) * (how & 8 ? 1 : SECOND / 16) & INT64_MAX);
    w.fast = (uint16_t)(how & 4 ? choose_word(&s->in, 2) : 0);
    w.slow = (uint16_t)(how & 4 ? choose_word(&s->in, 2) : 0);
    return write_entry(out, &w);
}

static void script_definitions(const table_t *t, uint32_t how, wire_definition_t *wd)
{
    for (uint32_t i = 0; i < t->h->definitions; i++) {
        const definition_t *d = &t->definitions[i];
        uint32_t newest = how & 1 ? i : definition_newest(t, i);
        wd[i] = (wire_definition_t){newest, !(how & 2) && newest == i, d->q, d->p, 0, NONE, 0};
        if (how & 4)
            wd[i] = (wire_definition_t){i % 3 ? newest : NONE, 0, 1 + d->q / 3, d->p, 0, NONE, 0};
        if (wd[i].bucket != NONE && t->definitions[newest].candidate < MAX_DEFINITIONS) {
            wd[i].candidate = t->definitions[newest].candidate;
            wd[i].candidate_below = t->definitions[newest].candidate_below;
            wd[i].candidate_same = how & 1;
        }
    }
}

static size_t script_frame(script_t *s, uint8_t *frame)
{
    uint8_t *end = frame;
    uint32_t entries = choose(&s->in, 5);
    if (!entries) { /* as it stands in the script */
        size_t size = choose(&s->in, 200);
        size = size < bytes_left(&s->in) ? size : bytes_left(&s->in);
        memcpy(frame, s->in.at, size);
        s->in.at += size;
        return size;
    }
    while (entries--)
        end = script_state(s, end);
    return (size_t)(end - frame);
}

/* A peer is heard under this epoch. Returns its origin. */
static uint32_t script_join(table_t *t, uint32_t peer, uint64_t epoch)
{
    node_t *n = &t->nodes[peer];
    uint32_t origin = origin_find(t, epoch);
    if (!origin)
        origin = origin_add(t, peer, epoch);
    if (!n->known_by)
        n->last_seen = clock_ns(t);
    n->known_by = BY_LINK;
    n->origin = (uint16_t)origin;
    t->origins[origin].tombstone = 0; /* it is back */
    return origin;
}

static void script_receive(script_t *s)
{
    static uint8_t frame[SCRIPT_FRAME * 4];
    static wire_definition_t wd[MAX_DEFINITIONS];
    table_t *t = s->t;
    uint16_t origins[MAX_ORIGINS];
    uint32_t how = choose(&s->in, 128), peer = 1 + how % SCRIPT_PEERS;
    if (!t->nodes[peer].known_by)
        script_join(t, peer, SCRIPT_EPOCH(peer, 1));
    merge_context_t m = {.source = peer,
                         .source_origin = t->nodes[peer].origin,
                         .at = clock_ns(t) - choose(&s->in, 200) * SECOND / 100,
                         .newer = how & 1,
                         .joining = how >> 1 & 1};
    for (uint32_t i = 0; i < MAX_ORIGINS; i++)
        origins[i] = (uint16_t)(t->origins[i].used ? i : 0);
    /* A snapshot of the running epoch is refused. */
    if (how & 64)
        origins[t->h->own_origin] = 0;
    wire_tables_t tables = {t->h->definitions, MAX_ORIGINS, origins};
    size_t size = script_frame(s, frame);
    read_t f;
    merge_out_t out;
    script_definitions(t, how >> 3, wd);
    check_spelling(frame, size, tables.definitions, tables.origins);
    read_frame(&f, frame, size, &tables);
    if (f.n > 0 && how & 64) {
        table_lock(t);
        for (int64_t i = 0; i < f.n; i++)
            restore_entry(t, &f.entries[i], &wd[f.entries[i].definition], i % 3 ? -1 : 0,
                          clock_ns(t));
        table_unlock(t);
    } else if (f.n > 0) {
        merge_all(t, &f, wd, &m, &out);
        free(out.answers);
    }
    read_free(&f);
}

#endif
