/* What the other nodes are taking right now: rates, never state. See docs/model.md, "Prediction". */
#ifndef CRDTBUCKET_PREDICT_H
#define CRDTBUCKET_PREDICT_H

#include <math.h>
#include "earlier.h"
#include "table.h"

/* The library's calls, which also care for what is no number, cost more than all around them. */
static inline double larger(double a, double b) { return a > b ? a : b; }
static inline double smaller(double a, double b) { return a < b ? a : b; }

#define FAST_NS 50e6                  /* time constants of the two averages, the fast one at least */
#define FAST_PART 12.0                /* of the near horizon: the fast one where rounds are slow or far */
#define SLOW_NS 120e9
#define PEAK_NS 5e9                   /* and that by which the memory of a burst fades */
#define SEEN_LEAST 0.0083             /* weight of one second: a single call is no rate of calls in its millisecond */
#define CLAIM_MOST 2.0                /* refill rates that the demand of one node counts for in shares: a storm buys no more */

typedef struct {
    double far;                       /* tokens that silent peers took since the near horizon, their share of the refill */
    double held;                      /* tokens of a full bucket that are left to silent peers */
    double near;                      /* tokens offered to peers within the near horizon */
    double near_ns, slow_ns;          /* mean near age, weighted by their fast rates and by their slow ones */
    double fast_sum;                  /* offered rates of the peers, tokens/s */
    double fast_claims, slow_claims;  /* the same, and the slow ones, as far as they count in shares */
    double overload;                  /* 0: all together ask for the refill rate or less, by slow rates; 1: for twice as much */
    double own_peak;                  /* own fast rate in past bursts, where those of the peers count, tokens/s */
    double kept;                      /* tokens left to the reserves of the peers, in overload */
    int rated, heard;                 /* peers with rates, and those of them that are not silent */
} prediction_t;

/* The time constant of fast rates. They stand until the next news: where these are slow to come, one call must not count for as
 * many as fit between two of them. */
static inline double fast_ns(const table_t *t) { return larger(FAST_NS, (double)t->h->near_ns / FAST_PART); }

/* Tokens admitted since the last averaging. */
static inline int64_t admitted_since(const hot_t *hot) { return net_of(LOAD(hot->word)) - LOAD(hot->mark); }

/* A node's offered rate as far as it counts in shares. Below this demand is shared in proportion, so that every call has the
 * same chance, as in one bucket; beyond it more calls, such as a storm of retries, get no more. */
static inline double claim(const definition_t *d, double rate) { return smaller(rate, CLAIM_MOST * d->per_second); }

GLANCES static inline double own_slow_claim(const cold_t *c, const definition_t *d)
{
    return claim(d, (double)c->slow / larger(c->weight, SEEN_LEAST));
}

/* Part of the refill that demand of `claims` tokens/s in all gets of what it asks for. */
static inline double refill_share(const definition_t *d, double claims)
{
    return claims > 0 ? smaller(1.0, d->per_second / claims) : 1.0;
}

#define STAMPS_AHEAD (UINT32_C(1) << 22) /* 73 minutes; what seems to be further ahead is old, since stamps wrap after 52 days */

/* Whether the newest complete round of a node came after what `heard` of one of its columns stands for. */
GLANCES static inline int heard_later(const node_t *n, uint32_t heard)
{
    return heard - stamp_of(n->heard) >= STAMPS_AHEAD;
}

/* Net tokens that others told of since the owner's newest news. No sum of them is kept: it is what the column has now beyond its
 * count at that news. Since later news of the owner nobody has told of any: that would have moved `known`. */
GLANCES static inline int64_t relayed_tokens(const node_t *n, const column_t *c)
{
    int64_t relayed = (int64_t)((uint64_t)column_net(c) - c->c->known[c->i]);
    return relayed < 0 || heard_later(n, c->c->heard[c->i]) ? 0 : relayed;
}

/* Fading of a stated rate for as long as complete rounds came without the key. */
GLANCES static inline double fade(const node_t *n, uint32_t heard, double constant_ns)
{
    if (!heard_later(n, heard))
        return 1.0;
    double x = (double)(n->heard - stamp_ns(heard, n->heard)) / constant_ns;
    return x < 40 ? exp(-x) : 0.0;
}

