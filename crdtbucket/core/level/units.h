/* Integer arithmetic of the level, exact: 128 bits inside, modular 64 bits in state.
 *
 * Debt is counted in units of 1/p ns, in which T is the integer q. T * net and `base` may wrap;
 * their combination does not: a debt is below 2^62 ns, and so is what one take or merge adds to it.
 */
#ifndef CRDTBUCKET_LEVEL_UNITS_H
#define CRDTBUCKET_LEVEL_UNITS_H

#include "../memory/atomics.h"
#include "../memory/layout.h"

/* floor(T * net) modulo 2^64 and, in 1/p ns, what the floor cut off (0 .. p-1). */
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

/* The number, or the largest that fits. */
static inline int64_t saturated(i128 number)
{
    return number < INT64_MAX ? (int64_t)number : INT64_MAX;
}

/* ceil(x / p) for a debt in units. */
static inline i128 units_to_ns(const definition_t *d, i128 units)
{
    if (d->p == 1)
        return units;
    i128 quotient = units / d->p;
    return quotient + (quotient * d->p < units);
}

/* After a calendar period its keys stay as they are for so long, for clocks that are late, and then
 * fill this many times as fast as their definition says, to leave the table. */
#define STILL_AFTER_NS (2 * INT64_C(3600) * SECOND)
#define FILL_FASTER 32

/* The time of levels, by which debts fall: it stands at 0 while a definition stands still. */
static inline int64_t level_time(const definition_t *d, int64_t now)
{
    int64_t until = LOAD(d->still_until);
    if (LIKELY(!until))
        return now;
    int64_t over = now - until - STILL_AFTER_NS;
    return over <= 0 ? 0 : over > INT64_MAX / FILL_FASTER ? INT64_MAX : over * FILL_FASTER;
}

/* How long (ns) a denied call waits: until the period ends, and at least a second. */
static inline int64_t until_end(const definition_t *d, int64_t now)
{
    int64_t left = LOAD(d->still_until) - now;
    return left > SECOND ? left : SECOND;
}

/* Signed debt in units at `now`: T * (what was charged) less the time that passed. */
static inline i128 debt_units(const definition_t *d, int64_t base, int64_t net, int64_t now)
{
    int64_t rest,
        ns = (int64_t)((uint64_t)base + scaled(d, net, &rest) - (uint64_t)level_time(d, now));
    if (LIKELY(d->p == 1))
        return ns;
    return (i128)ns * d->p + rest;
}

/* The base at which the debt is `units` (rounded up to a whole ns of base) for a column of `net`.
 */
static inline int64_t base_for(const definition_t *d, i128 units, int64_t net, int64_t now)
{
    int64_t rest;
    uint64_t charged = scaled(d, net, &rest);
    return (int64_t)((uint64_t)level_time(d, now) + (uint64_t)(int64_t)units_to_ns(d, units - rest)
                     - charged);
}

/* Units that are refilled until that time. */
static inline i128 units_until(int64_t until, const definition_t *d, int64_t now)
{
    return until > now ? (i128)(until - now) * d->p : 0;
}

static inline i128 token_units(const definition_t *d, int64_t tokens)
{
    return (i128)tokens * d->q;
}
static inline i128 full_units(const definition_t *d) { return (i128)d->capacity * d->q; }
static inline i128 cap_units(const definition_t *d)
{
    return LIKELY(d->p == 1) ? d->cap_ns : ((i128)d->capacity + d->max_debt) * d->q;
}

/* `base` is whole ns, so a clamp leaves a debt too large by less than 1 ns. Whether a cost passes,
 * and what is left, is seen through that: never late, early by less than 1 ns, and nothing is
 * minted, since the charge itself is exact. */
static inline i128 slack_units(const definition_t *d) { return d->p - 1; }

/* Tokens left under a confirmed debt, in ns and 1/p ns, rounded down; negative in debt beyond the
 * capacity. */
static inline int64_t tokens_left(const definition_t *d, int64_t ns, int64_t rest)
{
    if (LIKELY(d->p == 1 && ns <= d->full_ns))
        return (int64_t)((uint64_t)(d->full_ns - ns) / (uint64_t)d->q);
    i128 debt = (i128)ns * d->p + rest,
         room = full_units(d) - (debt > slack_units(d) ? debt - slack_units(d) : 0),
         quotient = room / d->q;
    return (int64_t)(quotient - (quotient * d->q > room));
}

/* Whole seconds, rounded up, until one token more is left than `left`, which is left now; 0 when
 * the bucket is full. Until full it takes the rest of that token, and the whole of those above it.
 */
static inline int64_t seconds_to_next(const definition_t *d, int64_t ns, int64_t rest, int64_t left)
{
    int64_t above = d->capacity - left - 1;
    int64_t wait = ns + (rest > 0);
    if (above > 0)
        wait -= (int64_t)units_to_ns(d, token_units(d, above));
    return wait > 0 ? (wait - 1) / SECOND + 1 : 0;
}

#endif
