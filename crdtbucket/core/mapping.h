/* The memory of a table: where its regions lie, private or in a file that several processes map, and its clock. */
#ifndef CRDTBUCKET_MAPPING_H
#define CRDTBUCKET_MAPPING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "ticks.h"

typedef struct {
    header_t *h;
    journal_t *journal;
    definition_t *definitions;
    node_t *nodes;
    node_name_t *names;               /* of the nodes, by their numbers */
    uint8_t *notes;                   /* two places, NOTES_BYTES each, for the process that leads next */
    uint8_t *view;                    /* two places, VIEW_BYTES each, of what the others see of the mesh */
    origin_t *origins;
    worker_t *workers;
    counts_t *all_counts;             /* MAX_DEFINITIONS of each worker */
    counts_t *counts;                 /* this process' own */
    uint32_t *flush;                  /* entries that asked for an early flush */
    uint64_t *attempts;               /* a bit an entry: attempted since the last round */
    uint64_t *index;                  /* tag << 32 | entry + 1, 0 is empty; the slot follows the high half of the hash */
    hot_t *hot;
    cold_t *cold;
    uint64_t *log_version;            /* versions not acknowledged by every link, rising */
    uint32_t *log_entry;
    block_t *blocks;
    void *memory;
    size_t size;
    int64_t virtual_ns;               /* the time when `is_virtual` */
    int is_virtual;
    ticker_t *ticker;                 /* this process' clock */
    int fd;                           /* of a shared table, else -1 */
} table_t;

#define FLUSH_SLOTS 4096
#define BLOCKS_A_KEY 12                /* room for the columns of 50 nodes in every entry; touched only as it is used */
#define TABLE_MAGIC UINT64_C(0x63726474626b7431)
#define TABLE_UNFINISHED UINT64_C(0x63726474626b7430) /* stands in its place until the table is whole */
#define TABLE_LAYOUT 8
#define GROW_ENTRIES 8192              /* memory of a shared table is set aside for so many more at a time */
#define GROW_BLOCKS 4096
#define GROW_LOG 1024                  /* or by half of what it has */

static inline int64_t clock_ns(const table_t *t) { return UNLIKELY(t->is_virtual) ? t->virtual_ns : ticks_ns(t->ticker); }

static inline int is_shared(const table_t *t) { return t->fd >= 0; }
/* Whether no other processor changes entries. Whoever does holds the interpreter's lock, so in a private table plain loads and
 * stores do, at a fraction of what locked operations cost. */
static inline int only_here(const table_t *t) { return LIKELY(!is_shared(t)); }

#define HUGE_PAGE ((size_t)2 << 20)
#define PAGE ((size_t)4096)

static inline size_t place(size_t *offset, size_t bytes)
{
    size_t step = bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE; /* where huge pages can begin */
    size_t at = *offset = (*offset + step - 1) & ~(step - 1);
    *offset += bytes;
    return at;
}

/* Offsets of the regions that are not in the header's own page. */
typedef struct {
    size_t journal, definitions, nodes, origins, workers, flush, attempts, index, begun, names, notes, view, counts, hot, cold,
        log_version, log_entry, blocks, size;
    int64_t slots, max_blocks;
} plan_t;

/* Most places of the log: more than twice the keys, so that when it is full half of them at least are to be had. */
static inline int64_t log_slots(int64_t max_keys) { return 2 * max_keys + 64; }

