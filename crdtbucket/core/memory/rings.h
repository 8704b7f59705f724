/* The entries of a definition that has a limit of keys of its own are linked in a circle, here its
 * ring: in a large table a walk over all entries would find few of them. Whoever calls these holds
 * the table's lock. */
#ifndef CRDTBUCKET_MEMORY_RINGS_H
#define CRDTBUCKET_MEMORY_RINGS_H

#include "regions.h"

static inline int has_ring(const table_t *t, const definition_t *d)
{
    return UNLIKELY(d->quota <= t->h->max_keys);
}

/* As the last one, before the place where the ring begins. */
static inline void ring_join(table_t *t, uint32_t e)
{
    definition_t *d = &t->definitions[t->hot[e].bucket];
    if (!has_ring(t, d))
        return;
    if (d->ring == NONE)
        t->rings[d->ring = e].before = e;
    uint32_t last = t->rings[d->ring].before;
    t->rings[e] = (ring_t){d->ring, last};
    t->rings[last].next = t->rings[d->ring].before = e;
}

static inline void ring_leave(table_t *t, uint32_t e)
{
    definition_t *d = &t->definitions[t->hot[e].bucket];
    if (!has_ring(t, d))
        return;
    ring_t *r = &t->rings[e];
    t->rings[r->before].next = r->next;
    t->rings[r->next].before = r->before;
    if (d->ring == e)
        d->ring = r->next == e ? NONE : r->next;
}

#endif
