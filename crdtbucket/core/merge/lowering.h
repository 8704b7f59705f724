/* How far a peer may lower a debt by what it advertises. See docs/model.md, "What a
 * peer is believed", and docs/security.md.
 *
 * Lag, and clocks that run apart, explain a small difference: each key has a budget for that, which
 * refills. Beyond it a debt falls only as far as two peers agree that it is too high. A part of it
 * that was only predicted then falls at once; the rest has a second budget, since two peers may lie
 * together. With two members there is no other peer to agree, so the one peer has both budgets.
 * Refunds of an owner are believed as far as its takes were charged here. */
#ifndef CRDTBUCKET_MERGE_LOWERING_H
#define CRDTBUCKET_MERGE_LOWERING_H

#include "../level/peer_rates.h"
#include "compare.h"
#include "debt_notes.h"

/* The first budget: the share of a capacity by which all members together may lower a debt. It
 * refills in the time in which the bucket does. The second budget, for what two peers agree on,
 * is the ceiling of debt, and refills at the same rate. */
#define LOWERED_PART 0.2
/* Two peers that advertise a debt within this time agree. */
#define AGREE_NS (30 * SECOND)

/* The number of members: this node, the sender, and all others that were ever linked. Silent
 * ones count, since a lie must not be believed more while others cannot contradict it. Members
 * that only relays see do not count, since they never send anything here. */
RARELY static int64_t members_known(const table_t *t, uint32_t source)
{
    int64_t members = source ? 2 : 1;
    for (uint32_t i = 1; i < t->h->named; i++)
        members += t->nodes[i].known_by == BY_LINK && i != source;
    return members > t->h->members ? members : t->h->members;
}

/* The units by which two peers that agree may lower a debt at once: the ceiling of debt. Of a slot,
 * which may owe 64 holds, it is one hold. */
static i128 agreed_most(const definition_t *d)
{
    return d->unpredicted ? full_units(d) : cap_units(d);
}

/* Refills the two budgets. `members`: as `members_known`. */
static void refill_budgets(struct remembered *r, const definition_t *d, int64_t members,
                           int64_t now)
{
    double since = larger(0.0, (double)(now - r->spent_at)), each = LOWERED_PART / (double)members;
    r->spent = larger(0.0, r->spent - since / (double)d->full_ns);
    r->agreed = larger(0.0, r->agreed - each * since * (double)d->p / (double)agreed_most(d));
    r->spent_at = now;
}

/* The sender has taken `units` more, and the debt rises by `rises`: the smaller of both was
 * charged, and may be given back. */
static void note_charged(struct debt_notes *notes, uint32_t source, i128 units, i128 rises)
{
    i128 charged = units < rises ? units : rises;
    if (charged <= 0)
        return;
    notes->charged = charged + (notes->taker == source ? notes->charged : 0);
    notes->taker = source;
}

/* The part of the units that the sender gives back which was charged for it. */
static i128 charged_of(struct debt_notes *notes, uint32_t source, i128 units)
{
    if (units <= 0 || notes->taker != source)
        return 0;
    i128 charged = notes->charged < units ? notes->charged : units;
    notes->charged -= charged;
    return charged;
}

/* Notes that an entry under another definition was merged, after which so many units are owed.
 * Peers that get the definition of this node later may owe less until the first budget alone has
 * closed the difference. */
COLD static void note_mixed(table_t *t, uint32_t e, const definition_t *d, int64_t members,
                            i128 debt, int64_t now)
{
    struct debt_notes *notes = debt > 0 ? debt_notes_of(t, e) : NULL;
    if (notes)
        notes->mixed_until =
            saturated(now + (i128)((double)(units_to_ns(d, debt) * members) / LOWERED_PART));
}

/* Notes that peers took so many units that were not charged. */
static void note_uncounted(struct remembered *r, const definition_t *d, i128 units, int64_t now)
{
    r->uncounted = saturated(r->uncounted + units_to_ns(d, units));
    r->uncounted_at = now;
}

/* The part of these units that was not charged when it was taken; it is no longer noted. */
static i128 drop_uncounted(struct remembered *r, const definition_t *d, i128 units)
{
    i128 noted = uncounted_units(r, d), dropped = noted < units ? noted : units;
    r->uncounted = (int64_t)units_to_ns(d, noted - dropped);
    return dropped;
}

/* The debt, in units, below which an entry lowers it only within a budget. Takes of nodes that
 * are not silent, which a relay brings, raise this bound, and refunds lower it, as far as they
 * explain the change. What was taken and not charged, because it was beyond every limit or the
 * ceiling, or because the sender's own debt was lower, is not given back by a refund. `slots`:
 * the notes of a bucket without prediction, else NULL. */
