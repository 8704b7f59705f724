/* What one process writes and others read without a lock: the names of nodes, the hand-over to the
 * next leader, and the leader's view of the mesh. */
#ifndef CRDTBUCKET_MEMORY_PUBLISHED_H
#define CRDTBUCKET_MEMORY_PUBLISHED_H

#include <string.h>

#include "regions.h"

/* Publishes a name whose text has been written. Others see the whole name from here on, and none
 * before. */
static inline void set_name_bytes(node_name_t *name, uint32_t bytes)
{
    IN_ORDER();
    STORE(name->bytes, bytes);
}

/* The leader's view of the mesh stands in one of two places, while the next one is written in the
 * other. A reader notes the version, copies, and looks at the version again: if it has changed, the
 * copy may be a mixture, and the reader copies again.
 * Returns the place, 0 or 1, in which the next view is to be written. */
static inline uint32_t view_next(const table_t *t)
{
    uint32_t place = !(t->h->view_version & 1);
    /* All processors see the version of the last view before this place is overwritten. */
    FENCE();
    return place;
}

/* Publishes the view of `bytes` that was written in the place `view_next`. */
static inline void view_show(table_t *t, int64_t bytes)
{
    uint64_t next = t->h->view_version + 1;
    t->h->view_bytes[next & 1] = bytes;
    STORE(t->h->view_version, next);
}

/* Copies the view to `to`, which has VIEW_BYTES. Returns the bytes, or -1 when it has changed
 * meanwhile. */
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

/* Makes the hand-over in the place `which` (1 or 2; 0: none) the one that a new leader reads. */
static inline void set_handoff(header_t *h, uint32_t which) { STORE(h->handoff, which); }

#endif
