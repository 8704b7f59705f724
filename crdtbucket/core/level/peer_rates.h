/* The rates at which the callers of peers ask for a key: what they count for now, some time after
 * they were advertised. */
#ifndef CRDTBUCKET_LEVEL_PEER_RATES_H
#define CRDTBUCKET_LEVEL_PEER_RATES_H

#include <math.h>

#include "../memory/columns.h"
#include "earlier_limits.h"
#include "packed_rate.h"

/* The calls of the C library also treat NaN, and cost more than all around them. */
static inline double larger(double a, double b) { return a > b ? a : b; }
static inline double smaller(double a, double b) { return a < b ? a : b; }

/* Time constants, in ns, of the averages: of fast rates, at least; of slow rates; and below that of
 * the memory of a burst. */
#define FAST_NS 50e6
/* Where rounds are slow or far, the constant of fast rates is the near horizon divided by this. */
#define FAST_PART 12.0
#define SLOW_NS 120e9
#define PEAK_NS 5e9 /* how fast the memory of a burst fades */
/* The least weight of a slow rate, that of one second: a single call is not a rate of calls per
 * millisecond. */
#define SEEN_LEAST 0.0083
/* In shares, the rate of one node counts for at most this many refill rates: a storm of calls gets
 * no more. */
#define CLAIM_MOST 2.0
/* In shares, the remembered burst of one node begins to fade at this many refill rates, however
 * high it was. So it counts for CLAIM_MOST for two more seconds. */
#define CLAIM_PEAK 3.0

/* The time constant of fast rates, ns. A fast rate stands until the next update: where updates are
 * slow to come, one call must not count for as many as would fit between two of them. */
static inline double fast_ns(const table_t *t)
{
    return larger(FAST_NS, (double)t->h->near_ns / FAST_PART);
}

/* Tokens admitted since the last averaging. */
static inline int64_t admitted_since(const hot_t *hot)
{
    return net_of(LOAD(hot->word)) - LOAD(hot->averaged_net);
}

/* The claim of a node: the rate at which its callers ask, as far as it counts in shares. Up to
 * CLAIM_MOST refill rates demand is shared in proportion, so that every call has the same chance,
 * as in one bucket. Beyond that more calls, such as a storm of retries, get no more. */
static inline double claim(const definition_t *d, double rate)
{
    return smaller(rate, CLAIM_MOST * d->per_second);
}

/* The claim of this node by its slow rate, tokens a second. */
GLANCES static inline double own_slow_claim(const cold_t *c, const definition_t *d)
{
    return claim(d, (double)c->slow / larger(c->weight, SEEN_LEAST));
}

/* The rate (tokens a second) that is guaranteed to a node which asks for `demand` among `nodes`
 * that may ask: half of what it asks for, up to half of an equal share. Sharing in proportion gives
 * nobody less, as long as all ask for twice the limit at most. */
GLANCES static inline double guaranteed_rate(const definition_t *d, double demand, double nodes)
{
    return smaller(demand, d->per_second / larger(1.0, nodes)) / 2.0;
}

/* 73 minutes in stamps. What seems to be further ahead is in the past, since stamps wrap after 52
 * days. */
#define STAMPS_AHEAD (UINT32_C(1) << 22)

/* Whether the newest complete round of a node is later than `last_seen`, the stamp of one of its
 * columns: then that round came without the key. */
GLANCES static inline int seen_later(const node_t *n, uint32_t last_seen)
{
    return last_seen - stamp_of(n->last_seen) >= STAMPS_AHEAD;
}

/* The net tokens of a column that others have relayed since the newest update of its owner. No sum
 * is kept: they are what the column has now beyond its count at that update. When a later round of
 * the owner came without the key, nothing has been relayed since: that would have moved `known`
 * (`note_relayed` in merge/store.h). */
GLANCES static inline int64_t relayed_tokens(const node_t *n, const column_t *c)
{
    int64_t relayed = (int64_t)((uint64_t)column_net(c) - c->c->known[c->i]);
    return relayed < 0 || seen_later(n, c->c->last_seen[c->i]) ? 0 : relayed;
}

/* What is left, as a factor, of a rate that was advertised at the stamp `last_seen`, since complete
 * rounds came without the key. `constant_ns` is its time constant. */
GLANCES static inline double fade(const node_t *n, uint32_t last_seen, double constant_ns)
{
    if (!seen_later(n, last_seen))
        return 1.0;
    double x = (double)(n->last_seen - stamp_ns(last_seen, n->last_seen)) / constant_ns;
    return x < 40 ? exp(-x) : 0.0;
}

/* The age, ns, of the newest update of the owner of a column: of its newest complete round, or of
 * its own entry of this key. */
GLANCES static inline int64_t age_of(const node_t *n, const column_t *c, int64_t now)
{
    int64_t own_entry = stamp_ns(c->c->last_seen[c->i], now),
            age = now - (n->last_seen > own_entry ? n->last_seen : own_entry);
    return age > 0 ? age : 0;
}

