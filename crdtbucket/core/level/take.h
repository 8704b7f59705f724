/* The decision on a take: whether a call gets its tokens, and the charge. */
#ifndef CRDTBUCKET_LEVEL_TAKE_H
#define CRDTBUCKET_LEVEL_TAKE_H

#include "evict.h"
#include "taken.h"
#include "verdict.h"

/* The outcome of a take. */
typedef struct {
    /* The confirmed debt after the decision, without predictions: ns, and the units (0 to p - 1)
     * beyond them. */
    int64_t debt_ns, rest;
    /* Of a denied call: ns until the same cost would pass if nothing else happened. */
    int64_t wait_ns;
    /* What `hot_t` had of these at the decision: a refund compares them with what the entry has
     * then. */
    uint32_t full_count, generation;
    uint16_t origin;
    int allowed;
} outcome_t;

/* NEEDS_LOCK: nothing was decided, since the entry has changed; take the lock and begin again. */
enum { ALLOWED = 1, DENIED = 0, NEEDS_LOCK = -1 };

/* Writes a debt, in units, to the outcome; below zero counts as 0. */
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

/* Counts an attempt of `n` tokens after its decision: what was denied, for the rates; that the key
 * is to be sent with the next round; and, once enough was admitted and unsent, that it should be
 * sent early. */
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

/* Returns `allowed` if the entry still has the revision that `word` shows: then the decision
 * stands. Else NEEDS_LOCK. */
static inline int decided(const hot_t *hot, uint64_t word, int allowed)
{
    return LIKELY(same_revision(word, LOAD(hot->word))) ? allowed : NEEDS_LOCK;
}

/* A take on which more decides than the debt (see `is_plain`): predictions, a floor, a guaranteed
 * share, fractions of a ns, or a warm-up. `first` is the word of the entry when it was found.
 * Returns ALLOWED, DENIED or NEEDS_LOCK. */
static int take_slow(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t floor, int64_t now,
                     uint64_t first, outcome_t *o)
{
    hot_t *hot = &t->hot[e];
    for (;;) {
        prediction_t p = predict(t, e, d, now);
        if (has_noted(t, e))
            owe_noted(t, e, first, d, far_units(d, p.far), now);
        advance_in(t, e, first, d, least_units(d, &p), now);
        uint64_t word = LOAD(hot->word);
        if (UNLIKELY(!same_revision(first, word)))
            return NEEDS_LOCK;
        i128 debt = debt_units(d, LOAD(hot->base), net_of(word), now);
        verdict_t v = judge(t, e, d, &p, debt, net_of(word), n, floor, now);
        /* A call that leaves tokens to others (`floor`) does not get a reserve for itself. */
        if (!floor && cost_class(n) > LOAD(hot->wanted))
            STORE(hot->wanted, cost_class(n));
        if (v.wait_ns > 0) {
            o->wait_ns = v.wait_ns;
            outcome_debt(d, o, debt);
            return decided(hot, word, DENIED);
        }
        /* Read before the take: if the bucket becomes full right after it, a refund must see
         * that. */
        o->full_count = LOAD(hot->full_count);
        if (word_take(t, e, d, word, n, p.far, now)) {
            outcome_debt(d, o, debt + token_units(d, n));
            if (UNLIKELY(v.guaranteed))
                count_guaranteed(t, d);
            return ALLOWED;
        }
    }
}

/* Raises the base of a full bucket from `base` to `raised`, at which its debt is 0. Returns ALLOWED
 * when it has; DENIED when another take changed the entry meanwhile, and then `*word` is what it is
 * now; NEEDS_LOCK when the entry has another revision than `first`. */
static inline int keep_full(const table_t *t, hot_t *hot, int64_t base, int64_t raised,
                            uint64_t first, uint64_t *word)
{
    /* The word is read again after the base: if it is the same, the base belonged to this revision
     * and this net. */
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

/* Whether the debt alone decides on a key: debts are whole ns (p is 1), time runs (definitions of
 * calendar periods have p = 2, see `BucketSpec.emission`), the node is not warming up, no credit is
 * kept for a silent peer, and none that has ended may hide a take. */
static inline int is_plain(const table_t *t, const definition_t *d, const hot_t *hot, int64_t now)
{
    const header_t *h = t->h;
    unsigned hides = now < LOAD(h->far_free_until) ? ENTRY_NOTED : ENTRY_NOTED | ENTRY_RATED;
    return LIKELY(d->p == 1 && now >= LOAD(h->warming_up_until) && !(LOAD(hot->flags) & hides));
}

/* Whether `room`, the ns that a bucket has beside the cost, are enough for all that an entry of
 * this `near_class` may have predicted. Then no prediction has to be computed. */
static inline int has_room(const definition_t *d, int near_class, int64_t room)
{
    int64_t near = near_class ? INT64_C(1) << (near_class - 1) : 0;
    return LIKELY(room >= 0) && (!near_class || (near <= d->capacity && near * d->q <= room));
}

/* Decides on a take of `n` from an entry that was found open (`entry_at_hand`) with this word.
 * Returns ALLOWED, DENIED, or NEEDS_LOCK when the entry has another revision since. */
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
        /* The bucket is full, as that of a lightly used key usually is. */
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
            /* Read before the take: if the bucket becomes full right after it, a refund must see
             * that. */
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

/* Finds the entry of a key for a take of `n` here, brings it to its definition and the running
 * epoch, or makes it. The lock is held. Returns ALLOWED with `*entry`; or DENIED when there is no
 * room, or when a node that warms up may not serve so much. `*gone` becomes the entry that was
 * evicted for it, or NONE. */
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

/* A take of `n` that leaves `floor` tokens to others, from an entry that had the word `word` when
 * it was found. Returns ALLOWED, DENIED, or NEEDS_LOCK when the entry has another revision since,
 * and then nothing is counted. */
static inline int take(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t floor,
                       int64_t now, uint64_t word, outcome_t *o)
{
    hot_t *hot = &t->hot[e];
    /* If the entry gets another revision after this, the take is not decided at all, so these
     * belong to the decision. */
    o->generation = LOAD(hot->generation);
    o->origin = LOAD(hot->origin);
    o->allowed = UNLIKELY(floor) ? take_slow(t, d, e, n, floor, now, word, o)
                                 : take_level(t, d, e, n, now, word, o);
    if (LIKELY(o->allowed >= 0))
        count_offered(t, d, e, n, o->allowed);
    return o->allowed;
}

#endif
