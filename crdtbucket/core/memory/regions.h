/* The regions of a table and where each begins. */
#ifndef CRDTBUCKET_MEMORY_REGIONS_H
#define CRDTBUCKET_MEMORY_REGIONS_H

#include <stddef.h>
#include <stdint.h>

#include "atomics.h"
#include "layout.h"
#include "ticks.h"

typedef struct {
    header_t *h;
    journal_t *journal;
    definition_t *definitions;
    node_t *nodes;
    node_name_t *names; /* of the nodes, by their numbers */
    /* Two places, HANDOFF_BYTES each, for the process that leads next. */
    uint8_t *handoff;
    /* Two places, VIEW_BYTES each, of what the others see of the mesh. */
    uint8_t *view;
    origin_t *origins;
    worker_t *workers;
    counts_t *all_counts; /* MAX_DEFINITIONS of each worker */
    counts_t *counts;     /* this process' own */
    uint32_t *flush;      /* entries that asked for an early flush */
    uint64_t *attempts;   /* a bit an entry: attempted since the last round */
    /* Tag << 32 | entry + 1, 0 is empty; the slot follows the high half of the hash. */
    uint64_t *index;
    hot_t *hot;
    cold_t *cold;
    ring_t *rings;
    uint64_t *log_version; /* versions not acknowledged by every link, rising */
    uint32_t *log_entry;
    block_t *blocks;
    void *memory;
    size_t size;
    int64_t virtual_ns; /* the time when `is_virtual` */
    int is_virtual;
    ticker_t *ticker; /* this process' clock */
    int fd;           /* of a shared table, else -1 */
    /* Notes about debts, which few keys need: see merge/debt_notes.h. NULL until one does. */
    struct debt_notes *debt_notes; /* by number, from 1 on */
    uint32_t *debt_notes_at;       /* by entry, 0 while it has none */
    size_t debt_notes_size;        /* bytes of both */
    uint32_t debt_notes_count;
    /* By entry, see level/remembered.h. NULL until something is remembered. */
    struct remembered *remembered;
    size_t remembered_size; /* bytes */
} table_t;

#define FLUSH_SLOTS 4096
/* Room for the columns of 50 nodes in every entry; touched only as it is used. */
#define BLOCKS_A_KEY 12
#define TABLE_MAGIC UINT64_C(0x63726474626b7431)
/* Stands in the place of the magic number until the table is whole. */
#define TABLE_UNFINISHED UINT64_C(0x63726474626b7430)
#define TABLE_LAYOUT 19
/* The memory of a shared table is set aside for so many more at a time. */
#define GROW_ENTRIES 8192
#define GROW_BLOCKS 4096
#define GROW_LOG 1024 /* or by half of what it has */

static inline int64_t clock_ns(const table_t *t)
{
    return UNLIKELY(t->is_virtual) ? t->virtual_ns : ticks_ns(t->ticker);
}

static inline int is_shared(const table_t *t) { return t->fd >= 0; }
/* Whether no other processor changes entries. Every thread that does so in a private table holds
 * the lock of the interpreter, so that plain loads and stores suffice, at a fraction of the cost
 * of locked operations. */
static inline int only_here(const table_t *t) { return LIKELY(!is_shared(t)); }

#define HUGE_PAGE ((size_t)2 << 20)
#define PAGE ((size_t)4096)

/* The next region of a table whose memory begins at `m`. */
static inline void *place(char *m, size_t *offset, size_t bytes)
{
    size_t step = bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE; /* where huge pages can begin */
    size_t at = (*offset + step - 1) & ~(step - 1);
    *offset = at + bytes;
    return (void *)((uintptr_t)m + at);
}

typedef struct {
    size_t begun, size; /* bytes that are used from the start, and all */
    int64_t slots, max_blocks;
} plan_t;

/* Most places of the log: more than two for each key. So when it is full, at least half of its
 * items are old ones of their entries, whose places can be had. */
static inline int64_t log_slots(int64_t max_keys) { return 2 * max_keys + 64; }

/* Points `t` to the regions of a table whose memory begins at `m`. */
static plan_t lay_out(table_t *t, char *m, int64_t max_keys)
{
    plan_t p = {.slots = max_keys + max_keys / 4 + 16};
    size_t at = 0;
    p.max_blocks = max_keys * BLOCKS_A_KEY < UINT32_MAX ? max_keys * BLOCKS_A_KEY : UINT32_MAX - 1;
    t->h = place(m, &at, sizeof(header_t));
    t->journal = place(m, &at, sizeof(journal_t));
    t->definitions = place(m, &at, sizeof(definition_t) * MAX_DEFINITIONS);
    t->nodes = place(m, &at, sizeof(node_t) * MAX_NODES);
    t->origins = place(m, &at, sizeof(origin_t) * MAX_ORIGINS);
    t->workers = place(m, &at, sizeof(worker_t) * MAX_WORKERS);
    t->flush = place(m, &at, sizeof(uint32_t) * FLUSH_SLOTS);
    t->attempts = place(m, &at, ((size_t)max_keys + 63) / 64 * 8);
    t->index = place(m, &at, (size_t)p.slots * 8);
    /* All regions up to here are used from the start. */
    p.begun = at;
    t->names = place(m, &at, sizeof(node_name_t) * MAX_NODES);
    t->handoff = place(m, &at, 2 * HANDOFF_BYTES);
    t->view = place(m, &at, 2 * VIEW_BYTES);
    t->all_counts = t->counts = place(m, &at, sizeof(counts_t) * MAX_DEFINITIONS * MAX_WORKERS);
    t->hot = place(m, &at, (size_t)max_keys * sizeof(hot_t));
    t->cold = place(m, &at, (size_t)max_keys * sizeof(cold_t));
    t->rings = place(m, &at, (size_t)max_keys * sizeof(ring_t));
    t->log_version = place(m, &at, (size_t)log_slots(max_keys) * 8);
    t->log_entry = place(m, &at, (size_t)log_slots(max_keys) * 4);
    t->blocks = place(m, &at, (size_t)p.max_blocks * sizeof(block_t));
    p.size = (at + PAGE - 1) & ~(PAGE - 1);
    return p;
}

static inline plan_t plan_table(int64_t max_keys)
{
    table_t nowhere;
    return lay_out(&nowhere, NULL, max_keys);
}

#endif
