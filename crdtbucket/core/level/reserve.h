/* The reserve: the tokens that a rare, small caller may take although the prediction leaves none.
 * Without it, it would be starved for ever. See docs/model.md, "Prediction". */
#ifndef CRDTBUCKET_LEVEL_RESERVE_H
#define CRDTBUCKET_LEVEL_RESERVE_H

#include <math.h>

#include "peer_rates.h"

/* The rate, tokens a second, at which the reserve of this node refills: its share of the refill,
 * where the peers claim `slow_claims`. A small caller gets half of what it asks for at least, up to
 * r / (2R), so that it waits no longer the more the others ask. A node that asks for more than what
 * counts in shares, as in a storm of retries, gets half of the refill at most: else it would leave
 * nothing for the reserves of others. */
GLANCES static inline double reserve_rate(const table_t *t, const cold_t *cold,
                                          const definition_t *d, double slow_claims)
{
    double own = own_slow_claim(cold, d), all = own + slow_claims,
           share = all > 0 ? own * d->per_second / all : 0;
    double least = smaller(own / 2.0, d->per_second / larger(2.0, 2.0 * (double)t->h->members));
    double most = own < CLAIM_MOST * d->per_second ? d->per_second : d->per_second / 2.0;
    return smaller(most, larger(share, least));
}

/* The tokens that the reserve holds now. It grows up to what a call of `cost` needs. What it has
 * grown to for a larger cost stays, since rounds are shorter than the time that takes, until the
 * key has rested for as long as the bucket takes to fill. By then nobody waits for it any more, and
 * smaller calls would take all of it before other nodes know. */
GLANCES static inline double reserve_tokens(const table_t *t, uint32_t e, const definition_t *d,
                                            double slow_claims, double cost, int64_t now)
{
    const cold_t *cold = &t->cold[e];
    double most = reserve_most(t, d, cost);
    double rate = reserve_rate(t, cold, d, slow_claims);
    int rested = t->h->averaged_ns - cold->rated_ns > d->full_ns;
    double grown = cold->reserve < 0 || (rested && cold->reserve > most) ? most : cold->reserve;
    double kept = grown - (double)admitted_since(&t->hot[e]);
    double held = kept + rate * (double)(now - cold->rated_ns) / 1e9;
    return smaller(larger(most, kept), larger(0.0, held));
}

/* The ns until the reserve holds `cost` tokens, if nothing is taken meanwhile. */
GLANCES static inline double reserve_wait(const table_t *t, uint32_t e, const definition_t *d,
                                          double slow_claims, double cost, int64_t now)
{
    double rate = reserve_rate(t, &t->cold[e], d, slow_claims);
    double lacks = cost - reserve_tokens(t, e, d, slow_claims, cost, now);
    return lacks <= 0 ? 1.0 : rate > 0 ? lacks / rate * 1e9 + 1.0 : INFINITY;
}

#endif
