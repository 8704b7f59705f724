/* What this process remembers of a key beside its debt: what was taken and is not owed, what was
 * surely taken a moment ago, and by how much peers lowered the debt. See docs/model.md, "After a
 * silence" and "What a peer is believed". */
#ifndef CRDTBUCKET_LEVEL_REMEMBERED_H
#define CRDTBUCKET_LEVEL_REMEMBERED_H

#include "../memory/mapping.h"
#include "predict.h"

/* There is one for each entry, since what a key was not charged must not be forgotten for what
 * peers advertise of other keys. It belongs to the key that has this hash; a later key of the
 * same entry goes on with its budgets. */
struct remembered {
    uint64_t hash_lo;
    /* What peers took and was not charged, as the ns in which that much is refilled, and the
     * local ns of its last change. */
    int64_t uncounted, uncounted_at;
    /* Local ns at which all is refilled that was taken while peers were silent here; 0: nothing is
     * noted. */
    int64_t taken_until;
    /* The fractions of the two budgets of merge/lowering.h that are spent, and the local ns up
     * to which their refill is counted. */
    double spent, agreed;
    int64_t spent_at;
    /* The local ns at which the bucket is full: by the debt that `peer` advertised last, and by
     * the debt here after that. Another peer can agree only on the time between both, since
     * `peer` did not know what was charged later. */
    int64_t proposed, held;
    uint32_t proposed_at; /* a stamp */
    uint32_t peer;        /* its number, 0: none */
};

_Static_assert(sizeof(struct remembered) == 80, "it lies on two cache lines at most");

/* What is remembered of the key of this entry; NULL: nothing. */
static inline struct remembered *remembered_held(const table_t *t, uint32_t e)
{
    struct remembered *r = t->remembered ? &t->remembered[e] : NULL;
    return r && r->hash_lo == t->hot[e].hash_lo ? r : NULL;
}

/* The same, and begins it where it is NULL; NULL when memory cannot be had. */
COLD static struct remembered *remembered_of(table_t *t, uint32_t e)
{
    if (UNLIKELY(!t->remembered)) {
        size_t size = (size_t)t->h->max_keys * sizeof(struct remembered);
        void *m = map_zeros(size);
        if (m == MAP_FAILED)
            return NULL;
        advise_huge(m, size);
        t->remembered = m;
        t->remembered_size = size;
    }
    struct remembered *r = &t->remembered[e];
    if (r->hash_lo != t->hot[e].hash_lo) {
        r->hash_lo = t->hot[e].hash_lo;
        r->uncounted = r->taken_until = 0;
        r->peer = 0;
    }
    return r;
}

static i128 uncounted_units(const struct remembered *r, const definition_t *d)
{
    return (i128)r->uncounted * d->p;
}

/* The local ns, which may be negative, at which all noted takes are refilled. */
static int64_t taken_until(const table_t *t, uint32_t e)
{
    const struct remembered *r = remembered_held(t, e);
    return r && r->taken_until ? r->taken_until : INT64_MIN;
}

/* The units of takes that are not refilled: those that are noted, and those made here since the
 * last averaging; at most `owed`, which is what this node owes by itself. The latter count as
 * made at that averaging, or as made now if it is so long ago that this node may have stood
 * still. */
COLD static i128 taken_lately(const table_t *t, uint32_t e, const definition_t *d, i128 owed,
                              int64_t now)
{
    int64_t last = t->cold[e].rated_ns, from = now - last > t->h->near_ns ? now : last,
            here = admitted_since(&t->hot[e]), until = taken_until(t, e);
    i128 units = ((i128)(here && until < from ? from : until) - now) * d->p + token_units(d, here);
    units = units < owed ? units : owed;
    return units > 0 ? units : 0;
}

/* Drops the noted takes, and what a peer advertised: both are times at the rate of a definition,
 * which is another one now. */
static inline void forget_times(table_t *t, uint32_t e)
{
    struct remembered *r = remembered_held(t, e);
    if (r)
        r->taken_until = r->peer = 0;
}

/* Notes that tokens came back, which were taken here or by a peer. */
static inline void note_given_back(table_t *t, uint32_t e, const definition_t *d, int64_t tokens)
{
    struct remembered *r = remembered_held(t, e);
    i128 ns = units_to_ns(d, token_units(d, tokens));
    if (r && r->taken_until)
        r->taken_until = ns < d->cap_ns ? r->taken_until - (int64_t)ns : 0;
}

/* Notes that so many units are not refilled; what is beyond the ceiling of debt is forgiven. */
COLD static void note_taken(table_t *t, uint32_t e, const definition_t *d, i128 units, int64_t now)
{
    struct remembered *r = remembered_of(t, e);
    i128 cap = cap_units(d);
    if (!r) /* without memory, these takes may be hidden as others are */
        return;
    r->taken_until = now + (int64_t)units_to_ns(d, units < cap ? units : cap);
    if (r->taken_until > t->noted_until)
        t->noted_until = r->taken_until;
}

#endif
