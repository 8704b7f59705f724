/* The rest of what a script may do, and its interpreter. */
#ifndef SCRIPT_RUN_H
#define SCRIPT_RUN_H

#include "script_frames.h"

#define SCRIPT_STEPS 100

/* ---- definitions ---- */

static void script_define(script_t *s)
{
    table_t *t = s->t;
    uint64_t name = SCRIPT_NAME(choose(&s->in, SCRIPT_BUCKETS));
    /* 1 G/s at most. */
    int64_t p = 1 + choose(&s->in, 7), q = p + (int64_t)(choose_number(&s->in) & UINT32_MAX);
    int64_t capacity = 1 + (int64_t)(choose_number(&s->in) & 0xfffff),
            quota = choose(&s->in, 8) * 5;
    uint32_t how = choose(&s->in, 8), slot, old;
    definition_t made = {.q = q,
                         .p = p,
                         .capacity = capacity,
                         .max_debt = capacity * (how & 1),
                         .name_hash = name,
                         .next = NONE,
                         .candidate = NONE,
                         .ring = NONE,
                         .quota = quota ? quota : INT64_MAX,
                         .per_second = 1e9 * (double)p / (double)q,
                         .flush_tokens = capacity / 20 + 1,
                         .definition_hash = name ^ (uint64_t)q,
                         .staged = how >> 1 & 1};
    made.full_ns = (int64_t)((i128)q * capacity / p);
    made.cap_ns = (int64_t)((i128)q * (capacity + made.max_debt) / p);
    table_lock(t);
    old = definition_current(t, name);
    if (made.staged && old != NONE) { /* for some of its keys */
        slot = t->definitions[old].candidate;
        if ((slot == NONE || !same_definition(&t->definitions[slot], &made))
            && (old = definition_free_slot(t, clock_ns(t))) != NONE) {
            definition_place(t, old, &made, slot, clock_ns(t));
            slot = old;
        }
        if (slot != NONE && (old = definition_current(t, name)) != NONE)
            definition_stage(t, old, slot, choose_word(&s->in, 8) >> 1, clock_ns(t));
    } else if ((slot = definition_free_slot(t, clock_ns(t))) != NONE) {
        uint32_t candidate = old == NONE ? NONE : t->definitions[old].candidate;
        made.staged = 0;
        /* As in the binding, the candidate ends first. */
        if (candidate != NONE)
            definition_retire(t, candidate, old, clock_ns(t));
        if (old != NONE) {
            made.earlier_count = t->definitions[old].earlier_count;
            memcpy(made.earlier, t->definitions[old].earlier, sizeof made.earlier);
            earlier_follow(&made, &t->definitions[old], 1, clock_ns(t));
        }
        definition_place(t, slot, &made, old, clock_ns(t));
    }
    table_unlock(t);
}

static void script_unstage(script_t *s)
{
    table_t *t = s->t;
    uint32_t keep = choose(&s->in, 2), base, candidate;
    table_lock(t);
    base = definition_current(t, SCRIPT_NAME(choose(&s->in, SCRIPT_BUCKETS)));
    if (base != NONE && (candidate = t->definitions[base].candidate) != NONE)
        definition_retire(t, keep ? base : candidate, keep ? candidate : base, clock_ns(t));
    table_unlock(t);
}

/* ---- time, peers and epochs ---- */

static void script_clock(script_t *s)
{
    table_t *t = s->t;
    uint32_t how = choose(&s->in, 8);
    int64_t ns = (int64_t)(choose_number(&s->in) & ((UINT64_C(1) << 50) - 1));
    t->virtual_ns += how & 4 ? ns : ns % SECOND;
    if (how == 3) {
        t->virtual_ns += ns;
        table_lock(t);
        shift_all(t, ns, t->virtual_ns, t->virtual_ns);
        table_unlock(t);
    }
}

static void script_peer(script_t *s)
{
    table_t *t = s->t;
    uint32_t how = choose(&s->in, 16), peer = 1 + choose(&s->in, SCRIPT_PEERS);
    node_t *n = &t->nodes[peer];
    uint64_t epoch = SCRIPT_EPOCH(peer, choose(&s->in, 6));
    table_lock(t);
    if (how == 15) {
        forget_node(t, peer, clock_ns(t));
        n->connected = n->known_by = 0;
    } else {
        script_join(t, peer, epoch);
        n->connected = how & 1;
        if (how & 4)
            n->last_seen = clock_ns(t);
    }
    refresh_far(t);
    table_unlock(t);
}

