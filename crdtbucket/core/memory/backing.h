/* Reserves memory of a shared file before it is touched. If the file system is full, that fails
 * here; touching a page that cannot be had would kill the process. All return 1, or 0 when there is
 * no memory. */
#ifndef CRDTBUCKET_MEMORY_BACKING_H
#define CRDTBUCKET_MEMORY_BACKING_H

#include "platform.h"
#include "regions.h"

/* Reserves `bytes` at `start`, within the table; when that fails, errno says why. A private table
 * needs nothing: its memory comes as it is touched. */
static int back(const table_t *t, const void *start, size_t bytes)
{
    size_t at = (size_t)((const char *)start - (const char *)t->h);
    int error = is_shared(t) ? set_memory_aside(t->fd, at, bytes) : 0;
    if (error)
        errno = error;
    return !error;
}

/* Reserves memory for GROW_ENTRIES more entries. */
static int back_entries(table_t *t)
{
    header_t *h = t->h;
    int64_t from = h->backed_entries,
            to = from + GROW_ENTRIES < h->max_keys ? from + GROW_ENTRIES : h->max_keys;
    size_t more = (size_t)(to - from);
    if (!back(t, &t->hot[from], more * sizeof(hot_t))
        || !back(t, &t->cold[from], more * sizeof(cold_t))
        || !back(t, &t->rings[from], more * sizeof(ring_t)))
        return 0;
    h->backed_entries = to;
    return 1;
}

/* Reserves memory for more items of the log: half of what it has, or GROW_LOG. */
static int back_log(table_t *t)
{
    header_t *h = t->h;
    int64_t from = h->backed_log, most = log_slots(h->max_keys),
            to = from + (from / 2 > GROW_LOG ? from / 2 : GROW_LOG);
    if (to > most)
        to = most;
    size_t more = (size_t)(to - from);
    if (!back(t, &t->log_version[from], more * 8) || !back(t, &t->log_entry[from], more * 4))
        return 0;
    h->backed_log = to;
    return 1;
}

/* Reserves memory for the counters of one process. */
static int back_counts(const table_t *t, int worker)
{
    return back(t, &t->all_counts[(size_t)worker * MAX_DEFINITIONS],
                sizeof(counts_t) * MAX_DEFINITIONS);
}

/* Reserves memory for GROW_BLOCKS more blocks. */
static int back_blocks(table_t *t)
{
    header_t *h = t->h;
    int64_t from = h->backed_blocks,
            to = from + GROW_BLOCKS < h->max_blocks ? from + GROW_BLOCKS : h->max_blocks;
    if (!back(t, &t->blocks[from], (size_t)(to - from) * sizeof(block_t)))
        return 0;
    h->backed_blocks = to;
    return 1;
}

/* What grows as it is used. */
enum growing { ENTRIES = 1, BLOCKS = 2, LOG = 4 };

/* Reserves memory for more of these; true where they have all that they can have. A refusal is
 * kept in `ungrown`. */
static int grow_now(table_t *t, uint32_t what)
{
    header_t *h = t->h;
    int grown;
    if (what == ENTRIES)
        grown = h->backed_entries >= h->max_keys || back_entries(t);
    else if (what == BLOCKS)
        grown = h->backed_blocks >= h->max_blocks || back_blocks(t);
    else
        grown = h->backed_log >= log_slots(h->max_keys) || back_log(t);
    STORE(h->ungrown, grown ? h->ungrown & ~what : h->ungrown | what);
    return grown;
}

/* The same for a call that needs one more of these. After a refusal it is refused at once, until
 * `grow_again` has had the memory: a full file system takes long to say so. */
static int grow(table_t *t, uint32_t what) { return !(t->h->ungrown & what) && grow_now(t, what); }

/* Asks once more for all memory that was refused. Returns 0, or the errno of another refusal. */
static int grow_again(table_t *t)
{
    int error = 0;
    for (uint32_t what = ENTRIES; what <= LOG; what <<= 1)
        if ((t->h->ungrown & what) && !grow_now(t, what))
            error = errno;
    return error;
}

#endif
