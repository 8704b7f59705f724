/* The rates that peers advertise of a key, as they count now. */
#ifndef CRDTBUCKET_LEVEL_PEER_RATES_H
#define CRDTBUCKET_LEVEL_PEER_RATES_H

#include <math.h>

#include "../memory/columns.h"
#include "earlier_limits.h"
#include "packed_rate.h"

/* The library's calls, which also care for what is no number, cost more than all around them. */
static inline double larger(double a, double b) { return a > b ? a : b; }
static inline double smaller(double a, double b) { return a < b ? a : b; }

/* Time constants of the two averages, the fast one at least. */
#define FAST_NS 50e6
/* Of the near horizon: the fast one where rounds are slow or far. */
#define FAST_PART 12.0
#define SLOW_NS 120e9
#define PEAK_NS 5e9 /* and that by which the memory of a burst fades */
/* Weight of one second: a single call is no rate of calls in its millisecond. */
#define SEEN_LEAST 0.0083
/* Refill rates that the demand of one node counts for in shares: a storm buys no more. */
#define CLAIM_MOST 2.0
/* Refill rates at which a remembered burst of one node begins to fade in shares, however high it
 * was: so it counts for CLAIM_MOST for two more seconds. */
#define CLAIM_PEAK 3.0

/* The time constant of fast rates. A fast rate stands until the next update: where updates are slow
 * to come, one call must not count for as many as fit between two of them. */
static inline double fast_ns(const table_t *t)
{
    return larger(FAST_NS, (double)t->h->near_ns / FAST_PART);
}

/* Tokens admitted since the last averaging. */
static inline int64_t admitted_since(const hot_t *hot)
{
    return net_of(LOAD(hot->word)) - LOAD(hot->averaged_net);
}

/* A node's offered rate as far as it counts in shares. Below this demand is shared in proportion,
 * so that every call has the same chance, as in one bucket; beyond it more calls, such as a storm
 * of retries, get no more. */
static inline double claim(const definition_t *d, double rate)
{
    return smaller(rate, CLAIM_MOST * d->per_second);
}

GLANCES static inline double own_slow_claim(const cold_t *c, const definition_t *d)
{
    return claim(d, (double)c->slow / larger(c->weight, SEEN_LEAST));
}

/* Tokens/s, of `nodes` that may ask: half of what the node asks for, up to half of an equal share.
 * In proportion nobody gets less, as long as all ask for twice the limit at most. */
GLANCES static inline double guaranteed_rate(const definition_t *d, double demand, double nodes)
{
    return smaller(demand, d->per_second / larger(1.0, nodes)) / 2.0;
}

/* 73 minutes; what seems to be further ahead is old, since stamps wrap after 52 days. */
#define STAMPS_AHEAD (UINT32_C(1) << 22)

/* Whether the newest complete round of a node came after the time `seen`, a stamp of one of its
 * columns. */
GLANCES static inline int seen_later(const node_t *n, uint32_t last_seen)
{
    return last_seen - stamp_of(n->last_seen) >= STAMPS_AHEAD;
}

/* Net tokens that others relayed since the newest update of the owner itself. No sum of them is
 * kept: they are what the column has now beyond its count at that update. When a later round of the
 * owner came without the key, nobody has relayed anything since: it would have moved `known`. */
GLANCES static inline int64_t relayed_tokens(const node_t *n, const column_t *c)
{
    int64_t relayed = (int64_t)((uint64_t)column_net(c) - c->c->known[c->i]);
    return relayed < 0 || seen_later(n, c->c->last_seen[c->i]) ? 0 : relayed;
}

/* How far an advertised rate has faded, because complete rounds came without the key. */
GLANCES static inline double fade(const node_t *n, uint32_t last_seen, double constant_ns)
{
    if (!seen_later(n, last_seen))
        return 1.0;
    double x = (double)(n->last_seen - stamp_ns(last_seen, n->last_seen)) / constant_ns;
    return x < 40 ? exp(-x) : 0.0;
}

/* The age of the newest update of a column's owner: of a complete round, or of its own entry of
 * this key. */
GLANCES static inline int64_t age_of(const node_t *n, const column_t *c, int64_t now)
{
    int64_t own_entry = stamp_ns(c->c->last_seen[c->i], now),
            age = now - (n->last_seen > own_entry ? n->last_seen : own_entry);
    return age > 0 ? age : 0;
}

GLANCES static inline double slow_rate(const node_t *n, const column_t *c)
{
    return unpack_rate(c->c->slow[c->i]) * fade(n, c->c->last_seen[c->i], SLOW_NS);
}

/* A peer that is silent beyond the near horizon is predicted by its slow rate. Its last known 50 ms
 * may have held a single call, and that rate would be held back during the whole partition. */
GLANCES static inline double fast_rate(const table_t *t, const node_t *n, const column_t *c,
                                       double slow, int64_t age)
{
    return age > t->h->near_ns
               ? slow
               : unpack_rate(c->c->fast[c->i]) * fade(n, c->c->last_seen[c->i], fast_ns(t));
}