/* Time since the newest news of a column's owner: a complete round of it, or its own entry of this key. */
GLANCES static inline int64_t age_of(const node_t *n, const column_t *c, int64_t now)
{
    int64_t own_entry = stamp_ns(c->c->heard[c->i], now), age = now - (n->heard > own_entry ? n->heard : own_entry);
    return age > 0 ? age : 0;
}

GLANCES static inline double slow_rate(const node_t *n, const column_t *c)
{
    return unpack_rate(c->c->slow[c->i]) * fade(n, c->c->heard[c->i], SLOW_NS);
}

/* A peer that is silent beyond the near horizon is predicted by its slow rate: what it offered in the last 50 ms that were heard
 * of may be a single call, and would be held back all through a partition. */
GLANCES static inline double fast_rate(const table_t *t, const node_t *n, const column_t *c, double slow, int64_t age)
{
    return age > t->h->near_ns ? slow : unpack_rate(c->c->fast[c->i]) * fade(n, c->c->heard[c->i], fast_ns(t));
}

/* What is left at `now` of a peak of `since`. */
GLANCES static inline double remembered(uint16_t peak, int64_t since, int64_t now)
{
    return peak && now - since < 40 * PEAK_NS ? unpack_rate(peak) * exp((double)(since - now) / PEAK_NS) : 0.0;
}

/* A cost in a byte, rounded up by a quarter at most: four classes from each power of two to the next. */
static inline uint8_t cost_class(int64_t n)
{
    if (n <= 1)
        return 0;
    int exponent = 63 - __builtin_clzll((uint64_t)n);
    int64_t quarters = (n << 2) >> exponent;
    return (uint8_t)(4 * exponent + (int)(quarters - 4) + (quarters << exponent < n << 2));
}

static inline double cost_of_class(uint8_t class) { return ldexp((double)(4 + (class & 3)) / 4.0, class >> 2); }

/* Most tokens that a reserve holds, see below. */
GLANCES static inline double reserve_most(const table_t *t, const definition_t *d, double cost)
{
    return larger(cost, (double)d->capacity / (200.0 * (double)t->h->members));
}

/* Tokens that a silent peer took from `from` to `to`, of all whose demand counts for `claims`. Before the present limit its
 * demand counts by the largest one that held then. */
GLANCES static inline double far_taken(const definition_t *d, double slow, double claims, int64_t near, int64_t from, int64_t to)
{
    double seconds = seconds_granted(d, claims, near, from, to), present = seconds, rate = d->per_second;
    for (uint32_t i = d->earliers; i--;)
        if (d->earlier[i].of_all && d->earlier[i].until > from) {
            rate = larger(rate, d->earlier[i].per_second);
            present = d->earlier[i].until < to ? seconds_granted(d, claims, near, d->earlier[i].until, to) : 0;
        }
    return claim(d, slow) * present + smaller(slow, CLAIM_MOST * rate) * (seconds - present);
}

/* Tokens that a column's owner took since the near horizon, of all whose demand counts for `claims`, beyond those that others told
 * of. */
GLANCES static inline double column_far(const table_t *t, const definition_t *d, const column_t *c, double claims, int64_t now)
{
    const header_t *h = t->h;
    const node_t *n = &t->nodes[t->origins[column_origin(c)].node];
    int64_t age = age_of(n, c, now), far = (age < h->trust_ns ? age : h->trust_ns) - h->near_ns;
    if (far <= 0)
        return 0;
    double taken = far_taken(d, slow_rate(n, c), claims, h->near_ns, now - h->near_ns - far, now - h->near_ns);
    return larger(0.0, taken - (double)relayed_tokens(n, c));
}

/* In overload, and the more the deeper it is: a burst is expected again, as high as it was, and the peers' reserves are left to
 * them. Below the refill rate neither is, since it would deny calls for which there are tokens. */
