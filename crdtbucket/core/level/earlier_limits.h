/* The earlier limits of a bucket. A node that was silent may have taken tokens under one of them,
 * so they bound how much that can have been. */
#ifndef CRDTBUCKET_LEVEL_EARLIER_LIMITS_H
#define CRDTBUCKET_LEVEL_EARLIER_LIMITS_H

#include "../memory/atomics.h"
#include "../memory/layout.h"

/* How much more than the refill a column may have risen by: a quarter of it, and 5 s of it. */
#define RISE_RATE 1.25
#define RISE_SECONDS 5.0

/* The most tokens that a definition lets one node take at once, 2 C + D: one capacity beyond what
 * it holds back for others, and from there down to the ceiling of debt. */
static inline double burst_tokens(const definition_t *d)
{
    return 2.0 * (double)d->capacity + (double)d->max_debt;
}

/* Widens a noted limit to one that allows what either allowed, until the later end of the two. */
static inline void earlier_widen(earlier_t *to, const earlier_t *more)
{
    to->until = more->until > to->until ? more->until : to->until;
    to->burst = more->burst > to->burst ? more->burst : to->burst;
    to->per_second = more->per_second > to->per_second ? more->per_second : to->per_second;
    to->of_all &= more->of_all;
}

/* Notes a limit that has just been replaced, so that it is the newest. Two limits in a row of the
 * same rate become one. Where there is no room, the two oldest become one. */
static void earlier_add(definition_t *d, const earlier_t *was)
{
    earlier_t *newest = d->earlier;
    if (d->earlier_count && newest->per_second == was->per_second
        && newest->of_all == was->of_all) {
        earlier_widen(newest, was);
        return;
    }
    if (d->earlier_count == EARLIER) {
        earlier_widen(&d->earlier[EARLIER - 2], &d->earlier[EARLIER - 1]);
        d->earlier_count--;
    }
    for (uint32_t i = d->earlier_count; i; i--)
        d->earlier[i] = d->earlier[i - 1];
    *newest = *was;
    d->earlier_count++;
}

/* Notes in `d` that the keys of `old` have come under it at `now`: all keys, or with `all` 0 only
 * some. */
static void earlier_follow(definition_t *d, const definition_t *old, int all, int64_t now)
{
    earlier_t was = {.until = now,
                     .burst = burst_tokens(old),
                     .per_second = old->per_second,
                     .of_all = (uint32_t)all};
    earlier_add(d, &was);
}

/* The most tokens by which one column may have risen from `since` to `now`, by the largest limit
 * that was in force meanwhile. */
static double rise_allowed(const definition_t *d, int64_t since, int64_t now)
{
    double burst = burst_tokens(d), rate = d->per_second;
    for (uint32_t i = 0; i < d->earlier_count && d->earlier[i].until > since; i++) {
        const earlier_t *was = &d->earlier[i];
        burst = was->burst > burst ? was->burst : burst;
        rate = was->per_second > rate ? was->per_second : rate;
    }
    return burst + RISE_RATE * rate * ((double)(now - since) / 1e9 + RISE_SECONDS);
}

/* Whether a column rose by more tokens from `since` to `now` than the present definition explains.
 * Where the definition was changed in that time, its ceiling of debt does not count: it may be
 * higher than its own capacity asks for, because it has to hold the older debt. */
static inline int rose_under_earlier(const definition_t *d, double rise, int64_t since, int64_t now)
{
    double burst = d->earlier_count && d->earlier[0].until > since ? 2.0 * (double)d->capacity
                                                                   : burst_tokens(d);
    return rise > burst + RISE_RATE * d->per_second * ((double)(now - since) / 1e9 + RISE_SECONDS);
}

/* For how many of the seconds from `from` to `to` a peer got what its callers asked for, when those
 * of all nodes together ask for `offered` tokens a second: under a limit of half of that, for half
 * of the time. Where the limit was lowered since, the rates kept are those that it granted already
 * (see `keep_granted`), so they count in full. Each limit ends `near` ns before its time: what came
 * later was predicted as near then, and must not be predicted twice. */
GLANCES static inline double seconds_granted(const definition_t *d, double offered, int64_t near,
                                             int64_t from, int64_t to)
{
    double seconds = 0, rate = d->per_second;
    int64_t end = to;
    for (uint32_t i = 0; i < d->earlier_count && d->earlier[i].until > from; i++) {
        const earlier_t *was = &d->earlier[i];
        if (!was->of_all)
            continue;
        if (end > was->until)
            seconds += (double)(end - was->until) / 1e9
                       * (rate < offered && rate <= d->per_second ? rate / offered : 1.0);
        end = was->until - near < end ? was->until - near : end;
        rate = was->per_second;
    }
    if (end > from)
        seconds += (double)(end - from) / 1e9
                   * (rate < offered && rate <= d->per_second ? rate / offered : 1.0);
    return seconds;
}

#endif
