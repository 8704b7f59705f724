/* How an entry follows time, a new definition of its bucket, and a new epoch. */
#ifndef CRDTBUCKET_LEVEL_RENEW_H
#define CRDTBUCKET_LEVEL_RENEW_H

#include "../memory/entries.h"
#include "../memory/journal.h"
#include "definitions.h"
#include "over_admission.h"
#include "predict.h"
#include "remembered.h"
#include "taken.h"
#include "units.h"

/* Moves the own column of an entry from its hot line to a stored one, so that the next take counts
 * under the epoch `running`. The level does not move. Returns 0 when memory is at its limit. */
static inline int own_column_close(table_t *t, uint32_t e, uint32_t running)
{
    hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    column_t c;
    int64_t refunded = own_refunded(t, e), rest;
    if ((entry_net(t, e) || refunded) && !column_find(t, e, hot->origin, &c)
        && !column_new(t, e, hot->origin, 0, &c))
        return 0;
    journal_t *j = rewrite_begin(t, e);
    int64_t net = net_of(j->word);
    if (net || refunded) {
        j->columns = 1;
        j->column[0] = (wire_column_t){hot->origin, hot->generation, net + refunded, refunded};
        uint64_t charged = scaled(d, net, &rest);
        j->base = (int64_t)((uint64_t)j->base + charged + (rest > 0));
        j->word &= ~TOKEN_MASK;
    }
    j->origin = (uint16_t)running;
    j->generation = ++t->h->generations;
    return rewrite_end(t);
}

/* Moves `base` so that the debt lies within [least, T * (C + D)], and counts what that forgives.
 * Returns the debt in units. When the entry has another revision than `first`, it moves nothing and
 * returns 0. */
static inline i128 advance_in(table_t *t, uint32_t e, uint64_t first, definition_t *d, i128 least,
                              int64_t now)
{
    hot_t *hot = &t->hot[e];
    for (;;) {
        int64_t base = LOAD(hot->base);
        /* The word is read after the base, so the base belonged to this revision. */
        uint64_t word = LOAD(hot->word);
        if (UNLIKELY(!same_revision(first, word)))
            return 0;
        int64_t net = net_of(word);
        i128 debt = debt_units(d, base, net, now), bound = debt;
        if (debt < least)
            bound = least;
        else if (debt > cap_units(d))
            bound = cap_units(d);
        else
            return debt;
        count_full(t, hot);
        if (base_swap(t, hot, base, base_for(d, bound, net, now))) {
            if (debt > bound)
                forgive(d, debt - bound);
            /* `base` is whole ns: what rounding adds is part of the debt from here on */
            return debt_units(d, LOAD(hot->base), net, now);
        }
    }
}

/* The same for callers that hold the lock: every operation on a level begins with this. */
static inline i128 advance(table_t *t, uint32_t e, definition_t *d, i128 least, int64_t now)
{
    return advance_in(t, e, LOAD(t->hot[e].word), d, least, now);
}

/* Moves a base that was `from`. A take may have found the bucket full meanwhile and raised the
 * base: then the larger of the two stays. */
static inline void base_move(const table_t *t, hot_t *hot, int64_t from, int64_t to)
{
    if (only_here(t))
        STORE(hot->base, to);
    else
        for (int64_t base = from;
             !CAS(hot->base, base, to) && (int64_t)((uint64_t)to - (uint64_t)base) > 0;)
            ;
}

/* So many units under a definition are as many tokens under another one as these, rounded up. This
 * is computed in two steps, whose products stay below 2^126, as q and tokens are below 2^63. */
static inline i128 redefined(const definition_t *old, const definition_t *new, i128 units)
{
    i128 whole = units / old->q, part = units % old->q;
    return whole * new->q + (part * new->q + (part > 0 ? old->q - 1 : 0)) / old->q;
}

/* Moves an entry from an older definition of its bucket to the one in the slot `bucket`: on a
 * change of rate it keeps its tokens of debt, on a change of capacity its debt, and of what was
 * noted as taken the tokens. What this node was behind its guaranteed share begins anew: what was
 * missing of a larger limit would pass at once under a smaller one, whose debts have still to be
 * refilled. */
