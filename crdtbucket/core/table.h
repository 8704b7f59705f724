/* The table: one mapping, an index ordered by hash, entries that never move, and their columns. */
#ifndef CRDTBUCKET_TABLE_H
#define CRDTBUCKET_TABLE_H

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include "hash.h"
#include "level.h"

typedef struct {
    header_t *h;
    definition_t *definitions;
    node_t *nodes;
    origin_t *origins;
    uint64_t *index;                  /* tag << 32 | entry + 1, 0 is empty; the slot follows the high half of the hash */
    hot_t *hot;
    cold_t *cold;
    uint64_t *log_version;            /* versions not acknowledged by every link, rising */
    uint32_t *log_entry;
    uint32_t *attempts;               /* ring of entries attempted since the last round */
    block_t *blocks;
    void *memory;
    size_t size;
    int64_t virtual_ns;               /* the time when `is_virtual` */
    int is_virtual;
    uint32_t *flush;                  /* entries that asked for an early flush */
    uint32_t flush_count;
} table_t;

#define FLUSH_SLOTS 4096
#define BLOCKS_A_KEY 12                /* room for the columns of 50 nodes in every entry; touched only as it is used */
#define TABLE_MAGIC UINT64_C(0x63726474626b7431)
#define TABLE_LAYOUT 2

