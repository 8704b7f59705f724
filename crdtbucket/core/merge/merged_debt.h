/* The debt after a merge. See docs/model.md, "Merge" and "After a silence". */
#ifndef CRDTBUCKET_MERGE_MERGED_DEBT_H
#define CRDTBUCKET_MERGE_MERGED_DEBT_H

#include "../level/over_admission.h"
#include "../level/predict.h"
#include "../level/remembered.h"
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

/* Credit, in units, that is kept for silent nodes once an entry is merged: all of those of which it
 * brings nothing, and what belongs to the others since the frame was sent, which may be long ago.
 * One that was too long under way says of nobody since when it is silent. */
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

/* Whether the sender of an entry has merged takes of this node, or of one that is seen here: then
 * it lacks only what was taken on this side in its silence. */
COLD static int knows_this_side(const table_t *t, const comparison_t *g, int64_t now)
{
    const held_t *h = &g->held;
    for (uint32_t i = 0; i < h->count; i++) {
        uint32_t origin = (uint32_t)(h->taken[i] >> TOKEN_BITS);
        /* Of two with my origin the first has my refunds. */
        int counts = origin && (origin != h->own || i == h->count - 1);
        if (counts && h->shown[i] && !is_silent(t, t->origins[origin].node, now))
            return 1;
    }
    return 0;
}

/* Demand of both sides together, in refill rates, at which calls are denied in any case. It is
 * above 1, since measured rates vary. */
#define DENIES_SOME 1.25

/* What is owed at most where the sender was silent: what each side owes by itself, `here` and
 * `there` with what either keeps for silent peers, and what both took beyond the refill of that
 * time. Of a column that is not held here, since its owner was forgotten or never met, so much was
 * taken then as its rate explains, or what it owes; the rest is history. Credit follows the rates
 * that were known before, and calls may move to nodes that were not asked then. Where both sides
 * ask now for more than is refilled, there is no bound: they have asked for as much lately, so what
 * was refilled earlier in the silence is gone. */
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

/* What the sender owes by itself, of what it hides, as far as that is certain; in units. It takes
 * what it keeps for others as taken until its bucket has been full. The bucket has been, where it
 * would have owed more than a capacity when the silence began: what it hides now, and what those
 * whose takes it brings have left of what was `kept` for them here. Both sides reckon that a little
 * differently. */
COLD static i128 surely_hidden(const definition_t *d, const comparison_t *g, i128 hidden, i128 kept)
{
    i128 unused = kept - token_units(d, g->brings_silent);
    return unused > 0 && 4 * (unused + hidden) > 5 * full_units(d) ? hidden : 0;
}

/* The debt after the merge, in units, before the clamp. `debt` is signed; `there`: what the sender
 * certainly owes by itself; `rest`: credit that is kept afterwards; `apart`: what is owed at most
 * since the sender was silent. */
static i128 merged_debt(const definition_t *d, i128 debt, i128 advertised, i128 there,
                        const comparison_t *g, const merge_context_t *m, const wire_definition_t *w,
                        i128 rest, i128 apart)
{
    int64_t brings = g->brings_held + g->brings_lacking;
    i128 count = debt + token_units(d, brings) - g->charged_before,
         adopt = advertised + token_units(d, g->lacks - g->lacks_credited), out;
    if (UNLIKELY(m->newcomer && g->brings_silent > 0) && w->same)
        return count;
    if (!w->same) {
        i128 lacking = token_units(d, g->brings_lacking);
        out = debt + token_units(d, g->brings_held) - g->charged_before
              + (lacking < advertised ? lacking : advertised);
    } else {
        /* A frame that was long under way brings takes; the debt in it is out of date. One that
         * shows an older generation may know of takes that are hidden here, see sender.h. */
        out = (count < adopt && !g->older) || m->late ? count : adopt;
        out = apart < out ? apart : out;
    }
    if (UNLIKELY(m->keeps_credit && m->newer) && w->same) {
        i128 full = full_units(d), least = adopt < full ? adopt : full;
        out = out < least ? least : out;
    }
    /* A burst at the end of a partition is not hidden by what was kept for it. */
    if (debt < g->charged_before && g->brings_silent > 0 && there > 0) {
        i128 brought = token_units(d, g->brings_silent), least = there < brought ? there : brought;
        if (adopt < least)
            least = adopt;
        if (out < least - rest)
            out = least - rest;
    }
    return out;
}

/* The debt after a merge with an entry of a peer that stood still, and at least what was taken
 * lately: here, where `owed` is owed, and by the silent nodes of which the entry brings takes. Of
 * those it is as much as the sender owes by itself (`there`), less what was refilled since the
 * frame was sent. */
COLD static i128 charge_lately(table_t *t, uint32_t e, const definition_t *d,
                               const merge_context_t *m, const comparison_t *g, i128 owed,
                               i128 there, i128 rest, i128 after, int64_t now)
{
    i128 brought = token_units(d, g->brings_silent);
    brought = (there < brought ? there : brought) - (i128)(now - m->at) * d->p;
    if (brought <= 0 || m->late || m->newcomer)
        return after;
    i128 least = taken_lately(t, e, d, owed, now) + brought - rest;
    /* What was taken here since the last averaging is noted with the next one. */
    note_taken(t, e, d, units_until(taken_until(t, e), d, now) + brought, now);
    return after < least ? least : after;
}

/* The debt after a merge with tokens that were taken, in part, under an earlier limit. How much of
 * these that limit has refilled is not known, so they empty the bucket and charge no more: at the
 * present rate, what a larger limit admitted would block the key for hours. What is beyond a full
 * bucket is forgiven, unless this node or the sender owes it already, or other tokens of the same
 * entry make it up, which no earlier limit has to explain. */
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
