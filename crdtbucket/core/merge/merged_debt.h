/* The debt after a merge. See docs/model.md, "Merge" and "After a silence". */
#ifndef CRDTBUCKET_MERGE_MERGED_DEBT_H
#define CRDTBUCKET_MERGE_MERGED_DEBT_H

#include "../level/over_admission.h"
#include "../level/predict.h"
#include "../level/taken.h"
#include "compare.h"
#include "wire_definitions.h"

/* Whether an entry raises a column of a node. */
static int brings_of(const table_t *t, const comparison_t *g, uint32_t node)
{
    for (const wire_column_t *x = g->raised; x < g->raised + g->raised_count; x++)
        if (t->origins[x->origin].node == node)
            return 1;
    return 0;
}

/* The credit, in units, that is still kept for silent nodes once an entry is merged. For a node
 * of which the entry brings takes it counts from when the frame was sent, which may be long ago;
 * for all others it stays as it is. A frame that was under way too long does not show since when
 * a node is silent. */
COLD static i128 far_left(const table_t *t, uint32_t e, const definition_t *d,
                          const merge_context_t *m, const comparison_t *g, int64_t now)
{
    double claims = predict(t, e, d, now).slow_claims + own_slow_claim(&t->cold[e], d), tokens = 0;
    demand_t of = far_demand(t, e, d, claims, now);
    for (column_t c = {0}; column_next(t, e, &c);)
        if (column_rated(&c)) {
            uint32_t node = t->origins[column_origin(&c)].node;
            int64_t age = age_of(&t->nodes[node], &c, now), sent = now - m->at;
            tokens += brings_of(t, g, node) && !m->late
                          ? far_since(t, d, &c, of, sent < age ? sent : age, 0, now)
                          : column_far(t, d, &c, of, now);
        }
    return far_units(d, tokens);
}

#define UNBOUNDED ((i128)1 << 126)

/* Whether the sender of an entry has merged takes of this node, or of one that is not silent
 * here. If so, it lacks only what was taken on this side while it was silent. */
COLD static int knows_this_side(const table_t *t, const comparison_t *g, int64_t now)
{
    const held_t *h = &g->held;
    for (uint32_t i = 0; i < h->count; i++) {
        uint32_t origin = (uint32_t)(h->taken[i] >> TOKEN_BITS);
        /* Two columns may have the origin of this node; the first has its refunds. */
        int counts = origin && (origin != h->own || i == h->count - 1);
        if (counts && h->shown[i] && !is_silent(t, t->origins[origin].node, now))
            return 1;
    }
    return 0;
}

/* From this demand of both sides together on, in refill rates, calls are denied in any case. It
 * is above 1, since measured rates vary. */
#define DENIES_SOME 1.25

/* The most that may be owed after the sender was silent: what each side owes by itself (`here`
 * and `there`, with what either keeps for silent peers), and what both took in that time beyond
 * its refill. Of a column that is not held here, since its owner was forgotten or never met,
 * only so much counts as taken then as its rate explains, or as is owed; the rest is older. The
 * bound is needed since credit follows the rates that were known before, while calls may have
 * moved to nodes that had none. There is no bound where both sides now ask for more than is
 * refilled: they have done so lately, too, so what was refilled earlier in the silence has been
 * used. */
COLD static i128 debt_apart(const table_t *t, uint32_t e, const definition_t *d,
                            const merge_context_t *m, const wire_entry_t *w, const comparison_t *g,
                            i128 here, i128 there, i128 rest, int64_t now)
{
    const node_t *source = &t->nodes[m->source];
    int64_t apart = now - source->last_seen, lacks = g->lacks - g->lacks_credited;
    if (!t->h->predict || source->known_by != BY_LINK || m->late || apart <= t->h->near_ns)
        return UNBOUNDED;
    double seconds = (double)apart / 1e9, asked_here = own_slow_claim(&t->cold[e], d),
           rate = unpack_rate(w->slow), lacking = (double)(g->brings_lacking + g->shows),
           taken = (double)(lacks > 0 ? lacks : 0);
    if (source->unmet)
        lacking = smaller(lacking, larger(DENIES_SOME * rate * seconds, (double)(there / d->q)));
    double brings = (double)g->brings_held + lacking, asked_there = larger(rate, brings / seconds);
    for (column_t c = {0}; column_next(t, e, &c);) {
        const node_t *n = &t->nodes[t->origins[column_origin(&c)].node];
        if (column_rated(&c) && age_of(n, &c, now) <= t->h->near_ns)
            asked_here += slow_rate(n, &c);
    }
    if (asked_here + asked_there > DENIES_SOME * d->per_second)
        return UNBOUNDED;
    if (!knows_this_side(t, g, now)) /* it lacks all that was ever taken on this side */
        taken = smaller(taken, larger(asked_here * seconds, (double)(here / d->q)));
    i128 beyond = far_units(d, brings + taken) - (i128)apart * d->p;
    return here + there + (beyond > 0 ? beyond : 0) - rest;
}

