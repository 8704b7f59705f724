/* Many takes in one call. */
#ifndef CRDTBUCKET_LEVEL_TAKE_MANY_H
#define CRDTBUCKET_LEVEL_TAKE_MANY_H

#include <sys/types.h>

#include "../memory/hash.h"
#include "take.h"

typedef struct {
    const uint8_t *data;
    ssize_t size;
    int64_t cost;
    uint64_t lo, hi;
    uint32_t entry;
    uint16_t unnamed, side; /* side: which of the bucket's two definitions decided */
} take_item_t;

typedef struct {
    table_t *t;
    uint32_t slot;
    uint64_t salt;
    take_item_t *items;
    int64_t count, at, now, hashed;
    int stopped; /* the next one needs the lock */
    signed char *allowed;
    int64_t *remaining;
    double *retry;
    int64_t allowed_sum[2], denied_sum[2], granted[2];
} many_t;

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

/* Hashes of a block, then its slots and lines: what is independent overlaps. */
static inline void many_look_ahead(many_t *m)
{
    table_t *t = m->t;
    int64_t end = m->hashed + MANY_BLOCK < m->count ? m->hashed + MANY_BLOCK : m->count;
    for (int64_t i = m->hashed; i < end; i++) {
        take_item_t *x = &m->items[i];
        /* The same key again: the same object. */
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

/* The next take; 0 when it needs the lock. */
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

/* Takes in order until a chunk is done, or until one needs the lock. */
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
