/* The decision on a take. */
#ifndef CRDTBUCKET_LEVEL_TAKE_H
#define CRDTBUCKET_LEVEL_TAKE_H

#include "evict.h"
#include "verdict.h"

typedef struct {
    /* Confirmed debt after the decision: ns and, in 1/p ns, what is beyond. */
    int64_t debt_ns, rest;
    /* Denied: until the same cost would pass if nothing else happened. */
    int64_t wait_ns;
    uint32_t full_count, generation;
    uint16_t origin;
    int allowed;
} outcome_t;

enum { ALLOWED = 1, DENIED = 0, NEEDS_LOCK = -1 };

static inline void outcome_debt(const definition_t *d, outcome_t *o, i128 units)
{
    if (units < 0)
        units = 0;
    if (d->p == 1) {
        o->debt_ns = (int64_t)units;
        o->rest = 0;
    } else {
        o->debt_ns = (int64_t)(units / d->p);
        o->rest = (int64_t)(units % d->p);
    }
}

static inline void count_offered(table_t *t, definition_t *d, uint32_t e, int64_t n, int allowed)
{
    hot_t *hot = &t->hot[e];
    if (!allowed && only_here(t))
        STORE(hot->denied, hot->denied + n);
    else if (!allowed)
        ADD(hot->denied, n);
    else if (UNLIKELY(admitted_since(hot) >= d->flush_tokens) && !(LOAD(hot->flags) & ENTRY_FLUSH)
             && !(OR(hot->flags, ENTRY_FLUSH) & ENTRY_FLUSH)) {
        uint32_t slot = ADD(t->h->flush_count, 1);
        if (slot < FLUSH_SLOTS)
            STORE(t->flush[slot], e);
        STORE(t->h->flush_wanted, 1);
    }
    mark_attempted(t, e);
}

/* A decision stands while the entry has the revision that `word` shows; else it is made anew. */
static inline int decided(const hot_t *hot, uint64_t word, int allowed)
{
    return LIKELY(same_revision(word, LOAD(hot->word))) ? allowed : NEEDS_LOCK;
}

/* A take on which more decides than the debt, see `is_plain`. */
static int take_slow(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t floor, int64_t now,
                     uint64_t first, outcome_t *o)
{
    hot_t *hot = &t->hot[e];
    for (;;) {
        prediction_t p = predict(t, e, d, now);
        advance_in(t, e, first, d, least_units(d, &p), now);
        uint64_t word = LOAD(hot->word);
        if (UNLIKELY(!same_revision(first, word)))
            return NEEDS_LOCK;
        i128 debt = debt_units(d, LOAD(hot->base), net_of(word), now);
        verdict_t v = judge(t, e, d, &p, debt, net_of(word), n, floor, now);
        if (v.wait_ns > 0) {
            o->wait_ns = v.wait_ns;
            outcome_debt(d, o, debt);
            /* No reserve is kept for what leaves its tokens to others. */
            if (v.over && !floor && cost_class(n) > LOAD(hot->wanted))
                STORE(hot->wanted, cost_class(n));
            return decided(hot, word, DENIED);
        }
        /* Before the take: what fills the bucket later, it must not hide. */
        o->full_count = LOAD(hot->full_count);
        if (CAS(hot->word, word, word + (uint64_t)n)) {
            outcome_debt(d, o, debt + token_units(d, n));
            if (UNLIKELY(v.guaranteed))
                count_guaranteed(t, d);
            return ALLOWED;
        }
    }
}

/* Raises the base of a full bucket, so that its debt is 0. DENIED: another take changed the entry,
 * and `*word` is what it is now. NEEDS_LOCK: the entry has another revision than `first`. */
static inline int keep_full(const table_t *t, hot_t *hot, int64_t base, int64_t raised,
                            uint64_t first, uint64_t *word)
{
    /* This is read after the base, so the base belonged to this revision and this net. */
    uint64_t latest = only_here(t) ? *word : LOAD(hot->word);
    if (UNLIKELY(latest != *word)) {
        if (!same_revision(first, latest))
            return NEEDS_LOCK;
        *word = latest;
        return DENIED;
    }
    count_full(t, hot);
    return base_swap(t, hot, base, raised) ? ALLOWED : DENIED;
}

/* Whether the debt alone decides on a key: it is whole ns, time runs (definitions of calendar
 * periods have p = 2, see `BucketSpec.emission`), and no silent peer counts. */
