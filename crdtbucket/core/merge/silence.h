/* Silent and forgotten nodes, and clocks that jump. */
#ifndef CRDTBUCKET_MERGE_SILENCE_H
#define CRDTBUCKET_MERGE_SILENCE_H

#include "../level/rates.h"
#include "../level/renew.h"
#include "lowering.h"

/* Computes from when on some peer with rates is silent beyond the near horizon. */
static void refresh_far(table_t *t)
{
    int64_t until = INT64_MAX;
    for (int i = 1; i < MAX_NODES; i++)
        if (t->nodes[i].known_by && t->nodes[i].rated
            && t->nodes[i].last_seen + t->h->near_ns < until)
            until = t->nodes[i].last_seen + t->h->near_ns;
    STORE(t->h->far_free_until, until);
}

/* Notes that a node was seen at the time `at`. Only if it was the first that would be silent can
 * `refresh_far` find another time; for all others its loop is left out, since each frame comes
 * here. */
static void set_last_seen(table_t *t, node_t *n, int64_t at)
{
    int was_first = n->last_seen + t->h->near_ns <= LOAD(t->h->far_free_until);
    if (at <= n->last_seen)
        return;
    n->last_seen = at;
    n->unmet = 0;
    if (was_first && n->known_by && n->rated)
        refresh_far(t);
}

/* Moves the near horizon. A longer one raises the bound of each entry by which takes skip the
 * prediction, and is in force once all are raised. Looks at `most` places from `from` on, 0 at
 * first; returns the next one, or -1 at the end. */
static int64_t set_near(table_t *t, int64_t ns, int64_t from, int64_t most)
{
    int64_t end = ns <= t->h->near_ns || t->h->bump - from <= most ? t->h->bump : from + most;
    t->h->near_bound_ns = ns;
    for (int64_t e = from; ns > t->h->near_ns && e < end; e++)
        if (LOAD(t->hot[e].flags) & ENTRY_RATED)
            refresh_near_class(t, (uint32_t)e);
    if (end < t->h->bump)
        return end;
    STORE(t->h->near_ns, ns);
    refresh_far(t);
    return -1;
}

/* Gives a node up: what was predicted of it becomes debt, so that the level does not move, and
 * its rates are dropped. Looks at `most` places from `from` on; returns the next one, or -1 at
 * the end. */
COLD static int64_t forget_some(table_t *t, uint32_t node, int64_t now, int64_t from, int64_t most)
{
    int64_t end = most < t->h->bump - from ? from + most : t->h->bump;
    for (int64_t i = from; i < end; i++) {
        uint32_t e = (uint32_t)i;
        column_t c = {0};
        int rated = 0;
        if (!(LOAD(t->hot[e].flags) & ENTRY_RATED))
            continue;
        while (!rated && column_next(t, e, &c))
            rated = t->origins[column_origin(&c)].node == node && column_rated(&c);
        if (!rated)
            continue;
        follow_definition(t, e, now);
        definition_t *d = &t->definitions[t->hot[e].bucket];
        i128 before = entry_far(t, e, d, now);
        advance(t, e, d, entry_least(t, e, d, now), now);
        int64_t base = LOAD(t->hot[e].base), net = entry_net(t, e);
        i128 debt = debt_units(d, base, net, now);
        c = (column_t){0};
        while (column_next(t, e, &c))
            if (t->origins[column_origin(&c)].node == node)
                c.c->fast[c.i] = c.c->slow[c.i] = 0;
        refresh_near_class(t, e);
        i128 after = debt + before - entry_far(t, e, d, now), cap = cap_units(d);
        after = after < cap ? after : cap;
        /* What only brings the debt up to zero is not owed. */
        i128 owed = debt > 0 ? debt : 0;
        struct debt_notes *notes = after > debt ? debt_notes_of(t, e) : NULL;
        if (notes)
            predict_debt(notes, d, after - debt, after > owed ? after - owed : 0, now);
        base_move(t, &t->hot[e], base, base_for(d, after, net, now));
    }
    if (end < t->h->bump)
        return end;
    t->nodes[node].rated = 0;
    t->h->forgotten++;
    refresh_far(t);
    return -1;
}

static void forget_node(table_t *t, uint32_t node, int64_t now)
{
    forget_some(t, node, now, 0, t->h->bump);
}

/* Peers that were silent when the clock jumped forward by `ns`, to the time `since` or a later one,
 * have been silent for so much less. */
static void shift_silences(table_t *t, int64_t ns, int64_t since, int64_t now)
{
    for (int i = 1; i < MAX_NODES; i++)
        if (t->nodes[i].known_by && t->nodes[i].last_seen < since)
            t->nodes[i].last_seen += ns;
    for (int64_t e = 0; e < t->h->bump; e++)
        if (LOAD(t->hot[e].flags) & ENTRY_RATED)
            for (column_t c = {0}; column_next(t, (uint32_t)e, &c);) {
                int64_t seen = stamp_ns(c.c->last_seen[c.i], now);
                if (column_rated(&c) && seen < since)
                    c.c->last_seen[c.i] = stamp_of(seen + ns);
            }
    refresh_far(t);
}

/* The clock jumped by `ns` against those of the peers. Levels stay where they were, but none is
 * beyond the ceiling of debt, so that no number of jumps in a row overflows. `since`: as in
 * `shift_silences` and `shift_rates`. */
static void shift_all(table_t *t, int64_t ns, int64_t since, int64_t now)
{
    if (ns > 0)
        shift_silences(t, ns, since, now);
    for (int64_t i = 0; i < t->h->bump; i++) {
        hot_t *hot = &t->hot[i];
        const definition_t *d = &t->definitions[hot->bucket];
        if (!(LOAD(hot->flags) & ENTRY_USED) || d->still_until)
            continue;
        ADD(hot->base, ns);
        int64_t base = LOAD(hot->base), net = entry_net(t, (uint32_t)i);
        if (debt_units(d, base, net, now) > cap_units(d))
            base_move(t, hot, base, base_for(d, cap_units(d), net, now));
        if (ns > 0)
            shift_rates(&t->cold[i], ns, since, now);
        int64_t taken = t->cold[i].taken_until;
        /* What would be refilled after the jump anyway may have been noted since then. */
        if (taken && (ns < 0 || taken < since))
            ADD(t->cold[i].taken_until, ns); /* takes note meanwhile */
    }
    for (uint32_t i = 0; i < t->h->definitions; i++) {
        t->definitions[i].replaced_ns += ns;
        t->definitions[i].staged_ns += ns;
        if (t->definitions[i].still_until) /* read by takes meanwhile */
            ADD(t->definitions[i].still_until, ns);
        for (uint32_t j = 0; j < t->definitions[i].earlier_count; j++)
            t->definitions[i].earlier[j].until += ns;
    }
}

#endif
