/* What the other nodes are taking right now: rates, never state. See docs/model.md, "Prediction". */
#ifndef CRDTBUCKET_PREDICT_H
#define CRDTBUCKET_PREDICT_H

#include <math.h>
#include "earlier.h"
#include "table.h"

/* The library's calls, which also care for what is no number, cost more than all around them. */
static inline double larger(double a, double b) { return a > b ? a : b; }
static inline double smaller(double a, double b) { return a < b ? a : b; }

#define FAST_NS 50e6                  /* time constants of the two averages */
#define SLOW_NS 120e9
#define SEEN_LEAST 0.0083             /* weight of one second: a single call is no rate of calls in its millisecond */

typedef struct {
    double far;                       /* tokens that silent peers took since the near horizon, their share of the refill */
    double near;                      /* tokens offered to peers within the near horizon */
    double near_ns;                   /* mean near age, weighted by their fast rates */
    double fast_sum, slow_sum;        /* offered rates of the peers, tokens/s */
} prediction_t;

/* Tokens admitted since the last averaging. */
static inline int64_t admitted_since(const hot_t *hot) { return net_of(LOAD(hot->word)) - LOAD(hot->mark); }

GLANCES static inline double own_slow(const cold_t *c) { return (double)c->slow / larger(c->weight, SEEN_LEAST); }

GLANCES static inline double relayed_tokens(const node_t *n, uint16_t packed)
{
    return packed && (packed & 15) == (n->silences & 15) ? unpack_rate((uint16_t)(packed & ~15)) : 0.0;
}

/* Fading of a stated rate for as long as complete rounds came without the key. */
GLANCES static inline double fade(const node_t *n, uint32_t heard, double constant_ns)
{
    double x = (double)(n->heard - stamp_ns(heard, n->heard)) / constant_ns;
    if (x <= 0)
        return 1.0;
    return x < 40 ? exp(-x) : 0.0;
}

