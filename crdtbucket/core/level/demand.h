/* What follows from the demand of all nodes together: overload, and the part of silent peers. See
 * docs/model.md, "Prediction". */
#ifndef CRDTBUCKET_LEVEL_DEMAND_H
#define CRDTBUCKET_LEVEL_DEMAND_H

#include "peer_rates.h"
#include "units.h"

/* What is predicted for one entry at one moment. */
typedef struct {
    /* The far credit: tokens that silent peers are predicted to have taken up to the near horizon,
     * their share of the refill. */
    double far;
    double held; /* tokens of a full bucket that are left to silent peers, see `left_to_silent` */
    /* Tokens for which callers of peers are predicted to have asked within the near horizon. */
    double near;
    /* The mean near age, in ns: weighted by the fast rates of the peers, and by their slow
     * rates. */
    double near_ns, slow_ns;
    double fast_sum; /* the sum of the fast rates of the peers, tokens a second */
    /* The sums of the fast rates, and of the slow ones, as far as they count in shares
     * (`claim`). */
    double fast_claims, slow_claims;
    /* By slow rates all together ask for: 0: the refill rate or less; 1: twice that or more; in
     * between in proportion. */
    double overload;
    /* This node's own fast rate in past bursts, tokens a second; set where past bursts of the peers
     * count. */
    double own_peak;
    double kept; /* in overload, tokens that are left to the reserves of the peers */
    /* How many peers have rates here; how many of them have a slow rate and are not silent; and how
     * many count where guaranteed shares are divided. */
    int rated, not_silent, counted;
} prediction_t;

/* Adds what is predicted in overload alone, and the more the deeper it is: a burst is expected
 * again, as high as it was, and the reserves of the peers are left to them. Below the refill rate
 * neither is done, since it would deny calls for which there are tokens. */
GLANCES static inline void foresee_overload(const table_t *t, uint32_t e, const definition_t *d,
                                            prediction_t *p, int64_t now)
{
    const cold_t *cold = &t->cold[e];
    p->overload = smaller(1.0, (p->slow_claims + own_slow_claim(cold, d)) / d->per_second - 1.0);
    if (p->overload <= 0) {
        p->overload = 0;
        return;
    }
    p->kept = p->overload
              * smaller(p->not_silent * reserve_most(t, d, 1.0), ((double)d->capacity - 1.0) / 4.0);
    int64_t since = stamp_ns(cold->peak_at, now);
    double peak = unpack_rate(cold->peak),
           tokens = p->overload * faded_peak(peak, since, now) * p->slow_ns / 1e9;
    if (tokens > p->near) {
        double claimed = smaller(peak, CLAIM_PEAK * d->per_second * p->rated),
               most = CLAIM_MOST * d->per_second * p->rated;
        p->near = tokens;
        p->near_ns = p->slow_ns;
        p->fast_claims = smaller(p->overload * faded_peak(claimed, since, now), most);
        p->own_peak = p->overload * faded_peak(unpack_rate(cold->own_peak), cold->rated_ns, now);
    }
}

/* The tokens of a full bucket that are left to silent peers, whose demand is `part` of that of all.
 * The other side of a partition may be as quiet as this one, and full as well, and each side may
 * take what it finds. This node keeps, at least, an equal part of what it and all `peers` with
 * rates have, and a token. */
GLANCES static inline double left_to_silent(const definition_t *d, double part, int peers)
{
    double capacity = (double)d->capacity, own = larger(1.0, capacity / (1.0 + peers));
    return smaller(part * capacity, larger(0.0, capacity - own));
}

/* The demand by which the share of a silent peer is computed, where all together claim `claims`.
 * Beyond twice the limit the proportional share of a small node is below what is guaranteed to it.
 * Then the others share what the guarantees leave, on every node alike: this is done as if their
 * demand were larger. */
GLANCES static demand_t far_demand(const table_t *t, uint32_t e, const definition_t *d,
                                   double claims, int64_t now)
{
    demand_t of = {claims, 0, t->cold[e].got, stamp_ns(t->cold[e].got_at, now) - t->h->near_ns};
    if (claims <= 2.0 * d->per_second || d->earlier_count)
        return of;
    int nodes = 1;
    for (column_t c = {0}; column_next(t, e, &c);)
        nodes += column_rated(&c) && !t->nodes[t->origins[column_origin(&c)].node].unproven;
    of.nodes = nodes;
    for (int step = 0; step < 3; step++) {
        double own = own_slow_claim(&t->cold[e], d), guaranteed = guaranteed_rate(d, own, of.nodes),
               part = d->per_second / of.claims, small = own * part < guaranteed ? guaranteed : 0,
               large = small > 0 ? 0 : own;
        for (column_t c = {0}; column_next(t, e, &c);) {
            if (!column_rated(&c))
                continue;
            double one = claim(d, slow_rate(&t->nodes[t->origins[column_origin(&c)].node], &c));
            guaranteed = guaranteed_rate(d, one, of.nodes);
            *(one * part < guaranteed ? &small : &large) +=
                one * part < guaranteed ? guaranteed : one;
        }
        if (large > 0)
            of.claims = large * d->per_second / (d->per_second - small);
    }
    return of;
}

/* The far credit of all silent peers, in tokens, where the demand of all nodes is `claims`. */
GLANCES static double far_sum(const table_t *t, uint32_t e, const definition_t *d, double claims,
                              int64_t now)
{
    double sum = 0;
    demand_t of = far_demand(t, e, d, claims, now);
    for (column_t c = {0}; column_next(t, e, &c);)
        if (column_rated(&c))
            sum += column_far(t, d, &c, of, now);
    return sum;
}

#endif
