/* Over-admission: how far debts passed the capacity, and what was forgiven of them. It is measured
 * for people alone; no decision reads it. */
#ifndef CRDTBUCKET_LEVEL_OVER_ADMISSION_H
#define CRDTBUCKET_LEVEL_OVER_ADMISSION_H

#include "../memory/atomics.h"
#include "units.h"

#define MINUTE (60 * SECOND)

/* A debt (units) was raised, not by a take of this node's level: keeps the most by which one passed
 * the capacity within the running minute and the one before. The table's lock is held. */
static inline void note_over_admission(definition_t *d, i128 debt, int64_t now)
{
    if (LIKELY(debt < full_units(d) + d->q))
        return;
    i128 over = (debt - full_units(d)) / d->q;
    int64_t minute = now / MINUTE;
    if (minute != d->over_admitted_minute) {
        d->over_admitted_before = minute == d->over_admitted_minute + 1 ? d->over_admitted : 0;
        d->over_admitted = 0;
        d->over_admitted_minute = minute;
    }
    if (over > d->over_admitted)
        d->over_admitted = saturated(over);
}

/* Counts tokens that are forgiven, and `part`, from 0 to 2^32, of one more. */
static inline void count_forgiven(definition_t *d, int64_t tokens, uint64_t part)
{
    uint64_t before = ADD(d->forgiven_part, (uint32_t)part);
    if ((before + part) >> 32 && tokens < INT64_MAX)
        tokens++;
    ADD_SATURATED(d->forgiven, tokens);
}

/* So many units of debt are forgiven. Of a bucket of one token it is mostly less than a token. It
 * is seldom called, and is not in line, as two divisions of 128 bits would stand at each call. */
RARELY static void forgive(definition_t *d, i128 units)
{
    i128 tokens = units / d->q, part = (((units % d->q) << 32) + d->q - 1) / d->q;
    count_forgiven(d, saturated(tokens), (uint64_t)part);
}

static inline int64_t over_admitted_tokens(const definition_t *d, int64_t now)
{
    int64_t minutes = now / MINUTE - d->over_admitted_minute;
    if (minutes > 1)
        return 0;
    return minutes == 1 || d->over_admitted > d->over_admitted_before ? d->over_admitted
                                                                      : d->over_admitted_before;
}

#endif
