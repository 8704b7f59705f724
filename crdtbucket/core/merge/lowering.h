/* How far a peer may lower a debt by what it advertises. See docs/model.md, "Merge", and
 * docs/security.md.
 *
 * Lag, and clocks that run apart, explain a little. That much is a budget of each key, which
 * refills. Beyond it a debt falls as far as two peers agree that it is, and as there was no take
 * behind it; else within a second budget, since two peers may lie together. Of two members nobody
 * else can agree, so the one peer has both budgets. What an owner refunds is believed as far as its
 * takes were charged here. */
#ifndef CRDTBUCKET_MERGE_LOWERING_H
#define CRDTBUCKET_MERGE_LOWERING_H

#include "../level/peer_rates.h"
#include "../level/remembered.h"
#include "../level/units.h"
#include "../memory/mapping.h"
#include "compare.h"

/* Of a capacity, all members together; it refills in the time in which the bucket does. What two
 * peers agree on has the ceiling of debt as its budget, which refills as fast. */
#define LOWERED_PART 0.2
/* Two peers that advertise a debt within this time agree. */
#define AGREE_NS (30 * SECOND)

/* What few keys need, by entry: it is of the key that has this hash. */
struct rare {
    uint64_t hash_lo;
    /* Until this local ns a part of the debt is what was predicted of nodes that were given up.
     * Each peer gives them up in its own moment, and no column stands behind it. */
    int64_t predicted_until;
    /* Until this local ns what they were thought to have taken is not refilled: what they took is
     * charged as far as it is more. */
    int64_t given_up_until;
    /* What is hidden until refill has paid it; see refilled.h. */
    i128 hidden_sum;
    int64_t hidden_until;
    /* Of a bucket that is not predicted, such as slots, each of which is taken and given back again
     * and again: who took last, and the units of it that were charged and have not come back. */
    uint32_t taker;
    i128 charged;
};

/* What was kept for a node that is given up, in units: it is charged from now on, and so much of
 * it is `debt`. */
static void predict_debt(struct rare *l, const definition_t *d, i128 kept, i128 debt, int64_t now)
{
    if (l->predicted_until < now)
        l->predicted_until = now;
    if (l->given_up_until < now)
        l->given_up_until = now;
    l->predicted_until += (int64_t)units_to_ns(d, debt);
    l->given_up_until += (int64_t)units_to_ns(d, kept);
}

/* How many units of debt are still predicted ones. `l` may be NULL. */
static i128 predicted_debt(const struct rare *l, const definition_t *d, int64_t now)
{
    return l ? units_until(l->predicted_until, d, now) : 0;
}

/* The record of a key, NULL while it has none. */
static inline struct rare *rare_held(const table_t *t, uint32_t e)
{
    struct rare *l = t->rare && t->rare_at[e] ? &t->rare[t->rare_at[e]] : NULL;
    return l && l->hash_lo == t->hot[e].hash_lo ? l : NULL;
}

/* The same; makes one where there is none. There is room for one of each entry, which takes memory
 * as it is touched. NULL when that cannot be had. */
COLD static struct rare *rare_of(table_t *t, uint32_t e)
{
    size_t most = (size_t)t->h->max_keys;
    if (!t->rare) {
        size_t size = (most + 1) * sizeof(struct rare) + most * sizeof(uint32_t);
        void *m = map_zeros(size);
        if (m == MAP_FAILED)
            return NULL;
        t->rare = m;
        t->rare_at = (uint32_t *)(t->rare + most + 1);
        t->rare_size = size;
        t->rare_count = 0;
    }
    if (!t->rare_at[e])
        t->rare_at[e] = ++t->rare_count;
    struct rare *l = &t->rare[t->rare_at[e]];
    if (l->hash_lo != t->hot[e].hash_lo)
        *l = (struct rare){.hash_lo = t->hot[e].hash_lo};
    return l;
}

/* The memory that these records, and `remembered`, take of the process that merges; a shared table
 * has none of it. */
static int64_t remembered_bytes(const table_t *t)
{
    int64_t keys = (int64_t)t->h->bump,
            bytes = t->remembered ? keys * (int64_t)sizeof(struct remembered) : 0;
    if (t->rare)
        bytes += (int64_t)t->rare_count * (int64_t)sizeof(struct rare)
                 + keys * (int64_t)sizeof(uint32_t);
    return bytes;
}

/* Of these units, which nodes took that were given up, those that were charged then. They have
 * columns behind them from now on. */
