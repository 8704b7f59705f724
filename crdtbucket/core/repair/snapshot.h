/* Restores entries from a snapshot. */
#ifndef CRDTBUCKET_REPAIR_SNAPSHOT_H
#define CRDTBUCKET_REPAIR_SNAPSHOT_H

#include "../merge/merge.h"

/* Restores an entry from a snapshot that is `age` ns old; one that has been refilled since is left
 * out. An `age` below 0 is unknown: then the debt is not aged, so it is an upper bound, and the
 * entry is suspect until a peer with memory has sent its debts, or it is known that there is none.
 * Returns whether the entry was restored. */
static int restore_entry(table_t *t, const wire_entry_t *w, const wire_definition_t *wd,
                         int64_t age, int64_t now)
{
    room_t room;
    column_t c;
    int64_t most = 0;
    if (wd->bucket == NONE || table_find(t, w->lo, w->hi) != NONE)
        return 0;
    wire_definition_t its;
    wd = wire_definition_for(wd, w->hi, &its);
    definition_t *d = &t->definitions[wd->bucket];
    /* This process keeps no credit for any peer yet, so it owes both. */
    int64_t debt_ns = w->debt_ns + w->hidden_ns,
            refilled = age > 0 ? level_time(d, now) - level_time(d, now - age) : 0;
    if (debt_ns <= refilled)
        return 0;
    uint32_t e = entry_obtain(t, w->lo, w->hi, wd->bucket, 0, 0, now, &room);
    if (e == NONE)
        return 0;
    for (const wire_column_t *x = w->column; x < w->column + w->columns; x++) {
        if (!x->origin || t->origins[x->origin].tombstone
            || !column_new(t, e, x->origin, x->refunded != 0, &c))
            continue;
        c.c->taken[c.i] |= (uint64_t)x->taken;
        c.c->generation[c.i] = x->generation;
        /* The entry counts as introduced here when no other column has more tokens than this
         * node's. */
        uint32_t node = t->origins[x->origin].node;
        if (x->taken > most || (x->taken == most && !node))
            t->cold[e].introducer = node ? RELAYED : 0;
        most = x->taken > most ? x->taken : most;
        if (c.block)
            c.block->refunded[c.i] = (uint64_t)x->refunded;
    }
    base_move(t, &t->hot[e], level_time(d, now),
              base_for(d, stated_units(d, debt_ns - refilled, wd), 0, now));
    if (age < 0)
        OR(t->hot[e].flags, ENTRY_SUSPECT);
    return 1;
}

/* Settles the suspect entries among the next `most` from `from` on: their debts stand from now on
 * and are sent, or with `cancelled` they are dropped, except for what was taken under this epoch.
 * Returns how many there were. */
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

#endif
