/* How the definitions that a frame names are understood here. */
#ifndef CRDTBUCKET_MERGE_WIRE_DEFINITIONS_H
#define CRDTBUCKET_MERGE_WIRE_DEFINITIONS_H

#include "../level/definitions.h"
#include "../level/units.h"
#include "wire.h"

/* How a position in a frame's definition table is understood here. */
typedef struct {
    uint32_t bucket; /* local definition, NONE when the bucket is unknown here */
    uint32_t same;   /* its definition is ours: levels may be adopted */
    int64_t q, p;    /* the sender's T */
    /* Keys of the candidate, to which the two below apply in place of the first two. */
    uint64_t candidate_below;
    uint32_t candidate, candidate_same;
} wire_definition_t;

/* Buckets may have got other definitions since the sender's were looked up. Until they are again,
 * their keys are merged under those that stand now, by tokens. */
static void wire_definitions_follow(const table_t *t, wire_definition_t *wd, uint32_t count)
{
    for (wire_definition_t *end = wd + count; wd < end; wd++) {
        if (wd->bucket == NONE)
            continue;
        uint32_t bucket = definition_newest(t, wd->bucket),
                 candidate = LOAD(t->definitions[bucket].candidate);
        wd->same &= bucket == wd->bucket;
        wd->candidate_same &= candidate == wd->candidate;
        wd->bucket = bucket;
        wd->candidate = candidate;
        wd->candidate_below =
            candidate < MAX_DEFINITIONS ? LOAD(t->definitions[bucket].candidate_below) : 0;
    }
}

/* A wire definition as it is understood for one key; `its` is written where that is the
 * candidate's. */
static inline const wire_definition_t *wire_definition_for(const wire_definition_t *wd,
                                                           uint64_t hash_hi, wire_definition_t *its)
{
    if (LIKELY((hash_hi >> 1) >= wd->candidate_below))
        return wd;
    *its = *wd;
    its->bucket = wd->candidate;
    its->same = wd->candidate_same;
    return its;
}

/* A debt on the wire in units of this node, at most T * (C + D). Under another definition its
 * tokens are kept, at our T. */
static inline i128 stated_units(const definition_t *d, int64_t ns, const wire_definition_t *wd)
{
    i128 cap = cap_units(d), units = (i128)ns * d->p;
    if (!wd->same) {
        double tokens = (double)ns * (double)wd->p / (double)wd->q,
               most = (double)d->capacity + (double)d->max_debt;
        units = tokens < most ? (i128)(tokens * (double)d->q) : cap;
    }
    return units < cap ? units : cap;
}

#endif
