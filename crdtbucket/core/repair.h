/* The table's lock, and what is mended when a process died with it. */
#ifndef CRDTBUCKET_REPAIR_H
#define CRDTBUCKET_REPAIR_H

#include <sched.h>
#include "renew.h"

/* Blocks that no used entry leads to are free. */
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

/* A column that was being moved to where refunds fit stands twice: the new one counts. None counts of an epoch that is marked. */
static void repair_columns(table_t *t, uint32_t e)
{
    columns_t *inside = &t->cold[e].columns;
    column_t c = {0};
    while (column_next(t, e, &c)) {
        uint32_t origin = column_origin(&c);
        if (t->origins[origin].marked)
            STORE(c.c->taken[c.i], 0);
        for (int i = 0; c.block && i < INLINE_COLUMNS; i++)
            if (inside->taken[i] && inside->taken[i] >> TOKEN_BITS == origin)
                STORE(inside->taken[i], 0);
    }
}

/* What was begun is finished: a rewrite as it stands, unless takes go on already, and a merge by maximum, since time went
 * on. */
static void repair_journal(table_t *t)
{
    journal_t *j = t->journal;
    hot_t *hot = &t->hot[j->entry];
    if (j->kind == JOURNAL_DEFINE)
        define_apply(t);
    else if (j->kind != JOURNAL_NONE)
        repair_columns(t, j->entry);
    if (j->kind == JOURNAL_REWRITE && (LOAD(hot->word) & BUSY))
        rewrite_apply(t);
    else if (j->kind == JOURNAL_JOIN) {
        int64_t base = LOAD(hot->base);
        if ((int64_t)((uint64_t)j->base - (uint64_t)base) > 0)
            base_move(t, hot, base, j->base);
        for (uint32_t i = 0; i < j->columns; i++)
            column_store(t, j->entry, &j->column[i]);
    }
    STORE(j->kind, JOURNAL_NONE);
}

/* Everything that follows from the entries is made anew. Takes go on meanwhile; one that finds no entry waits for the lock. */
static void table_repair(table_t *t)
{
    header_t *h = t->h;
    repair_blocks(t);
    repair_journal(t);
    for (int64_t i = 0; i < h->index_slots; i++)
        STORE(t->index[i], 0);
    for (uint32_t i = 0; i < h->definitions; i++)
        t->definitions[i].entries = 0;
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
        AND(t->hot[e].word, ~BUSY);
        repair_columns(t, e);
        index_insert(t, e);
        h->entries++;
        t->definitions[t->hot[e].bucket].entries++;
        if ((LOAD(t->hot[e].flags) & ENTRY_IN_LOG) && !log_append(t, e))
            AND(t->hot[e].flags, (uint16_t)~ENTRY_IN_LOG);
    }
}

/* ---- the lock ---- */

static inline void lock_inherited(table_t *t, int error)
{
    if (UNLIKELY(error == EOWNERDEAD)) {
        table_repair(t);
        t->h->repairs++;
        pthread_mutex_consistent(&t->h->lock);
    }
}

static inline void table_lock(table_t *t) { lock_inherited(t, pthread_mutex_lock(&t->h->lock)); }

static inline int table_trylock(table_t *t)
{
    int error = pthread_mutex_trylock(&t->h->lock);
    if (error == EBUSY)
        return 0;
    lock_inherited(t, error);
    return 1;
}

static inline void table_unlock(table_t *t) { pthread_mutex_unlock(&t->h->lock); }

/* For who would hold up others while it waits. */
static inline void lock_in_line(table_t *t)
{
    ADD(t->h->waiting, 1);
    table_lock(t);
    if (LOAD(t->h->waiting) > 0)                        /* else it was counted among those that were killed */
        ADD(t->h->waiting, -1);
    ADD(t->h->served, 1);
}

/* Who waits gets the lock that was just given back: a mutex is not fair, and would be ours again first. */
static inline void let_others_in(table_t *t)
{
    header_t *h = t->h;
    uint32_t served = LOAD(h->served);
    for (int turns = 0; LOAD(h->waiting) > 0 && LOAD(h->served) == served; turns++) {
        if (turns == 1000) {
            STORE(h->waiting, 0);                       /* one was killed in line */
            return;
        }
        sched_yield();
    }
}

/* ---- proof ---- */

static const char *verify_entry(const table_t *t, uint32_t e, uint32_t *blocks)
{
    const hot_t *hot = &t->hot[e];
    column_t c = {0};
    uint64_t refunded = (uint64_t)own_refunded(t, e);
    if (table_find(t, hot->hash_lo, hot->hash_hi) != e)
        return "an entry is not found under its hash";
    if (LOAD(hot->word) & BUSY)
        return "an entry is locked for ever";
    if (hot->bucket >= t->h->definitions || !t->definitions[hot->bucket].name_hash)
        return "an entry has no definition";
    if (!hot->origin || !t->origins[hot->origin].used || t->origins[hot->origin].marked)
        return "an entry counts for no epoch";
    if (refunded > TOKEN_MASK || refunded + (uint64_t)entry_net(t, e) > TOKEN_MASK)
        return "an entry counts more tokens than fit";
    while (column_next(t, e, &c)) {
        column_t first;
        if (!t->origins[column_origin(&c)].used || t->origins[column_origin(&c)].marked)
            return "a column is of no epoch that counts";
        if (!column_find(t, e, column_origin(&c), &first) || first.c != c.c || first.i != c.i)
            return "an epoch has two columns";
        if (column_refunded(&c) > column_taken(&c) && column_origin(&c) != hot->origin)
            return "a column gave back more than it took";
    }
    for (uint32_t b = t->cold[e].overflow; b != NONE; b = t->blocks[b].next)
        ++*blocks;
    return NULL;
}

/* NULL, or what is wrong with the table. The lock is held. */
static const char *table_verify(const table_t *t)
{
    const header_t *h = t->h;
    int64_t used = 0, words = 0, logged = 0, free = 0;
    uint32_t blocks = 0;
    for (uint32_t e = 0; e < h->bump; e++) {
        if (!(LOAD(t->hot[e].flags) & ENTRY_USED)) {
            if (!(LOAD(t->hot[e].word) & BUSY))
                return "an entry of no key could be taken from";
            continue;
        }
        const char *wrong = verify_entry(t, e, &blocks);
        if (wrong)
            return wrong;
        used++;
        logged += (LOAD(t->hot[e].flags) & ENTRY_IN_LOG) != 0;
    }
    for (int64_t i = 0; i < h->index_slots; i++)
        words += t->index[i] != 0;
    for (uint64_t i = h->log_head; i < h->log_tail; i++) {
        logged -= log_live(t, i);
        if (i > h->log_head && t->log_version[i] <= t->log_version[i - 1])
            return "versions do not rise";
    }
    for (uint32_t e = h->free_entry; e != NONE && free <= h->bump; e = (uint32_t)t->hot[e].hash_lo)
        free++;
    for (uint32_t b = h->free_block; b != NONE && blocks <= h->blocks_bump; b = t->blocks[b].next)
        blocks++;
    int64_t counted = 0;
    for (uint32_t i = 0; i < h->definitions; i++)
        counted += t->definitions[i].entries;
    if (used != h->entries || used != words || used != counted)
        return "entries, index and counts differ";
    if (used + free != h->bump)
        return "entries are neither used nor free";
    if (blocks != h->blocks_bump)
        return "blocks are neither used nor free";
    if (logged)
        return "an unsent entry is not in the log";
    return t->journal->kind == JOURNAL_NONE ? NULL : "a change was not finished";
}

#endif
