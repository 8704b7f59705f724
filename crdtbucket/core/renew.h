/* Entries that follow time, a new definition of their bucket, and a new epoch. */
#ifndef CRDTBUCKET_RENEW_H
#define CRDTBUCKET_RENEW_H

#include "dirty.h"

/* Moves `base` so that the debt lies within [-far, T * (C + D)]; every operation begins with it. Returns the debt in units. */
static inline i128 advance(table_t *t, uint32_t e, definition_t *d, i128 far, int64_t now)
{
    hot_t *hot = &t->hot[e];
    for (;;) {
        int64_t base = LOAD(hot->base), net = LOAD(hot->net);
        i128 debt = debt_units(d, base, net, now), bound = debt;
        if (debt < -far)
            bound = -far;
        else if (debt > cap_units(d))
            bound = cap_units(d);
        else
            return debt;
        if (CAS(hot->base, base, base_for(d, bound, net, now))) {
            ADD(hot->full_count, 1);
            if (debt > bound)
                ADD_SATURATED(d->forgiven, (int64_t)((debt - bound) / d->q));
            /* base is whole ns: what a clamp rounds up is part of the debt from here on */
            return debt_units(d, LOAD(hot->base), net, now);
        }
    }
}

/* An entry of an older definition follows its bucket: a change of rate keeps the tokens of debt, a change of capacity the
 * debt. */
static void redefine(table_t *t, uint32_t e, uint32_t bucket, int64_t now)
{
    hot_t *hot = &t->hot[e];
    definition_t *old = &t->definitions[hot->bucket], *new = &t->definitions[bucket];
    i128 debt = advance(t, e, old, entry_far(t, e, old, now), now);
    /* d / q tokens of debt, in the new units: d * q' / q, rounded up; both factors are below 2^115 only together */
    i128 whole = debt / old->q, part = debt % old->q;
    i128 units = whole * new->q + (part * new->q + (part > 0 ? old->q - 1 : 0)) / old->q;
    i128 cap = cap_units(new);
    if (units > cap) {
        new->forgiven += (int64_t)((units - cap) / new->q);
        units = cap;
    }
    old->entries--;
    new->entries++;
    hot->bucket = (uint16_t)bucket;
    STORE(hot->base, base_for(new, units, LOAD(hot->net), now));
    hot->full_count++;                                  /* its old decisions were in other units */
}

/* The definition of a key, of the two that its bucket may have: the same on all nodes, as the hash is. */
static inline uint32_t definition_for(const table_t *t, uint32_t bucket, uint64_t hash_hi)
{
    const definition_t *d = &t->definitions[bucket];
    return UNLIKELY((hash_hi >> 1) < d->candidate_below) ? d->candidate : bucket;
}

static inline int entry_current(const table_t *t, uint32_t e, uint32_t bucket)
{
    const hot_t *hot = &t->hot[e];
    return LIKELY(hot->bucket == bucket && hot->origin == t->h->own_origin && LOAD(hot->net) < TOKEN_ROLL);
}

/* Brings an entry to its bucket's definition and to the running epoch; 0 when memory is at its limit. An entry lives on
 * under the old definition until it is touched, but changes as of the moment of the change, so it does not matter when that
 * is. Needs the table to itself. */
static inline int entry_renew(table_t *t, uint32_t e, uint32_t bucket, int64_t now)
{
    int64_t since = INT64_MIN;
    while (t->hot[e].bucket != bucket) {
        const definition_t *d = &t->definitions[t->hot[e].bucket];
        int64_t at = d->next != NONE ? d->replaced_ns : d->candidate == bucket ? d->staged_ns : now;
        at = at > now ? now : at < since ? since : at;
        redefine(t, e, d->next != NONE ? d->next : bucket, at);
        since = at;
    }
    if (t->hot[e].origin == t->h->own_origin && t->hot[e].net >= TOKEN_ROLL && !open_epoch(t))
        return 0;
    return t->hot[e].origin == t->h->own_origin || own_column_close(t, e, t->h->own_origin);
}

/* ---- slots of definitions: used again when no key stands under them any more ---- */

