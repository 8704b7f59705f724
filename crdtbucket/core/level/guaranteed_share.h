/* The guaranteed share of a node: tokens of a key that it gets whatever debts its peers advertise.
 * See docs/model.md, "Prediction".
 *
 * A node is *behind* by the tokens that it got less than its guaranteed rate. Honest debts
 * *explain* that for a while. Once it is behind by more, small calls pass at the guaranteed rate
 * although the level has no tokens, and what it missed is *made good*: for some time the guaranteed
 * rate is doubled. */
#ifndef CRDTBUCKET_LEVEL_GUARANTEED_SHARE_H
#define CRDTBUCKET_LEVEL_GUARANTEED_SHARE_H

#include <math.h>

#include "peer_rates.h"

/* Added to the longest time for which an honest debt denies everybody. */
#define PATIENCE_SECONDS 5.0
/* The part of a sum of tokens that rounding to a `float` may lose. */
#define ROUNDED 1e-5
/* The largest cost that passes by the guarantee is the capacity divided by this. */
#define GUARANTEED_PART 20
/* The unit of `cold_t.owed`: the time that honest debts explain, divided by this. */
#define OWED_PARTS 1024
/* In `cold_t.owed`: what was missing has been made good, and it is not made good again before the
 * node was not behind at all. */
#define MADE_GOOD UINT16_MAX

/* The guaranteed rate of this node, tokens a second. `counted` is the number of peers that ask for
 * the key. */
GLANCES static inline double own_guarantee(const table_t *t, const cold_t *cold,
                                           const definition_t *d, int counted)
{
    return guaranteed_rate(d, own_slow_claim(cold, d),
                           larger((double)t->h->members, (double)counted + 1.0));
}

/* By how many tokens honest debts explain that a node is behind a guaranteed `rate`: the largest
 * debt has refilled after `cap_ns`, and from then on every node leaves the others their share. */
GLANCES static inline double explained(const definition_t *d, double rate)
{
    return rate * ((double)d->cap_ns / 1e9 + PATIENCE_SECONDS);
}

/* Whether what this node was behind is being made good now. Then its whole share is guaranteed,
 * which is twice the guaranteed rate; all shares together are not above the refill. */
GLANCES static inline int is_owed(const cold_t *cold)
{
    return cold->owed && cold->owed != MADE_GOOD;
}

/* The rate that is guaranteed now, of a guaranteed `rate`. */
GLANCES static inline double granted_rate(const cold_t *cold, double rate)
{
    return is_owed(cold) ? 2.0 * rate : rate;
}

/* The ns of one unit of `cold_t.owed`. */
GLANCES static inline int64_t owed_part_ns(const definition_t *d)
{
    return (d->cap_ns + (int64_t)(PATIENCE_SECONDS * 1e9)) / OWED_PARTS;
}

/* What `cold_t.owed` becomes at `now`, when this node is `behind` a guaranteed `rate` by so many
 * tokens. Once that is more than honest debts explain, it is made good, for as long as they would
 * have explained. It is not made good again before this node was not behind at all, since in
 * overload a small node may be behind for long. */
GLANCES static inline uint16_t owed_after(const cold_t *cold, const definition_t *d, double rate,
                                          double behind, int64_t now)
{
    int64_t part = owed_part_ns(d), passed = now / part - cold->rated_ns / part;
    if (behind <= 0)
        return 0;
    if (!cold->owed)
        return behind >= (1.0 - ROUNDED) * explained(d, rate) ? OWED_PARTS : 0;
    if (!is_owed(cold))
        return MADE_GOOD;
    return passed < cold->owed ? (uint16_t)(cold->owed - passed) : MADE_GOOD;
}

/* The largest cost that passes by the guarantee. */
GLANCES static inline int64_t guaranteed_cost(const definition_t *d)
{
    return d->capacity > GUARANTEED_PART ? d->capacity / GUARANTEED_PART : 1;
}

/* The tokens by which this node is behind a guaranteed `rate` now. Its calls asked for `offered`
 * tokens and got `admitted` ones in the `since` ns from the last averaging on; they came in the
 * last `asked` ns of that, after the round before this one.
 * For the time in which it was idle it is behind by no more than it asked for then, or by a token,
 * and by no more than its share of one refill of the bucket, or a small burst: what was refilled
 * before that is lost or used by others, and whoever asks for more at once is denied by its own
 * takes. In all, no more is made good than a small burst and what is guaranteed to it while it
 * asks. */