static plan_t plan_table(int64_t max_keys)
{
    plan_t p = {.slots = max_keys + max_keys / 4 + 16};
    size_t at = 0;
    p.max_blocks = max_keys * BLOCKS_A_KEY < UINT32_MAX ? max_keys * BLOCKS_A_KEY : UINT32_MAX - 1;
    place(&at, sizeof(header_t));
    p.journal = place(&at, sizeof(journal_t));
    p.definitions = place(&at, sizeof(definition_t) * MAX_DEFINITIONS);
    p.nodes = place(&at, sizeof(node_t) * MAX_NODES);
    p.origins = place(&at, sizeof(origin_t) * MAX_ORIGINS);
    p.workers = place(&at, sizeof(worker_t) * MAX_WORKERS);
    p.flush = place(&at, sizeof(uint32_t) * FLUSH_SLOTS);
    p.attempts = place(&at, ((size_t)max_keys + 63) / 64 * 8);
    p.index = place(&at, (size_t)p.slots * 8);
    p.begun = at;                                       /* what lies before is used from the start */
    p.names = place(&at, sizeof(node_name_t) * MAX_NODES);
    p.notes = place(&at, 2 * NOTES_BYTES);
    p.view = place(&at, 2 * VIEW_BYTES);
    p.counts = place(&at, sizeof(counts_t) * MAX_DEFINITIONS * MAX_WORKERS);
    p.hot = place(&at, (size_t)max_keys * sizeof(hot_t));
    p.cold = place(&at, (size_t)max_keys * sizeof(cold_t));
    p.log_version = place(&at, (size_t)log_slots(max_keys) * 8);
    p.log_entry = place(&at, (size_t)log_slots(max_keys) * 4);
    p.blocks = place(&at, (size_t)p.max_blocks * sizeof(block_t));
    p.size = (at + PAGE - 1) & ~(PAGE - 1);
    return p;
}

/* An optimisation alone: a kernel without huge pages refuses, and nothing is lost. Only the regions that fill from their
 * start: a huge page is then never mostly empty. */
static inline void advise_huge(char *start, size_t bytes)
{
    if (bytes >= HUGE_PAGE)
        (void)madvise(start, bytes, MADV_HUGEPAGE);
}

static void table_attach(table_t *t, char *m, const plan_t *p, int64_t max_keys)
{
    advise_huge(m + p->index, (size_t)p->slots * 8);
    advise_huge(m + p->hot, (size_t)max_keys * sizeof(hot_t));
    advise_huge(m + p->cold, (size_t)max_keys * sizeof(cold_t));
    t->h = (header_t *)m;
    t->journal = (journal_t *)(m + p->journal);
    t->definitions = (definition_t *)(m + p->definitions);
    t->nodes = (node_t *)(m + p->nodes);
    t->view = (uint8_t *)m + p->view;
    t->origins = (origin_t *)(m + p->origins);
    t->workers = (worker_t *)(m + p->workers);
    t->names = (node_name_t *)(m + p->names);
    t->notes = (uint8_t *)m + p->notes;
    t->all_counts = t->counts = (counts_t *)(m + p->counts);
    t->flush = (uint32_t *)(m + p->flush);
    t->attempts = (uint64_t *)(m + p->attempts);
    t->index = (uint64_t *)(m + p->index);
    t->hot = (hot_t *)(m + p->hot);
    t->cold = (cold_t *)(m + p->cold);
    t->log_version = (uint64_t *)(m + p->log_version);
    t->log_entry = (uint32_t *)(m + p->log_entry);
    t->blocks = (block_t *)(m + p->blocks);
}

static int mutex_init(pthread_mutex_t *mutex, int shared)
{
    pthread_mutexattr_t how;
    int error = pthread_mutexattr_init(&how);
    if (error)
        return error;
    if (shared) {
        pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    }
    error = pthread_mutex_init(mutex, &how);
    pthread_mutexattr_destroy(&how);
    return error;
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
    h->backed_log = is_shared(t) ? 0 : log_slots(max_keys);
    h->grace_ns = 15 * SECOND;
    h->near_ns = SECOND / 2;
    h->trust_ns = INT64_MAX;
    h->far_free_until = INT64_MAX;
    h->cautious_until = INT64_MIN;
    h->members = 1;
    h->predict = 1;
    h->free_entry = h->free_last = h->free_block = NONE;
    h->version = 1;
    __atomic_store_n(&h->magic, TABLE_MAGIC, __ATOMIC_RELEASE);
    return 0;
}

