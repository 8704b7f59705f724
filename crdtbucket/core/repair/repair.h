/* Repairs the table after a process has died while it held the table's lock. */
#ifndef CRDTBUCKET_REPAIR_REPAIR_H
#define CRDTBUCKET_REPAIR_REPAIR_H

#include "../level/renew.h"
#include "../level/unsent_log.h"

/* Makes the list of free blocks anew: all that no used entry leads to. */
static void repair_blocks(table_t *t)
{
    header_t *h = t->h;
    for (int64_t b = 0; b < h->blocks_bump; b++)
        t->blocks[b].reserved = 0;
    h->blocks_used = 0;
    for (int64_t e = 0; e < h->bump; e++) {
        if (!(LOAD(t->hot[e].flags) & ENTRY_USED)) {
            STORE(t->cold[e].overflow, NONE);
            continue;
        }
        for (uint32_t *link = &t->cold[e].overflow; *link != NONE; link = &t->blocks[*link].next) {
            if (*link >= h->blocks_bump || t->blocks[*link].reserved) {
                STORE(*link, NONE);
                break;
            }
            t->blocks[*link].reserved = 1;
            h->blocks_used++;
        }
    }
    h->free_block = NONE;
    for (int64_t b = h->blocks_bump - 1; b >= 0; b--)
        if (!t->blocks[b].reserved) {
            t->blocks[b].next = h->free_block;
            h->free_block = (uint32_t)b;
        }
}

/* Removes columns that must not count: the old place of a column that was being moved to a block,
 * when the new place is complete; and columns of an epoch with a tombstone. */
static void repair_columns(table_t *t, uint32_t e)
{
    columns_t *inside = &t->cold[e].columns;
    for (column_t c = {0}; column_next(t, e, &c);) {
        uint32_t origin = column_origin(&c);
        if (t->origins[origin].tombstone)
            STORE(c.c->taken[c.i], 0);
        for (int i = 0; c.block && i < INLINE_COLUMNS; i++)
            if (inside->taken[i] && inside->taken[i] >> TOKEN_BITS == origin)
                STORE(inside->taken[i], 0);
    }
}

/* Finishes the change that stands in the journal: a definition; a rewrite, unless takes of the
 * entry continue already; a merge by the maximum of what stands there and what the entry has,
 * because time has passed since. */
COLD static void repair_journal(table_t *t)
{
    journal_t *j = t->journal;
    hot_t *hot = &t->hot[j->entry];
    if (j->kind == JOURNAL_DEFINE)
        define_apply(t);
    if (j->kind == JOURNAL_REWRITE && (LOAD(hot->word) & BUSY))
        rewrite_apply(t);
    else if (j->kind == JOURNAL_MERGE) {
        int64_t base = LOAD(hot->base);
        if ((int64_t)((uint64_t)j->base - (uint64_t)base) > 0)
            base_move(t, hot, base, j->base);
        for (uint32_t i = 0; i < j->columns; i++)
            column_store(t, j->entry, &j->column[i]);
    }
    STORE(j->kind, JOURNAL_NONE);
}

/* Computes everything anew that follows from the entries: index, lists, rings, counts and the log.
 * Takes continue meanwhile; one that finds no entry waits for the lock. */
COLD static void table_rebuild(table_t *t)
{
    header_t *h = t->h;
    undo_t *u = &t->journal->undo;
    uint32_t rewritten = t->journal->kind == JOURNAL_REWRITE ? t->journal->entry : NONE;
    STORE(u->rebuild, REBUILD_UNTIL_DONE);
    u->noted = u->busy = 0; /* the bytes of a file may be anything */
    repair_blocks(t);
    for (int64_t i = 0; i < h->index_slots; i++)
        STORE(t->index[i], 0);
    for (uint32_t i = 0; i < h->definitions; i++) {
        t->definitions[i].entries = 0;
        t->definitions[i].ring = NONE;
    }
    h->free_entry = h->free_last = NONE;
    h->entries = 0;
    h->log_head = h->log_tail = 0;
    for (uint32_t e = 0; e < h->bump; e++) {
        if (!(LOAD(t->hot[e].flags) & ENTRY_USED)) {
            OR(t->hot[e].word, BUSY);
            clear_attempted(t, e);
            entry_free(t, e);
            continue;
        }
        if (e != rewritten)
            AND(t->hot[e].word, ~BUSY);
        repair_columns(t, e);
        index_insert(t, e);
        h->entries++;
        t->definitions[t->hot[e].bucket].entries++;
        ring_join(t, e);
        if ((LOAD(t->hot[e].flags) & ENTRY_IN_LOG) && !log_append(t, e))
            AND(t->hot[e].flags, (uint16_t)~ENTRY_IN_LOG);
    }
    repair_journal(t);
    STORE(u->noted, 0);
    STORE(u->rebuild, 0);
}

/* Takes back or finishes the one change that was under way, which takes equally long in a table of
 * any size. Only where that change was too large to be noted, all is computed anew. */
static void table_repair(table_t *t)
{
    if (!change_undo(t)) {
        table_rebuild(t);
        return;
    }
    repair_journal(t);
    hot_t *hot = &t->hot[t->journal->undo.busy];
    if (LOAD(hot->flags) & ENTRY_USED)
        AND(hot->word, ~BUSY);
}

#endif
