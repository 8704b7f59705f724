/* The guaranteed share of a node: what it gets of a key whatever the others say. See docs/model.md,
 * "Prediction". */
#ifndef CRDTBUCKET_LEVEL_GUARANTEED_SHARE_H
#define CRDTBUCKET_LEVEL_GUARANTEED_SHARE_H

#include "peer_rates.h"

/* Beyond the longest time for which an honest debt denies everybody. */
#define PATIENCE_SECONDS 5.0
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

/* Tokens that this node has got less than its share. For the time in which it was idle it is behind
 * by no more than it asked for then, or by a token, and it makes good no more than a small burst.
 */
static inline float behind_tokens(const cold_t *cold, const definition_t *d, double rate,
                                  double offered, double admitted, int64_t since)
{
    double behind =
        (double)cold->behind + smaller(larger(1.0, offered), rate * (double)since / 1e9) - admitted;
    return (float)larger(0.0, smaller(behind, explained(d, rate) + (double)guaranteed_cost(d)));
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

/* Whether `n` tokens pass although the level has none: this node is behind by more than honest
 * debts explain, so what it is told of is not so. */
GLANCES static int guarantee_passes(const table_t *t, uint32_t e, const definition_t *d, int rated,
                                    int64_t n)
{
    const cold_t *cold = &t->cold[e];
    double behind = cold->behind;
    if (LIKELY(behind <= 0) || d->unpredicted)
        return 0;
    return behind - (double)admitted_since(&t->hot[e]) - (double)n
               >= explained(d, own_guarantee(t, cold, d, rated))
           && known_to_others(t, e);
}

#endif