GLANCES static inline void foresee_overload(const table_t *t, uint32_t e, const definition_t *d, prediction_t *p, int64_t now)
{
    const cold_t *cold = &t->cold[e];
    p->overload = smaller(1.0, (p->slow_claims + own_slow_claim(cold, d)) / d->per_second - 1.0);
    if (p->overload <= 0) {
        p->overload = 0;
        return;
    }
    p->kept = p->overload * smaller(p->heard * reserve_most(t, d, 1.0), ((double)d->capacity - 1.0) / 4.0);
    double peak = p->overload * remembered(cold->peak, stamp_ns(cold->peak_at, now), now), tokens = peak * p->slow_ns / 1e9;
    if (tokens > p->near) {
        p->near = tokens;
        p->near_ns = p->slow_ns;
        p->fast_claims = smaller(peak, CLAIM_MOST * d->per_second * p->rated);
        p->own_peak = p->overload * remembered(cold->own_peak, cold->rated_ns, now);
    }
}

/* Tokens of a full bucket that are left to silent peers, whose demand is this part of all. The other side may be as quiet as
 * this one, and full as well, and each side may take what it finds. This node keeps an equal part of what it and all `peers` with
 * rates have, and a token, at least. */
GLANCES static inline double left_to_silent(const definition_t *d, double part, int peers)
{
    double capacity = (double)d->capacity, own = larger(1.0, capacity / (1.0 + peers));
    return smaller(part * capacity, larger(0.0, capacity - own));
}

GLANCES static prediction_t predict(const table_t *t, uint32_t e, const definition_t *d, int64_t now)
{
    prediction_t out = {0};
    const header_t *h = t->h;
    double near_rate = 0, slow_near = 0, slow_sum = 0, silent_claims = 0;
    if (!h->predict || !(LOAD(t->hot[e].flags) & ENTRY_RATED))
        return out;
    for (int pass = 0; pass < 2; pass++) {              /* shares need the sum of the slow rates first */
        double claims = out.slow_claims + own_slow_claim(&t->cold[e], d);
        column_t c = {0};
        if (pass && now < LOAD(h->far_free_until))
            break;
        while (column_next(t, e, &c)) {
            if (!column_rated(&c))
                continue;
            if (pass) {
                out.far += column_far(t, d, &c, claims, now);
                continue;
            }
            const node_t *n = &t->nodes[t->origins[column_origin(&c)].node];
            int64_t age = age_of(n, &c, now), near = age < h->near_ns ? age : h->near_ns;
            double slow = slow_rate(n, &c), fast = fast_rate(t, n, &c, slow, age);
            out.slow_claims += claim(d, slow);
            silent_claims += age > h->near_ns ? claim(d, slow) : 0;
            out.fast_sum += fast;
            out.fast_claims += claim(d, fast);
            near_rate += fast * (double)near;
            slow_near += slow * (double)near;
            slow_sum += slow;
            out.rated++;
            out.heard += slow > 0 && age <= h->near_ns;
        }
    }
    out.near = near_rate / 1e9;
    out.near_ns = out.fast_sum > 0 ? near_rate / out.fast_sum : 0;
    out.slow_ns = slow_sum > 0 ? slow_near / slow_sum : 0;
    foresee_overload(t, e, d, &out, now);
    if (UNLIKELY(h->shared_bursts && silent_claims > 0 && now >= LOAD(h->far_free_until)))
        out.held = left_to_silent(d, silent_claims / (out.slow_claims + own_slow_claim(&t->cold[e], d)), out.rated);
    return out;
}

/* Far credit in units, 0 while no peer is silent. */
static inline i128 far_units(const definition_t *d, double far)
{
    double limit = 0x1p61 * (double)d->p, units = far * (double)d->q;    /* a long partition grants many capacities */
    if (far <= 0)
        return 0;
    return (i128)(units < limit ? units : limit);
}

/* The debt of a full bucket, in units. It is below zero by what silent peers may have taken, and above that by the tokens that are
 * left to them. */
static inline i128 least_units(const definition_t *d, const prediction_t *p)
{
    return far_units(d, p->held) - far_units(d, p->far);
}

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

