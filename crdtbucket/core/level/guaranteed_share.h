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
/* What `cold_t.owed` counts: parts of the time that honest debts explain. */
#define OWED_PARTS 1024
#define MADE_GOOD UINT16_MAX

/* The guaranteed rate of this node, `counted`: the peers that ask for the key. */
GLANCES static inline double own_guarantee(const table_t *t, const cold_t *cold,
                                           const definition_t *d, int counted)
{
    return guaranteed_rate(d, own_slow_claim(cold, d),
                           larger((double)t->h->members, (double)counted + 1.0));
}

/* What honest debts explain that a node is behind its share. They have refilled after the time of
 * the ceiling, and from then on every node leaves the others theirs. */
GLANCES static inline double explained(const definition_t *d, double rate)
{
    return rate * ((double)d->cap_ns / 1e9 + PATIENCE_SECONDS);
}

/* Whether what this node was behind is being made good: then its whole share is guaranteed, which
 * is twice the guaranteed rate. All shares together are not above the refill. */
GLANCES static inline int is_owed(const cold_t *cold)
{
    return cold->owed && cold->owed != MADE_GOOD;
}

GLANCES static inline double granted_rate(const cold_t *cold, double rate)
{
    return is_owed(cold) ? 2.0 * rate : rate;
}

/* ns of a part. */
GLANCES static inline int64_t owed_part_ns(const definition_t *d)
{
    return (d->cap_ns + (int64_t)(PATIENCE_SECONDS * 1e9)) / OWED_PARTS;
}

/* What is owed at `now`, when this node is `behind` by so much. Once it is behind by more than
 * honest debts explain, it is made good for as long as they would have explained, and not again
 * before this node was not behind at all: in overload a small node may be behind for long. */
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

GLANCES static inline int64_t guaranteed_cost(const definition_t *d)
{
    return d->capacity > GUARANTEED_PART ? d->capacity / GUARANTEED_PART : 1;
}

/* Tokens that this node has got less than its share, `since` the last averaging; `asked`: ns since
 * the round before this one, in which its calls came. For the time in which it was idle it is
 * behind by no more than it asked for then, or by a token, and by no more than its share of one
 * refill of the bucket, or a small burst: what refilled before is lost or used by others, and who
 * asks for more at once is denied by its own takes. It makes good no more than a small burst, and
 * what it is guaranteed while it asks. */
GLANCES static inline double behind_tokens(const cold_t *cold, const definition_t *d, double rate,
                                           double offered, double admitted, int64_t since,
                                           int64_t asked)
{
    double ns = larger((double)asked, (double)d->full_ns),
           while_asked = smaller(rate * ns / 1e9, (double)d->capacity),
           /* A little more, for what rounding took. */
        most = (1.0 + ROUNDED)
               * smaller(larger(1.0, offered), larger((double)guaranteed_cost(d), while_asked)),
           each = granted_rate(cold, rate) / 1e9, earned = smaller(most, each * (double)since),
           lately = smaller(earned, each * (double)asked),
           furthest = explained(d, rate) + (double)guaranteed_cost(d),
           before = smaller((double)cold->behind + earned - lately, furthest);
    return larger(0.0, smaller(before + lately - admitted, furthest));
}

/* ns in which the calls since the last averaging came: a key that is asked for is averaged in every
 * round. */
GLANCES static inline int64_t asked_ns(const table_t *t, const cold_t *cold, int64_t now)
{
    return now - (t->h->averaged_ns > cold->rated_ns ? t->h->averaged_ns : cold->rated_ns);
}

/* Whether the key has a column of another node. */
GLANCES static inline int known_to_others(const table_t *t, uint32_t e)
{
    for (column_t c = {0}; column_next(t, e, &c);)
        if (t->origins[column_origin(&c)].node)
            return 1;
    return 0;
}

/* What a call of `n` lacks for passing although the level has no tokens, as it is once this node is
 * behind by more than honest debts explain: then what peers state is not so. A larger call than
 * `guaranteed_cost` never passes so, and must not be told to wait for it. */
typedef struct {
    double tokens; /* 0 or less: it passes; INFINITY: it does not pass by waiting */
    double rate;
    int64_t twice_ns; /* for so long twice the rate is guaranteed */
} lack_t;

#define NO_GUARANTEE ((lack_t){INFINITY, 0, 0})

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
    if (lack.tokens > larger(1.0, (double)n) || lack.rate <= 0)
        return INFINITY;
    double wait = lack.tokens / lack.rate * 1e9;
    return ceil(larger(wait / 2.0, wait - (double)lack.twice_ns) + rounded);
}

#endif
