/* Upkeep: silent and forgotten nodes, clocks that jump, snapshots, pruned origins. */
#ifndef CRDTBUCKET_UPKEEP_H
#define CRDTBUCKET_UPKEEP_H

#include "merge.h"

/* From when on some peer that stated rates is silent beyond the near horizon. */
static void refresh_far(table_t *t)
{
    int64_t until = INT64_MAX;
    for (int i = 1; i < MAX_NODES; i++)
        if (t->nodes[i].known && t->nodes[i].rated && t->nodes[i].heard + t->h->near_ns < until)
            until = t->nodes[i].heard + t->h->near_ns;
    STORE(t->h->far_free_until, until);
}

/* Moves the near horizon. A longer one raises the bound by which takes skip the prediction. */
static void set_near(table_t *t, int64_t ns)
{
    int64_t before = t->h->near_ns;
    STORE(t->h->near_ns, ns);
    for (int64_t e = 0; ns > before && e < t->h->bump; e++)
        if (LOAD(t->hot[e].flags) & ENTRY_RATED)
            refresh_near_class(t, (uint32_t)e);
    refresh_far(t);
}

/* A node is given up: what was predicted of it becomes debt, so that the level does not move, and its rates go. */
static void forget_node(table_t *t, uint32_t node, int64_t now)
{
    for (int64_t i = 0; i < t->h->bump; i++) {
        uint32_t e = (uint32_t)i;
        column_t c = {0};
        int rated = 0;
        if (!(LOAD(t->hot[e].flags) & ENTRY_RATED))
            continue;
        while (!rated && column_next(t, e, &c))
            rated = t->origins[column_origin(&c)].node == node && (c.c->fast[c.i] | c.c->slow[c.i]);
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
        base_move(t, &t->hot[e], base, base_for(d, after < cap ? after : cap, net, now));
    }
    t->nodes[node].rated = 0;
    t->h->forgotten++;
    refresh_far(t);
}

/* The clock jumped by `ns` against the peers': levels stay where they were, and none is beyond the ceiling of debt, so that no
 * number of jumps in a row turns a debt around. */
static void shift_all(table_t *t, int64_t ns, int64_t now)
{
    for (int64_t i = 0; i < t->h->bump; i++) {
        hot_t *hot = &t->hot[i];
        const definition_t *d = &t->definitions[hot->bucket];
        if (!(LOAD(hot->flags) & ENTRY_USED))
            continue;
        ADD(hot->base, ns);
        int64_t base = LOAD(hot->base), net = entry_net(t, (uint32_t)i);
        if (debt_units(d, base, net, now) > cap_units(d))
            base_move(t, hot, base, base_for(d, cap_units(d), net, now));
    }
    for (uint32_t i = 0; i < t->h->definitions; i++) {
        t->definitions[i].replaced_ns += ns;
        t->definitions[i].staged_ns += ns;
        for (uint32_t j = 0; j < t->definitions[i].earliers; j++)
            t->definitions[i].earlier[j].until += ns;
    }
}

/* An entry out of a snapshot that is `age` ns old; one that has refilled since is left out. Below 0: of unknown age. Then its
 * debt, which is not aged, is an upper bound, and suspect until somebody with memory, or nobody, has spoken of it. */
static int restore_entry(table_t *t, const wire_entry_t *w, const wire_definition_t *wd, int64_t age, int64_t now)
{
    uint32_t gone;
    column_t c;
    wire_entry_t aged = *w;
    aged.debt_ns -= age > 0 ? age : 0;
    if (wd->bucket == NONE || aged.debt_ns <= 0 || table_find(t, w->lo, w->hi) != NONE)
        return 0;
    wire_definition_t its;
    wd = wire_definition_for(wd, w->hi, &its);
    definition_t *d = &t->definitions[wd->bucket];
    uint32_t e = entry_obtain(t, w->lo, w->hi, wd->bucket, 0, now, &gone);
    if (e == NONE)
        return 0;
    for (const wire_column_t *x = w->column; x < w->column + w->columns; x++) {
        if (!x->origin || t->origins[x->origin].marked || !column_new(t, e, x->origin, x->refunded != 0, &c))
            continue;
        c.c->taken[c.i] |= (uint64_t)x->taken;
        c.c->birth[c.i] = x->birth;
        if (c.block)
            c.block->refunded[c.i] = (uint64_t)x->refunded;
    }
    base_move(t, &t->hot[e], now, base_for(d, stated_units(d, &aged, wd), 0, now));
    if (age < 0)
        OR(t->hot[e].flags, ENTRY_SUSPECT);
    return 1;
}

/* What is suspect among the next `most` entries from `from` stands from here on, or with `cancelled` goes, but for what was taken
 * in this life. Returns how many were. */
