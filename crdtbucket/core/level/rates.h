/* Rates: what this node advertises of itself, and what it remembers of the rates that its peers
 * advertise. See docs/model.md, "Prediction". */
#ifndef CRDTBUCKET_LEVEL_RATES_H
#define CRDTBUCKET_LEVEL_RATES_H

#include <math.h>

#include "guaranteed_share.h"
#include "peer_rates.h"
#include "predict.h"
#include "renew.h"
#include "reserve.h"
#include "taken.h"

/* The weights of an averaging step of `ns`; nearly all keys of a round have the same. */
typedef struct {
    double ns, fast, slow, peak;
} weights_t;

static inline void average_step(cold_t *c, const definition_t *d, double offered, double admitted,
                                double ns, double fast_ns, weights_t *known)
{
    if (ns <= 0)
        return;
    if (known->ns != ns)
        *known = (weights_t){ns, ns < 40 * fast_ns ? -expm1(-ns / fast_ns) : 1.0,
                             -expm1(-ns / SLOW_NS), exp(-ns / PEAK_NS)};
    double w = known->fast, wl = known->slow, seconds = ns / 1e9;
    double fast = unpack_rate(c->fast), granted = unpack_rate(c->granted);
    c->fast = pack_rate(fast + w * (offered / seconds - fast));
    c->own_peak = pack_rate(larger(known->peak * unpack_rate(c->own_peak),
                                   smaller(unpack_rate(c->fast), CLAIM_PEAK * d->per_second)));
    c->granted = pack_rate(granted + w * (admitted / seconds - granted));
    c->slow += (float)(wl * (offered / seconds - c->slow));
    c->weight += (float)(wl * (1.0 - c->weight));
}

#define SEEN_NOTHING 1e-9f /* weight of a window that has just begun */

/* Turns the counts since the last averaging into rates. An entry that was not attempted in a round
 * is not visited in it, so the silent part comes first: decaying in two steps is the same as in
 * every round. */
static void average(table_t *t, uint32_t e, int64_t now, weights_t *round)
{
    hot_t *hot = &t->hot[e];
    cold_t *cold = &t->cold[e];
    const definition_t *d = &t->definitions[hot->bucket];
    int64_t since = now - cold->rated_ns, silent = t->h->averaged_ns - cold->rated_ns;
    if (since <= 0)
        return;
    prediction_t p = {0};
    if (LOAD(hot->flags) & ENTRY_RATED)
        p = predict(t, e, d, now);
    note_got(t, e, d, now);
    if (has_noted(t, e))
        owe_noted(t, e, LOAD(hot->word), d, far_units(d, p.far), now);
    double wanted = cost_of_class(__atomic_exchange_n(&hot->wanted, 0, __ATOMIC_RELAXED));
    float reserve = (float)reserve_tokens(t, e, d, p.slow_claims, wanted, now);
    int64_t net = entry_net(t, e);
    double admitted = (double)(net - LOAD(hot->averaged_net));
    double offered = admitted + (double)__atomic_exchange_n(&hot->denied, 0, __ATOMIC_RELAXED);
    double rate = own_guarantee(t, cold, d, p.counted),
           behind = behind_tokens(cold, d, rate, offered, admitted, since, asked_ns(t, cold, now));
    cold->owed = owed_after(cold, d, rate, behind, now);
    cold->behind = (float)behind;
    STORE(hot->averaged_net, net);
    int first = cold->weight <= 0;
    if (silent > 0 && silent < since) {
        weights_t before = {0};
        if (!first) /* the window begins with the first call */
            average_step(cold, d, 0, 0, (double)silent, fast_ns(t), &before);
        since -= silent;
    }
    float slow = cold->slow, weight = cold->weight > 0 ? cold->weight : SEEN_NOTHING;
    average_step(cold, d, offered, admitted, (double)since, fast_ns(t), round);
    /* The call that makes an entry shows no rate yet: the window begins after it. */
    if (UNLIKELY(first)) {
        cold->slow = slow;
        cold->weight = weight;
    }
    cold->reserve = reserve;
    cold->rated_ns = now;
}

/* The clock jumped forward by `ns`, with `since` in the middle of that. The slow rate becomes what
 * it would be without the jump, if as much was asked for before it as after. */