/* The slow rate of the owner of a column as it counts now, tokens a second. */
GLANCES static inline double slow_rate(const node_t *n, const column_t *c)
{
    return unpack_rate(c->c->slow[c->i]) * fade(n, c->c->last_seen[c->i], SLOW_NS);
}

/* The fast rate of the owner of a column, tokens a second, when its newest update has this age and
 * its slow rate is `slow`. A peer that is silent is predicted by its slow rate: its last known 50
 * ms may have held a single call, and that rate would be held back during the whole partition. */
GLANCES static inline double fast_rate(const table_t *t, const node_t *n, const column_t *c,
                                       double slow, int64_t age)
{
    return age > t->h->near_ns
               ? slow
               : unpack_rate(c->c->fast[c->i]) * fade(n, c->c->last_seen[c->i], fast_ns(t));
}

/* What is left at `now` of a peak rate that was seen at the time `since`. */
GLANCES static inline double faded_peak(double peak, int64_t since, int64_t now)
{
    return peak > 0 && now - since < 40 * PEAK_NS ? peak * exp((double)(since - now) / PEAK_NS)
                                                  : 0.0;
}

/* The class of a cost: the cost in one byte, rounded up by a quarter at most. There are four
 * classes from each power of two to the next. */
static inline uint8_t cost_class(int64_t n)
{
    if (n <= 1)
        return 0;
    int exponent = 63 - __builtin_clzll((uint64_t)n);
    int64_t quarters = (n << 2) >> exponent;
    return (uint8_t)(4 * exponent + (int)(quarters - 4) + (quarters << exponent < n << 2));
}

/* The largest cost of a class. */
static inline double cost_of_class(uint8_t class)
{
    return ldexp((double)(4 + (class & 3)) / 4.0, class >> 2);
}

/* The most tokens that a reserve (reserve.h) holds for calls of this cost. */
GLANCES static inline double reserve_most(const table_t *t, const definition_t *d, double cost)
{
    return larger(cost, (double)d->capacity / (200.0 * (double)t->h->members));
}

/* The demand of all nodes that share the refill with a silent peer, that one included. */
typedef struct {
    double claims; /* tokens/s */
    /* How many nodes divide the guaranteed shares; 0: shares are in proportion alone. */
    double nodes;
    /* The part of what silent peers asked for that they are predicted to have got up to `until`; 0
     * when that is not known. */
    double got;
    int64_t until; /* ns */
} demand_t;

/* The tokens that a silent peer with the rate `slow` is predicted to have taken from `from` to
 * `to`, where the demand of all counts for `claims` now. What it got before `of.until` stays as it
 * was when demand changed. For the time before the present limit its demand counts by the largest
 * limit of that time. `near`: the near horizon, ns. */
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

/* For how long, in ns, an update of this age has been beyond the near horizon, up to the end of
 * `trust_ns`. 0 or below: it is within the near horizon. */
GLANCES static inline int64_t far_ns(const header_t *h, int64_t age)
{
    return (age < h->trust_ns ? age : h->trust_ns) - h->near_ns;
}

/* The tokens that a silent peer is predicted to have got by its demand in the `far` ns up to the
 * near horizon. */
GLANCES static inline double far_granted(const header_t *h, const definition_t *d, double slow,
                                         demand_t of, int64_t far, int64_t now)
{
    double demand = claim(d, slow), claims = of.claims;
    if (of.nodes > 0) /* it gets at least what is guaranteed to it */
        claims = smaller(claims, d->per_second * demand / guaranteed_rate(d, demand, of.nodes));
    return far_taken(d, slow, claims, of, h->near_ns, now - h->near_ns - far, now - h->near_ns);
}

/* The tokens that the owner of a column is predicted to have taken before the near horizon, when
 * its newest update has this `age` (ns), without those that others have `relayed` since. Its rate
 * counts only as far as its column shows takes: in a second no more than the column shows in all,
 * or a token. */
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

/* The same, by the present slow rate of the owner. */
GLANCES static inline double far_since(const table_t *t, const definition_t *d, const column_t *c,
                                       demand_t of, int64_t age, double relayed, int64_t now)
{
    const node_t *n = &t->nodes[t->origins[column_origin(c)].node];
    return far_by_rate(t, d, c, of, age, slow_rate(n, c), relayed, now);
}

/* The far credit of one column, in tokens, at `now`. */
GLANCES static inline double column_far(const table_t *t, const definition_t *d, const column_t *c,
                                        demand_t of, int64_t now)
{
    const node_t *n = &t->nodes[t->origins[column_origin(c)].node];
    return far_since(t, d, c, of, age_of(n, c, now), (double)relayed_tokens(n, c), now);
}

/* Whether a node is silent here: its newest complete round is older than the near horizon, so
 * credit is kept for it. This node itself, 0, never is. */
static inline int is_silent(const table_t *t, uint32_t node, int64_t now)
{
    return node && now - t->nodes[node].last_seen > t->h->near_ns;
}

#endif
