/* What of a column stands: the tokens of it that refunds may still give back. See docs/model.md,
 * "What a peer is believed", and docs/security.md. */
#ifndef CRDTBUCKET_MERGE_STANDING_H
#define CRDTBUCKET_MERGE_STANDING_H

#include "../memory/columns.h"
#include "sender.h"
#include "wire.h"

/* The block that has the column at this place of `held_t`; NULL: it is in the record, so it has no
 * refunds. */
static inline block_t *held_block(const table_t *t, uint32_t e, uint32_t place)
{
    uint32_t b = t->cold[e].overflow;
    if (LIKELY(place < INLINE_COLUMNS))
        return NULL;
    for (; place >= 2 * INLINE_COLUMNS; place -= INLINE_COLUMNS)
        b = t->blocks[b].next;
    return &t->blocks[b];
}

/* The tokens that a column without refunds, with `net` tokens, may give back: one capacity at most,
 * since it is not known when they were taken; and none of an epoch under which its owner does not
 * run any more. */
COLD static int64_t standing_at_most(const table_t *t, const definition_t *d,
                                     const merge_context_t *m, uint32_t origin, int64_t net)
{
    uint32_t node = t->origins[origin].node,
             running = node == m->source ? m->source_origin : t->nodes[node].origin;
    return origin != running ? 0 : net < d->capacity ? net : d->capacity;
}

/* The tokens by which a change of a column counts: those `brought`, and where it brings refunds no
 * more of these than the last capacity that it took. What was taken before that has been refilled,
 * and is not given back: else a member could take while nobody asks, and give all of that back when
 * everybody does; or give back what another process took that has ended. The common store is
 * believed. `mine` is the column here, at `place` of `held_t`; NULL: there is none. */
static int64_t not_refilled(const table_t *t, uint32_t e, const definition_t *d,
                            const merge_context_t *m, uint32_t origin, uint32_t place,
                            const wire_column_t *mine, int same_generation, int64_t brought)
{
    block_t *b = mine ? held_block(t, e, place) : NULL;
    int64_t most = 0, capacity = d->capacity;
    if (LIKELY(!b)) {
        if (brought < 0 && mine)
            most = standing_at_most(t, d, m, origin, mine->taken - mine->refunded);
        return LIKELY(brought >= -most) || m->common ? brought : -most;
    }
    uint64_t *standing = &b->standing[place % INLINE_COLUMNS];
    if (same_generation)
        most = *standing < (uint64_t)capacity ? (int64_t)*standing : capacity;
    int64_t counted = brought < -most ? -most : brought;
    *standing = (uint64_t)(most + counted);
    return m->common ? brought : counted;
}

/* Begins to keep, for a column that had `before` tokens and has just got its place in a block, what
 * refunds may give back. */
COLD static void standing_begin(const table_t *t, const definition_t *d, const merge_context_t *m,
                                const column_t *c, int64_t before)
{
    int64_t net = column_net(c), back = before > net ? before - net : 0,
            most = standing_at_most(t, d, m, column_origin(c), net + back);
    c->block->standing[c->i] = most > back ? (uint64_t)(most - back) : 0;
}

#endif
