/* What a table holds: an index ordered by hash, entries that never move, and their columns. */
#ifndef CRDTBUCKET_TABLE_H
#define CRDTBUCKET_TABLE_H

#include "hash.h"
#include "mapping.h"

static inline uint32_t stamp_of(int64_t ns) { return (uint32_t)((uint64_t)ns >> STAMP_SHIFT); }

/* The time of a stamp, at most 2^31 stamps (26 days) before `now`; anything else counts as that old. */
static inline int64_t stamp_ns(uint32_t stamp, int64_t now)
{
    int32_t past = (int32_t)(stamp_of(now) - stamp);
    if (past < -1000)
        past = INT32_MAX;
    return now - past * (INT64_C(1) << STAMP_SHIFT);
}

/* ---- an entry's word ---- */

static inline int64_t net_of(uint64_t word) { return (int64_t)(word & TOKEN_MASK); }
static inline int64_t entry_net(const table_t *t, uint32_t e) { return net_of(LOAD(t->hot[e].word)); }
/* Whether an entry went on living the life in which `word` was read, and is not being changed. */
static inline int same_life(uint64_t word, uint64_t later) { return !((word ^ later) & (BUSY | LIFE_MASK)); }

/* Replaces a word that was `*word`; else 0, and `*word` is what it is now. */
static inline int word_swap(const table_t *t, hot_t *hot, uint64_t *word, uint64_t next)
{
    if (!only_here(t))
        return CAS(hot->word, *word, next);
    STORE(hot->word, next);
    return 1;
}

/* Counts that the bucket was full or forgiven. Before its base moves: a refund may come to nothing, never to too much. */
static inline void count_full(const table_t *t, hot_t *hot)
{
    if (only_here(t))
        STORE(hot->full_count, hot->full_count + 1);
    else
        ADD(hot->full_count, 1);
}

/* Replaces a base that was `base`; else 0. */
static inline int base_swap(const table_t *t, hot_t *hot, int64_t base, int64_t next)
{
    if (!only_here(t))
        return CAS(hot->base, base, next);
    STORE(hot->base, next);
    return 1;
}

/* Fetches what a round and a merge touch of an entry; a record may lie on three lines. */
static inline void fetch_entry(const table_t *t, uint32_t e)
{
    const char *cold = (const char *)&t->cold[e];
    __builtin_prefetch(&t->hot[e], 1);
    __builtin_prefetch(cold, 1);
    __builtin_prefetch(cold + 64, 1);
    __builtin_prefetch(cold + sizeof(cold_t) - 1, 1);
}

/* ---- attempts since the last round ---- */

/* No list and no count, but a bit: a process that is killed here has marked the entry or has not. */
static inline void mark_attempted(table_t *t, uint32_t e)
{
    uint64_t *word = &t->attempts[e >> 6], bit = UINT64_C(1) << (e & 63);
    if (!(__atomic_load_n(word, __ATOMIC_SEQ_CST) & bit))
        OR(*word, bit);
}

static inline int is_attempted(const table_t *t, uint32_t e) { return (int)(LOAD(t->attempts[e >> 6]) >> (e & 63)) & 1; }

static inline void clear_attempted(table_t *t, uint32_t e)
{
    AND(t->attempts[e >> 6], ~(UINT64_C(1) << (e & 63)));
}

/* ---- index: linear probing; deletion shifts back, so there are no tombstones ---- */

static inline int64_t home_slot(const table_t *t, uint64_t hash_hi)
{
    return (int64_t)(((u128)hash_hi * (uint64_t)t->h->index_slots) >> 64);
}

/* The entry of a key, or NONE. Without the lock it may miss one that another process is moving in the index just now. */
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
            if (LIKELY(LOAD(e->hash_lo) == lo && LOAD(e->hash_hi) == hi))
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
    return LOAD(hot->hash_lo) == lo && LOAD(hot->hash_hi) == hi && (LOAD(hot->flags) & ENTRY_USED);
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
    int blocks;                       /* walked so far */
} column_t;

