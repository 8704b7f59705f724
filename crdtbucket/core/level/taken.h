/* What was surely taken lately, and is owed whatever is kept for silent peers. See docs/model.md,
 * "After a silence". */
#ifndef CRDTBUCKET_LEVEL_TAKEN_H
#define CRDTBUCKET_LEVEL_TAKEN_H

#include "predict.h"

/* The local ns, which may be negative, at which all noted takes are refilled. */
static int64_t taken_until(const table_t *t, uint32_t e)
{
    int64_t until = t->cold[e].taken_until;
    return until ? until : INT64_MIN;
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

/* Notes that tokens came back, which were taken here or by a peer. */
static inline void note_given_back(table_t *t, uint32_t e, const definition_t *d, int64_t tokens)
{
    cold_t *cold = &t->cold[e];
    i128 ns = units_to_ns(d, token_units(d, tokens));
    if (cold->taken_until)
        cold->taken_until = ns < d->cap_ns ? cold->taken_until - (int64_t)ns : 0;
}

/* Notes that so many units are not refilled; what is beyond the ceiling of debt is forgiven. */
COLD static void note_taken(table_t *t, uint32_t e, const definition_t *d, i128 units, int64_t now)
{
    i128 cap = cap_units(d);
    int64_t until = now + (int64_t)units_to_ns(d, units < cap ? units : cap);
    t->cold[e].taken_until = until;
    if (until > t->h->noted_until)
        t->h->noted_until = until;
}

#endif
