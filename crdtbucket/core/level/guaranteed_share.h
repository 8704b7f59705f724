/* The guaranteed share of a node: the tokens of a key that it gets whatever debts its peers
 * advertise. See docs/model.md, "Prediction".
 *
 * A node that asks for tokens has a guaranteed rate. The tokens that it got less than this rate are
 * those by which it is *behind*. For some time honest peers may owe so much that nobody gets any:
 * this *explains* a certain number of tokens. Once a node is behind by more, its small calls pass
 * at the guaranteed rate although the level has no tokens. Then what it did not get is *made good*,
 * too: for a limited time the guaranteed rate is doubled. */
#ifndef CRDTBUCKET_LEVEL_GUARANTEED_SHARE_H
#define CRDTBUCKET_LEVEL_GUARANTEED_SHARE_H

#include <math.h>

#include "peer_rates.h"

/* This is added to the longest time for which an honest debt denies all calls. */
#define PATIENCE_SECONDS 5.0
/* The part of a sum of tokens that rounding to a `float` may lose. */
#define ROUNDED 1e-5
/* The largest cost that passes by the guarantee is the capacity divided by this. */
#define GUARANTEED_PART 20
/* The unit of `cold_t.owed`: the time that honest debts explain, divided by this. */
#define OWED_PARTS 1024
/* The value of `cold_t.owed` after the time in which the rate is doubled. It is not doubled again
 * until the node has been behind by nothing. */
#define MADE_GOOD UINT16_MAX

/* The guaranteed rate of this node, in tokens a second. `counted`: the number of peers that ask for
 * the key. */
GLANCES static inline double own_guarantee(const table_t *t, const cold_t *cold,
                                           const definition_t *d, int counted)
{
    return guaranteed_rate(d, own_slow_claim(cold, d),
                           larger((double)t->h->members, (double)counted + 1.0));
}

/* The most tokens by which honest debts of peers can put a node behind a guaranteed `rate`. The
 * largest debt has refilled after `cap_ns`, and from then on every node leaves the others their
 * share. */
GLANCES static inline double explained(const definition_t *d, double rate)
{
    return rate * ((double)d->cap_ns / 1e9 + PATIENCE_SECONDS);
}

/* Whether what this node did not get is being made good now. During that time its whole share is
 * guaranteed, which is twice the guaranteed rate. The shares of all nodes together do not exceed
 * the refill rate. */
GLANCES static inline int is_owed(const cold_t *cold)
{
    return cold->owed && cold->owed != MADE_GOOD;
}

/* The rate that is guaranteed now: `rate`, or twice as much while it is doubled. */
GLANCES static inline double granted_rate(const cold_t *cold, double rate)
{
    return is_owed(cold) ? 2.0 * rate : rate;
}

/* The ns of one unit of `cold_t.owed`. */
GLANCES static inline int64_t owed_part_ns(const definition_t *d)
{
    return (d->cap_ns + (int64_t)(PATIENCE_SECONDS * 1e9)) / OWED_PARTS;
}

/* The new value of `cold_t.owed` at `now`, when this node is `behind` a guaranteed `rate` by so
 * many tokens. When that becomes more than honest debts explain, the rate is doubled for as long as
 * such debts may last. After that it is not doubled again until this node has been behind by
 * nothing, since in overload a small node may be behind for long. */
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

/* The tokens by which this node is behind a guaranteed `rate` now. In the `since` ns from the last
 * averaging on its calls asked for `offered` tokens and got `admitted` of them. These calls came in
 * the last `asked` ns of that time, see `asked_ns`.
 *
 * Before these calls the node was idle. In all of `since` it therefore falls behind by no more
 * than its calls ask for (at least 1 token), and by no more than the guaranteed tokens of one
 * refill of the bucket, or of `asked` if that is longer (at least `guaranteed_cost`). What was
 * refilled earlier is lost, or others have used it; and a node that asks for more at once is denied
 * because of its own takes. The result is at most what honest debts explain and one call of
 * `guaranteed_cost`. */
GLANCES static inline double behind_tokens(const cold_t *cold, const definition_t *d, double rate,
                                           double offered, double admitted, int64_t since,
                                           int64_t asked)
{
    double ns = larger((double)asked, (double)d->full_ns),
           while_asked = smaller(rate * ns / 1e9, (double)d->capacity),
           /* `ROUNDED` makes up for what rounding may lose. */
        most = (1.0 + ROUNDED)
               * smaller(larger(1.0, offered), larger((double)guaranteed_cost(d), while_asked)),
           each = granted_rate(cold, rate) / 1e9, earned = smaller(most, each * (double)since),
           lately = smaller(earned, each * (double)asked),
           furthest = explained(d, rate) + (double)guaranteed_cost(d),
           before = smaller((double)cold->behind + earned - lately, furthest);
    return larger(0.0, smaller(before + lately - admitted, furthest));
}

/* The ns in which the calls since the last averaging came. They came after the last round, since
 * a key that is asked for is averaged in every round. */
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

/* What a call lacks for passing by the guaranteed share although the level has no tokens. It passes
 * once this node is behind by more than honest debts explain, since then the debts that its peers
 * advertise cannot be true. A call above `guaranteed_cost` never passes in this way, so the answer
 * to it must not name a time by which it would. */
typedef struct {
    double tokens;    /* 0 or less: it passes; INFINITY: waiting does not make it pass */
    double rate;      /* the guaranteed rate, in tokens a second */
    int64_t twice_ns; /* for so long (ns) from now on the guaranteed rate is doubled */
} lack_t;

#define NO_GUARANTEE ((lack_t){INFINITY, 0, 0})

/* What a call of `n` lacks now. `counted`: as for `own_guarantee`. */
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

/* Counts a call that passes only by the guaranteed share. */
static inline void count_guaranteed(const table_t *t, const definition_t *d)
{
    t->counts[d - t->definitions].guaranteed++;
}

/* The ns until a call of `n` that is denied now would pass by the guaranteed share, if it is made
 * again then and nothing else happens. INFINITY: it would not, or only after it has been made
 * several times, since an idle node falls behind by no more than it asks for. */
GLANCES static inline double guarantee_wait(const definition_t *d, lack_t lack, int64_t n)
{
    double rounded = ROUNDED * ((double)d->cap_ns + PATIENCE_SECONDS * 1e9);
    if (lack.tokens > larger(1.0, (double)n) || lack.rate <= 0)
        return INFINITY;
    double wait = lack.tokens / lack.rate * 1e9;
    return ceil(larger(wait / 2.0, wait - (double)lack.twice_ns) + rounded);
}

#endif
