/* The verdict on a call: whether it passes, or how long it has to wait. It depends on the debt of
 * the bucket, on what peers are predicted to take, on the guaranteed share, and on what the call
 * has to leave to others. See docs/model.md, "Prediction". */
#ifndef CRDTBUCKET_LEVEL_VERDICT_H
#define CRDTBUCKET_LEVEL_VERDICT_H

#include <math.h>

#include "guaranteed_share.h"
#include "predict.h"
#include "reserve.h"

/* A debt, in units, limited to the range from 0 to the ceiling. */
static inline i128 clamped(const definition_t *d, i128 units)
{
    i128 cap = cap_units(d);
    return units < 0 ? 0 : units > cap ? cap : units;
}

/* The units that are held back from a call of `n` for peers that are predicted to take them. They
 * have to be free beside the cost of the call. `conf_debt` is the confirmed debt, with the credit
 * for silent peers added. Returns 0 also when the reserve lets the call pass in spite of the
 * prediction. */
static i128 held_back(table_t *t, uint32_t e, const definition_t *d, const prediction_t *p,
                      i128 conf_debt, int64_t n, int64_t now)
{
    double q = (double)d->q, conf = (double)d->capacity - (double)conf_debt / q;
    double near = near_tokens(t, e, p, conf, now);
    if (near < TRIFLE)
        return 0;
    if (conf_debt + token_units(d, n) <= full_units(d) + slack_units(d) && conf - near < (double)n
        && reserve_tokens(t, e, d, p->slow_claims, (double)n, now) >= (double)n)
        return 0;
    return (i128)ceil(near * q - 1e-9 * q);
}

/* The ns until a node that warms up may have taken `taken` tokens of a key in all; 0 when it may
 * now, or does not warm up. Its share is the capacity divided by the number of members. It does
 * not get all of that at once, since the bucket may well be empty: a quarter of the
 * share is free at once, and the rest becomes free at three quarters of the refill rate. */
static inline int64_t warm_up_wait(const table_t *t, const definition_t *d, int64_t taken,
                                   int64_t now)
{
    const header_t *h = t->h;
    int64_t until = LOAD(h->warming_up_until);
    if (LIKELY(now >= until))
        return 0;
    int64_t members = LOAD(h->members), share, at_once;
    if (members < 1)
        members = 1;
    share = d->capacity / members;
    at_once = d->capacity / (4 * members);
    if (at_once < 1)
        at_once = 1;
    if (taken > share)
        return until - now;
    if (taken <= at_once)
        return 0;
    i128 due = LOAD(h->warming_up_since)
               + (4 * (i128)(taken - at_once) * d->q + 3 * d->p - 1) / (3 * (i128)d->p);
    return due <= now ? 0 : due < until ? (int64_t)due - now : until - now;
}

/* How often `faded_wait` halves the interval in which it looks for the time at which a call passes,
 * so that it finds this to a 256th of the interval. */
#define WAIT_STEPS 8
/* After so many time constants nothing is left of what is held back. */
#define FADED 40.0

/* The ns, `longest` at most, until a call of `n` passes if nobody takes anything meanwhile: what is
 * held back for peers fades by then. In overload it fades as slowly as a burst of peers is
 * forgotten; else within the near horizon, since their next rounds end it. */
GLANCES static double faded_wait(const table_t *t, uint32_t e, const definition_t *d,
                                 const prediction_t *p, i128 conf_debt, int64_t n, double longest,
                                 int64_t now)
{
    double fades = p->overload > 0 ? PEAK_NS : (double)t->h->near_ns, per_ns = d->per_second / 1e9,
           capacity = (double)d->capacity, conf = capacity - (double)conf_debt / (double)d->q,
           denied = smaller(longest, larger(0.0, ((double)n + p->kept - conf) / per_ns)),
           step = smaller(longest - denied, FADED * fades), left = p->near * exp(-denied / fades),
           rest = exp(-step / fades);
    prediction_t then = *p;
    for (int i = 0; i < WAIT_STEPS; i++) {
        step /= 2;
        rest = sqrt(rest); /* the part of what is held back that is left after this step */
        then.near = left * rest;
        double tokens = smaller(capacity, conf + per_ns * (denied + step));
        if (tokens - near_tokens(t, e, &then, tokens, now) >= (double)n)
            continue;
        denied += step;
        left = then.near;
    }
    return ceil(denied + step); /* never 0, which would mean that the call passes now */
}

/* The ns until a call of `n` that is denied now would pass. `over` units are missing; of these
 * `back` are held back by predictions. `lack`: what it lacks for passing by the guaranteed
 * share. */
static int64_t denied_wait(const table_t *t, uint32_t e, const definition_t *d,
                           const prediction_t *p, i128 conf_debt, i128 over, i128 back, lack_t lack,
                           int64_t n, int64_t now)
{
    if (LOAD(d->still_until))
        return until_end(d, now);
    i128 wait = over / d->p;
    double sooner = guarantee_wait(d, lack, n);
    if (back > 0)
        sooner = smaller(sooner, faded_wait(t, e, d, p, conf_debt, n, (double)wait, now));
    /* If only a prediction is in the way, the call passes once the reserve has enough tokens. */
    if (over - back <= slack_units(d))
        sooner = smaller(sooner, reserve_wait(t, e, d, p->slow_claims, (double)n, now));
    if (sooner < (double)wait)
        wait = (i128)sooner;
    return saturated(wait);
}

/* The verdict on a call. `wait_ns`: 0 if it passes, else the ns until it would pass. `guaranteed`:
 * it passes only by the guaranteed share. */
typedef struct {
    int64_t wait_ns;
    int guaranteed;
} verdict_t;

/* The verdict on a call of `n` that has to leave `floor` tokens to more important calls. It passes
 * if a call of `n + floor` would, and with a floor it has no guaranteed share. `debt` (units,
 * signed) and `net` are those of the entry `e`, which may be NONE; `p` is what is predicted for
 * it. */
static verdict_t judge(table_t *t, uint32_t e, const definition_t *d, const prediction_t *p,
                       i128 debt, int64_t net, int64_t n, int64_t floor, int64_t now)
{
    verdict_t v = {0, 0};
    int64_t wanted = n + floor;
    i128 conf_debt = clamped(d, debt + far_units(d, p->far)),
         back = held_back(t, e, d, p, conf_debt, wanted, now),
         over = conf_debt + back + token_units(d, wanted) - full_units(d);
    if (UNLIKELY(over > slack_units(d))) {
        lack_t lack =
            floor || e == NONE ? NO_GUARANTEE : guarantee_lack(t, e, d, p->counted, n, now);
        v.guaranteed = lack.tokens <= 0;
        if (!v.guaranteed) {
            v.wait_ns = denied_wait(t, e, d, p, conf_debt, over, back, lack, wanted, now);
            return v;
        }
    }
    v.wait_ns = warm_up_wait(t, d, net + n, now);
    return v;
}

#endif