static void redefine(table_t *t, uint32_t e, uint32_t bucket, int64_t now)
{
    definition_t *old = &t->definitions[t->hot[e].bucket], *new = &t->definitions[bucket];
    int silent = entry_far(t, e, old, now) != 0;
    advance(t, e, old, entry_least(t, e, old, now), now);
    journal_t *j = rewrite_begin(t, e);
    i128 units = redefined(old, new, debt_units(old, j->base, net_of(j->word), now)),
         noted = taken_lately(t, e, old, now), cap = cap_units(new), least = -((i128)new->p << 61);
    if (silent && new->per_second < old->per_second)
        keep_granted(t, e, old, now);
    i128 far = silent ? entry_far(t, e, new, now) : 0;
    if (units < 0 && units + far > full_units(new))
        /* What is only predicted empties the smaller bucket, and charges no more. */
        units = full_units(new) - far;
    if (units < least)
        /* No credit is larger than `far_units` ever grants. */
        units = least;
    if (units > cap) {
        forgive(new, units - cap);
        units = cap;
    }
    j->bucket = (uint16_t)bucket;
    j->base = base_for(new, units, net_of(j->word), now);
    t->cold[e].behind = 0;
    t->cold[e].owed = 0;
    STORE(t->cold[e].taken_until, 0);
    if (noted > 0)
        note_taken(t, e, new, redefined(old, new, noted), now);
    forget_proposal(t, e);
    rewrite_end(t);
}

/* Whether the entry is under this definition and counts for the running epoch. */
static inline int entry_current(const table_t *t, uint32_t e, uint32_t bucket)
{
    const hot_t *hot = &t->hot[e];
    return LIKELY(LOAD(hot->bucket) == bucket && LOAD(hot->origin) == t->h->own_origin
                  && entry_net(t, e) < TOKEN_ROLL);
}

/* Whether the entry `e`, which may be NONE, is that of the key with this hash and a take can use it
 * without the lock. `*word` is the word that the take has to replace. It is read before all else:
 * an entry that changes after that has another word. */
static inline int entry_open(const table_t *t, uint32_t e, uint64_t lo, uint64_t hi,
                             uint32_t bucket, uint64_t *word)
{
    if (UNLIKELY(e == NONE))
        return 0;
    const hot_t *hot = &t->hot[e];
    *word = LOAD(hot->word);
    return LIKELY((*word & ~REVISION_MASK) < (uint64_t)TOKEN_ROLL && LOAD(hot->hash_lo) == lo
                  && LOAD(hot->hash_hi) == hi && LOAD(hot->bucket) == bucket
                  && LOAD(hot->origin) == LOAD(t->h->own_origin));
}

/* The entry of the key with this hash, and its word, if a take can use it without the lock; else
 * NONE. */
static inline uint32_t entry_at_hand(const table_t *t, uint64_t lo, uint64_t hi, uint32_t bucket,
                                     uint64_t *word)
{
    /* The guess is nearly always right, and `entry_open` checks it. */
    uint32_t e = table_guess(t, lo, hi);
    if (LIKELY(entry_open(t, e, lo, hi, bucket, word)))
        return e;
    e = table_find(t, lo, hi);
    return entry_open(t, e, lo, hi, bucket, word) ? e : NONE;
}

/* Brings an entry to the definition in the slot `bucket` and to the running epoch. An entry stays
 * under an old definition until it is touched, but it changes as of the moment at which the
 * definition changed, so it does not matter when it is touched. Returns 0 when memory is at its
 * limit, or there is no number for a new epoch. The lock is held. */
COLD static int entry_renew(table_t *t, uint32_t e, uint32_t bucket, int64_t now)
{
    int64_t since = INT64_MIN;
    while (t->hot[e].bucket != bucket) {
        const definition_t *d = &t->definitions[t->hot[e].bucket];
        int64_t at = d->next != NONE ? d->replaced_ns : d->candidate == bucket ? d->staged_ns : now;
        at = at > now ? now : at < since ? since : at;
        redefine(t, e, d->next != NONE ? d->next : bucket, at);
        since = at;
    }
    if (t->hot[e].origin == t->h->own_origin
        && (entry_net(t, e) >= TOKEN_ROLL || own_refunded(t, e) >= TOKEN_ROLL) && !open_epoch(t))
        return 0;
    return t->hot[e].origin == t->h->own_origin || own_column_close(t, e, t->h->own_origin);
}

/* Brings an entry whose definition was replaced, or that is the candidate's by now, to the newest
 * definition of its key. An entry that the candidate has stays there. The lock is held. */
static inline void follow_definition(table_t *t, uint32_t e, int64_t now)
{
    uint32_t bucket = definition_for(t, definition_newest(t, t->hot[e].bucket), t->hot[e].hash_hi);
    if (UNLIKELY(bucket != t->hot[e].bucket))
        entry_renew(t, e, bucket, now);
}

/* The signed debt of an entry in ns, rounded up. */
static inline int64_t signed_debt_ns(const table_t *t, uint32_t e, int64_t now)
{
    const hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    return (int64_t)units_to_ns(d, debt_units(d, LOAD(hot->base), entry_net(t, e), now));
}

#endif