#define MAX_BLOCKS_WALKED (MAX_ORIGINS / INLINE_COLUMNS + 2) /* a reader without the lock may step onto freed ones */

GLANCES static inline uint32_t column_origin(const column_t *c) { return (uint32_t)(c->c->taken[c->i] >> TOKEN_BITS); }
static inline int64_t column_taken(const column_t *c) { return (int64_t)(c->c->taken[c->i] & TOKEN_MASK); }
static inline int64_t column_refunded(const column_t *c) { return c->block ? (int64_t)c->block->refunded[c->i] : 0; }

/* Steps through the slots of an entry that hold a column: start with {NULL}, ends with 0. */
GLANCES static inline int column_next(const table_t *t, uint32_t e, column_t *c)
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
            if (next == NONE || next >= t->h->max_blocks || ++c->blocks > MAX_BLOCKS_WALKED)
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
    else if (h->blocks_bump < h->backed_blocks || (h->blocks_bump < h->max_blocks && back_blocks(t)))
        b = (uint32_t)h->blocks_bump++;
    else
        return NONE;
    h->blocks_used++;
    memset(&t->blocks[b], 0, sizeof(block_t));
    t->blocks[b].next = NONE;
    return b;
}

/* A free slot for a column; with `refunds` one that can hold them. 0 when memory is at its limit. */
static inline int column_slot(table_t *t, uint32_t e, int refunds, column_t *c)
{
    cold_t *cold = &t->cold[e];
    if (!refunds)
        for (int i = 0; i < INLINE_COLUMNS; i++)
            if (!cold->columns.taken[i]) {
                *c = (column_t){&cold->columns, NULL, i, 0};
                return 1;
            }
    for (uint32_t b = cold->overflow; b != NONE; b = t->blocks[b].next)
        for (int i = 0; i < INLINE_COLUMNS; i++)
            if (!t->blocks[b].columns.taken[i]) {
                *c = (column_t){&t->blocks[b].columns, &t->blocks[b], i, 0};
                return 1;
            }
    uint32_t b = block_new(t);
    if (b == NONE)
        return 0;
    STORE(t->blocks[b].next, cold->overflow);
    STORE(cold->overflow, b);
    *c = (column_t){&t->blocks[b].columns, &t->blocks[b], 0, 0};
    return 1;
}

/* A column of `origin` in a free slot, without tokens. 0 when memory is at its limit. */
static inline int column_new(table_t *t, uint32_t e, uint32_t origin, int refunds, column_t *c)
{
    if (!column_slot(t, e, refunds, c))
        return 0;
    c->c->birth[c->i] = c->c->heard[c->i] = 0;
    c->c->fast[c->i] = c->c->slow[c->i] = c->c->relayed[c->i] = 0;
    if (c->block)
        c->block->refunded[c->i] = 0;
    STORE(c->c->taken[c->i], (uint64_t)origin << TOKEN_BITS);
    return 1;
}

