/* What this process remembers of a key beside its debt: what was taken and is not owed, and by how
 * much peers lowered the debt. See docs/model.md, "What a peer is believed". */
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

_Static_assert(sizeof(struct remembered) == 72, "it lies on two cache lines at most");

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
        r->uncounted = 0;
        r->peer = 0;
    }
    return r;
}

static i128 uncounted_units(const struct remembered *r, const definition_t *d)
{
    return (i128)r->uncounted * d->p;
}

/* Drops what a peer advertised, since that is a time at the rate of a definition, which is another
 * one now. */
static inline void forget_proposal(table_t *t, uint32_t e)
{
    struct remembered *r = remembered_held(t, e);
    if (r)
        r->peer = 0;
}

#endif
