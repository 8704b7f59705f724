/* Predicts what the other nodes are taking right now. A prediction does not become part of a level
 * until its node is given up (merge/silence.h). See docs/model.md, "Prediction". */
#ifndef CRDTBUCKET_LEVEL_PREDICT_H
#define CRDTBUCKET_LEVEL_PREDICT_H

#include "demand.h"

/* The column of a silent peer, with its age (ns) and its slow rate (tokens a second) at one
 * moment. */
typedef struct {
    column_t column;
    int64_t age;
    double slow;
} silent_t;

/* The most columns that a walk over an entry meets, with those of freed blocks among them. */
#define MOST_COLUMNS ((MAX_BLOCKS_WALKED + 1) * INLINE_COLUMNS)

/* What is predicted for an entry at `now`. All is 0 while no peer has rates of it, or predictions
 * are off. */
GLANCES static prediction_t predict(const table_t *t, uint32_t e, const definition_t *d,
                                    int64_t now)
{
    prediction_t out = {0};
    const header_t *h = t->h;
    double near_rate = 0, slow_near = 0, slow_sum = 0, silent_claims = 0;
    /* What a silent peer took longer ago than the time in which the bucket fills has been refilled,
     * as far as the far credit grants it. */
    int64_t silent_near = h->near_ns < d->full_ns ? h->near_ns : d->full_ns;
    if (!h->predict || !(LOAD(t->hot[e].flags) & ENTRY_RATED))
        return out;
    /* The far credit needs the demand of all, so what it needs of each column is kept until that is
     * known. */
    int has_far = now >= LOAD(h->far_free_until), silent_count = 0;
    silent_t silent[MOST_COLUMNS];
    for (column_t c = {0}; column_next(t, e, &c);) {
        if (!column_rated(&c))
            continue;
        const node_t *n = &t->nodes[t->origins[column_origin(&c)].node];
        int64_t age = age_of(n, &c, now), near = age < h->near_ns ? age : silent_near;
        double slow = slow_rate(n, &c), fast = fast_rate(t, n, &c, slow, age);
        out.slow_claims += claim(d, slow);
        silent_claims += age > h->near_ns ? claim(d, slow) : 0;
        out.fast_sum += fast;
        out.fast_claims += claim(d, fast);
        near_rate += fast * (double)near;
        slow_near += slow * (double)near;
        slow_sum += slow;
        out.rated++;
        out.counted += !n->unproven;
        out.not_silent += slow > 0 && age <= h->near_ns;
        if (has_far && age > h->near_ns)
            silent[silent_count++] = (silent_t){c, age, slow};
    }
    if (has_far) {
        double claims = out.slow_claims + own_slow_claim(&t->cold[e], d);
        demand_t of = far_demand(t, e, d, claims, now);
        for (const silent_t *one = silent; one < silent + silent_count; one++) {
            const node_t *n = &t->nodes[t->origins[column_origin(&one->column)].node];
            out.far += far_by_rate(t, d, &one->column, of, one->age, one->slow,
                                   (double)relayed_tokens(n, &one->column), now);
        }
    }
    out.near = near_rate / 1e9;
    out.near_ns = out.fast_sum > 0 ? near_rate / out.fast_sum : 0;
    out.slow_ns = slow_sum > 0 ? slow_near / slow_sum : 0;
    foresee_overload(t, e, d, &out, now);
    if (UNLIKELY(h->shared_bursts && silent_claims > 0 && now >= LOAD(h->far_free_until)))
        out.held = left_to_silent(
            d, silent_claims / (out.slow_claims + own_slow_claim(&t->cold[e], d)), out.rated);
    return out;
}

/* Notes, before the demand of some node changes, which part of what silent peers asked for they are
 * predicted to have got so far. That part stays as it is. */
