/* The entries of a definition that has a limit of keys of its own are linked in a circle, here its
 * ring: in a large table a walk over all entries would find few of them. Whoever calls these holds
 * the table's lock. */
#ifndef CRDTBUCKET_MEMORY_RINGS_H
#define CRDTBUCKET_MEMORY_RINGS_H

#include "undo.h"

/* Whether the limit of keys of a definition is within what the table can hold. Only then it has a
 * ring. */
static inline int has_ring(const table_t *t, const definition_t *d)
{
    return UNLIKELY(d->quota <= t->h->max_keys);
}

/* Adds an entry to the ring of its definition, as the last one: before the place where the ring
 * begins. */
static inline void ring_join(table_t *t, uint32_t e)
{
    definition_t *d = &t->definitions[t->hot[e].bucket];
    if (!has_ring(t, d))
        return;
    undo_note(t, &t->rings[e], sizeof(ring_t));
    IN_ORDER();
    if (d->ring == NONE) {
        t->rings[e] = (ring_t){e, e};
        ALTER(t, d->ring, e);
        return;
    }
    uint32_t last = t->rings[d->ring].before;
    t->rings[e] = (ring_t){d->ring, last};
    ALTER(t, t->rings[last].next, e);
    ALTER(t, t->rings[d->ring].before, e);
}

/* Takes an entry out of the ring of its definition. */
static inline void ring_leave(table_t *t, uint32_t e)
{
    definition_t *d = &t->definitions[t->hot[e].bucket];
    if (!has_ring(t, d))
        return;
    ring_t *r = &t->rings[e];
    ALTER(t, t->rings[r->before].next, r->next);
    ALTER(t, t->rings[r->next].before, r->before);
    if (d->ring == e)
        ALTER(t, d->ring, r->next == e ? NONE : r->next);
}

#endif