static inline int is_plain(const table_t *t, const definition_t *d, const hot_t *hot, int64_t now)
{
    const header_t *h = t->h;
    return LIKELY(d->p == 1 && now >= LOAD(h->warming_up_until)
                  && (now < LOAD(h->far_free_until) || !(LOAD(hot->flags) & ENTRY_RATED)));
}

/* Whether `room` ns beside the cost are enough for what is predicted by `near_class`. */
static inline int has_room(const definition_t *d, int near_class, int64_t room)
{
    int64_t near = near_class ? INT64_C(1) << (near_class - 1) : 0;
    return LIKELY(room >= 0) && (!near_class || (near <= d->capacity && near * d->q <= room));
}

/* Decides on an entry that was found open, with its word as it was then. NEEDS_LOCK: it has become
 * another since. */
static inline int take_level(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t now,
                             uint64_t word, outcome_t *o)
{
    hot_t *hot = &t->hot[e];
    /* Another process may have lowered the capacity since the cost was checked. */
    if (UNLIKELY(!is_plain(t, d, hot, now) || n > d->capacity))
        return take_slow(t, d, e, n, 0, now, word, o);
    for (uint64_t first = word;;) {
        int64_t base = LOAD(hot->base);
        uint64_t charged = (word & TOKEN_MASK) * (uint64_t)d->q;
        int64_t debt = (int64_t)((uint64_t)base + charged - (uint64_t)now);
        /* Full: the usual case of a lightly used key. */
        if (debt < 0) {
            int filled = keep_full(t, hot, base, (int64_t)((uint64_t)now - charged), first, &word);
            if (UNLIKELY(filled != ALLOWED)) {
                if (filled == NEEDS_LOCK)
                    return NEEDS_LOCK;
                continue;
            }
            debt = 0;
        } else if (UNLIKELY(debt > d->cap_ns))
            return take_slow(t, d, e, n, 0, now, first, o);
        int near_class = LOAD(hot->near_class);
        int64_t room = d->full_ns - debt - n * d->q;
        if (has_room(d, near_class, room)) {
            /* Before the take: what fills the bucket later, it must not hide. */
            o->full_count = LOAD(hot->full_count);
            if (LIKELY(word_swap(t, hot, &word, word + (uint64_t)n))) {
                o->debt_ns = debt + n * d->q;
                o->rest = 0;
                return ALLOWED;
            }
            if (UNLIKELY(!same_revision(first, word)))
                return NEEDS_LOCK;
            continue;
        }
        if (near_class || (t->h->members > 1 && t->cold[e].behind > 0))
            return take_slow(t, d, e, n, 0, now, first, o);
        o->wait_ns = -room;
        o->debt_ns = debt;
        o->rest = 0;
        return decided(hot, first, DENIED);
    }
}

/* The entry of a key for a take here, made when there is none. DENIED: there is no room, or a node
 * without memory may not serve so much. */
static int entry_for_take(table_t *t, definition_t *d, uint32_t bucket, uint64_t lo, uint64_t hi,
                          int64_t n, int64_t now, uint32_t *entry, uint32_t *gone)
{
    uint32_t e = table_find(t, lo, hi);
    *gone = NONE;
    *entry = e;
    if (LIKELY(e != NONE && entry_current(t, e, bucket)))
        return ALLOWED;
    if (e != NONE)
        return entry_renew(t, e, bucket, now) ? ALLOWED : DENIED;
    if (warm_up_wait(t, d, n, now) > 0)
        return DENIED;
    room_t room;
    *entry = entry_obtain(t, lo, hi, bucket, 0, 1, now, &room);
    *gone = room.gone;
    return *entry == NONE ? DENIED : ALLOWED;
}

/* A take that leaves `floor` tokens to others. NEEDS_LOCK: the entry has become another since
 * `word` was read. */
static inline int take(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t floor,
                       int64_t now, uint64_t word, outcome_t *o)
{
    hot_t *hot = &t->hot[e];
    /* When the entry changes to another revision meanwhile, the take is not decided. */
    o->generation = LOAD(hot->generation);
    o->origin = LOAD(hot->origin);
    o->allowed = UNLIKELY(floor) ? take_slow(t, d, e, n, floor, now, word, o)
                                 : take_level(t, d, e, n, now, word, o);
    if (LIKELY(o->allowed >= 0))
        count_offered(t, d, e, n, o->allowed);
    return o->allowed;
}

#endif
