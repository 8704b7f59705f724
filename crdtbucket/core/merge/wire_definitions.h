/* How the definitions that a frame names are understood here. */
#ifndef CRDTBUCKET_MERGE_WIRE_DEFINITIONS_H
#define CRDTBUCKET_MERGE_WIRE_DEFINITIONS_H

#include "../level/definitions.h"
#include "../level/units.h"
#include "wire.h"

/* What one position in the table of definitions of a frame means here. */
typedef struct {
    uint32_t bucket; /* local definition, NONE when the bucket is unknown here */
    uint32_t same;   /* the sender's definition is the one here, so its debts may be adopted */
    int64_t q, p;    /* the sender's T = q / p */
    /* The keys with hash_hi / 2 below this are the candidate's: for them the two below take the
     * place of `bucket` and `same`. */
    uint64_t candidate_below;
    uint32_t candidate, candidate_same;
} wire_definition_t;

/* Looks up again what definitions mean here, since buckets may have got other ones. Until the
 * binding compares them with the sender's again, keys of such buckets are merged under the present
 * ones by tokens (`same` is 0). */
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

/* What a definition means for the key with this hash. `its` is written and returned where that is
 * the candidate's. */
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

/* A debt of the wire in units of this node, at most T * (C + D). Under another definition its
 * tokens are kept, at the T of this node. */
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