/* A table in memory of its own. Returns an errno or 0. */
static int table_open(table_t *t, int64_t max_keys, const uint64_t hash_key[2], int is_virtual)
{
    plan_t p = plan_table(max_keys);
    memset(t, 0, sizeof *t);
    t->fd = -1;
    t->size = p.size + HUGE_PAGE;
    char *m = mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED)
        return errno;
    t->memory = m;
    t->is_virtual = is_virtual;
    table_attach(t, (char *)(((uintptr_t)m + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1)), &p, max_keys);
    return table_begin(t, &p, max_keys, hash_key);
}

/* Maps a file of `fd` that is as long as the plan says. Returns an errno or 0. */
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
    table_attach(t, m, &p, max_keys);
    return 0;
}

/* An empty file becomes a table. What is used from the start gets its memory now: a file system that is full must say so
 * here, since a page that cannot be had later kills the process. Returns an errno or 0. */
static int table_create(table_t *t, int fd, int64_t max_keys, const uint64_t hash_key[2], int is_virtual)
{
    plan_t p = plan_table(max_keys);
    uint64_t ours = TABLE_UNFINISHED;                   /* first of all: who is killed here leaves no file that might be anybody's */
    int error;
    if (pwrite(fd, &ours, sizeof ours, 0) != (ssize_t)sizeof ours)
        return errno ? errno : ENOSPC;
    if (ftruncate(fd, (off_t)p.size))
        return errno;
    if ((error = posix_fallocate(fd, 0, (off_t)p.begun)) || (error = table_map(t, fd, max_keys, is_virtual)))
        return error;
    return table_begin(t, &p, max_keys, hash_key);
}

/* Maps the same file under another description of it, in place: a mapping keeps a description, and its locks, alive. */
static int table_remap(table_t *t, int fd)
{
    if (mmap(t->memory, t->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return errno;
    t->fd = fd;
    return 0;
}

static void table_close(table_t *t)
{
    if (t->memory)
        munmap(t->memory, t->size);
    memset(t, 0, sizeof *t);
    t->fd = -1;
}

/* Memory for `bytes` at `start`. A private table has it. */
static int back(const table_t *t, const void *start, size_t bytes)
{
    size_t at = (size_t)((const char *)start - (const char *)t->h);
    return !is_shared(t) || posix_fallocate(t->fd, (off_t)at, (off_t)bytes) == 0;
}

/* Sets memory aside for more entries. 0 when there is none. */
static int back_entries(table_t *t)
{
    header_t *h = t->h;
    int64_t from = h->backed_entries, to = from + GROW_ENTRIES < h->max_keys ? from + GROW_ENTRIES : h->max_keys;
    size_t more = (size_t)(to - from);
    if (!back(t, &t->hot[from], more * sizeof(hot_t)) || !back(t, &t->cold[from], more * sizeof(cold_t)))
        return 0;
    h->backed_entries = to;
    return 1;
}

/* The same for the log. */
static int back_log(table_t *t)
{
    header_t *h = t->h;
    int64_t from = h->backed_log, most = log_slots(h->max_keys), to = from + (from / 2 > GROW_LOG ? from / 2 : GROW_LOG);
    if (to > most)
        to = most;
    size_t more = (size_t)(to - from);
    if (!more || !back(t, &t->log_version[from], more * 8) || !back(t, &t->log_entry[from], more * 4))
        return 0;
    h->backed_log = to;
    return 1;
}

static int back_counts(const table_t *t, int worker)
{
    return back(t, &t->all_counts[(size_t)worker * MAX_DEFINITIONS], sizeof(counts_t) * MAX_DEFINITIONS);
}

static int back_blocks(table_t *t)
{
    header_t *h = t->h;
    int64_t from = h->backed_blocks, to = from + GROW_BLOCKS < h->max_blocks ? from + GROW_BLOCKS : h->max_blocks;
    if (!back(t, &t->blocks[from], (size_t)(to - from) * sizeof(block_t)))
        return 0;
    h->backed_blocks = to;
    return 1;
}

#endif