/* The debt after the merge, in units, before the clamp. `debt` is signed. `stated`: what the
 * sender shows that it owes by itself. `hidden`: what its credit for silent peers hides of it.
 * `rest`: the credit that is kept afterwards. `apart`: the most that may be owed after the sender
 * was silent. */
static i128 merged_debt(const definition_t *d, i128 debt, i128 advertised, i128 stated, i128 hidden,
                        const comparison_t *g, const merge_context_t *m, const wire_definition_t *w,
                        i128 rest, i128 apart)
{
    int64_t brings = g->brings_held + g->brings_lacking;
    i128 count = debt + token_units(d, brings) - g->charged_before,
         lacking = token_units(d, g->lacks - g->lacks_credited), adopt = advertised + lacking, out;
    if (UNLIKELY(m->newcomer && g->brings_silent > 0) && w->same)
        return count;
    if (!w->same) {
        i128 new_here = token_units(d, g->brings_lacking);
        out = debt + token_units(d, g->brings_held) - g->charged_before
              + (new_here < advertised ? new_here : advertised);
    } else {
        /* A frame that was under way for long brings takes, but its debt is out of date. */
        out = count < adopt || m->late ? count : adopt;
        out = apart < out ? apart : out;
    }
    /* With what either keeps for silent peers, this node owes at least what the sender does. So
     * its own credit may bring its debt below zero, also where the sender's hides all. */
    if (UNLIKELY(m->keeps_credit && m->newer) && w->same) {
        i128 full = full_units(d), least = stated + hidden + lacking - rest;
        least = least < full ? least : full;
        out = out < least ? least : out;
    }
    /* A burst at the end of a partition is not hidden by the credit that was kept for it. */
    if (debt < g->charged_before && g->brings_silent > 0 && stated > 0) {
        i128 brought = token_units(d, g->brings_silent),
             least = stated < brought ? stated : brought;
        if (adopt < least)
            least = adopt;
        if (out < least - rest)
            out = least - rest;
    }
    return out;
}

/* The debt after the merge of an entry that shows an older generation of a column than is held
 * here, in units: `after`, but at least what the sender owes and lacks. A relay may have invented
 * the newer generation, and then it hides takes here which the sender knows (see `shows_older`),
 * but the sender does not lack it. Once every link has acknowledged what this node has counted, the
 * sender lacks nothing, whatever it shows of columns whose generations differ. */
COLD static i128 owed_by_older(const table_t *t, uint32_t e, const definition_t *d,
                               const comparison_t *g, i128 advertised, i128 after)
{
    int unsent = (LOAD(t->hot[e].flags) & ENTRY_IN_LOG) || is_attempted(t, e);
    int64_t lacks = g->lacks - g->lacks_credited - g->lacks_newer;
    i128 least = advertised + (unsent && lacks > 0 ? token_units(d, lacks) : 0);
    return after < least && !g->mixed ? least : after;
}

/* While room is kept for silent peers, notes what an entry brings that was surely taken lately: all
 * takes, if the sender stood still a moment ago, also of nodes that are no longer silent; else
 * those of a sender that is not silent, since its last round. They count for as much as the sender
 * owes by itself (`there`), less what was refilled since. */
COLD static void note_brought(table_t *t, uint32_t e, const definition_t *d,
                              const merge_context_t *m, const comparison_t *g, i128 there,
                              int64_t now)
{
    const node_t *source = &t->nodes[m->source];
    int64_t brings = m->woke ? g->brings_held + g->brings_lacking : g->brings_own,
            since = m->woke ? m->at : source->last_seen;
    int live = source->known_by == BY_LINK && !source->unmet && !g->brings_lacking;
    if (m->late || m->newcomer || !m->source || (!m->woke && !live))
        return;
    i128 brought = token_units(d, brings);
    brought = (there < brought ? there : brought) - (i128)(now - since) * d->p;
    if (brought > 0)
        note_taken(t, e, d, brought, now);
}

/* The debt after a merge with tokens of which some were taken under an earlier limit. How much
 * of these that limit has refilled is not known, so they empty the bucket and charge no more: at
 * the present rate, what a larger limit admitted would block the key for hours. What is beyond
 * an empty bucket is forgiven, unless this node or the sender owes it already, or other tokens
 * of the same entry explain it. */
static i128 charged_at_most(definition_t *d, i128 debt, i128 after, i128 advertised,
                            const comparison_t *g)
{
    int64_t by_others = g->brings_held + g->brings_lacking - g->earlier;
    i128 most = full_units(d), others = debt + token_units(d, by_others) - g->charged_before;
    most = debt > most ? debt : most;
    most = advertised > most ? advertised : most;
    most = others > most ? others : most;
    if (after <= most)
        return after;
    forgive(d, after - most);
    return most;
}

#endif
