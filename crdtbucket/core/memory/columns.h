/* The columns of an entry: four in its cold record, more in blocks that are linked from there. Only
 * blocks hold refunds. */
#ifndef CRDTBUCKET_MEMORY_COLUMNS_H
#define CRDTBUCKET_MEMORY_COLUMNS_H

#include <string.h>

#include "backing.h"
#include "entry_word.h"
#include "undo.h"

/* A column of an entry, and a step of a walk over all of them. */
typedef struct {
    columns_t *c;
    block_t *block; /* NULL: the column is in the record */
    /* The place within `c`. */
    int i;
    int blocks; /* blocks stepped through so far */
} column_t;

/* Where a walk over blocks ends at the latest: a reader without the lock may step onto freed
 * blocks. */
#define MAX_BLOCKS_WALKED (MAX_ORIGINS / INLINE_COLUMNS + 2)

/* What a column has: the number of its epoch; its tokens taken, refunded, and net of both; and
 * whether it has rates. */
GLANCES static inline uint32_t column_origin(const column_t *c)
{
    return (uint32_t)(c->c->taken[c->i] >> TOKEN_BITS);
}
static inline int64_t column_taken(const column_t *c)
{
    return (int64_t)(c->c->taken[c->i] & TOKEN_MASK);
}
static inline int64_t column_refunded(const column_t *c)
{
    return c->block ? (int64_t)c->block->refunded[c->i] : 0;
}
GLANCES static inline int64_t column_net(const column_t *c)
{
    return column_taken(c) - column_refunded(c);
}
GLANCES static inline int column_rated(const column_t *c)
{
    return c->c->fast[c->i] | c->c->slow[c->i];
}

/* Steps to the next column of an entry; begins with {0} in `*c`. Returns 0 when there is none
 * left. */
GLANCES static inline int column_next(const table_t *t, uint32_t e, column_t *c)
{
    cold_t *cold = &t->cold[e];
    if (!c->c) {
        c->c = &cold->columns;
        c->block = NULL;
        c->i = -1;
    }
    for (;;) {
        if (++c->i == INLINE_COLUMNS) {
            uint32_t next = c->block ? c->block->next : cold->overflow;
            if (next == NONE || next >= t->h->max_blocks || ++c->blocks > MAX_BLOCKS_WALKED)
                return 0;
            c->block = &t->blocks[next];
            c->c = &c->block->columns;
            c->i = 0;
        }
        if (c->c->taken[c->i])
            return 1;
    }
}

/* The local ns of the newest update of this entry by a peer whose callers ask for the key; 0 when
 * no peer's do. */
static inline int64_t asked_elsewhere(const table_t *t, uint32_t e, int64_t now)
{
    int64_t last = 0;
    for (column_t c = {0}; column_next(t, e, &c);) {
        int64_t at = c.c->fast[c.i] ? stamp_ns(c.c->last_seen[c.i], now) : 0;
        last = at > last ? at : last;
    }
    return last;
}

/* Whether the callers of a peer ask for the key, and it has sent an update of it within the last
 * `ns`. */
static inline int is_asked_elsewhere(const table_t *t, uint32_t e, int64_t ns, int64_t now)
{
    return now - asked_elsewhere(t, e, now) < ns;
}

/* Whether the entry has a column of `origin`; `*c` is that column. */
static inline int column_find(const table_t *t, uint32_t e, uint32_t origin, column_t *c)
{
    *c = (column_t){0};
    while (column_next(t, e, c))
        if (column_origin(c) == origin)
            return 1;
    return 0;
}

/* A free block, which is cleared; NONE when memory is at its limit. */
static inline uint32_t block_new(table_t *t)
{
    header_t *h = t->h;
    uint32_t b = h->free_block;
    if (b != NONE)
        ALTER(t, h->free_block, t->blocks[b].next);
    else if (h->blocks_bump < h->backed_blocks
             || (h->blocks_bump < h->max_blocks && grow(t, BLOCKS)))
        ALTER(t, h->blocks_bump, (b = (uint32_t)h->blocks_bump) + INT64_C(1));
    else
        return NONE;
    ALTER(t, h->blocks_used, h->blocks_used + 1);
    undo_note(t, &t->blocks[b].next, sizeof t->blocks[b].next);
    memset(&t->blocks[b], 0, sizeof(block_t));
    t->blocks[b].next = NONE;
    return b;
}

/* Finds a free place for a column, with `refunds` one in a block, which can hold refunds. Returns 0
 * when memory is at its limit. */