#define REPLACED_FOR (60 * SECOND)    /* decisions taken under a definition look up its numbers for so long at least */

static inline int same_definition(const definition_t *a, const definition_t *b)
{
    return a->q == b->q && a->p == b->p && a->capacity == b->capacity && a->max_debt == b->max_debt && a->quota == b->quota
           && a->allow_when_full == b->allow_when_full && a->shadow == b->shadow;
}

/* Marks the replaced definitions that no key needs on its way to the newest one; returns how many there are. */
static uint32_t definitions_idle(const table_t *t, int64_t now, uint8_t idle[MAX_DEFINITIONS])
{
    uint32_t count = 0, all = t->h->definitions;
    for (uint32_t i = 0; i < all; i++) {
        const definition_t *d = &t->definitions[i];
        idle[i] = d->next != NONE && !d->entries && now - d->replaced_ns >= REPLACED_FOR;
    }
    for (uint32_t i = 0; i < all; i++)
        if (t->definitions[i].entries)
            for (uint32_t j = t->definitions[i].next; j != NONE && idle[j]; j = t->definitions[j].next)
                idle[j] = 0;
    for (uint32_t i = 0; i < all; i++)
        count += idle[i];
    return count;
}

static int64_t definitions_free(const table_t *t, int64_t now)
{
    uint8_t idle[MAX_DEFINITIONS];
    return MAX_DEFINITIONS - t->h->definitions + definitions_idle(t, now, idle);
}

/* A slot for one more definition, or NONE. */
static uint32_t definition_free_slot(const table_t *t, int64_t now)
{
    uint8_t idle[MAX_DEFINITIONS];
    if (definitions_idle(t, now, idle))
        for (uint32_t i = 0; i < t->h->definitions; i++)
            if (idle[i])
                return i;
    return t->h->definitions < MAX_DEFINITIONS ? t->h->definitions : NONE;
}

/* Writes a definition to a free slot; who passed through an earlier one there goes on to what had replaced that. */
static void definition_place(table_t *t, uint32_t slot, const definition_t *made)
{
    header_t *h = t->h;
    if (slot == h->definitions)
        h->definitions++;
    else
        for (uint32_t i = 0; i < h->definitions; i++)
            if (t->definitions[i].next == slot && i != slot)
                t->definitions[i].next = t->definitions[slot].next;
    t->definitions[slot] = *made;
    h->defined++;
}

/* A definition lives on as another: what it counted stands there from now on, and its keys follow. */
static void definition_join(table_t *t, uint32_t from, uint32_t into, int64_t now)
{
    definition_t *old = &t->definitions[from], *d = &t->definitions[into];
    d->allowed += old->allowed;
    d->denied += old->denied;
    d->shadowed += old->shadowed;
    ADD_SATURATED(d->granted, old->granted);
    d->refunded += old->refunded;
    ADD_SATURATED(d->forgiven, old->forgiven);
    d->refused_full += old->refused_full;
    for (int i = 0; i < 6; i++)
        d->decided[i / 3][i % 3] += old->decided[i / 3][i % 3];
    if (old->excess_minute > d->excess_minute || (old->excess_minute == d->excess_minute && old->excess > d->excess)) {
        d->excess = old->excess;
        d->excess_before = old->excess_before;
        d->excess_minute = old->excess_minute;
    }
    old->next = into;
    old->replaced_ns = now;
    old->candidate_below = d->candidate_below = 0;
    old->candidate = d->candidate = NONE;
    t->h->defined++;                                    /* peers' tables are to be understood anew */
}

/* Brings an entry whose definition was replaced, or that is the candidate's now, to the newest one of its key; what the
 * candidate has it keeps. Needs the table to itself. */
static inline void follow_definition(table_t *t, uint32_t e, int64_t now)
{
    uint32_t bucket = t->hot[e].bucket;
    while (t->definitions[bucket].next != NONE)
        bucket = t->definitions[bucket].next;
    bucket = definition_for(t, bucket, t->hot[e].hash_hi);
    if (UNLIKELY(bucket != t->hot[e].bucket))
        entry_renew(t, e, bucket, now);
}

#endif
