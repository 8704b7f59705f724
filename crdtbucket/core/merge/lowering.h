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
#include "../level/remembered.h"
#include "../level/units.h"
#include "../memory/mapping.h"
#include "compare.h"

/* The first budget: the share of a capacity by which all members together may lower a debt. It
 * refills in the time in which the bucket does. The second budget, for what two peers agree on,
 * is the ceiling of debt, and refills at the same rate. */
#define LOWERED_PART 0.2
/* Two peers that advertise a debt within this time agree. */
#define AGREE_NS (30 * SECOND)

/* Notes about the debt of one key, which few keys need: which part of it no column explains, what
 * it leaves out, and who may give some of it back. They belong to the key that has this hash. */
struct debt_notes {
    uint64_t hash_lo;
    /* Until this local ns a part of the debt is only predicted: it was kept for nodes that were
     * given up, and no column shows it. Each peer gives them up at another moment. */
    int64_t predicted_until;
    /* Until this local ns what those nodes were thought to have taken is not refilled. Their
     * real takes are charged only as far as they are more. */
    int64_t given_up_until;
    /* What `hide_refilled` in refilled.h notes of the debt that it hides. */
    i128 hidden_sum;
    int64_t hidden_until;
    /* For buckets without prediction, such as slots, which are taken and given back again and
     * again: the number of the node that took last, and the units of its takes that were charged
     * and have not come back. */
    uint32_t taker;
    i128 charged;
};

/* Notes that credit for a node is charged, since that node is given up. `kept`: the credit, in
 * units; `debt`: by how much it raises the debt above zero. */
static void predict_debt(struct debt_notes *notes, const definition_t *d, i128 kept, i128 debt,
                         int64_t now)
{
    if (notes->predicted_until < now)
        notes->predicted_until = now;
    if (notes->given_up_until < now)
        notes->given_up_until = now;
    notes->predicted_until += (int64_t)units_to_ns(d, debt);
    notes->given_up_until += (int64_t)units_to_ns(d, kept);
}

/* The units of debt that are still only predicted. `notes` may be NULL. */
static i128 predicted_debt(const struct debt_notes *notes, const definition_t *d, int64_t now)
{
    return notes ? units_until(notes->predicted_until, d, now) : 0;
}

/* The notes about the key of this entry; NULL while there are none. */
static inline struct debt_notes *debt_notes_held(const table_t *t, uint32_t e)
{
    struct debt_notes *notes =
        t->debt_notes && t->debt_notes_at[e] ? &t->debt_notes[t->debt_notes_at[e]] : NULL;
    return notes && notes->hash_lo == t->hot[e].hash_lo ? notes : NULL;
}

/* The same, and begins them where there are none. There is room for those of every entry, which
 * takes memory only as it is touched. NULL when memory cannot be had. */
COLD static struct debt_notes *debt_notes_of(table_t *t, uint32_t e)
{
    size_t most = (size_t)t->h->max_keys;
    if (!t->debt_notes) {
        size_t size = (most + 1) * sizeof(struct debt_notes) + most * sizeof(uint32_t);
        void *m = map_zeros(size);
        if (m == MAP_FAILED)
            return NULL;
        t->debt_notes = m;
        t->debt_notes_at = (uint32_t *)(t->debt_notes + most + 1);
        t->debt_notes_size = size;
        t->debt_notes_count = 0;
    }
    if (!t->debt_notes_at[e])
        t->debt_notes_at[e] = ++t->debt_notes_count;
    struct debt_notes *notes = &t->debt_notes[t->debt_notes_at[e]];
    if (notes->hash_lo != t->hot[e].hash_lo)
        *notes = (struct debt_notes){.hash_lo = t->hot[e].hash_lo};
    return notes;
}

/* The bytes that these notes and `remembered` take. They lie in the memory of the process that
 * merges, never in a shared table. */
static int64_t remembered_bytes(const table_t *t)
{
    int64_t keys = (int64_t)t->h->bump,
            bytes = t->remembered ? keys * (int64_t)sizeof(struct remembered) : 0;
    if (t->debt_notes)
        bytes += (int64_t)t->debt_notes_count * (int64_t)sizeof(struct debt_notes)
                 + keys * (int64_t)sizeof(uint32_t);
    return bytes;
}

/* The part of these units, taken by nodes that had been given up, which was charged at that
 * time. From now on columns show it. */
COLD static i128 charged_before(const table_t *t, uint32_t e, const definition_t *d, i128 units,
                                int64_t now)
{
    struct debt_notes *notes = debt_notes_held(t, e);
    if (!notes)
        return 0;
    i128 kept = units_until(notes->given_up_until, d, now), charged = kept < units ? kept : units;
    notes->given_up_until -= (int64_t)units_to_ns(d, charged);
    if (notes->predicted_until > notes->given_up_until)
        notes->predicted_until = notes->given_up_until;
    return charged;
}

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

/* Refills the two budgets. `members`: as `members_known`. */
static void refill_budgets(struct remembered *r, const definition_t *d, int64_t members,
                           int64_t now)
{
    double since = larger(0.0, (double)(now - r->spent_at)), each = LOWERED_PART / (double)members;
    r->spent = larger(0.0, r->spent - since / (double)d->full_ns);
    r->agreed = larger(0.0, r->agreed - each * since / (double)d->cap_ns);
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
        i128 more = token_units(d, g->uncounted);
        if (brings && count > charged)
            more += count - charged;
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
    double cap = (double)cap_units(d), room = larger(0.0, 1.0 - r->agreed) * cap,
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
    /* Where bursts are shared, a node owes what it left to silent peers till their takes come. */
    i128 much = full_units(d) / (t->h->shared_bursts ? 1 : 2);
    *refused += result - to > much + predicted_debt(notes, d, now);
    return result;
}

#endif
