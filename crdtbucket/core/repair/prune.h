/* Dead epochs: tombstones, and the removal of their columns. */
#ifndef CRDTBUCKET_REPAIR_PRUNE_H
#define CRDTBUCKET_REPAIR_PRUNE_H

#include "../level/rates.h"
#include "../level/renew.h"

/* Looks at the next `most` entries from `from` on for those that owe. For each epoch with a column
 * in one of them, it raises `longest` to the ns in which that bucket fills from the ceiling of
 * debt. What all other columns count has been refilled, here. */
static void columns_that_owe(const table_t *t, int64_t from, int64_t most, int64_t now,
                             int64_t *longest)
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

/* Drops the columns of the origins that are set in `gone` from the entries between two places;
 * levels do not move. Where an entry's own column is one of them and there is no memory to close
 * it, that origin is cleared in `gone`. */
static void prune_places(table_t *t, uint8_t *gone, int64_t from, int64_t end)
{
    for (int64_t i = from; i < end; i++) {
        column_t c = {0};
        int changed = 0;
        if (!(LOAD(t->hot[i].flags) & ENTRY_USED))
            continue;
        if (gone[t->hot[i].origin] && !own_column_close(t, (uint32_t)i, t->h->own_origin))
            gone[t->hot[i].origin] = 0;
        while (column_next(t, (uint32_t)i, &c)) {
            if (!gone[column_origin(&c)])
                continue;
            column_drop(&c);
            changed = 1;
        }
        if (changed)
            refresh_near_class(t, (uint32_t)i);
    }
}

/* Drops all columns of one origin; 0 when there was no memory. */
static int prune(table_t *t, uint32_t origin)
{
    uint8_t gone[MAX_ORIGINS] = {0};
    gone[origin] = 1;
    prune_places(t, gone, 0, t->h->bump);
    return gone[origin];
}

/* Withdraws the tombstone of an origin, whose process was taken for dead but runs: its columns
 * count again, and it is announced to the peers again. */
static void origin_return(table_t *t, uint32_t origin)
{
    t->h->origins_changed += t->origins[origin].tombstone != TOMBSTONE_NONE;
    t->origins[origin].tombstone = TOMBSTONE_NONE;
}

/* Goes on with the removal of columns of origins with a tombstone, in the next `most` entries from
 * `from` on, which is 0 where a walk begins. Returns the next place, or -1 at the end. An origin
 * with a column that cannot be closed for want of memory loses its tombstone. */
static int64_t prune_some(table_t *t, int64_t from, int64_t most)
{
    uint8_t gone[MAX_ORIGINS];
    int64_t end = most < t->h->bump - from ? from + most : t->h->bump;
    for (uint32_t i = 0; i < MAX_ORIGINS; i++) {
        origin_t *o = &t->origins[i];
        if (!from && o->tombstone == TOMBSTONE_NEW)
            o->tombstone = TOMBSTONE_IN_WALK;
        gone[i] = o->tombstone == TOMBSTONE_IN_WALK;
    }
    prune_places(t, gone, from, end);
    for (uint32_t i = 0; i < MAX_ORIGINS; i++) {
        if (t->origins[i].tombstone != TOMBSTONE_IN_WALK)
            continue;
        if (!gone[i])
            origin_return(t, i);
        else if (end == t->h->bump)
            t->origins[i].tombstone = TOMBSTONE_PRUNED;
    }
    return end < t->h->bump ? end : -1;
}

/* Whether the name of a node is known; this node's own always is. */
static inline int node_has_name(const table_t *t, uint32_t node)
{
    return !node || (node < t->h->named && LOAD(t->names[node].bytes));
}

/* Forgets an epoch of which all columns are removed, so that its number can be used again. Returns
 * whether it has. */
static int origin_release(table_t *t, uint32_t origin)
{
    origin_t *o = &t->origins[origin];
    if (!o->used || o->tombstone != TOMBSTONE_PRUNED)
        return 0;
    STORE(o->used, 0);
    o->tombstone = TOMBSTONE_NONE;
    t->h->origins_changed++;
    t->h->released++;
    return 1;
}

/* Drops an epoch that does not run any more, with its columns; levels do not move. Peers that still
 * have columns of it send them again. Returns whether it has. */
static int origin_drop(table_t *t, uint32_t origin)
{
    origin_t *o = &t->origins[origin];
    if (!o->used || origin == t->h->own_origin)
        return 0;
    if (o->tombstone != TOMBSTONE_PRUNED && !prune(t, origin))
        return 0;
    o->tombstone = TOMBSTONE_PRUNED;
    return origin_release(t, origin);
}

/* Makes room before this node begins a new epoch with the table of its last one. An epoch is
 * dropped when the name of its owner is lost, since it cannot be sent to anybody, and when the node
 * never had a peer, since nobody needs it. The new epoch needs a number of its own: epochs with a
 * tombstone are dropped first, then the node's own earlier ones, then any. */
static void drop_unknown_epochs(table_t *t)
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
            if (t->origins[i].used
                && (pass == 2 || (pass ? !t->origins[i].node : t->origins[i].tombstone)))
                used -= (uint32_t)origin_drop(t, i);
}

#endif
