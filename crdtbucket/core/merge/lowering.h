/* How far a peer may lower a debt by what it advertises. See docs/model.md, "Merge", and
 * docs/security.md.
 *
 * Lag, and clocks that run apart, explain a little. That much is a budget of each key, which
 * refills. Beyond it a debt falls as far as more than half of the connected peers agree that it is,
 * two at least. What an owner refunds is believed as far as its takes were charged here. */
#ifndef CRDTBUCKET_MERGE_LOWERING_H
#define CRDTBUCKET_MERGE_LOWERING_H

#include <stdlib.h>

#include "../level/peer_rates.h"
#include "../level/units.h"
#include "../memory/regions.h"
#include "compare.h"

/* Of a capacity, all members together; it refills in the time in which the bucket does. */
#define LOWERED_PART 0.2
/* Peers that advertise a debt within this time agree. */
#define AGREE_NS (30 * SECOND)
#define LOWERED_SLOTS 65536
#define PROPOSALS 4 /* one more than so many agree, in however large a mesh */

/* What a peer that advertised less than was charged here said last. */
typedef struct {
    /* Local ns at which the bucket is full, as it advertised, and as it was here after that. Only
     * the time between them is agreed on: what was charged since was not known to it. */
    int64_t proposed, held;
    int64_t at;
    uint32_t peer; /* 0 for none */
} proposal_t;

/* Of a key; keys that share a place share the budget. */
struct lowered {
    i128 uncounted; /* units that peers took and that were not charged */
    uint64_t hash_lo;
    int64_t spent_at, uncounted_at;
    proposal_t proposals[PROPOSALS];
    float spent; /* part of the budget */
};

#define MOST_UNITS ((i128)1 << 120)

/* The record of a key, or NULL when there is no memory for it. */
static struct lowered *lowered_of(table_t *t, uint32_t e, const definition_t *d, int64_t now)
{
    if (UNLIKELY(!t->lowered) && !(t->lowered = calloc(LOWERED_SLOTS, sizeof(struct lowered))))
        return NULL;
    struct lowered *l = &t->lowered[e % LOWERED_SLOTS];
    if (l->hash_lo != t->hot[e].hash_lo) {
        l->hash_lo = t->hot[e].hash_lo;
        memset(l->proposals, 0, sizeof l->proposals);
        l->uncounted = 0;
    }
    double refilled = (double)(now - l->spent_at) / (double)d->full_ns;
    l->spent = (float)larger(0.0, (double)l->spent - larger(0.0, refilled));
    l->spent_at = now;
    if (now - l->uncounted_at > d->cap_ns)
        l->uncounted = 0; /* it would have been refilled */
    return l;
}

/* Below this an entry does not bring the debt, as far as refunds explain it, in units. What was
 * taken and not charged, because it was beyond every limit or the ceiling, or the sender's own debt
 * was lower, is not given back when it is refunded. */
static i128 refunded_to(struct lowered *l, const definition_t *d, const comparison_t *g,
                        int64_t brings, i128 debt, i128 after, int64_t now)
{
    i128 count = debt + token_units(d, brings), cap = cap_units(d),
         charged = after < cap ? after : cap;
    if (debt <= slack_units(d))
        l->uncounted = 0; /* full: refunds of what came before are worth nothing */
    if (brings >= 0) {
        i128 more = token_units(d, g->uncounted);
        if (brings && count > charged)
            more += count - charged;
        if (more > 0) {
            l->uncounted = l->uncounted + more < MOST_UNITS ? l->uncounted + more : MOST_UNITS;
            l->uncounted_at = now;
        }
        return debt;
    }
    i128 refunded = token_units(d, -brings),
         worthless = l->uncounted < refunded ? l->uncounted : refunded;
    l->uncounted -= worthless;
    return count + worthless;
}

/* This node, who speaks, and whoever else is known, also who is silent now: a lie is no better
 * believed while others cannot answer it. */
static int64_t members_known(const table_t *t, uint32_t source)
{
    int64_t members = source ? 2 : 1;
    for (uint32_t i = 1; i < t->h->named; i++)
        members += t->nodes[i].known && i != source;
    return members > t->h->members ? members : t->h->members;
}

/* How many peers agree, beside the one that speaks: with it they are more than half of those that
 * are connected, and two at least. */
static int others_that_agree(const table_t *t)
{
    int connected = 0;
    for (uint32_t i = 1; i < t->h->named; i++)
        connected += t->nodes[i].connected;
    int others = connected / 2;
    return others < 1 ? 1 : others > PROPOSALS ? PROPOSALS : others;
}

/* By how many ns the debt is too high here, as `source` may say and so many others have said. */
static int64_t agreed_ns(const table_t *t, const struct lowered *l, uint32_t source, int64_t now)
{
    int64_t most[PROPOSALS + 1] = {0}; /* the largest first */
    for (const proposal_t *p = l->proposals; p < l->proposals + PROPOSALS; p++) {
        if (!p->peer || p->peer == source || !t->nodes[p->peer].connected || now - p->at > AGREE_NS)
            continue;
        int64_t least = p->proposed > now ? p->proposed : now, ns = p->held - least;
        int i = PROPOSALS;
        for (; i > 0 && most[i - 1] < ns; i--)
            most[i] = most[i - 1];
        most[i] = ns;
    }
    return most[others_that_agree(t) - 1];
}

/* The debt of a key is `result` now, `less` ns lower than it was, and `source` has advertised `to`,
 * both in units. */
static void propose(struct lowered *l, const definition_t *d, uint32_t source, i128 to, i128 result,
                    int64_t less, int64_t now)
{
    proposal_t *its = l->proposals;
    for (proposal_t *p = l->proposals; p < l->proposals + PROPOSALS; p++) {
        p->held -= less; /* that much has been granted */
        if (its->peer != source && (p->peer == source || p->at < its->at))
            its = p;
    }
    *its = (proposal_t){now + (int64_t)units_to_ns(d, to), now + (int64_t)units_to_ns(d, result),
                        now, source};
}

/* The debt after a merge, in units, where `after` is what the entry alone makes of `debt`. */
static i128 lowered_at_most(table_t *t, uint32_t e, const definition_t *d, const merge_context_t *m,
                            const comparison_t *g, i128 debt, i128 after, int64_t now,
                            int64_t *refused)
{
    int64_t brings = g->brings_lacking + g->brings_held;
    if (m->common)
        return after;
    if (LIKELY(after >= debt && !g->uncounted && after >= debt + token_units(d, brings)
               && after <= cap_units(d)))
        return after; /* all is charged */
    if (m->members <= 2 && m->source)
        return after; /* none can agree with a third */
    struct lowered *l = lowered_of(t, e, d, now);
    if (!l)
        return after > debt ? after : debt;
    i128 from = refunded_to(l, d, g, brings, debt, after, now), to = after > 0 ? after : 0;
    if (from <= to)
        return after < from ? from : after;
    i128 agreed = from - (i128)agreed_ns(t, l, m->source, now) * d->p;
    agreed = agreed > to ? agreed : to;
    double budget = LOWERED_PART * (double)full_units(d) / (double)m->members,
           left = m->source ? larger(0.0, 1.0 - (double)l->spent) * budget : 0.0,
           wanted = (double)(agreed - to), granted = smaller(left, wanted);
    l->spent += (float)(granted / budget);
    i128 result = granted >= wanted ? to : agreed - (i128)granted;
    if (m->source)
        propose(l, d, m->source, to, result, (int64_t)units_to_ns(d, from - result), now);
    if (granted >= wanted)
        return after;
    *refused += result - to > full_units(d) / 2;
    return result;
}

#endif