static void shift_rates(cold_t *cold, int64_t ns, int64_t since, int64_t now)
{
    if (cold->rated_ns < since) {
        cold->rated_ns = cold->rated_ns + ns < now ? cold->rated_ns + ns : now;
        return;
    }
    /* The weight that all before the jump has at the last averaging; what came later has the
     * rest. */
    double weight = cold->weight, jumped = smaller(40.0, (double)ns / SLOW_NS),
           before = exp(smaller(0.0, (double)(since + ns / 2 - cold->rated_ns)) / SLOW_NS);
    if (weight <= 1.0 - before)
        return; /* the window began after the jump */
    double seen = larger(SEEN_LEAST, larger(weight + before * expm1(-jumped), 1.0 - before)),
           whole = larger(seen, 1.0 - (1.0 - weight) * exp(jumped));
    cold->slow *= (float)(whole / seen);
    cold->weight = (float)whole;
}

/* What is left of averages after a silence of `ns`; nearly all keys of a round have had the same.
 */
typedef struct {
    int64_t ns;
    float fast, slow;
} faded_t;

#define NOT_FADED ((faded_t){0, 1.0f, 1.0f})

/* The own offered rates as they are advertised to peers: those of the last averaging, faded since
 * then when the key was not attempted. */
static inline void advertised_rates(const table_t *t, uint32_t e, int64_t now, faded_t *known,
                                    uint16_t *fast, uint16_t *slow)
{
    const cold_t *c = &t->cold[e];
    int64_t silent = now - c->rated_ns;
    if (silent <= 0 || is_attempted(t, e)) {
        *fast = c->fast;
        *slow =
            pack_float(c->slow / (c->weight > (float)SEEN_LEAST ? c->weight : (float)SEEN_LEAST));
        return;
    }
    if (UNLIKELY(known->ns != silent))
        *known = (faded_t){silent, (float)exp((double)-silent / fast_ns(t)),
                           (float)exp((double)-silent / SLOW_NS)};
    float weight = 1.0f - (1.0f - c->weight) * known->slow;
    *fast = pack_float((float)unpack_rate(c->fast) * known->fast);
    *slow = pack_float(c->slow * known->slow
                       / (weight > (float)SEEN_LEAST ? weight : (float)SEEN_LEAST));
}

/* Remembers the highest sum of the peers' fast rates, which counts for a while after a burst. */
static inline void note_peak(table_t *t, uint32_t e, int64_t now)
{
    cold_t *cold = &t->cold[e];
    double sum = 0, before = faded_peak(unpack_rate(cold->peak), stamp_ns(cold->peak_at, now), now);
    for (column_t c = {0}; column_next(t, e, &c);) {
        const node_t *n = &t->nodes[t->origins[column_origin(&c)].node];
        if (c.c->fast[c.i])
            sum += fast_rate(t, n, &c, slow_rate(n, &c), age_of(n, &c, now));
    }
    if (sum >= before) {
        cold->peak = pack_rate(sum);
        cold->peak_at = stamp_of(now);
    }
}

/* Sets the power of two that bounds `near` for this entry for any age, so that a take can often
 * skip the prediction. */
static inline void refresh_near_class(table_t *t, uint32_t e)
{
    double bound = 0;
    int rated = 0;
    for (column_t c = {0}; column_next(t, e, &c);) {
        bound += unpack_rate(c.c->fast[c.i]);
        rated += (c.c->fast[c.i] | c.c->slow[c.i]) != 0;
    }
    bound = larger(bound, unpack_rate(t->cold[e].peak)) * (double)t->h->near_bound_ns / 1e9;
    bound = larger(bound, rated * reserve_most(t, &t->definitions[t->hot[e].bucket], 1.0));
    union {
        double d;
        uint64_t u;
    } word = {bound};
    /* The bound is below 2^exponent. A bound of 0 has an exponent far below 0. */
    int exponent = (int)(word.u >> 52) - 1022;
    STORE(t->hot[e].near_class, (uint8_t)(!rated ? 0 : exponent < 0 ? 1 : exponent + 1));
    if (!rated == !(LOAD(t->hot[e].flags) & ENTRY_RATED))
        return; /* saves a locked operation */
    if (rated)
        OR(t->hot[e].flags, ENTRY_RATED);
    else
        AND(t->hot[e].flags, (uint16_t)~ENTRY_RATED);
}

#endif
