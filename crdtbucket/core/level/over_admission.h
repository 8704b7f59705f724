/* Over-admission: how far debts passed the capacity, and how much debt was forgiven. It is measured
 * for people to look at; no decision reads it. */
#ifndef CRDTBUCKET_LEVEL_OVER_ADMISSION_H
#define CRDTBUCKET_LEVEL_OVER_ADMISSION_H

#include "../memory/atomics.h"
#include "units.h"

#define MINUTE (60 * SECOND)

/* Notes a debt, in units, that was raised by something else than a take that this node's level
 * allowed: keeps the most tokens by which a debt passed the capacity within the running minute, and
 * within the one before. The caller holds the table's lock. */
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

/* Counts tokens of debt as forgiven, and `part` (0 to 2^32, in 2^-32) of one more. */
static inline void count_forgiven(definition_t *d, int64_t tokens, uint64_t part)
{
    uint64_t before = ADD(d->forgiven_part, (uint32_t)part);
    if ((before + part) >> 32 && tokens < INT64_MAX)
        tokens++;
    ADD_SATURATED(d->forgiven, tokens);
}

/* Counts units of debt as forgiven. In a bucket of one token that is mostly less than a token. It
 * is seldom called and not in line, since two divisions of 128 bits would stand at each call. */
RARELY static void forgive(definition_t *d, i128 units)
{
    i128 tokens = units / d->q, part = (((units % d->q) << 32) + d->q - 1) / d->q;
    count_forgiven(d, saturated(tokens), (uint64_t)part);
}

/* The most tokens by which a debt passed the capacity within the running minute and the one
 * before. */
static inline int64_t over_admitted_tokens(const definition_t *d, int64_t now)
{
    int64_t minutes = now / MINUTE - d->over_admitted_minute;
    if (minutes > 1)
        return 0;
    return minutes == 1 || d->over_admitted > d->over_admitted_before ? d->over_admitted
                                                                      : d->over_admitted_before;
}

#endif
