/* The guaranteed share of a node: what it gets of a key whatever the others say. See docs/model.md,
 * "Prediction". */
#ifndef CRDTBUCKET_LEVEL_GUARANTEED_SHARE_H
#define CRDTBUCKET_LEVEL_GUARANTEED_SHARE_H

#include <math.h>

#include "peer_rates.h"

/* Beyond the longest time for which an honest debt denies everybody. */
#define PATIENCE_SECONDS 5.0
/* Part of a sum of tokens that a small float may lose. */
#define ROUNDED 1e-5
/* Of a capacity: the largest cost that passes. */
#define GUARANTEED_PART 20

/* The guaranteed rate of this node, `rated`: the peers that ask for the key. */
GLANCES static inline double own_guarantee(const table_t *t, const cold_t *cold,
                                           const definition_t *d, int rated)
{
    return guaranteed_rate(d, own_slow_claim(cold, d),
                           larger((double)t->h->members, (double)rated + 1.0));
}

/* What honest debts explain that a node is behind its share. They have refilled after the time of
 * the ceiling, and from then on every node leaves the others theirs. */
GLANCES static inline double explained(const definition_t *d, double rate)
{
    return rate * ((double)d->cap_ns / 1e9 + PATIENCE_SECONDS);
}

GLANCES static inline int64_t guaranteed_cost(const definition_t *d)
{
    return d->capacity > GUARANTEED_PART ? d->capacity / GUARANTEED_PART : 1;
}

/* Tokens that this node has got less than its share, `since` the last averaging. For the time in
 * which it was idle it is behind by no more than it asked for then, or by a token, and it makes
 * good no more than a small burst. */
GLANCES static inline double behind_tokens(const cold_t *cold, const definition_t *d, double rate,
                                           double offered, double admitted, int64_t since)
{
    /* A little more, for what rounding took. */
    double most = (1.0 + ROUNDED) * larger(1.0, offered);
    double behind = (double)cold->behind + smaller(most, rate * (double)since / 1e9) - admitted;
    return larger(0.0, smaller(behind, explained(d, rate) + (double)guaranteed_cost(d)));
}

/* Whether the key has a column of another node. */
GLANCES static inline int known_to_others(const table_t *t, uint32_t e)
{
    column_t c = {0};
    while (column_next(t, e, &c))
        if (t->origins[column_origin(&c)].node)
            return 1;
    return 0;
}

/* What a call of `n` lacks for passing although the level has no tokens, as it is once this node is
 * behind by more than honest debts explain: then what peers state is not so. */
typedef struct {
    double tokens; /* 0 or less: it passes; INFINITY: it does not pass by waiting */
    double rate;
} lack_t;

GLANCES static inline lack_t guarantee_lack(const table_t *t, uint32_t e, const definition_t *d,
                                            int rated, int64_t n, int64_t now)
{
    const cold_t *cold = &t->cold[e];
    const hot_t *hot = &t->hot[e];
    if (LIKELY(cold->behind <= 0) || d->unpredicted || n > guaranteed_cost(d)
        || !known_to_others(t, e))
        return (lack_t){INFINITY, 0};
    double rate = own_guarantee(t, cold, d, rated), admitted = (double)admitted_since(hot),
           offered = admitted + (double)LOAD(hot->denied) + (double)n,
           behind = behind_tokens(cold, d, rate, offered, admitted, now - cold->rated_ns),
           lacks = explained(d, rate) + (double)n - behind;
    return (lack_t){lacks, rate};
}

/* Tokens pass that the level does not have: counted by the calls. */
static inline void count_guaranteed(const table_t *t, const definition_t *d)
{
    t->counts[d - t->definitions].guaranteed++;
}

/* ns until a call of `n` that is denied now passes by the guarantee, when it is made again then and
 * nothing else happens; INFINITY when it does not, or has to be made several times for it: this
 * node is behind by no more than it asks for. */
GLANCES static inline double guarantee_wait(const definition_t *d, lack_t lack, int64_t n)
{
    double rounded = ROUNDED * ((double)d->cap_ns + PATIENCE_SECONDS * 1e9);
    return lack.tokens <= larger(1.0, (double)n) && lack.rate > 0
               ? ceil(lack.tokens / lack.rate * 1e9 + rounded)
               : INFINITY;
}

#endif