static i128 refunded_to(struct remembered *r, struct debt_notes *slots, const definition_t *d,
                        const comparison_t *g, uint32_t source, int64_t brings, i128 debt,
                        i128 after, int64_t now)
{
    i128 count = debt + token_units(d, brings) - g->charged_before, cap = cap_units(d),
         charged = after < cap ? after : cap;
    if (debt <= slack_units(d)) { /* full: refunds of earlier takes are worth nothing */
        if (slots)
            slots->charged = 0;
        else
            r->uncounted = 0;
    }
    if (now - r->uncounted_at > d->cap_ns)
        r->uncounted = 0; /* it would have been refilled */
    if (brings >= 0) {
        i128 more = token_units(d, g->uncounted),
             less = count - charged - token_units(d, g->brings_final);
        if (brings && less > 0)
            more += less;
        if (slots)
            note_charged(slots, source, token_units(d, g->brings_own),
                         charged - (debt > 0 ? debt : 0));
        if (more > 0)
            note_uncounted(r, d, more, now);
        i128 lately = debt + token_units(d, g->brings_relayed);
        lately = lately < count ? lately : count;
        i128 most = cap > debt ? cap : debt;
        return lately < most ? lately : most;
    }
    i128 beyond = token_units(d, -brings);
    if (slots)
        beyond -= charged_of(slots, source, token_units(d, -g->brings_own));
    return count + drop_uncounted(r, d, beyond);
}

/* The part of these units by which the sender and another peer agree that a debt is too high.
 * With two members there is no other peer: it is all of them. */
static i128 agreed_on(const table_t *t, const struct remembered *r, const definition_t *d,
                      const merge_context_t *m, i128 units, int64_t now)
{
    if (!m->source)
        return 0;
    if (m->members <= 2)
        return units;
    if (!r->peer || r->peer == m->source || !t->nodes[r->peer].connected
        || now - stamp_ns(r->proposed_at, now) > AGREE_NS)
        return 0;
    int64_t least = r->proposed > now ? r->proposed : now,
            ns = r->held > least ? r->held - least : 0;
    i128 both = (i128)ns * d->p;
    return both < units ? both : units;
}

/* The part of these units, by which two peers agree that a debt is too high, by which it falls:
 * what was only predicted, and of the rest as much as the budget allows. */
COLD static i128 granted_units(struct remembered *r, const definition_t *d, i128 units,
                               i128 predicted)
{
    i128 beyond = units - predicted;
    if (beyond <= 0)
        return units;
    double cap = (double)agreed_most(d), room = larger(0.0, 1.0 - r->agreed) * cap,
           granted = smaller((double)beyond, room);
    r->agreed += granted / cap;
    return room < (double)beyond ? predicted + (i128)room : units;
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
               && after <= cap_units(d) && !d->unpredicted))
        return after; /* all is charged */
    struct remembered *r = remembered_of(t, e);
    struct debt_notes *slots = d->unpredicted ? debt_notes_of(t, e) : NULL;
    if (!r || (d->unpredicted && !slots))
        return after > debt ? after : debt;
    i128 from = refunded_to(r, slots, d, g, m->source, brings, debt, after, now),
         to = after > 0 ? after : 0;
    /* The sender lacks refunds of others. This node gave them back as far as it had charged the
     * takes; the sender may have charged less of these. */
    to += token_units(d, g->lacks_refunds);
    if (from <= to)
        return after < from ? from : after;
    refill_budgets(r, d, m->members, now);
    struct debt_notes *notes = debt_notes_held(t, e);
    i128 predicted = predicted_debt(notes, d, now), units = agreed_on(t, r, d, m, from - to, now),
         agreed = from - granted_units(r, d, units, predicted);
    double budget = LOWERED_PART * (double)full_units(d) / (double)m->members,
           left = m->source ? larger(0.0, 1.0 - r->spent) * budget : 0.0,
           wanted = (double)(agreed - to), granted = smaller(left, wanted);
    r->spent += granted / budget;
    i128 result = granted >= wanted ? to : agreed - (i128)granted;
    if (m->source && m->members > 2) { /* with two members there is no other peer to agree */
        r->peer = m->source;
        r->proposed = now + (int64_t)units_to_ns(d, to);
        r->held = now + (int64_t)units_to_ns(d, result);
        r->proposed_at = stamp_of(now);
    }
    if (predicted > 0)
        notes->predicted_until -= (int64_t)units_to_ns(d, from - result);
    if (granted >= wanted)
        return after;
    i128 charged = result - (after > debt ? after : debt);
    if (brings >= 0 && charged > 0)
        drop_uncounted(r, d, charged);
    /* Where bursts are shared in a partition, a node owes what it has left to silent peers until it
     * knows what they took. */
    i128 much = full_units(d) / (t->h->shared_bursts ? 1 : 2);
    if (!notes || now >= notes->mixed_until)
        *refused += result - to > much + predicted_debt(notes, d, now);
    return result;
}

#endif
