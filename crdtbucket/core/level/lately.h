/* What was taken a moment ago while peers are silent here. Far credit hides the takes of a peer as
 * if they were spread over its silence; those that are known to be new are not refilled. See
 * docs/model.md, "Far credit". */
#ifndef CRDTBUCKET_LEVEL_LATELY_H
#define CRDTBUCKET_LEVEL_LATELY_H

#include <stdlib.h>

#include "predict.h"

/* Of a key; keys that share a place forget each other's. */
struct lately {
    uint64_t hash_lo;
    int64_t until; /* local ns at which all of it is refilled, if nothing more is taken */
};

#define LATELY_SLOTS 65536

/* Until when (local ns) what is noted of a key is not refilled. */
COLD static int64_t lately_until(const table_t *t, uint32_t e)
{
    const struct lately *l = t->lately ? &t->lately[e % LATELY_SLOTS] : NULL;
    return l && l->hash_lo == t->hot[e].hash_lo ? l->until : 0;
}

/* Units of what is noted, and of what was taken here since the last averaging, that are not
 * refilled. `owed`: what this node owes by itself, which is never less. Takes count from that
 * averaging on; where it is so long ago that this node may have stood still, as made now. */
COLD static i128 taken_lately(const table_t *t, uint32_t e, const definition_t *d, i128 owed,
                              int64_t now)
{
    int64_t last = t->cold[e].rated_ns, from = now - last > t->h->near_ns ? now : last,
            here = admitted_since(&t->hot[e]), until = lately_until(t, e);
    i128 units = (i128)((here && until < from ? from : until) - now) * d->p + token_units(d, here);
    units = units < owed ? units : owed;
    return units > 0 ? units : 0;
}

/* Notes that so many units are not refilled; what is beyond the ceiling of debt is forgiven. */
COLD static void note_lately(table_t *t, uint32_t e, const definition_t *d, i128 units, int64_t now)
{
    i128 cap = cap_units(d);
    if (UNLIKELY(!t->lately) && !(t->lately = calloc(LATELY_SLOTS, sizeof(struct lately))))
        return; /* they are hidden as others are */
    t->lately[e % LATELY_SLOTS] = (struct lately){
        t->hot[e].hash_lo, now + (int64_t)units_to_ns(d, units < cap ? units : cap)};
}

#endif
