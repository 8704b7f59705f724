/* The index: a hash table from the hash of a key to its entry, with linear probing. Slots lie in
 * the order of the high halves of the hashes. Deletion shifts later ones back, so no marker is left
 * for what was deleted. */
#ifndef CRDTBUCKET_MEMORY_INDEX_H
#define CRDTBUCKET_MEMORY_INDEX_H

#include "entry_word.h"
#include "undo.h"

/* The slot in which the search for a hash begins. */
static inline int64_t home_slot(const table_t *t, uint64_t hash_hi)
{
    return (int64_t)(((u128)hash_hi * (uint64_t)t->h->index_slots) >> 64);
}

/* The entry of the key with this hash, or NONE. Without the lock it may miss an entry that another
 * process is moving within the index at that moment. */
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

/* The first entry in the index with the tag (the upper 32 bits of `lo`) of this key, or NONE. It is
 * nearly always the key's own entry, and finding it reads the index alone; the caller compares the
 * hash. */
static inline uint32_t table_guess(const table_t *t, uint64_t lo, uint64_t hi)
{
    int64_t slot = home_slot(t, hi), slots = t->h->index_slots;
    uint64_t word;
    while ((word = LOAD(t->index[slot])) && ((word ^ lo) >> 32))
        if (++slot == slots)
            slot = 0;
    return (uint32_t)word - 1;
}

/* Whether `e`, which may be NONE, is in use and is the entry of the key with this hash. */
static inline int entry_holds(const table_t *t, uint32_t e, uint64_t lo, uint64_t hi)
{
    if (e == NONE)
        return 0;
    const hot_t *hot = &t->hot[e];
    return LOAD(hot->hash_lo) == lo && LOAD(hot->hash_hi) == hi && (LOAD(hot->flags) & ENTRY_USED);
}

/* Adds the entry `i`, whose hash is set, to the index. */
static inline void index_insert(table_t *t, uint32_t i)
{
    int64_t slot = home_slot(t, t->hot[i].hash_hi), slots = t->h->index_slots;
    while (t->index[slot])
        if (++slot == slots)
            slot = 0;
    uint64_t tag = t->hot[i].hash_lo & UINT64_C(0xffffffff00000000);
    ALTER(t, t->index[slot], tag | ((uint64_t)i + 1));
}

/* Removes the entry `i` from the index, and moves back what would not be found beyond the hole. */
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
            ALTER(t, t->index[hole], word);
            hole = slot;
        }
    }
    ALTER(t, t->index[hole], 0);
}

/* Prefetches the slot in which the search for a hash begins; and below, the hot line of the entry
 * that `table_guess` finds. */
static inline void prefetch_slot(const table_t *t, uint64_t hi)
{
    __builtin_prefetch(&t->index[home_slot(t, hi)]);
}

static inline void prefetch_entry(const table_t *t, uint64_t lo, uint64_t hi)
{
    uint32_t e = table_guess(t, lo, hi);
    if (e != NONE)
        __builtin_prefetch(&t->hot[e], 1);
}

#endif
