/* What one process writes for the others: names of nodes, the hand-over to the next leader, the
 * leader's view of the mesh. */
#ifndef CRDTBUCKET_MEMORY_PUBLISHED_H
#define CRDTBUCKET_MEMORY_PUBLISHED_H

#include <string.h>

#include "regions.h"

/* The name is there whole from here on, or not at all. */
static inline void set_name_bytes(node_name_t *name, uint32_t bytes)
{
    IN_ORDER();
    STORE(name->bytes, bytes);
}

/* What the leader shows stands in one place while the next is written in the other. A reader that
 * finds another version after it has copied began before the last one was shown, and copies again:
 * so what it has is whole. */
static inline uint32_t view_next(const table_t *t)
{
    uint32_t place = !(t->h->view_version & 1);
    /* The last one is seen before this place changes. */
    FENCE();
    return place;
}

static inline void view_show(table_t *t, int64_t bytes)
{
    uint64_t next = t->h->view_version + 1;
    t->h->view_bytes[next & 1] = bytes;
    STORE(t->h->view_version, next);
}

/* Bytes copied, -1 when another one was shown meanwhile. */
static inline int64_t view_copy(const table_t *t, uint8_t *to)
{
    uint64_t version = LOAD(t->h->view_version);
    int64_t bytes = LOAD(t->h->view_bytes[version & 1]);
    if (bytes < 0 || bytes > VIEW_BYTES)
        return -1;
    memcpy(to, t->view + (version & 1) * (size_t)VIEW_BYTES, (size_t)bytes);
    FENCE();
    return LOAD(t->h->view_version) == version ? bytes : -1;
}

static inline void set_handoff(header_t *h, uint32_t which) { STORE(h->handoff, which); }

#endif
