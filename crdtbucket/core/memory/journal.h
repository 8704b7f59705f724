/* Changes of several words of an entry that happen completely or not at all: they are written to
 * the journal first. */
#ifndef CRDTBUCKET_MEMORY_JOURNAL_H
#define CRDTBUCKET_MEMORY_JOURNAL_H

#include "columns.h"
#include "rings.h"

/* Marks the journal as complete: it says all that is to change, and from here on a repair finishes
 * that change. */
static inline void journal_write(journal_t *j, uint32_t kind)
{
    STORE(j->kind, kind);
    IN_ORDER();
}

/* Writes to a stored column what `x` says, which is more than the column has, or a newer
 * generation. `found`: the column exists and is `*c`; else it is made. A column that gets refunds
 * is moved to a block. Returns 0 when memory is at its limit. */
static inline int column_raise(table_t *t, uint32_t e, const wire_column_t *x, column_t *c,
                               int found)
{
    if (!found && !column_new(t, e, x->origin, x->refunded != 0, c))
        return 0;
    if (x->refunded && !column_widen(t, e, c))
        return 0;
    c->c->generation[c->i] = x->generation;
    if (c->block)
        c->block->refunded[c->i] = (uint64_t)x->refunded;
    c->c->taken[c->i] = ((uint64_t)x->origin << TOKEN_BITS) | (uint64_t)x->taken;
    return 1;
}

/* The same for the column of that origin, which is looked for. Returns 0 when memory is at its
 * limit. */
static inline int column_store(table_t *t, uint32_t e, const wire_column_t *x)
{
    column_t c;
    return column_raise(t, e, x, &c, column_find(t, e, x->origin, &c));
}

/* Moves an entry to the definition in the slot `bucket`: its number of entries, and its ring. */
static inline void entry_move(table_t *t, uint32_t e, uint16_t bucket)
{
    definition_t *old = &t->definitions[t->hot[e].bucket], *new = &t->definitions[bucket];
    if (old == new)
        return;
    ALTER(t, old->entries, old->entries - 1);
    ALTER(t, new->entries, new->entries + 1);
    ring_leave(t, e);
    ALTER(t, t->hot[e].bucket, bucket);
    ring_join(t, e);
    change_end(t);
}

/* Writes what the journal says of a rewrite to the entry, and lets takes continue. A repair may do
 * this a second time. Returns 0 when memory is at its limit. */
static inline int rewrite_apply(table_t *t)
{
    const journal_t *j = t->journal;
    hot_t *hot = &t->hot[j->entry];
    int done = 1;
    for (uint32_t i = 0; i < j->columns; i++)
        done &= column_store(t, j->entry, &j->column[i]);
    STORE(hot->base, j->base);
    STORE(hot->averaged_net, j->averaged_net);
    entry_move(t, j->entry, j->bucket);
    STORE(hot->origin, j->origin);
    STORE(hot->generation, j->generation);
    /* Decisions from before were in other units, or of another epoch: their refunds are worth
     * nothing. */
    count_full(t, hot);
    STORE(hot->word, j->word);
    STORE(t->journal->kind, JOURNAL_NONE);
    return done;
}

/* Begins a rewrite of an entry: from here on takes of it wait for the lock. Returns the journal,
 * filled in with what the entry has now; the caller changes what is to become different and calls
 * `rewrite_end`. */
static inline journal_t *rewrite_begin(table_t *t, uint32_t e)
{
    journal_t *j = t->journal;
    hot_t *hot = &t->hot[e];
    j->undo.busy = e;
    uint64_t word = OR(hot->word, BUSY);
    j->entry = e;
    j->base = LOAD(hot->base);
    j->word = (word & TOKEN_MASK) | ((word + REVISION_ONE) & REVISION_MASK);
    j->generation = hot->generation;
    j->bucket = hot->bucket;
    j->origin = hot->origin;
    j->columns = 0;
    return j;
}

/* Ends a rewrite. Returns 0 when memory is at its limit. */
static inline int rewrite_end(table_t *t)
{
    journal_t *j = t->journal;
    j->averaged_net = t->hot[j->entry].averaged_net - (entry_net(t, j->entry) - net_of(j->word));
    journal_write(j, JOURNAL_REWRITE);
    return rewrite_apply(t);
}

#endif
