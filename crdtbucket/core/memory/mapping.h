/* A table's memory: its own, or a file that several processes map. */
#ifndef CRDTBUCKET_MEMORY_MAPPING_H
#define CRDTBUCKET_MEMORY_MAPPING_H

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform.h"
#include "regions.h"

/* Asks for huge pages. Only regions that fill from their start get them, as a page is then never
 * mostly empty. */
static inline void advise_huge(char *start, size_t bytes)
{
    if (bytes >= HUGE_PAGE)
        advise_huge_pages(start, bytes);
}

static void table_attach(table_t *t, char *m, int64_t max_keys)
{
    plan_t p = lay_out(t, m, max_keys);
    advise_huge((char *)t->index, (size_t)p.slots * 8);
    advise_huge((char *)t->hot, (size_t)max_keys * sizeof(hot_t));
    advise_huge((char *)t->cold, (size_t)max_keys * sizeof(cold_t));
}

static int table_begin(table_t *t, const plan_t *p, int64_t max_keys, const uint64_t hash_key[2])
{
    header_t *h = t->h;
    int error = mutex_init(&h->lock, is_shared(t));
    if (error || (error = mutex_init(&h->lead, is_shared(t))))
        return error;
    h->layout = TABLE_LAYOUT;
    memcpy(h->hash_key, hash_key, 16);
    h->size = p->size;
    h->max_keys = max_keys;
    h->index_slots = p->slots;
    h->max_blocks = p->max_blocks;
    h->backed_entries = is_shared(t) ? 0 : max_keys;
    h->backed_blocks = is_shared(t) ? 0 : p->max_blocks;
    h->backed_log = 0; /* grows as the log fills: in time all of a whole log would be used */
    h->grace_ns = 15 * SECOND;
    h->near_ns = h->near_bound_ns = SECOND / 2;
    h->trust_ns = INT64_MAX;
    h->far_free_until = INT64_MAX;
    h->warming_up_until = INT64_MIN;
    h->members = 1;
    h->predict = 1;
    h->free_entry = h->free_last = h->free_block = NONE;
    h->version = 1;
    STORE(h->magic, TABLE_MAGIC);
    return 0;
}

/* Maps zeros for this process alone, which take memory as they are touched. Returns MAP_FAILED,
 * and sets errno, when that fails. */
static void *map_zeros(size_t bytes)
{
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
}

/* Opens a table in memory of its own. Returns an errno or 0. */
static int table_open(table_t *t, int64_t max_keys, const uint64_t hash_key[2], int is_virtual)
{
    plan_t p = plan_table(max_keys);
    memset(t, 0, sizeof *t);
    t->fd = -1;
    t->size = p.size + HUGE_PAGE;
    char *m = map_zeros(t->size);
    if (m == MAP_FAILED)
        return errno;
    t->memory = m;
    t->is_virtual = is_virtual;
    table_attach(t, (char *)(((uintptr_t)m + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1)),
                 max_keys);
    return table_begin(t, &p, max_keys, hash_key);
}

/* Maps the file `fd`, which is as long as the plan says. Returns an errno or 0. */
static int table_map(table_t *t, int fd, int64_t max_keys, int is_virtual)
{
    plan_t p = plan_table(max_keys);
    memset(t, 0, sizeof *t);
    char *m = mmap(NULL, p.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED)
        return errno;
    t->memory = m;
    t->size = p.size;
    t->fd = fd;
    t->is_virtual = is_virtual;
    table_attach(t, m, max_keys);
    return 0;
}

/* Makes a table of an empty file. What is used from the start gets its memory now: a file system
 * that is full must say so here, since a page that cannot be had later kills the process.
 * Returns an errno or 0. */
static int table_create(table_t *t, int fd, int64_t max_keys, const uint64_t hash_key[2],
                        int is_virtual)
{
    plan_t p = plan_table(max_keys);
    /* This comes first, so that a process that is killed here leaves no file that might belong
     * to somebody else. */
    uint64_t ours = TABLE_UNFINISHED;
    int error;
    if (pwrite(fd, &ours, sizeof ours, 0) != (ssize_t)sizeof ours)
        return errno ? errno : ENOSPC;
    if (ftruncate(fd, (off_t)p.size))
        return errno;
    if ((error = set_memory_aside(fd, 0, p.begun))
        || (error = table_map(t, fd, max_keys, is_virtual)))
        return error;
    return table_begin(t, &p, max_keys, hash_key);
}

/* Maps the same file again, in place, by another file description: a mapping keeps its
 * description, and the locks of that, alive. */
static int table_remap(table_t *t, int fd)
{
    if (mmap(t->memory, t->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0)
        == MAP_FAILED)
        return errno;
    t->fd = fd;
    return 0;
}

/* Gives up the place of this process in a shared table that was never closed, so that nobody knows
 * whether its file is whole. No lock is needed: until `started` is 0 nobody else writes there. */
static void leave_place(const table_t *t)
{
    worker_t *w = &t->workers[(t->counts - t->all_counts) / MAX_DEFINITIONS], seen;
    if (copy_mapped(&seen, w, sizeof seen, 0) || seen.pid != getpid())
        return; /* in the child of a fork it is the parent's */
    seen.started = 0;
    (void)copy_mapped(&seen.started, &w->started, sizeof seen.started, 1);
}

static void table_close(table_t *t)
{
    if (t->memory)
        munmap(t->memory, t->size);
    if (t->debt_notes)
        munmap(t->debt_notes, t->debt_notes_size);
    if (t->remembered)
        munmap(t->remembered, t->remembered_size);
    memset(t, 0, sizeof *t);
    t->fd = -1;
}

#endif