GLANCES static inline double behind_tokens(const cold_t *cold, const definition_t *d, double rate,
                                           double offered, double admitted, int64_t since,
                                           int64_t asked)
{
    double ns = larger((double)asked, (double)d->full_ns),
           while_asked = smaller(rate * ns / 1e9, (double)d->capacity),
           /* A little more, since rounding takes some. */
        most = (1.0 + ROUNDED)
               * smaller(larger(1.0, offered), larger((double)guaranteed_cost(d), while_asked)),
           each = granted_rate(cold, rate) / 1e9, earned = smaller(most, each * (double)since),
           lately = smaller(earned, each * (double)asked),
           furthest = explained(d, rate) + (double)guaranteed_cost(d),
           before = smaller((double)cold->behind + earned - lately, furthest);
    return larger(0.0, smaller(before + lately - admitted, furthest));
}

/* The ns in which the calls since the last averaging came: a key that is asked for is averaged in
 * every round. */
GLANCES static inline int64_t asked_ns(const table_t *t, const cold_t *cold, int64_t now)
{
    return now - (t->h->averaged_ns > cold->rated_ns ? t->h->averaged_ns : cold->rated_ns);
}

/* Whether some other node has a column of the key. */
GLANCES static inline int known_to_others(const table_t *t, uint32_t e)
{
    for (column_t c = {0}; column_next(t, e, &c);)
        if (t->origins[column_origin(&c)].node)
            return 1;
    return 0;
}

/* What a call lacks for passing by the guarantee although the level has no tokens. It passes once
 * this node is behind by more than honest debts explain, since then what its peers advertise is not
 * true. A call above `guaranteed_cost` never passes by it, and must not be told to wait for it. */
typedef struct {
    double tokens; /* 0 or less: it passes; INFINITY: it does not pass by waiting */
    /* The guaranteed rate, tokens a second. */
    double rate;
    int64_t twice_ns; /* for so long (ns) the guaranteed rate is doubled */
} lack_t;

#define NO_GUARANTEE ((lack_t){INFINITY, 0, 0})

/* What a call of `n` lacks now. `counted` as for `own_guarantee`. */
GLANCES static inline lack_t guarantee_lack(const table_t *t, uint32_t e, const definition_t *d,
                                            int counted, int64_t n, int64_t now)
{
    const cold_t *cold = &t->cold[e];
    const hot_t *hot = &t->hot[e];
    if (LIKELY(cold->behind <= 0) || d->unpredicted || n > guaranteed_cost(d)
        || !known_to_others(t, e))
        return NO_GUARANTEE;
    double rate = own_guarantee(t, cold, d, counted), admitted = (double)admitted_since(hot),
           offered = admitted + (double)LOAD(hot->denied) + (double)n,
           behind = behind_tokens(cold, d, rate, offered, admitted, now - cold->rated_ns,
                                  asked_ns(t, cold, now)),
           lacks = explained(d, rate) + (double)n - behind;
    int64_t twice = is_owed(cold) ? cold->owed * owed_part_ns(d) - (now - cold->rated_ns) : 0;
    return (lack_t){lacks, rate, twice > 0 ? twice : 0};
}

/* Counts a call that passes by the guarantee alone. */
static inline void count_guaranteed(const table_t *t, const definition_t *d)
{
    t->counts[d - t->definitions].guaranteed++;
}

/* The ns until a call of `n` that is denied now passes by the guarantee, if it is made again then
 * and nothing else happens. INFINITY: it does not, or it has to be made several times before it
 * does, since this node is behind by no more than it asks for. */
GLANCES static inline double guarantee_wait(const definition_t *d, lack_t lack, int64_t n)
{
    double rounded = ROUNDED * ((double)d->cap_ns + PATIENCE_SECONDS * 1e9);
    if (lack.tokens > larger(1.0, (double)n) || lack.rate <= 0)
        return INFINITY;
    double wait = lack.tokens / lack.rate * 1e9;
    return ceil(larger(wait / 2.0, wait - (double)lack.twice_ns) + rounded);
}

#endif
