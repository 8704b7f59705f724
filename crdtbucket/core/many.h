/* Many takes in one call. */
#ifndef CRDTBUCKET_MANY_H
#define CRDTBUCKET_MANY_H

#include <sys/types.h>
#include "binding.h"

typedef struct {
    const uint8_t *data;
    ssize_t size;
    int64_t cost;
    uint64_t lo, hi;
    uint32_t entry;
    int unnamed;
} take_item_t;

typedef struct {
    table_t *t;
    definition_t *d;
    uint32_t slot;
    uint64_t salt;
    take_item_t *items;
    int64_t count, at, now, hashed;
    signed char *allowed;
    int64_t *remaining;
    double *retry;
    int64_t allowed_sum, denied_sum, granted;
} many_t;

static inline void many_store(many_t *m, const outcome_t *o)
{
    int64_t left = tokens_left(m->d, (i128)o->debt_ns * m->d->p + o->rest);
    m->allowed[m->at] = (signed char)o->allowed;
    m->remaining[m->at] = left > 0 ? left : 0;
    m->retry[m->at] = o->allowed ? 0.0 : (double)o->wait_ns / 1e9;
    m->allowed_sum += o->allowed;
    m->denied_sum += !o->allowed;
    m->granted += o->allowed ? m->items[m->at].cost : 0;
    m->at++;
}

#define MANY_AHEAD 16

/* Takes in order until the end, or until one needs the table to itself. */
static void take_items(many_t *m)
{
    table_t *t = m->t;
    while (m->at < m->count) {
        outcome_t o;
        take_item_t *item = &m->items[m->at];
        for (; m->hashed <= m->at + 2 * MANY_AHEAD && m->hashed < m->count; m->hashed++) {
            take_item_t *x = &m->items[m->hashed];
            keyed_hash(t->h->hash_key, m->salt, x->data, (size_t)x->size, &x->lo, &x->hi);
            prefetch_slot(t, x->hi);
        }
        if (m->at + MANY_AHEAD < m->count)
            prefetch_entry(t, m->items[m->at + MANY_AHEAD].hi);
        item->entry = table_find(t, item->lo, item->hi);
        item->unnamed = 0;
        if (item->entry == NONE || !entry_current(t, item->entry, m->slot))
            return;
        take(t, m->d, item->entry, item->cost, m->now, &o);
        item->unnamed = !(t->hot[item->entry].flags & ENTRY_NAMED);
        many_store(m, &o);
    }
}

/* Whether an item's entry is still its key's: others may have evicted it since. */
static inline int many_holds(const many_t *m, const take_item_t *item)
{
    const hot_t *hot = &m->t->hot[item->entry];
    return (hot->flags & ENTRY_USED) && hot->hash_lo == item->lo && hot->hash_hi == item->hi;
}

#endif