GLANCES static prediction_t predict(const table_t *t, uint32_t e, const definition_t *d, int64_t now)
{
    prediction_t out = {0};
    const header_t *h = t->h;
    double far_rate = 0, far_weighted = 0;
    if (!h->predict || !(LOAD(t->hot[e].flags) & ENTRY_RATED))
        return out;
    for (int pass = 0; pass < 2; pass++) {              /* shares need the sum of the slow rates first */
        double q = out.slow_sum + own_slow(&t->cold[e]);
        column_t c = {0};
        if (pass && now < LOAD(h->far_free_until))
            break;
        while (column_next(t, e, &c)) {
            if (!(c.c->fast[c.i] | c.c->slow[c.i]))
                continue;
            const node_t *n = &t->nodes[t->origins[column_origin(&c)].node];
            int64_t own_entry = stamp_ns(c.c->heard[c.i], now);
            int64_t age = now - (n->heard > own_entry ? n->heard : own_entry);
            if (age < 0)
                age = 0;
            int64_t near = age < h->near_ns ? age : h->near_ns;
            int64_t far = (age < h->trust_ns ? age : h->trust_ns) - near;
            double slow = unpack_rate(c.c->slow[c.i]) * fade(n, c.c->heard[c.i], SLOW_NS);
            if (!pass) {
                double fast = unpack_rate(c.c->fast[c.i]) * fade(n, c.c->heard[c.i], FAST_NS);
                out.slow_sum += slow;
                out.fast_sum += fast;
                far_rate += fast * (double)near;
            } else if (far > 0) {
                double tokens = slow * seconds_granted(d, q, h->near_ns, now - near - far, now - near) - relayed_tokens(n, c.c->relayed[c.i]);
                if (tokens > 0)
                    far_weighted += tokens;
            }
        }
    }
    out.far = far_weighted;
    out.near = far_rate / 1e9;
    out.near_ns = out.fast_sum > 0 ? far_rate / out.fast_sum : 0;
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

/* The limit is lowered while peers are silent: from here on they are predicted at what the old one granted of their demand. The
 * shares of then could not be told later, when demand is another one. */
static inline void keep_granted(const table_t *t, uint32_t e, const definition_t *old, int64_t now)
{
    column_t c = {0};
    double q = predict(t, e, old, now).slow_sum + own_slow(&t->cold[e]);
    while (q > old->per_second && column_next(t, e, &c)) {
        const node_t *n = &t->nodes[t->origins[column_origin(&c)].node];
        int64_t own_entry = stamp_ns(c.c->heard[c.i], now);
        if (now - (n->heard > own_entry ? n->heard : own_entry) > t->h->near_ns)
            c.c->slow[c.i] = pack_rate(unpack_rate(c.c->slow[c.i]) * old->per_second / q);
    }
}

/* What peers may be taking within the near horizon, with `conf` confirmed tokens: my proportional share stays mine. */
GLANCES static inline double near_tokens(const table_t *t, uint32_t e, const prediction_t *p, double conf, int64_t now)
{
    const hot_t *hot = &t->hot[e];
    const cold_t *cold = &t->cold[e];
    if (p->near <= 0)
        return 0;
    double since = (double)(now - cold->rated_ns), own = unpack_rate(cold->fast);
    double recent = smaller(since, p->near_ns);
    double mine = (since > 0 ? (double)admitted_since(hot) * recent / since : 0)
                  + unpack_rate(cold->granted) * (p->near_ns - recent) / 1e9;
    double share = own + p->fast_sum > 0 ? own / (own + p->fast_sum) : 1.0;
    return smaller(p->near, (1.0 - share) * larger(0.0, conf + mine));
}

/* Tokens that a small caller may take although the prediction leaves none (else it is dark for ever). */
GLANCES static inline double reserve_tokens(const table_t *t, uint32_t e, const definition_t *d, double slow_sum, double cost,
                                    int64_t now)
{
    const cold_t *cold = &t->cold[e];
    double cap = larger(cost, (double)d->capacity / (200.0 * (double)t->h->members));
    double own = own_slow(cold), q = own + slow_sum;
    double rate = q > 0 ? own * smaller(1.0, d->per_second / q) : 0;
    double held = (cold->reserve < 0 ? cap : cold->reserve) + rate * (double)(now - cold->rated_ns) / 1e9;
    return smaller(cap, larger(0.0, held - (double)admitted_since(&t->hot[e])));
}

/* ns until the reserve holds `cost`, if nothing is taken meanwhile. */
GLANCES static inline double reserve_wait(const table_t *t, uint32_t e, const definition_t *d, double slow_sum, double cost,
                                           int64_t now)
{
    double own = own_slow(&t->cold[e]), q = own + slow_sum, rate = q > 0 ? own * smaller(1.0, d->per_second / q) : 0;
    double lacks = cost - reserve_tokens(t, e, d, slow_sum, cost, now);
    return lacks <= 0 ? 1.0 : rate > 0 ? lacks / rate * 1e9 + 1.0 : INFINITY;
}

/* Weights of a step of `ns`; nearly all keys of a round have the same. */
typedef struct {
    double ns, fast, slow;
} weights_t;

static inline void average_step(cold_t *c, double offered, double admitted, double ns, weights_t *known)
{
    if (ns <= 0)
        return;
    if (known->ns != ns)
        *known = (weights_t){ns, ns < 40 * FAST_NS ? -expm1(-ns / FAST_NS) : 1.0, -expm1(-ns / SLOW_NS)};
    double w = known->fast, wl = known->slow, seconds = ns / 1e9;
    double fast = unpack_rate(c->fast), granted = unpack_rate(c->granted);
    c->fast = pack_rate(fast + w * (offered / seconds - fast));
    c->granted = pack_rate(granted + w * (admitted / seconds - granted));
    c->slow += (float)(wl * (offered / seconds - c->slow));
    c->weight += (float)(wl * (1.0 - c->weight));
}

/* Turns the counts since the last averaging into rates. An entry that was not attempted in a round is not visited in it,
 * so the silent part comes first: decaying in two steps is the same as in every round. */
static void average(table_t *t, uint32_t e, int64_t now, weights_t *round)
{
    hot_t *hot = &t->hot[e];
    cold_t *cold = &t->cold[e];
    const definition_t *d = &t->definitions[hot->bucket];
    int64_t since = now - cold->rated_ns, silent = t->h->averaged_ns - cold->rated_ns;
    if (since <= 0)
        return;
    double slow_sum = 0;
    if (LOAD(hot->flags) & ENTRY_RATED)
        slow_sum = predict(t, e, d, now).slow_sum;
    float reserve = (float)reserve_tokens(t, e, d, slow_sum, 1.0, now);
    int64_t net = entry_net(t, e);
    double admitted = (double)(net - LOAD(hot->mark));
    double offered = admitted + (double)__atomic_exchange_n(&hot->denied, 0, __ATOMIC_RELAXED);
    STORE(hot->mark, net);
    if (silent > 0 && silent < since) {
        weights_t before = {0};
        average_step(cold, 0, 0, (double)silent, &before);
        since -= silent;
    }
    average_step(cold, offered, admitted, (double)since, round);
    cold->reserve = reserve;
    cold->rated_ns = now;
}

/* What is left of averages after a silence of `ns`; nearly all keys of a round have had the same. */
typedef struct {
    int64_t ns;
    float fast, slow;
} faded_t;

#define NOT_FADED ((faded_t){0, 1.0f, 1.0f})

/* The own offered rates as stated to peers: those of the last averaging, faded since when the key was not attempted. */
static inline void stated_rates(const table_t *t, uint32_t e, int64_t now, faded_t *known, uint16_t *fast, uint16_t *slow)
{
    const cold_t *c = &t->cold[e];
    int64_t silent = now - c->rated_ns;
    if (silent <= 0 || is_attempted(t, e)) {
        *fast = c->fast;
        *slow = pack_float(c->slow / (c->weight > (float)SEEN_LEAST ? c->weight : (float)SEEN_LEAST));
        return;
    }
    if (UNLIKELY(known->ns != silent))
        *known = (faded_t){silent, (float)exp((double)-silent / FAST_NS), (float)exp((double)-silent / SLOW_NS)};
    float weight = 1.0f - (1.0f - c->weight) * known->slow;
    *fast = pack_float((float)unpack_rate(c->fast) * known->fast);
    *slow = pack_float(c->slow * known->slow / (weight > (float)SEEN_LEAST ? weight : (float)SEEN_LEAST));
}

/* A power of two that bounds `near` for this entry for any age, so that a take can often skip the prediction. */
static inline void refresh_near_class(table_t *t, uint32_t e)
{
    double bound = 0;
    int rated = 0;
    column_t c = {0};
    while (column_next(t, e, &c)) {
        bound += unpack_rate(c.c->fast[c.i]);
        rated |= c.c->fast[c.i] | c.c->slow[c.i];
    }
    bound *= (double)t->h->near_ns / 1e9;
    union { double d; uint64_t u; } word = {bound};
    int exponent = (int)(word.u >> 52) - 1022;          /* bound < 2^exponent; 0 and less is far below 1 */
    STORE(t->hot[e].near_class, (uint8_t)(!rated ? 0 : exponent < 0 ? 1 : exponent + 1));
    if (!rated == !(LOAD(t->hot[e].flags) & ENTRY_RATED))
        return;                                         /* a locked operation less */
    if (rated)
        OR(t->hot[e].flags, ENTRY_RATED);
    else
        AND(t->hot[e].flags, (uint16_t)~ENTRY_RATED);
}

#endif
