/* Entries of the table, which never move and are found by the index; and the epochs (origins) that
 * their columns count for. */
#ifndef CRDTBUCKET_MEMORY_ENTRIES_H
#define CRDTBUCKET_MEMORY_ENTRIES_H

#include "backing.h"
#include "columns.h"
#include "index.h"
#include "rings.h"

/* Takes a free entry: of those in the list the one that was freed first, so that a take which began
 * long ago hardly ever meets the same revision again; else a place that was never used. NONE when
 * the table is full or has no memory. */
static inline uint32_t entry_free_one(table_t *t)
{
    header_t *h = t->h;
    uint32_t e = h->free_entry;
    if (e != NONE) {
        ALTER(t, h->free_entry, (uint32_t)t->hot[e].hash_lo);
        if (h->free_entry == NONE)
            ALTER(t, h->free_last, NONE);
    } else if (h->bump < h->backed_entries || (h->bump < h->max_keys && grow(t, ENTRIES)))
        ALTER(t, h->bump, (e = (uint32_t)h->bump) + INT64_C(1));
    return e;
}

/* Adds an entry to the end of the list of free ones. */
static inline void entry_free(table_t *t, uint32_t e)
{
    header_t *h = t->h;
    ALTER(t, t->hot[e].hash_lo, NONE);
    ALTER(t, t->hot[e].hash_hi, 0);
    if (h->free_last == NONE)
        ALTER(t, h->free_entry, e);
    else
        ALTER(t, t->hot[h->free_last].hash_lo, e);
    ALTER(t, h->free_last, e);
}

/* Makes an entry for the key with this hash, under the definition in the slot `bucket`. Its bucket
 * is full: `base` is the base at which the debt is 0. Returns NONE when there is no place. The
 * caller has checked that the key has none. */
static inline uint32_t entry_insert(table_t *t, uint64_t lo, uint64_t hi, uint32_t bucket,
                                    int64_t base, int64_t now)
{
    header_t *h = t->h;
    uint32_t e = entry_free_one(t);
    if (e == NONE)
        return NONE;
    hot_t *hot = &t->hot[e];
    cold_t *cold = &t->cold[e];
    uint64_t revision = (LOAD(hot->word) + REVISION_ONE) & REVISION_MASK;
    t->journal->undo.busy = e;
    STORE(hot->word, revision | BUSY);
    memset(cold, 0, sizeof *cold);
    cold->overflow = NONE;
    cold->rated_ns = now;
    cold->reserve = -1.0f; /* the reserve starts full */
    h->generations++;
    ALTER(t, hot->hash_lo, lo);
    STORE(hot->hash_hi, hi);
    STORE(hot->base, base);
    STORE(hot->averaged_net, 0);
    STORE(hot->denied, 0);
    STORE(hot->full_count, h->generations);
    STORE(hot->generation, h->generations);
    STORE(hot->bucket, (uint16_t)bucket);
    STORE(hot->origin, (uint16_t)h->own_origin);
    STORE(hot->near_class, 0);
    STORE(hot->wanted, 0);
    ALTER(t, hot->flags, ENTRY_USED);
    index_insert(t, e);
    ALTER(t, h->entries, h->entries + 1);
    ALTER(t, t->definitions[bucket].entries, t->definitions[bucket].entries + 1);
    ring_join(t, e);
    h->inserted++;
    change_end(t);
    /* From here on takes can use the entry, and a repair keeps it. */
    STORE(hot->word, revision);
    return e;
}

/* Removes an entry that the caller has made BUSY, so that no take can change it any more. */
static inline void entry_remove(table_t *t, uint32_t e)
{
    definition_t *d = &t->definitions[t->hot[e].bucket];
    ALTER(t, t->hot[e].flags, 0);
    index_remove(t, e);
    blocks_free(t, e);
    ring_leave(t, e);
    ALTER(t, d->entries, d->entries - 1);
    entry_free(t, e);
    ALTER(t, t->h->entries, t->h->entries - 1);
    change_end(t);
    /* Only now: if a repair takes back a removal that was not ended, the entry must still be marked
     * as to be sent. */
    clear_attempted(t, e);
}

/* ---- origins ---- */

/* The number of an epoch; 0 when it is not known here. */
static inline uint32_t origin_find(const table_t *t, uint64_t epoch)
{
    for (uint32_t i = 1; i < MAX_ORIGINS; i++)
        if (t->origins[i].used && t->origins[i].epoch == epoch)
            return i;
    return 0;
}

/* Adds an epoch of `node` and returns its number; 0 when all numbers are in use. */
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

/* A new epoch (64 bits) that is computed from the last one. */
static inline uint64_t epoch_after(uint64_t epoch)
{
    return epoch * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

/* Opens the spare epoch: from now on takes count under it. The counts of the old epoch stay, and
 * are merged like those of any other epoch. Returns 0 when there is no number for one more
 * epoch. */
static inline int open_epoch(table_t *t)
{
    header_t *h = t->h;
    uint64_t epoch = h->spare_epoch;
    /* A process was killed before it wrote the next spare epoch. */
    if (epoch == t->origins[h->own_origin].epoch)
        epoch = epoch_after(epoch);
    /* A process that was killed before it opened the epoch may have added it already. */
    uint32_t fresh = origin_find(t, epoch);
    if (!fresh && !(fresh = origin_add(t, 0, epoch)))
        return 0;
    STORE(h->own_origin, fresh);
    /* After `own_origin`: before it, a generation of the old epoch could be given twice. */
    STORE(h->generations, 0);
    STORE(h->spare_epoch, epoch_after(epoch));
    return 1;
}

/* The bytes that one entry takes. Its place in a ring counts only where that memory is used: in a
 * shared table, where it is reserved, or when some bucket has a ring. */
static int64_t entry_bytes(const table_t *t)
{
    int rings = is_shared(t);
    for (uint32_t i = 0; i < t->h->definitions && !rings; i++)
        rings = t->definitions[i].name_hash && has_ring(t, &t->definitions[i]);
    return (int64_t)(sizeof(hot_t) + sizeof(cold_t) + (rings ? sizeof(ring_t) : 0));
}

/* The bytes of the header, the index and the attempt bits, of the entries and blocks that were ever
 * used, and of the log. */
static int64_t table_bytes(const table_t *t)
{
    const header_t *h = t->h;
    return (int64_t)(sizeof(header_t) + h->index_slots * 8 + h->max_keys / 8
                     + h->bump * entry_bytes(t) + h->blocks_bump * (int64_t)sizeof(block_t)
                     + (int64_t)(h->log_tail - h->log_head) * 12);
}

/* OR as a function, for the binding: Cython cannot pass a variable to a macro by its name. */
static inline void atomic_or(uint16_t *flags, uint16_t bits) { OR(*flags, bits); }

#endif