static int64_t settle_suspects(table_t *t, int64_t from, int64_t most, int cancelled, int64_t now)
{
    int64_t settled = 0;
    for (int64_t i = from; i < from + most && i < t->h->bump; i++) {
        hot_t *hot = &t->hot[i];
        if ((LOAD(hot->flags) & (ENTRY_USED | ENTRY_SUSPECT)) != (ENTRY_USED | ENTRY_SUSPECT))
            continue;
        follow_definition(t, (uint32_t)i, now);
        if (cancelled)
            suspect_cancel(t, (uint32_t)i, now);
        else
            unsuspect(t, (uint32_t)i);
        settled++;
    }
    return settled;
}

/* Of the next `most` entries from `from`, those that owe: raises `longest` of each origin with a column there to the time in
 * which that bucket fills from the ceiling of debt. What the other columns count has come back by time, here. */
static void columns_that_owe(const table_t *t, int64_t from, int64_t most, int64_t now, int64_t *longest)
{
    for (int64_t i = from; i < from + most && i < t->h->bump; i++) {
        const hot_t *hot = &t->hot[i];
        column_t c = {0};
        if (!(LOAD(hot->flags) & ENTRY_USED))
            continue;
        const definition_t *d = &t->definitions[hot->bucket];
        if (debt_units(d, LOAD(hot->base), entry_net(t, (uint32_t)i), now) <= slack_units(d))
            continue;
        if (longest[hot->origin] < d->cap_ns)
            longest[hot->origin] = d->cap_ns;
        while (column_next(t, (uint32_t)i, &c))
            if (longest[column_origin(&c)] < d->cap_ns)
                longest[column_origin(&c)] = d->cap_ns;
    }
}

/* Columns of a marked origin are dropped; levels do not move. Returns entries changed among the next `most` from `from`,
 * -1 when there is no memory to close a column that an entry still counts under. */
static int64_t prune(table_t *t, uint32_t origin, int64_t from, int64_t most)
{
    int64_t changed = 0;
    for (int64_t i = from; i < from + most && i < t->h->bump; i++) {
        column_t c;
        if (!(LOAD(t->hot[i].flags) & ENTRY_USED))
            continue;
        if (t->hot[i].origin == origin && !own_column_close(t, (uint32_t)i, t->h->own_origin))
            return -1;
        if (!column_find(t, (uint32_t)i, origin, &c))
            continue;
        c.c->taken[c.i] = 0;
        c.c->fast[c.i] = c.c->slow[c.i] = 0;
        if (c.block)
            c.block->refunded[c.i] = 0;
        refresh_near_class(t, (uint32_t)i);
        changed++;
    }
    return changed;
}

/* Columns of a marked origin count again: its process was taken for dead and runs. It is announced to the peers again. */
static void origin_return(table_t *t, uint32_t origin)
{
    t->h->origins_changed += t->origins[origin].marked;
    t->origins[origin].marked = 0;
}

static inline int node_has_name(const table_t *t, uint32_t node)
{
    return !node || (node < t->h->named && LOAD(t->names[node].bytes));
}

/* A dead epoch goes with its columns; levels do not move. What peers still have of it they state again. */
static int origin_drop(table_t *t, uint32_t origin)
{
    origin_t *o = &t->origins[origin];
    if (!o->used || origin == t->h->own_origin)
        return 0;
    if (!o->marked && prune(t, origin, 0, t->h->bump) < 0)
        return 0;
    o->marked = 0;
    STORE(o->used, 0);
    t->h->origins_changed++;
    t->h->released++;
    return 1;
}

/* Before a node begins a life with the table of its last one: an epoch whose owner's name is lost cannot be told to anybody, one
 * of a node that never had a peer concerns nobody, and a new life needs a place of its own: so marked epochs go first,
 * then the node's own earlier ones, then any. */
static void drop_strange_epochs(table_t *t)
{
    uint32_t used = 0, crowded = MAX_ORIGINS / 8 * 7;
    int alone = t->h->named <= 1;
    for (uint32_t i = 1; i < MAX_ORIGINS; i++) {
        if (t->origins[i].used && (alone || !node_has_name(t, t->origins[i].node)))
            origin_drop(t, i);
        used += t->origins[i].used;
    }
    for (int pass = 0; pass < 3; pass++)
        for (uint32_t i = 1; i < MAX_ORIGINS && used > (pass < 2 ? crowded : MAX_ORIGINS - 2); i++)
            if (t->origins[i].used && (pass == 2 || (pass ? !t->origins[i].node : t->origins[i].marked)))
                used -= (uint32_t)origin_drop(t, i);
}

#endif