/* Moves a column to where refunds fit: there it is whole before it is seen. 0 when memory is at its limit. */
static inline int column_widen(table_t *t, uint32_t e, column_t *c)
{
    column_t wide;
    if (c->block)
        return 1;
    if (!column_slot(t, e, 1, &wide))
        return 0;
    wide.block->refunded[wide.i] = 0;
    wide.c->birth[wide.i] = c->c->birth[c->i];
    wide.c->heard[wide.i] = c->c->heard[c->i];
    wide.c->fast[wide.i] = c->c->fast[c->i];
    wide.c->slow[wide.i] = c->c->slow[c->i];
    wide.c->relayed[wide.i] = c->c->relayed[c->i];
    STORE(wide.c->taken[wide.i], c->c->taken[c->i]);
    STORE(c->c->taken[c->i], 0);
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

/* A free entry, the one that was freed first: so a take that began long ago hardly ever meets the same life again. */
static inline uint32_t entry_free_one(table_t *t)
{
    header_t *h = t->h;
    uint32_t e = h->free_entry;
    if (e != NONE) {
        h->free_entry = (uint32_t)t->hot[e].hash_lo;
        if (h->free_entry == NONE)
            h->free_last = NONE;
    } else if (h->bump < h->backed_entries || (h->bump < h->max_keys && back_entries(t)))
        e = (uint32_t)h->bump++;
    return e;
}

static inline void entry_free(table_t *t, uint32_t e)
{
    header_t *h = t->h;
    STORE(t->hot[e].hash_lo, NONE);
    STORE(t->hot[e].hash_hi, 0);
    if (h->free_last == NONE)
        h->free_entry = e;
    else
        t->hot[h->free_last].hash_lo = e;
    h->free_last = e;
}

static inline uint32_t entry_insert(table_t *t, uint64_t lo, uint64_t hi, uint32_t bucket, int64_t now)
{
    header_t *h = t->h;
    uint32_t e = entry_free_one(t);
    if (e == NONE)
        return NONE;
    hot_t *hot = &t->hot[e];
    cold_t *cold = &t->cold[e];
    uint64_t life = (LOAD(hot->word) + LIFE_ONE) & LIFE_MASK;
    STORE(hot->word, life | BUSY);
    memset(cold, 0, sizeof *cold);
    cold->overflow = NONE;
    cold->rated_ns = now;
    cold->reserve = -1.0f;                              /* full, whatever that is */
    h->births++;
    STORE(hot->hash_lo, lo);
    STORE(hot->hash_hi, hi);
    STORE(hot->base, now);
    STORE(hot->mark, 0);
    STORE(hot->denied, 0);
    STORE(hot->full_count, h->births);
    STORE(hot->birth, h->births);
    STORE(hot->bucket, (uint16_t)bucket);
    STORE(hot->origin, (uint16_t)h->own_origin);
    STORE(hot->near_class, 0);
    STORE(hot->flags, ENTRY_USED);
    STORE(hot->word, life);                             /* from here on it can be taken from: a repair keeps it */
    index_insert(t, e);
    h->entries++;
    h->inserted++;
    t->definitions[bucket].entries++;
    return e;
}

/* The entry is BUSY: nobody takes from it any more. */
static inline void entry_remove(table_t *t, uint32_t e)
{
    STORE(t->hot[e].flags, 0);
    IN_ORDER();
    clear_attempted(t, e);
    index_remove(t, e);
    columns_free(t, e);
    t->definitions[t->hot[e].bucket].entries--;
    entry_free(t, e);
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
            t->origins[i] = (origin_t){.epoch = epoch, .node = (uint16_t)node};
            STORE(t->origins[i].used, 1);
            t->h->origins_changed++;
            return i;
        }
    return 0;
}