static inline int64_t clock_ns(const table_t *t)
{
    struct timespec now;
    if (UNLIKELY(t->is_virtual))
        return t->virtual_ns;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static inline uint32_t stamp_of(int64_t ns) { return (uint32_t)((uint64_t)ns >> STAMP_SHIFT); }

/* The time of a stamp, at most 2^31 stamps (26 days) before `now`; anything else counts as that old. */
static inline int64_t stamp_ns(uint32_t stamp, int64_t now)
{
    int32_t past = (int32_t)(stamp_of(now) - stamp);
    if (past < -1000)
        past = INT32_MAX;
    return now - (((int64_t)past) << STAMP_SHIFT);
}

static inline size_t place(size_t *offset, size_t bytes)
{
    size_t at = *offset;
    *offset = (at + bytes + 63) & ~(size_t)63;
    return at;
}

#define HUGE_PAGE ((size_t)2 << 20)

static inline size_t place_huge(size_t *offset, size_t bytes)
{
    if (bytes >= HUGE_PAGE)                             /* where huge pages can begin */
        *offset = (*offset + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    return place(offset, bytes);
}

/* An optimisation alone: a kernel without huge pages refuses, and nothing is lost. The start must be on a page. */
static inline void advise_huge(char *start, size_t bytes)
{
    if (bytes >= HUGE_PAGE)
        (void)madvise(start, bytes, MADV_HUGEPAGE);
}

static int table_open(table_t *t, int64_t max_keys, const uint64_t hash_key[2], int is_virtual)
{
    memset(t, 0, sizeof *t);
    int64_t slots = max_keys + max_keys / 4 + 16, log_slots = 2 * max_keys + 64;
    int64_t max_blocks = max_keys * BLOCKS_A_KEY < UINT32_MAX ? max_keys * BLOCKS_A_KEY : UINT32_MAX - 1;
    size_t size = 0;
    size_t header = place(&size, sizeof(header_t)), definitions = place(&size, sizeof(definition_t) * MAX_DEFINITIONS);
    size_t nodes = place(&size, sizeof(node_t) * MAX_NODES), origins = place(&size, sizeof(origin_t) * MAX_ORIGINS);
    size_t index = place_huge(&size, (size_t)slots * 8), hot = place_huge(&size, (size_t)max_keys * sizeof(hot_t));
    size_t cold = place_huge(&size, (size_t)max_keys * sizeof(cold_t)), version = place(&size, (size_t)log_slots * 8);
    size_t entry = place(&size, (size_t)log_slots * 4), attempts = place(&size, (size_t)max_keys * 4);
    size_t blocks = place(&size, (size_t)max_blocks * sizeof(block_t));

    size += HUGE_PAGE;
    char *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED)
        return errno;
    t->flush = malloc(FLUSH_SLOTS * sizeof *t->flush);
    if (!t->flush) {
        munmap(m, size);
        return ENOMEM;
    }
    /* Only the regions that fill from their start: a huge page is then never mostly empty. */
    t->memory = m;
    m = (char *)(((uintptr_t)m + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    advise_huge(m + index, (size_t)slots * 8);
    advise_huge(m + hot, (size_t)max_keys * sizeof(hot_t));
    advise_huge(m + cold, (size_t)max_keys * sizeof(cold_t));
    t->size = size;
    t->is_virtual = is_virtual;
    t->h = (header_t *)(m + header);
    t->definitions = (definition_t *)(m + definitions);
    t->nodes = (node_t *)(m + nodes);
    t->origins = (origin_t *)(m + origins);
    t->index = (uint64_t *)(m + index);
    t->hot = (hot_t *)(m + hot);
    t->cold = (cold_t *)(m + cold);
    t->log_version = (uint64_t *)(m + version);
    t->log_entry = (uint32_t *)(m + entry);
    t->attempts = (uint32_t *)(m + attempts);
    t->blocks = (block_t *)(m + blocks);
    header_t *h = t->h;
    h->magic = TABLE_MAGIC;
    h->layout = TABLE_LAYOUT;
    memcpy(h->hash_key, hash_key, 16);
    h->max_keys = max_keys;
    h->index_slots = slots;
    h->log_slots = log_slots;
    h->max_blocks = max_blocks;
    h->grace_ns = 15 * SECOND;
    h->near_ns = SECOND / 2;
    h->trust_ns = INT64_MAX;
    h->far_free_until = INT64_MAX;
    h->cautious_until = INT64_MIN;
    h->members = 1;
    h->predict = 1;
    h->free_entry = h->free_block = NONE;
    h->version = 1;
    return 0;
}

static void table_close(table_t *t)
{
    if (t->memory)
        munmap(t->memory, t->size);
    free(t->flush);
    memset(t, 0, sizeof *t);
}

/* ---- index: linear probing; deletion shifts back, so there are no tombstones ---- */

static inline int64_t home_slot(const table_t *t, uint64_t hash_hi)
{
    return (int64_t)(((u128)hash_hi * (uint64_t)t->h->index_slots) >> 64);
}

static inline uint32_t table_find(const table_t *t, uint64_t lo, uint64_t hi)
{
    int64_t slot = home_slot(t, hi), slots = t->h->index_slots;
    uint64_t tag = lo & UINT64_C(0xffffffff00000000);
    for (;;) {
        uint64_t word = LOAD(t->index[slot]);
        if (!word)
            return NONE;
        if ((word & UINT64_C(0xffffffff00000000)) == tag) {
            const hot_t *e = &t->hot[(uint32_t)word - 1];
            if (LIKELY(e->hash_lo == lo && e->hash_hi == hi))
                return (uint32_t)word - 1;
        }
        if (++slot == slots)
            slot = 0;
    }
}

/* The entry whose tag matches, which is nearly always the key's; reads the index only. */
static inline uint32_t table_guess(const table_t *t, uint64_t lo, uint64_t hi)
{
    int64_t slot = home_slot(t, hi), slots = t->h->index_slots;
    uint64_t word;
    while ((word = LOAD(t->index[slot])) && ((word ^ lo) >> 32))
        if (++slot == slots)
            slot = 0;
    return (uint32_t)word - 1;
}

/* Whether an entry, or NONE, is the key's. */
static inline int entry_holds(const table_t *t, uint32_t e, uint64_t lo, uint64_t hi)
{
    if (e == NONE)
        return 0;
    const hot_t *hot = &t->hot[e];
    return hot->hash_lo == lo && hot->hash_hi == hi && (hot->flags & ENTRY_USED);
}

static inline void index_insert(table_t *t, uint32_t i)
{
    int64_t slot = home_slot(t, t->hot[i].hash_hi), slots = t->h->index_slots;
    while (t->index[slot])
        if (++slot == slots)
            slot = 0;
    STORE(t->index[slot], (t->hot[i].hash_lo & UINT64_C(0xffffffff00000000)) | ((uint64_t)i + 1));
}

static inline void index_remove(table_t *t, uint32_t i)
{
    int64_t slots = t->h->index_slots, hole = home_slot(t, t->hot[i].hash_hi);
    while ((uint32_t)t->index[hole] != i + 1)
        if (++hole == slots)
            hole = 0;
    int64_t slot = hole;
    for (;;) {
        if (++slot == slots)
            slot = 0;
        uint64_t word = t->index[slot];
        if (!word)
            break;
        int64_t home = home_slot(t, t->hot[(uint32_t)word - 1].hash_hi);
        /* movable when its home is not cyclically within (hole, slot] */
        int64_t from_home = slot - home, from_hole = slot - hole;
        if (from_home < 0)
            from_home += slots;
        if (from_hole < 0)
            from_hole += slots;
        if (from_home >= from_hole) {
            STORE(t->index[hole], word);
            hole = slot;
        }
    }
    STORE(t->index[hole], 0);
}

/* ---- columns ---- */

typedef struct {
    columns_t *c;
    block_t *block;                   /* NULL inline */
    int i;
} column_t;

static inline uint32_t column_origin(const column_t *c) { return (uint32_t)(c->c->taken[c->i] >> TOKEN_BITS); }
static inline int64_t column_taken(const column_t *c) { return (int64_t)(c->c->taken[c->i] & TOKEN_MASK); }
static inline int64_t column_refunded(const column_t *c) { return c->block ? (int64_t)c->block->refunded[c->i] : 0; }

/* Steps through the slots of an entry that hold a column: start with {NULL}, ends with 0. */
static inline int column_next(const table_t *t, uint32_t e, column_t *c)
{
    cold_t *cold = &t->cold[e];
    if (!c->c) {
        c->c = &cold->columns;
        c->block = NULL;
        c->i = -1;
    }
    for (;;) {
        if (++c->i == INLINE_COLUMNS) {
            uint32_t next = c->block ? c->block->next : cold->overflow;
            if (next == NONE)
                return 0;
            c->block = &t->blocks[next];
            c->c = &c->block->columns;
            c->i = 0;
        }
        if (c->c->taken[c->i])
            return 1;
    }
}

static inline int column_find(const table_t *t, uint32_t e, uint32_t origin, column_t *c)
{
    *c = (column_t){0};
    while (column_next(t, e, c))
        if (column_origin(c) == origin)
            return 1;
    return 0;
}

static inline uint32_t block_new(table_t *t)
{
    header_t *h = t->h;
    uint32_t b = h->free_block;
    if (b != NONE)
        h->free_block = t->blocks[b].next;
    else if (h->blocks_bump < h->max_blocks)
        b = (uint32_t)h->blocks_bump++;
    else
        return NONE;
    h->blocks_used++;
    memset(&t->blocks[b], 0, sizeof(block_t));
    t->blocks[b].next = NONE;
    return b;
}

/* A free slot for a column of `origin`; with `refunds` one that can hold them. 0 when memory is at its limit. */
static inline int column_new(table_t *t, uint32_t e, uint32_t origin, int refunds, column_t *c)
{
    cold_t *cold = &t->cold[e];
    if (!refunds)
        for (int i = 0; i < INLINE_COLUMNS; i++)
            if (!cold->columns.taken[i]) {
                *c = (column_t){&cold->columns, NULL, i};
                goto found;
            }
    for (uint32_t b = cold->overflow; b != NONE; b = t->blocks[b].next)
        for (int i = 0; i < INLINE_COLUMNS; i++)
            if (!t->blocks[b].columns.taken[i]) {
                *c = (column_t){&t->blocks[b].columns, &t->blocks[b], i};
                goto found;
            }
    uint32_t b = block_new(t);
    if (b == NONE)
        return 0;
    t->blocks[b].next = cold->overflow;
    cold->overflow = b;
    *c = (column_t){&t->blocks[b].columns, &t->blocks[b], 0};
found:
    c->c->birth[c->i] = c->c->heard[c->i] = 0;
    c->c->fast[c->i] = c->c->slow[c->i] = c->c->relayed[c->i] = 0;
    if (c->block)
        c->block->refunded[c->i] = 0;
    c->c->taken[c->i] = (uint64_t)origin << TOKEN_BITS;
    return 1;
}

/* Moves a column to where refunds fit. 0 when memory is at its limit. */
static inline int column_widen(table_t *t, uint32_t e, column_t *c)
{
    column_t wide;
    if (c->block)
        return 1;
    if (!column_new(t, e, column_origin(c), 1, &wide))
        return 0;
    wide.c->birth[wide.i] = c->c->birth[c->i];
    wide.c->heard[wide.i] = c->c->heard[c->i];
    wide.c->fast[wide.i] = c->c->fast[c->i];
    wide.c->slow[wide.i] = c->c->slow[c->i];
    wide.c->relayed[wide.i] = c->c->relayed[c->i];
    wide.c->taken[wide.i] = c->c->taken[c->i];
    c->c->taken[c->i] = 0;
    *c = wide;
    return 1;
}

static inline void columns_free(table_t *t, uint32_t e)
{
    uint32_t b = t->cold[e].overflow;
    while (b != NONE) {
        uint32_t next = t->blocks[b].next;
        t->blocks[b].next = t->h->free_block;
        t->h->free_block = b;
        t->h->blocks_used--;
        b = next;
    }
    t->cold[e].overflow = NONE;
    memset(&t->cold[e].columns, 0, sizeof(columns_t));
}

/* Refunds of the own running column: kept in a column of its own origin, whose `taken` is unused. */
static inline int64_t own_refunded(const table_t *t, uint32_t e)
{
    column_t c;
    if (t->cold[e].overflow == NONE || !column_find(t, e, t->hot[e].origin, &c))
        return 0;
    return column_refunded(&c);
}

/* ---- entries ---- */

static inline uint32_t entry_insert(table_t *t, uint64_t lo, uint64_t hi, uint32_t bucket, int64_t now)
{
    header_t *h = t->h;
    uint32_t e = h->free_entry;
    if (e != NONE)
        h->free_entry = (uint32_t)t->hot[e].hash_lo;
    else if (h->bump < h->max_keys)
        e = (uint32_t)h->bump++;
    else
        return NONE;
    hot_t *hot = &t->hot[e];
    cold_t *cold = &t->cold[e];
    memset(cold, 0, sizeof *cold);
    cold->overflow = NONE;
    cold->rated_ns = now;
    cold->reserve = -1.0f;                              /* full, whatever that is */
    h->births++;
    *hot = (hot_t){.hash_lo = lo, .hash_hi = hi, .base = now, .bucket = (uint16_t)bucket, .flags = ENTRY_USED,
                   .origin = (uint16_t)h->own_origin,  .birth = h->births, .full_count = h->births};
    index_insert(t, e);
    h->entries++;
    h->inserted++;
    t->definitions[bucket].entries++;
    return e;
}

static inline void entry_remove(table_t *t, uint32_t e)
{
    index_remove(t, e);
    columns_free(t, e);
    t->definitions[t->hot[e].bucket].entries--;
    t->hot[e].flags = 0;
    t->hot[e].hash_lo = t->h->free_entry;
    t->h->free_entry = e;
    t->h->entries--;
}

/* ---- origins ---- */

static inline uint32_t origin_find(const table_t *t, uint64_t epoch)
{
    for (uint32_t i = 1; i < MAX_ORIGINS; i++)
        if (t->origins[i].used && t->origins[i].epoch == epoch)
            return i;
    return 0;
}

static inline uint32_t origin_add(table_t *t, uint32_t node, uint64_t epoch)
{
    for (uint32_t i = 1; i < MAX_ORIGINS; i++)
        if (!t->origins[i].used) {
            t->origins[i] = (origin_t){.epoch = epoch, .node = (uint16_t)node, .used = 1};
            t->h->origins_changed++;
            return i;
        }
    return 0;
}

/* Takes go on under the spare epoch; the counts of the old one stay and are joined like any other's. */
static inline int open_epoch(table_t *t)
{
    header_t *h = t->h;
    uint32_t fresh = origin_add(t, 0, h->spare_epoch);
    if (!fresh)
        return 0;
    h->own_origin = fresh;
    h->births = 0;
    h->spare_epoch = h->spare_epoch * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return 1;
}

/* The own column moves from the hot line to a stored one, so that the next take counts under the running epoch.
 * The level does not move. 0 when memory is at its limit. */
static inline int own_column_close(table_t *t, uint32_t e, uint32_t running)
{
    hot_t *hot = &t->hot[e];
    definition_t *d = &t->definitions[hot->bucket];
    int64_t net = LOAD(hot->net), refunded = own_refunded(t, e), rest;
    column_t c;
    if (net || refunded) {
        if (!column_find(t, e, hot->origin, &c) && !column_new(t, e, hot->origin, 0, &c))
            return 0;
        c.c->taken[c.i] = ((uint64_t)hot->origin << TOKEN_BITS) | ((uint64_t)(net + refunded) & TOKEN_MASK);
        c.c->birth[c.i] = hot->birth;
        uint64_t charged = scaled(d, net, &rest);
        hot->base = (int64_t)((uint64_t)hot->base + charged + (rest > 0));
        hot->net = 0;
        hot->mark -= net;
    }
    hot->origin = (uint16_t)running;
    hot->birth = ++t->h->births;
    hot->full_count++;                                  /* a refund of a take under the old epoch comes too late */
    return 1;
}

static int64_t table_bytes(const table_t *t)
{
    const header_t *h = t->h;
    return (int64_t)(sizeof(header_t) + h->index_slots * 8 + h->bump * (int64_t)(sizeof(hot_t) + sizeof(cold_t))
                     + h->blocks_bump * (int64_t)sizeof(block_t) + (int64_t)(h->log_tail - h->log_head) * 12);
}

#endif
