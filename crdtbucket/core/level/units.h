/* The arithmetic of levels: integers, exact; 128 bits in computations, 64 bits (modular) in what is
 * stored.
 *
 * The *unit* of a debt is 1/p ns. T = q / p ns refill one token, so one token is exactly q units of
 * debt, and a nanosecond takes p units away. A *level* is the debt `base + T * net - now`, see
 * docs/model.md; a stored `base` is whole ns. T * net and `base` may wrap around at 2^64, but their
 * sum does not: a debt is below 2^62 ns, and so is what one take or one merge adds to it. */
#ifndef CRDTBUCKET_LEVEL_UNITS_H
#define CRDTBUCKET_LEVEL_UNITS_H

#include "../memory/atomics.h"
#include "../memory/layout.h"

/* Returns floor(T * net), in ns modulo 2^64; `*rest` becomes what the floor cut off, 0 to p - 1
 * units. */
static inline uint64_t scaled(const definition_t *d, int64_t net, int64_t *rest)
{
    if (LIKELY(d->p == 1)) {
        *rest = 0;
        return (uint64_t)net * (uint64_t)d->q;
    }
    i128 product = (i128)net * d->q;
    if (LIKELY(product == (int64_t)product && product >= 0)) {
        uint64_t small = (uint64_t)product;
        *rest = (int64_t)(small % (uint64_t)d->p);
        return small / (uint64_t)d->p;
    }
    i128 quotient = product / d->p, remainder = product % d->p;
    if (remainder < 0) {
        remainder += d->p;
        quotient -= 1;
    }
    *rest = (int64_t)remainder;
    return (uint64_t)quotient;
}

/* The number as 64 bits; the largest of them where it does not fit. */
static inline int64_t saturated(i128 number)
{
    return number < INT64_MAX ? (int64_t)number : INT64_MAX;
}

/* A debt in ns, rounded up: ceil(units / p). */
static inline i128 units_to_ns(const definition_t *d, i128 units)
{
    if (d->p == 1)
        return units;
    i128 quotient = units / d->p;
    return quotient + (quotient * d->p < units);
}

/* When a calendar period has ended, its keys stay as they are for this long, for nodes whose clocks
 * are late. Then they fill FILL_FASTER times as fast as their definition says, so that they leave
 * the table. */
#define STILL_AFTER_NS (2 * INT64_C(3600) * SECOND)
#define FILL_FASTER 32

/* The time by which debts of a definition fall, in ns: `now`, but of a calendar period 0 while time
 * stands still for it, and then FILL_FASTER times as fast. */
static inline int64_t level_time(const definition_t *d, int64_t now)
{
    int64_t until = LOAD(d->still_until);
    if (LIKELY(!until))
        return now;
    int64_t over = now - until - STILL_AFTER_NS;
    return over <= 0 ? 0 : over > INT64_MAX / FILL_FASTER ? INT64_MAX : over * FILL_FASTER;
}

/* How long (ns) a call waits that a calendar quota denies: until the period ends, and at least a
 * second. */
static inline int64_t until_end(const definition_t *d, int64_t now)
{
    int64_t left = LOAD(d->still_until) - now;
    return left > SECOND ? left : SECOND;
}

/* The signed debt, in units, at `now`: base + T * net - now. Below zero: the bucket is full, and
 * would be for longer. */
static inline i128 debt_units(const definition_t *d, int64_t base, int64_t net, int64_t now)
{
    int64_t rest,
        ns = (int64_t)((uint64_t)base + scaled(d, net, &rest) - (uint64_t)level_time(d, now));
    if (LIKELY(d->p == 1))
        return ns;
    return (i128)ns * d->p + rest;
}

/* The base at which an entry whose column has `net` tokens owes `units` at `now`; rounded up to
 * whole ns. */
static inline int64_t base_for(const definition_t *d, i128 units, int64_t net, int64_t now)
{
    int64_t rest;
    uint64_t charged = scaled(d, net, &rest);
    return (int64_t)((uint64_t)level_time(d, now) + (uint64_t)(int64_t)units_to_ns(d, units - rest)
                     - charged);
}

/* The units that are refilled from `now` until the time `until`; 0 when that is past. */
static inline i128 units_until(int64_t until, const definition_t *d, int64_t now)
{
    return until > now ? (i128)(until - now) * d->p : 0;
}

/* Tokens in units; and below, the units of a debt of the capacity (an empty bucket) and of the
 * ceiling of debt. */
static inline i128 token_units(const definition_t *d, int64_t tokens)
{
    return (i128)tokens * d->q;
}
static inline i128 full_units(const definition_t *d) { return (i128)d->capacity * d->q; }
static inline i128 cap_units(const definition_t *d)
{
    return LIKELY(d->p == 1) ? d->cap_ns : ((i128)d->capacity + d->max_debt) * d->q;
}

/* By so many units a stored debt may be too large: `base` is whole ns, so moving it to a bound
 * leaves a debt that is too large by less than 1 ns. Whether a cost passes, and what is left, is
 * decided as if that were not there: a call never passes late, and early by less than 1 ns. Nothing
 * is minted, since the charge itself is exact. */
static inline i128 slack_units(const definition_t *d) { return d->p - 1; }

/* The whole tokens that are left under a debt of `ns` and `rest` units, rounded down; negative when
 * the debt is beyond the capacity. */
static inline int64_t tokens_left(const definition_t *d, int64_t ns, int64_t rest)
{
    if (LIKELY(d->p == 1 && ns <= d->full_ns))
        return (int64_t)((uint64_t)(d->full_ns - ns) / (uint64_t)d->q);
    i128 debt = (i128)ns * d->p + rest,
         room = full_units(d) - (debt > slack_units(d) ? debt - slack_units(d) : 0),
         quotient = room / d->q;
    return (int64_t)(quotient - (quotient * d->q > room));
}

/* Whole seconds, rounded up, until one token more is left than the `left` of now, under a debt of
 * `ns` and `rest` units; 0 when the bucket is full. Until the bucket is full, it takes the rest of
 * that token and the whole of those above it. */
static inline int64_t seconds_to_next(const definition_t *d, int64_t ns, int64_t rest, int64_t left)
{
    int64_t above = d->capacity - left - 1;
    int64_t wait = ns + (rest > 0);
    if (above > 0)
        wait -= (int64_t)units_to_ns(d, token_units(d, above));
    return wait > 0 ? (wait - 1) / SECOND + 1 : 0;
}

#endif
