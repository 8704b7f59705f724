/* The verdict on a call: what it gets by the debt of the bucket, and by what is predicted,
 * guaranteed and left to others. */
#ifndef CRDTBUCKET_LEVEL_VERDICT_H
#define CRDTBUCKET_LEVEL_VERDICT_H

#include <math.h>

#include "guaranteed_share.h"
#include "predict.h"
#include "reserve.h"

/* A debt, in units, within 0 and the ceiling. */
static inline i128 clamped(const definition_t *d, i128 units)
{
    i128 cap = cap_units(d);
    return units < 0 ? 0 : units > cap ? cap : units;
}

/* The units that must be free beside the cost of a call of `n`, because of predictions. `conf_debt`
 * is the confirmed debt with the far credit added. 0 also when the reserve lets the call past the
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

/* How long (ns) until a node that joined without memory may have taken `taken` tokens of a key; 0
 * when it may now, or does not warm up. Its share is C / R, but it does not get that at once, since
 * the bucket may well be empty: a quarter of it is free, and the rest comes at three quarters of
 * the refill rate. */
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

/* Halvings of the time in which a call passes: it is known to a 256th of that. */
#define WAIT_STEPS 8
/* So many time constants after a moment nothing is left of what was held back then. */
#define FADED 40.0

/* ns until a call of `n` passes, `longest` at most, when nobody takes anything meanwhile: then what
 * is held back for peers fades. A burst of theirs is remembered in overload alone; else their next
 * rounds end it. */
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
        rest = sqrt(rest); /* of what is held back, after a step */
        then.near = left * rest;
        double tokens = smaller(capacity, conf + per_ns * (denied + step));
        if (tokens - near_tokens(t, e, &then, tokens, now) >= (double)n)
            continue;
        denied += step;
        left = then.near;
    }
    return ceil(denied + step); /* never 0, which would say that it passes now */
}

/* How long (ns) a call of `n` waits that is denied: `over` units are missing, of which `back` are
 * held back by predictions, and `lack` is what it lacks for passing by the guarantee. */
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
    /* Only a prediction is in the way, so the reserve lets the call pass once it is full enough. */
    if (over - back <= slack_units(d))
        sooner = smaller(sooner, reserve_wait(t, e, d, p->slow_claims, (double)n, now));
    if (sooner < (double)wait)
        wait = (i128)sooner;
    return saturated(wait);
}

/* What a call gets: `wait_ns` is 0 when it passes, else the ns until it would. `over`: the level,
 * or what is predicted, is in the way. `guaranteed`: it passes by the guaranteed share alone. */
typedef struct {
    int64_t wait_ns;
    int over, guaranteed;
} verdict_t;

/* The verdict on a call of `n` that leaves `floor` tokens to more important calls: it is decided on
 * like a call of `n + floor`, and nothing is guaranteed to it. `debt` (units, signed) and `net` are
 * those of the entry `e`, which may be NONE; `p` is what is predicted for it. */
static verdict_t judge(table_t *t, uint32_t e, const definition_t *d, const prediction_t *p,
                       i128 debt, int64_t net, int64_t n, int64_t floor, int64_t now)
{
    verdict_t v = {0, 0, 0};
    int64_t wanted = n + floor;
    i128 conf_debt = clamped(d, debt + far_units(d, p->far)),
         back = held_back(t, e, d, p, conf_debt, wanted, now),
         over = conf_debt + back + token_units(d, wanted) - full_units(d);
    if (UNLIKELY(over > slack_units(d))) {
        lack_t lack =
            floor || e == NONE ? NO_GUARANTEE : guarantee_lack(t, e, d, p->counted, n, now);
        v.guaranteed = lack.tokens <= 0;
        v.over = !v.guaranteed;
        if (v.over)
            v.wait_ns = denied_wait(t, e, d, p, conf_debt, over, back, lack, wanted, now);
    }
    if (!v.over)
        v.wait_ns = warm_up_wait(t, d, net + n, now);
    return v;
}

#endif