COLD static i128 charged_before(const table_t *t, uint32_t e, const definition_t *d, i128 units,
                                int64_t now)
{
    struct rare *l = rare_held(t, e);
    if (!l)
        return 0;
    i128 kept = units_until(l->given_up_until, d, now), charged = kept < units ? kept : units;
    l->given_up_until -= (int64_t)units_to_ns(d, charged);
    if (l->predicted_until > l->given_up_until)
        l->predicted_until = l->given_up_until;
    return charged;
}

/* How many members there are: this node, the sender, and all others that were ever linked, silent
 * ones too, since a lie is no better believed while others cannot answer it. Members that relays
 * alone see never answer here. */
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

/* The sender has taken `units` more, of which the debt rises by `rises`: it may give these back,
 * whatever else of it was not charged. */
static void note_charged(struct rare *l, uint32_t source, i128 units, i128 rises)
{
    i128 charged = units < rises ? units : rises;
    if (charged <= 0)
        return;
    l->charged = charged + (l->taker == source ? l->charged : 0);
    l->taker = source;
}

/* How many of the units that the sender gives back were charged for it. */
static i128 charged_of(struct rare *l, uint32_t source, i128 units)
{
    if (units <= 0 || l->taker != source)
        return 0;
    i128 charged = l->charged < units ? l->charged : units;
    l->charged -= charged;
    return charged;
}

/* Peers took so many units that were not charged. */
static void note_uncounted(struct remembered *r, const definition_t *d, i128 units, int64_t now)
{
    r->uncounted = saturated(r->uncounted + units_to_ns(d, units));
    r->uncounted_at = now;
}

/* How many of these units were not charged when they were taken: they are noted no more. */
static i128 drop_uncounted(struct remembered *r, const definition_t *d, i128 units)
{
    i128 noted = uncounted_units(r, d), dropped = noted < units ? noted : units;
    r->uncounted = (int64_t)units_to_ns(d, noted - dropped);
    return dropped;
}

/* Below this an entry does not bring the debt without a budget, in units: takes that a relay brings
 * of who is not silent raise it, and refunds lower it, as far as they explain it. What was
 * taken and not charged, because it was beyond every limit or the ceiling, or the sender's own debt
 * was lower, is not given back when it is refunded. `slots`: the record of a bucket that is not
 * predicted, else NULL. */
static i128 refunded_to(struct remembered *r, struct rare *slots, const definition_t *d,
                        const comparison_t *g, uint32_t source, int64_t brings, i128 debt,
                        i128 after, int64_t now)
{
    i128 count = debt + token_units(d, brings) - g->charged_before, cap = cap_units(d),
         charged = after < cap ? after : cap;
    if (debt <= slack_units(d)) { /* full: refunds of what came before are worth nothing */
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

/* By how many of these units the sender and another peer agree that a debt is too high. Of two
 * members nobody else could: by all of them. */
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

/* How many of these units, by which two peers agree that a debt is too high, it falls: those that
 * were only predicted, and beyond that as many as there is budget for. */
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
    struct rare *slots = d->unpredicted ? rare_of(t, e) : NULL;
    if (!r || (d->unpredicted && !slots))
        return after > debt ? after : debt;
    i128 from = refunded_to(r, slots, d, g, m->source, brings, debt, after, now),
         to = after > 0 ? after : 0;
    /* What others have refunded was given back here for as much as was charged here. The sender,
     * who does not know it yet, may have charged less of it than is refunded. */
    to += token_units(d, g->lacks_refunds);
    if (from <= to)
        return after < from ? from : after;
    refill_budgets(r, d, m->members, now);
    struct rare *l = rare_held(t, e);
    i128 predicted = predicted_debt(l, d, now), units = agreed_on(t, r, d, m, from - to, now),
         agreed = from - granted_units(r, d, units, predicted);
    double budget = LOWERED_PART * (double)full_units(d) / (double)m->members,
           left = m->source ? larger(0.0, 1.0 - r->spent) * budget : 0.0,
           wanted = (double)(agreed - to), granted = smaller(left, wanted);
    r->spent += granted / budget;
    i128 result = granted >= wanted ? to : agreed - (i128)granted;
    if (m->source && m->members > 2) { /* of two nobody else could agree */
        r->peer = m->source;
        r->proposed = now + (int64_t)units_to_ns(d, to);
        r->held = now + (int64_t)units_to_ns(d, result);
        r->proposed_at = stamp_of(now);
    }
    if (predicted > 0)
        l->predicted_until -= (int64_t)units_to_ns(d, from - result);
    if (granted >= wanted)
        return after;
    i128 charged = result - (after > debt ? after : debt);
    if (brings >= 0 && charged > 0)
        drop_uncounted(r, d, charged);
    *refused += result - to > full_units(d) / 2 + predicted_debt(l, d, now);
    return result;
}

#endif