static void note_got(table_t *t, uint32_t e, const definition_t *d, int64_t now)
{
    double granted = 0, asked = 0;
    if (LIKELY(now < LOAD(t->h->far_free_until)) || !(LOAD(t->hot[e].flags) & ENTRY_RATED))
        return;
    double claims = predict(t, e, d, now).slow_claims + own_slow_claim(&t->cold[e], d);
    demand_t of = far_demand(t, e, d, claims, now);
    for (column_t c = {0}; column_next(t, e, &c);) {
        const node_t *n = &t->nodes[t->origins[column_origin(&c)].node];
        int64_t far = far_ns(t->h, age_of(n, &c, now));
        double slow = slow_rate(n, &c);
        if (far <= 0 || slow <= 0)
            continue;
        granted += far_granted(t->h, d, slow, of, far, now);
        asked += claim(d, slow) * (double)far / 1e9;
    }
    t->cold[e].got = asked > 0 ? (float)smaller(1.0, granted / asked) : 0;
    t->cold[e].got_at = stamp_of(now);
}

/* The far credit of `far` tokens in units; 0 for none. */
static inline i128 far_units(const definition_t *d, double far)
{
    /* A long partition grants many capacities: no more than 2^61 ns count. */
    double limit = 0x1p61 * (double)d->p, units = far * (double)d->q;
    if (far <= 0)
        return 0;
    return (i128)(units < limit ? units : limit);
}

/* The far credit of an entry in tokens; below that in units. */
static inline double far_tokens(const table_t *t, uint32_t e, int64_t now)
{
    return predict(t, e, &t->definitions[t->hot[e].bucket], now).far;
}

static inline i128 entry_far(const table_t *t, uint32_t e, const definition_t *d, int64_t now)
{
    if (LIKELY(now < LOAD(t->h->far_free_until)) || !(LOAD(t->hot[e].flags) & ENTRY_RATED))
        return 0;
    return far_units(d, predict(t, e, d, now).far);
}

/* Called when the limit is lowered while peers are silent: from now on these are predicted at what
 * the old limit granted of their demand. That share cannot be computed later, when the demand has
 * changed. */
static inline void keep_granted(const table_t *t, uint32_t e, const definition_t *old, int64_t now)
{
    column_t c = {0};
    double q = predict(t, e, old, now).slow_claims + own_slow_claim(&t->cold[e], old);
    while (q > old->per_second && column_next(t, e, &c))
        if (age_of(&t->nodes[t->origins[column_origin(&c)].node], &c, now) > t->h->near_ns)
            c.c->slow[c.i] =
                pack_rate(claim(old, unpack_rate(c.c->slow[c.i])) * old->per_second / q);
}

/* For so many of its time constants a fast rate says what this node took. */
#define FAST_STANDS 2.0

/* The tokens admitted here in the last `ns` before the last averaging. Before the time of which the
 * fast rate tells, they were no more than the slow rate says: else, at the start of a burst, this
 * node would seem to have taken as much for as long as a silent peer stays silent, and would
 * leave that one more than there is. */
GLANCES static inline double granted_before(const table_t *t, const cold_t *cold,
                                            const definition_t *d, double ns)
{
    double granted = unpack_rate(cold->granted), lately = smaller(ns, FAST_STANDS * fast_ns(t));
    return (granted * lately + smaller(granted, own_slow_claim(cold, d)) * (ns - lately)) / 1e9;
}

/* Less than this part of a token is not held back for peers: a bucket that holds one token would
 * give none for as long as an overload is remembered. */
#define TRIFLE 0.0625

/* The tokens that peers may be taking within the near horizon, where `conf` tokens are confirmed.
 * This node's proportional share is not among them. */
GLANCES static inline double near_tokens(const table_t *t, uint32_t e, const prediction_t *p,
                                         double conf, int64_t now)
{
    const hot_t *hot = &t->hot[e];
    const cold_t *cold = &t->cold[e];
    if (p->near <= 0)
        return p->kept;
    double since = (double)(now - cold->rated_ns), own = unpack_rate(cold->fast);
    double recent = smaller(since, p->near_ns);
    double mine = (since > 0 ? (double)admitted_since(hot) * recent / since : 0)
                  + granted_before(t, cold, &t->definitions[hot->bucket], p->near_ns - recent);
    double claimed = claim(&t->definitions[hot->bucket], larger(own, p->own_peak)),
           all = claimed + p->fast_claims;
    double share = all > 0 ? claimed / all : 1.0;
    return larger(p->kept, smaller(p->near, (1.0 - share) * larger(0.0, conf + mine)));
}

#endif
