/* A common store (a shared Redis in strong mode) that decides, as one more replica: what is
 * advertised to it, how its answer is booked, and how its columns are merged. See docs/modes.md. */
#ifndef CRDTBUCKET_MERGE_COMMON_STORE_H
#define CRDTBUCKET_MERGE_COMMON_STORE_H

#include "../level/advertised.h"
#include "../level/give_back.h"
#include "merge.h"

/* What this node advertises of an entry to a common store. */
typedef struct {
    uint32_t generation;
    int64_t taken, refunded; /* own column under the running epoch, tokens */
    int64_t debt_ns;         /* shown and hidden debt together */
    /* ns until the confirmed level alone lets the cost pass; 0 when it does now. */
    int64_t wait_ns;
} own_state_t;

/* Writes to `s` what this node has of a current entry, and when its confirmed level has `n` tokens.
 * Nothing is stored. */
static void own_state(const table_t *t, uint32_t e, int64_t n, int64_t now, own_state_t *s)
{
    const hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    int64_t net = entry_net(t, e);
    i128 debt = clamped(d, debt_units(d, LOAD(hot->base), net, now));
    i128 over = debt + token_units(d, n) - full_units(d);
    s->generation = hot->generation;
    s->refunded = own_refunded(t, e);
    s->taken = net + s->refunded;
    advertised_t owed = advertised_debt(t, e, net, now);
    s->debt_ns = owed.shown + owed.hidden;
    s->wait_ns = over > slack_units(d) ? saturated(over / d->p) : 0;
}

/* The debt, in ns, of all that was taken of an entry under this epoch, as if nothing had been
 * refilled; the ceiling at most. */
static int64_t taken_ns(const table_t *t, uint32_t e)
{
    int64_t net = entry_net(t, e);
    const definition_t *d = &t->definitions[t->hot[e].bucket];
    i128 units = token_units(d, net > 0 ? net : 0), cap = cap_units(d);
    return (int64_t)units_to_ns(d, units < cap ? units : cap);
}

/* Counts `taken` and `refunded` tokens in the own column without regard to the level, because the
 * store has decided. When both are equal the level stays as it is: that voids a call without an
 * answer. If the store has counted that call, it gives the tokens back when this column reaches it
 * at the next settle. What is beyond the ceiling of debt is forgiven, but stays counted. Returns 0
 * when memory for the refunds is at its limit. */
static int book(table_t *t, definition_t *d, uint32_t e, int64_t taken, int64_t refunded,
                int64_t now)
{
    column_t c;
    i128 least = entry_least(t, e, d, now);
    if (refunded) {
        if (!own_refunds(t, e, &c))
            return 0;
        ADD(c.block->refunded[c.i], (uint64_t)refunded);
    }
    advance(t, e, d, least, now);
    charge(t, d, e, taken - refunded, least, now);
    mark_attempted(t, e);
    return 1;
}

/* Merges the debt and the columns that the store advertises, like an entry of a peer, but believes
 * all of it: each node wrote its own columns there. No two columns are of one origin. `same`: the
 * store has the key under this node's definition. */
static void adopt(table_t *t, uint32_t e, int64_t debt_ns, int same, const wire_column_t *columns,
                  uint32_t count, comparison_t *scratch, int64_t now)
{
    const definition_t *d = &t->definitions[t->hot[e].bucket];
    merge_context_t m = {.at = now, .common = 1};
    merge_result_t r = {0};
    wire_definition_t wd = {
        .bucket = t->hot[e].bucket, .same = (uint32_t)same, .q = d->q, .p = d->p};
    wire_entry_t w = {.columns = count, .debt_ns = debt_ns, .column = columns};
    merge_levels(t, e, &w, &wd, &m, now, scratch, &r);
}

/* How long (ns) a debt of `debt_ns` keeps `n` tokens from passing; 0: it does not. */
static inline int64_t wait_for(const definition_t *d, int64_t debt_ns, int64_t n)
{
    i128 over = (i128)debt_ns * d->p + token_units(d, n) - full_units(d);
    return over > slack_units(d) ? saturated(units_to_ns(d, over)) : 0;
}

#endif