static void script_mark(script_t *s)
{
    table_t *t = s->t;
    uint32_t origin = choose(&s->in, 16);
    if (!t->origins[origin].used || origin == t->h->own_origin)
        return;
    for (int i = 1; i <= SCRIPT_PEERS; i++)
        if (t->nodes[i].known_by && t->nodes[i].origin == origin)
            return; /* it lives */
    table_lock(t);
    if (!t->origins[origin].tombstone)
        t->origins[origin].tombstone = TOMBSTONE_NEW;
    else if (!origin_release(t, origin))
        s->place = prune_some(t, s->place > 0 ? s->place : 0, 10);
    table_unlock(t);
}

static void script_header(script_t *s)
{
    header_t *h = s->t->h;
    switch (choose(&s->in, 4)) {
    case 0:
        h->warming_up_since = clock_ns(s->t);
        h->warming_up_until = h->warming_up_since + choose(&s->in, 40) * SECOND / 10;
        break;
    case 1:
        h->members = 1 + choose(&s->in, 9);
        break;
    case 2:
        h->trust_ns = choose(&s->in, 2) ? INT64_MAX : choose(&s->in, 60) * SECOND;
        break;
    default:
        h->predict = choose(&s->in, 2);
    }
}

/* ---- upkeep ---- */

static void script_upkeep(script_t *s)
{
    table_t *t = s->t;
    uint32_t gone[STAGE_KEYS], what = choose(&s->in, 9);
    uint64_t sum, debt, next, first, last;
    static digest_item_t items[STAGE_KEYS + DIGEST_SLACK];
    table_lock(t);
    switch (what) {
    case 0:
        collect_all(t);
        break;
    case 1:
        collect_flush(t, clock_ns(t));
        break;
    case 2:
        log_trim(t, t->h->version - choose(&s->in, 8), INT64_MAX);
        break;
    case 3:
        sweep(t, choose(&s->in, STAGE_KEYS), clock_ns(t), gone);
        break;
    case 4:
        open_epoch(t);
        break;
    case 5:
    /* As after a kill: all of it follows from the entries. */
    case 8:
        table_rebuild(t);
        break;
    case 6:
        first = choose_word(&s->in, 8);
        last = choose_word(&s->in, 8);
        digest_range(t, first < last ? first : last, first < last ? last : first,
                     choose(&s->in, STAGE_KEYS), INT64_MAX, clock_ns(t), what & 1, items, &sum,
                     &debt, &next);
        break;
    default:
        t->h->open_tokens = choose(&s->in, 100);
    }
    table_unlock(t);
}

static void script_adopt(script_t *s)
{
    static comparison_t scratch;
    table_t *t = s->t;
    wire_column_t column[8];
    definition_t *d;
    uint32_t count = 0, e;
    int64_t debt = (int64_t)(choose_number(&s->in) & (UINT64_MAX >> 2));
    for (uint32_t origin = 1; origin < 8; origin++)
        if (t->origins[origin].used && choose(&s->in, 2)) {
            column[count] =
                (wire_column_t){origin, choose(&s->in, 3),
                                (int64_t)(choose_number(&s->in) & (UINT64_MAX >> 11)), 0};
            column[count].refunded = column[count].taken / (1 + choose(&s->in, 9));
            count++;
        }
    table_lock(t);
    if ((e = script_entry(s, 0, &d)) != NONE)
        adopt(t, e, debt, (int)choose(&s->in, 2), column, count, &scratch, clock_ns(t));
    table_unlock(t);
}

/* 32 places, by a number of five bits: kept inputs keep their meaning when one of several places
 * of an operation is given to a new one. */
static void (*const DEEDS[32])(script_t *s) = {
    script_take,     script_take,     script_take,     script_take,    script_take,
    script_take,     script_refund,   script_refund,   script_receive, script_receive,
    script_receive,  script_receive,  script_receive,  script_receive, script_receive,
    script_on_entry, script_on_entry, script_on_entry, script_clock,   script_clock,
    script_upkeep,   script_upkeep,   script_upkeep,   script_define,  script_define,
    script_unstage,  script_peer,     script_peer,     script_mark,    script_header,
    script_adopt,    script_adopt,
};

/* Operations that were added later; they have the last numbers of a byte. */
static void (*const LATER[])(script_t *s) = {script_sender, script_view, script_part};
#define FIRST_LATER (256 - sizeof LATER / sizeof *LATER)

/* Does what the bytes say, and calls `after` each time; without `after` the table is a damaged
 * one. */
static void script_run(table_t *t, bytes_t in, void (*after)(table_t *t))
{
    script_t s = {.t = t, .in = in, .damaged = !after};
    for (int steps = 0; steps < SCRIPT_STEPS && bytes_left(&s.in); steps++) {
        uint32_t deed = choose(&s.in, 256);
        (deed < FIRST_LATER ? DEEDS[deed % 32] : LATER[deed - FIRST_LATER])(&s);
        if (after)
            after(t);
    }
}

#endif
