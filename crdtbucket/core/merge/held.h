/* The columns that an entry has here while one of a frame is compared with it. */
#ifndef CRDTBUCKET_MERGE_HELD_H
#define CRDTBUCKET_MERGE_HELD_H

#include "../memory/columns.h"
#include "wire.h"

/* The most columns that an entry has, with the empty places between them. */
#define MAX_HELD (MAX_ORIGINS + 2 * INLINE_COLUMNS)

/* A copy of all columns of an entry. The last one is this node's own column, as it counts now.
 * `place` finds the column of an origin in one step, so that each column of the frame is quickly
 * compared with the one here. */
typedef struct {
    uint64_t taken[MAX_HELD];
    int64_t refunded[MAX_HELD];
    uint32_t generation[MAX_HELD];
    uint8_t shown[MAX_HELD]; /* the frame had this column, or the place is empty */
    /* By origin: where its column is. It is never cleared, so it counts only if the column at that
     * place is of this origin. */
    uint16_t place[MAX_ORIGINS];
    uint32_t count, own; /* places in use; the origin of this node's own column */
} held_t;

/* The word `taken` of a stored column. */
static inline uint64_t packed(uint32_t origin, int64_t taken)
{
    return (uint64_t)origin << TOKEN_BITS | (uint64_t)taken;
}

/* Copies four columns, with their refunds unless that is NULL. */
static inline void held_add(held_t *h, const columns_t *c, const uint64_t *refunded)
{
    for (int i = 0; i < INLINE_COLUMNS; i++) {
        uint32_t at = h->count++;
        h->taken[at] = c->taken[i];
        h->refunded[at] = refunded ? (int64_t)refunded[i] : 0;
        h->generation[at] = c->generation[i];
        h->shown[at] = !c->taken[i];
        h->place[c->taken[i] >> TOKEN_BITS] = (uint16_t)at;
    }
}

/* Copies all columns of an entry; its own has `net` tokens. */
static inline void held_open(held_t *h, const table_t *t, uint32_t e, int64_t net)
{
    const hot_t *hot = &t->hot[e];
    const cold_t *cold = &t->cold[e];
    int64_t refunded = 0;
    h->own = hot->origin;
    h->count = 0;
    held_add(h, &cold->columns, NULL);
    if (UNLIKELY(cold->overflow != NONE)) {
        for (uint32_t b = cold->overflow; b != NONE && h->count + INLINE_COLUMNS < MAX_HELD;
             b = t->blocks[b].next)
            held_add(h, &t->blocks[b].columns, t->blocks[b].refunded);
        /* The column that holds the refunds of the entry's own one. */
        uint32_t stored = h->place[h->own];
        if (stored < h->count && h->taken[stored] >> TOKEN_BITS == h->own) {
            refunded = h->refunded[stored];
            h->shown[stored] = 1;
        }
    }
    uint32_t at = h->count++;
    h->taken[at] = packed(h->own, net + refunded);
    h->refunded[at] = refunded;
    h->generation[at] = hot->generation;
    h->shown[at] = 0;
    h->place[h->own] = (uint16_t)at;
}

#endif