/* What is left at `now` of a peak of `since`. */
GLANCES static inline double remembered(double peak, int64_t since, int64_t now)
{
    return peak > 0 && now - since < 40 * PEAK_NS ? peak * exp((double)(since - now) / PEAK_NS)
                                                  : 0.0;
}

/* A cost in a byte, rounded up by a quarter at most: four classes from each power of two to the
 * next. */
static inline uint8_t cost_class(int64_t n)
{
    if (n <= 1)
        return 0;
    int exponent = 63 - __builtin_clzll((uint64_t)n);
    int64_t quarters = (n << 2) >> exponent;
    return (uint8_t)(4 * exponent + (int)(quarters - 4) + (quarters << exponent < n << 2));
}

static inline double cost_of_class(uint8_t class)
{
    return ldexp((double)(4 + (class & 3)) / 4.0, class >> 2);
}

/* Most tokens that a reserve holds (reserve.h) for calls of this cost. */
GLANCES static inline double reserve_most(const table_t *t, const definition_t *d, double cost)
{
    return larger(cost, (double)d->capacity / (200.0 * (double)t->h->members));
}

/* The demand of all of those who share the refill with a silent peer. */
typedef struct {
    double claims; /* tokens/s */
    double nodes;  /* 0: all get what they ask for, or half of it at least */
    double got;    /* of what silent peers asked for, the part that they got until `until`, or 0 */
    int64_t until; /* ns */
} demand_t;

/* Tokens that a silent peer took from `from` to `to`, of all whose demand counts for `claims` now:
 * what it got before stays as it was when demand changes. Before the present limit its demand
 * counts by the largest one that held then. */
GLANCES static inline double far_taken(const definition_t *d, double slow, double claims,
                                       demand_t of, int64_t near, int64_t from, int64_t to)
{
    double before = 0;
    if (of.got > 0 && of.until > from && (!d->earlier_count || d->earlier[0].until <= from)) {
        int64_t upto = of.until < to ? of.until : to;
        before = of.got * (double)(upto - from) / 1e9;
        from = upto;
    }
    double seconds = before + seconds_granted(d, claims, near, from, to), present = seconds,
           rate = d->per_second;
    for (uint32_t i = d->earlier_count; i--;)
        if (d->earlier[i].of_all && d->earlier[i].until > from) {
            rate = larger(rate, d->earlier[i].per_second);
            present = d->earlier[i].until < to
                          ? seconds_granted(d, claims, near, d->earlier[i].until, to)
                          : 0;
        }
    return claim(d, slow) * present + smaller(slow, CLAIM_MOST * rate) * (seconds - present);
}

/* How long before the near horizon the newest update of that age is, ns; not above 0: it is not. */
GLANCES static inline int64_t far_ns(const header_t *h, int64_t age)
{
    return (age < h->trust_ns ? age : h->trust_ns) - h->near_ns;
}

/* Tokens that a column's owner gets by its demand in so long a time before the near horizon. */
GLANCES static inline double far_granted(const header_t *h, const definition_t *d, double slow,
                                         demand_t of, int64_t far, int64_t now)
{
    double demand = claim(d, slow), claims = of.claims;
    if (of.nodes > 0) /* what is guaranteed to it is left to it */
        claims = smaller(claims, d->per_second * demand / guaranteed_rate(d, demand, of.nodes));
    return far_taken(d, slow, claims, of, h->near_ns, now - h->near_ns - far, now - h->near_ns);
}

/* Tokens that a column's owner took before the near horizon, when its newest update is so old
 * (`age`, ns), without those that others have `relayed` since. Its rate counts as far as its column
 * shows that it takes: in a second no more than that in all, or a token. */
GLANCES static inline double far_by_rate(const table_t *t, const definition_t *d, const column_t *c,
                                         demand_t of, int64_t age, double slow, double relayed,
                                         int64_t now)
{
    int64_t far = far_ns(t->h, age);
    if (far <= 0 || slow <= 0)
        return 0;
    double taken = far_granted(t->h, d, slow, of, far, now),
           shown = larger(1.0, larger((double)column_taken(c), relayed));
    return larger(0.0, smaller(taken, shown * (double)far / 1e9) - relayed);
}

GLANCES static inline double far_since(const table_t *t, const definition_t *d, const column_t *c,
                                       demand_t of, int64_t age, double relayed, int64_t now)
{
    const node_t *n = &t->nodes[t->origins[column_origin(c)].node];
    return far_by_rate(t, d, c, of, age, slow_rate(n, c), relayed, now);
}

GLANCES static inline double column_far(const table_t *t, const definition_t *d, const column_t *c,
                                        demand_t of, int64_t now)
{
    const node_t *n = &t->nodes[t->origins[column_origin(c)].node];
    return far_since(t, d, c, of, age_of(n, c, now), (double)relayed_tokens(n, c), now);
}

/* Whether a node has been silent here beyond the near horizon, so that credit is kept for it. This
 * node itself never is. */
static inline int is_silent(const table_t *t, uint32_t node, int64_t now)
{
    return node && now - t->nodes[node].last_seen > t->h->near_ns;
}

#endif