static inline i128 entry_least(const table_t *t, uint32_t e, const definition_t *d, int64_t now)
{
    if (LIKELY(now < LOAD(t->h->far_free_until)) || !(LOAD(t->hot[e].flags) & ENTRY_RATED))
        return 0;
    prediction_t p = predict(t, e, d, now);
    return least_units(d, &p);
}

/* The limit is lowered while peers are silent: from here on they are predicted at what the old one granted of their demand. The
 * shares of then could not be told later, when demand is another one. */
static inline void keep_granted(const table_t *t, uint32_t e, const definition_t *old, int64_t now)
{
    column_t c = {0};
    double q = predict(t, e, old, now).slow_claims + own_slow_claim(&t->cold[e], old);
    while (q > old->per_second && column_next(t, e, &c))
        if (age_of(&t->nodes[t->origins[column_origin(&c)].node], &c, now) > t->h->near_ns)
            c.c->slow[c.i] = pack_rate(claim(old, unpack_rate(c.c->slow[c.i])) * old->per_second / q);
}

/* What peers may be taking within the near horizon, with `conf` confirmed tokens: my proportional share stays mine. */
GLANCES static inline double near_tokens(const table_t *t, uint32_t e, const prediction_t *p, double conf, int64_t now)
{
    const hot_t *hot = &t->hot[e];
    const cold_t *cold = &t->cold[e];
    if (p->near <= 0)
        return p->kept;
    double since = (double)(now - cold->rated_ns), own = unpack_rate(cold->fast);
    double recent = smaller(since, p->near_ns);
    double mine = (since > 0 ? (double)admitted_since(hot) * recent / since : 0)
                  + unpack_rate(cold->granted) * (p->near_ns - recent) / 1e9;
    double claimed = claim(&t->definitions[hot->bucket], larger(own, p->own_peak)), all = claimed + p->fast_claims;
    double share = all > 0 ? claimed / all : 1.0;
    return larger(p->kept, smaller(p->near, (1.0 - share) * larger(0.0, conf + mine)));
}

/* Tokens/s by which the reserve refills: this node's share of the refill. A small caller gets half of what it asks for at least,
 * up to a twentieth of the refill, so that it waits no longer the more the others ask. A node whose demand is beyond what
 * counts, such as a storm of retries, gets half of the refill at most, or it would leave nothing for the reserves of others. */
GLANCES static inline double reserve_rate(const table_t *t, const cold_t *cold, const definition_t *d, double slow_claims)
{
    double own = own_slow_claim(cold, d), share = own * refill_share(d, own + slow_claims);
    double least = smaller(own / 2.0, d->per_second / larger(20.0, 2.0 * (double)t->h->members));
    double most = own < CLAIM_MOST * d->per_second ? d->per_second : d->per_second / 2.0;
    return smaller(most, larger(share, least));
}

/* Tokens that a small caller may take although the prediction leaves none (else it is dark for ever). It grows up to what a call
 * of `cost` needs, and what it has grown to for a larger one stays: rounds are shorter than the time that takes. */
GLANCES static inline double reserve_tokens(const table_t *t, uint32_t e, const definition_t *d, double slow_claims,
                                            double cost, int64_t now)
{
    const cold_t *cold = &t->cold[e];
    double most = reserve_most(t, d, cost);
    double rate = reserve_rate(t, cold, d, slow_claims);
    double kept = (cold->reserve < 0 ? most : cold->reserve) - (double)admitted_since(&t->hot[e]);
    double held = kept + rate * (double)(now - cold->rated_ns) / 1e9;
    return smaller(larger(most, kept), larger(0.0, held));
}

/* ns until the reserve holds `cost`, if nothing is taken meanwhile. */
GLANCES static inline double reserve_wait(const table_t *t, uint32_t e, const definition_t *d, double slow_claims, double cost,
                                          int64_t now)
{
    double rate = reserve_rate(t, &t->cold[e], d, slow_claims);
    double lacks = cost - reserve_tokens(t, e, d, slow_claims, cost, now);
    return lacks <= 0 ? 1.0 : rate > 0 ? lacks / rate * 1e9 + 1.0 : INFINITY;
}

#endif