static inline uint64_t epoch_after(uint64_t epoch)
{
    return epoch * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

/* Takes go on under the spare epoch; the counts of the old one stay and are joined like any other's. */
static inline int open_epoch(table_t *t)
{
    header_t *h = t->h;
    uint64_t epoch = h->spare_epoch;
    if (epoch == t->origins[h->own_origin].epoch)        /* one was killed before a next one stood there */
        epoch = epoch_after(epoch);
    uint32_t fresh = origin_find(t, epoch);              /* made already by one who was killed before it was opened */
    if (!fresh && !(fresh = origin_add(t, 0, epoch)))
        return 0;
    STORE(h->own_origin, fresh);
    STORE(h->births, 0);                                 /* later: no birth of the old epoch is given twice */
    STORE(h->spare_epoch, epoch_after(epoch));
    return 1;
}

/* ---- changes of several words of an entry ---- */

/* What is to happen stands there: from here on it will. */
static inline void journal_write(journal_t *j, uint32_t kind)
{
    STORE(j->kind, kind);
    IN_ORDER();
}

/* Raises a stored column to what `x` says, whatever stands there: `c` if it was found. 0 when memory is at its limit. */
static inline int column_raise(table_t *t, uint32_t e, const wire_column_t *x, column_t *c, int found)
{
    if (!found && !column_new(t, e, x->origin, x->refunded != 0, c))
        return 0;
    if (x->refunded && !column_widen(t, e, c))
        return 0;
    c->c->birth[c->i] = x->birth;
    if (c->block)
        c->block->refunded[c->i] = (uint64_t)x->refunded;
    c->c->taken[c->i] = ((uint64_t)x->origin << TOKEN_BITS) | (uint64_t)x->taken;
    return 1;
}

static inline int column_store(table_t *t, uint32_t e, const wire_column_t *x)
{
    column_t c;
    return column_raise(t, e, x, &c, column_find(t, e, x->origin, &c));
}

/* Finishes what the journal says of a rewrite, once or again, and lets takes go on. 0 when memory is at its limit. */
static inline int rewrite_apply(table_t *t)
{
    const journal_t *j = t->journal;
    hot_t *hot = &t->hot[j->entry];
    int done = 1;
    for (uint32_t i = 0; i < j->columns; i++)
        done &= column_store(t, j->entry, &j->column[i]);
    STORE(hot->base, j->base);
    STORE(hot->mark, j->mark);
    STORE(hot->bucket, j->bucket);
    STORE(hot->origin, j->origin);
    STORE(hot->birth, j->birth);
    ADD(hot->full_count, 1);                            /* its old decisions were in other units, or of another epoch */
    STORE(hot->word, j->word);
    STORE(t->journal->kind, JOURNAL_NONE);
    return done;
}

/* Begins a rewrite: takes wait from here on. What is to stand in the entry is filled in by the caller. */
static inline journal_t *rewrite_begin(table_t *t, uint32_t e)
{
    journal_t *j = t->journal;
    hot_t *hot = &t->hot[e];
    uint64_t word = OR(hot->word, BUSY);
    j->entry = e;
    j->base = LOAD(hot->base);
    j->word = (word & TOKEN_MASK) | ((word + LIFE_ONE) & LIFE_MASK);
    j->birth = hot->birth;
    j->bucket = hot->bucket;
    j->origin = hot->origin;
    j->columns = 0;
    return j;
}

static inline int rewrite_end(table_t *t)
{
    journal_t *j = t->journal;
    j->mark = t->hot[j->entry].mark - (entry_net(t, j->entry) - net_of(j->word));
    journal_write(j, JOURNAL_REWRITE);
    return rewrite_apply(t);
}

/* The own column moves from the hot line to a stored one, so that the next take counts under the running epoch.
 * The level does not move. 0 when memory is at its limit. */
static inline int own_column_close(table_t *t, uint32_t e, uint32_t running)
{
    hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    column_t c;
    int64_t refunded = own_refunded(t, e), rest;
    if ((entry_net(t, e) || refunded) && !column_find(t, e, hot->origin, &c) && !column_new(t, e, hot->origin, 0, &c))
        return 0;
    journal_t *j = rewrite_begin(t, e);
    int64_t net = net_of(j->word);
    if (net || refunded) {
        j->columns = 1;
        j->column[0] = (wire_column_t){hot->origin, hot->birth, net + refunded, refunded};
        uint64_t charged = scaled(d, net, &rest);
        j->base = (int64_t)((uint64_t)j->base + charged + (rest > 0));
        j->word &= ~TOKEN_MASK;
    }
    j->origin = (uint16_t)running;
    j->birth = ++t->h->births;
    return rewrite_end(t);
}

static int64_t table_bytes(const table_t *t)
{
    const header_t *h = t->h;
    return (int64_t)(sizeof(header_t) + h->index_slots * 8 + h->max_keys / 8 + h->bump * (int64_t)(sizeof(hot_t) + sizeof(cold_t))
                     + h->blocks_bump * (int64_t)sizeof(block_t) + (int64_t)(h->log_tail - h->log_head) * 12);
}

#endif