static inline int column_slot(table_t *t, uint32_t e, int refunds, column_t *c)
{
    cold_t *cold = &t->cold[e];
    if (!refunds)
        for (int i = 0; i < INLINE_COLUMNS; i++)
            if (!cold->columns.taken[i]) {
                *c = (column_t){&cold->columns, NULL, i, 0};
                return 1;
            }
    for (uint32_t b = cold->overflow; b != NONE; b = t->blocks[b].next)
        for (int i = 0; i < INLINE_COLUMNS; i++)
            if (!t->blocks[b].columns.taken[i]) {
                *c = (column_t){&t->blocks[b].columns, &t->blocks[b], i, 0};
                return 1;
            }
    uint32_t b = block_new(t);
    if (b == NONE)
        return 0;
    STORE(t->blocks[b].next, cold->overflow);
    ALTER(t, cold->overflow, b);
    change_end(t);
    *c = (column_t){&t->blocks[b].columns, &t->blocks[b], 0, 0};
    return 1;
}

/* Makes a column of `origin` without tokens; `refunds` as in `column_slot`. Returns 0 when memory
 * is at its limit. */
static inline int column_new(table_t *t, uint32_t e, uint32_t origin, int refunds, column_t *c)
{
    if (!column_slot(t, e, refunds, c))
        return 0;
    c->c->generation[c->i] = c->c->last_seen[c->i] = 0;
    c->c->fast[c->i] = c->c->slow[c->i] = 0;
    c->c->known[c->i] = 0;
    if (c->block)
        c->block->refunded[c->i] = c->block->standing[c->i] = 0;
    STORE(c->c->taken[c->i], (uint64_t)origin << TOKEN_BITS);
    return 1;
}

/* Moves a column from the record to a block, where refunds fit. It is complete there before it is
 * visible there. Returns 0 when memory is at its limit. */
static inline int column_widen(table_t *t, uint32_t e, column_t *c)
{
    column_t wide;
    if (c->block)
        return 1;
    if (!column_slot(t, e, 1, &wide))
        return 0;
    wide.block->refunded[wide.i] = wide.block->standing[wide.i] = 0;
    wide.c->generation[wide.i] = c->c->generation[c->i];
    wide.c->last_seen[wide.i] = c->c->last_seen[c->i];
    wide.c->fast[wide.i] = c->c->fast[c->i];
    wide.c->slow[wide.i] = c->c->slow[c->i];
    wide.c->known[wide.i] = c->c->known[c->i];
    ALTER(t, wide.c->taken[wide.i], c->c->taken[c->i]);
    ALTER(t, c->c->taken[c->i], 0);
    change_end(t);
    *c = wide;
    return 1;
}

/* Removes a column; its place is free. */
static inline void column_drop(const column_t *c)
{
    c->c->taken[c->i] = 0;
    c->c->fast[c->i] = c->c->slow[c->i] = 0;
    if (c->block)
        c->block->refunded[c->i] = 0;
}

/* Frees all blocks of an entry. The caller ends the change (undo.h). */
static inline void blocks_free(table_t *t, uint32_t e)
{
    uint32_t first = t->cold[e].overflow, last = NONE;
    int64_t count = 0;
    for (uint32_t b = first; b != NONE; b = t->blocks[b].next, count++)
        last = b;
    if (!count)
        return;
    ALTER(t, t->blocks[last].next, t->h->free_block);
    ALTER(t, t->h->free_block, first);
    ALTER(t, t->h->blocks_used, t->h->blocks_used - count);
    ALTER(t, t->cold[e].overflow, NONE);
}

/* The tokens refunded of the entry's own column, the one whose net is in its word. They are kept in
 * a column of the same origin in a block, whose `taken` is not used. */
static inline int64_t own_refunded(const table_t *t, uint32_t e)
{
    column_t c;
    if (t->cold[e].overflow == NONE || !column_find(t, e, t->hot[e].origin, &c))
        return 0;
    return column_refunded(&c);
}

/* Finds the column that holds these refunds, or makes it. Returns 0 when memory is at its limit. */
static inline int own_refunds(table_t *t, uint32_t e, column_t *c)
{
    uint32_t own = t->hot[e].origin;
    return column_find(t, e, own, c) ? column_widen(t, e, c) : column_new(t, e, own, 1, c);
}

static inline uint32_t column_generation(const column_t *c) { return c->c->generation[c->i]; }

#endif
