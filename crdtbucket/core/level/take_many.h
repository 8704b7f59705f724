/* Many takes of one bucket in one call, in the order of the keys. */
#ifndef CRDTBUCKET_LEVEL_TAKE_MANY_H
#define CRDTBUCKET_LEVEL_TAKE_MANY_H

#include <sys/types.h>

#include "../memory/hash.h"
#include "take.h"

/* One of many takes: its key, `size` bytes of text at `data`; its cost; then the hash of the key
 * and its entry. */
typedef struct {
    const uint8_t *data;
    ssize_t size;
    int64_t cost;
    uint64_t lo, hi;
    uint32_t entry;
    /* `unnamed`: the key of the entry has not been offered to the list of names yet. */
    uint16_t unnamed, side; /* `side`: 0, or 1 when the candidate decided */
} take_item_t;

/* Many takes under way. `at` is the next one, and the keys before `hashed` have their hashes. The
 * answers are by take, the sums by `side`. */
typedef struct {
    table_t *t;
    uint32_t slot;
    uint64_t salt;
    take_item_t *items;
    int64_t count, at, now, hashed;
    int stopped; /* the take at `at` needs the lock */
    signed char *allowed;
    int64_t *remaining;
    double *retry;
    int64_t allowed_sum[2], denied_sum[2], granted[2];
} many_t;

/* Writes the outcome of the take at `at` to the answers and the sums, and goes on to the next
 * one. */
static inline void many_store(many_t *m, const definition_t *d, int side, const outcome_t *o)
{
    int64_t left = tokens_left(d, o->debt_ns, o->rest);
    m->allowed[m->at] = (signed char)o->allowed;
    m->remaining[m->at] = left > 0 ? left : 0;
    m->retry[m->at] = o->allowed ? 0.0 : (double)o->wait_ns / 1e9;
    m->allowed_sum[side] += o->allowed;
    m->denied_sum[side] += !o->allowed;
    m->granted[side] += o->allowed ? m->items[m->at].cost : 0;
    m->at++;
}

#define MANY_BLOCK 32

/* Hashes the keys of the next block, then prefetches the slots of the index and the lines of the
 * entries, so that what waits for memory overlaps. */
static inline void many_look_ahead(many_t *m)
{
    table_t *t = m->t;
    int64_t end = m->hashed + MANY_BLOCK < m->count ? m->hashed + MANY_BLOCK : m->count;
    for (int64_t i = m->hashed; i < end; i++) {
        take_item_t *x = &m->items[i];
        /* The same key object again. */
        if (i && x->data == x[-1].data && x->size == x[-1].size) {
            x->lo = x[-1].lo;
            x->hi = x[-1].hi;
            continue;
        }
        keyed_hash(t->h->hash_key, m->salt, x->data, (size_t)x->size, &x->lo, &x->hi);
        prefetch_slot(t, x->hi);
    }
    for (int64_t i = m->hashed; i < end; i++)
        prefetch_entry(t, m->items[i].lo, m->items[i].hi);
    m->hashed = end;
}

/* Makes the next take. Returns 0, and has done nothing, when it needs the lock. */
static inline int many_take(many_t *m)
{
    table_t *t = m->t;
    take_item_t *item = &m->items[m->at];
    /* Read once: another thread may end the candidate. */
    uint32_t slot = definition_for(t, m->slot, item->hi);
    definition_t *d = &t->definitions[slot];
    outcome_t o;
    uint64_t word;
    item->side = slot != m->slot;
    item->unnamed = 0;
    item->entry = entry_at_hand(t, item->lo, item->hi, slot, &word);
    if (item->entry == NONE
        || (o.allowed = take_level(t, d, item->entry, item->cost, m->now, word, &o)) < 0) {
        m->stopped = 1;
        return 0;
    }
    count_offered(t, d, item->entry, item->cost, o.allowed);
    item->unnamed = !(LOAD(t->hot[item->entry].flags) & ENTRY_NAMED);
    many_store(m, d, item->side, &o);
    return 1;
}

/* Makes the takes in order, SLICE of them, or until one needs the lock (`stopped`). */
static void take_items(many_t *m)
{
    int64_t end = m->at + SLICE < m->count ? m->at + SLICE : m->count;
    while (m->at < end) {
        if (m->at == m->hashed)
            many_look_ahead(m);
        if (!many_take(m))
            return;
    }
}

#endif
