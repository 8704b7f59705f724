/* Checks all that must be true of a table while nobody changes it. */
#ifndef CRDTBUCKET_REPAIR_VERIFY_H
#define CRDTBUCKET_REPAIR_VERIFY_H

#include "../level/unsent_log.h"
#include "../memory/entries.h"

/* Whether there may be columns of an origin: it counts, or its columns are still being removed. */
static int may_have_columns(const table_t *t, uint32_t origin)
{
    const origin_t *o = &t->origins[origin];
    int in_removal = o->tombstone == TOMBSTONE_NEW || o->tombstone == TOMBSTONE_IN_WALK;
    return o->used && (!o->tombstone || (in_removal && origin != t->h->own_origin));
}

/* NULL, or what is wrong with an entry. Adds the number of its blocks to `*blocks`. */
static const char *verify_entry(const table_t *t, uint32_t e, uint32_t *blocks)
{
    const hot_t *hot = &t->hot[e];
    column_t c = {0};
    uint64_t refunded = (uint64_t)own_refunded(t, e);
    if (table_find(t, hot->hash_lo, hot->hash_hi) != e)
        return "an entry is not found under its hash";
    if (LOAD(hot->word) & BUSY)
        return "an entry is locked for ever";
    if (hot->bucket >= t->h->definitions || !t->definitions[hot->bucket].name_hash)
        return "an entry has no definition";
    if (!hot->origin || !may_have_columns(t, hot->origin))
        return "an entry counts for no epoch";
    if (refunded > TOKEN_MASK || refunded + (uint64_t)entry_net(t, e) > TOKEN_MASK)
        return "an entry counts more tokens than fit";
    while (column_next(t, e, &c)) {
        column_t first;
        if (!may_have_columns(t, column_origin(&c)))
            return "a column is of no epoch that counts";
        if (!column_find(t, e, column_origin(&c), &first) || first.c != c.c || first.i != c.i)
            return "an epoch has two columns";
        if (column_refunded(&c) > column_taken(&c) && column_origin(&c) != hot->origin)
            return "a column gave back more than it took";
    }
    for (uint32_t b = t->cold[e].overflow; b != NONE; b = t->blocks[b].next)
        ++*blocks;
    return NULL;
}

/* Whether the ring of a definition leads to each of its entries, forwards and backwards. */
static int ring_sound(const table_t *t, uint32_t bucket)
{
    const definition_t *d = &t->definitions[bucket];
    int64_t left = d->entries;
    if (!has_ring(t, d) || !left)
        return d->ring == NONE;
    uint32_t e = d->ring;
    do {
        if (e >= t->h->bump || t->hot[e].bucket != bucket || !(t->hot[e].flags & ENTRY_USED)
            || t->rings[t->rings[e].next].before != e)
            return 0;
        e = t->rings[e].next;
    } while (--left && e != d->ring);
    return !left && e == d->ring;
}

/* NULL, or what is wrong with the table. The lock is held. */
COLD static const char *table_verify(const table_t *t)
{
    const header_t *h = t->h;
    int64_t used = 0, words = 0, logged = 0, free = 0;
    uint32_t blocks = 0;
    for (uint32_t e = 0; e < h->bump; e++) {
        if (!(LOAD(t->hot[e].flags) & ENTRY_USED)) {
            if (!(LOAD(t->hot[e].word) & BUSY))
                return "an entry of no key could be taken from";
            continue;
        }
        const char *wrong = verify_entry(t, e, &blocks);
        if (wrong)
            return wrong;
        used++;
        logged += (LOAD(t->hot[e].flags) & ENTRY_IN_LOG) != 0;
    }
    for (int64_t i = 0; i < h->index_slots; i++)
        words += t->index[i] != 0;
    for (uint64_t i = h->log_head; i < h->log_tail; i++) {
        logged -= log_live(t, i);
        if (i > h->log_head && t->log_version[i] <= t->log_version[i - 1])
            return "versions do not rise";
    }
    for (uint32_t e = h->free_entry; e != NONE && free <= h->bump; e = (uint32_t)t->hot[e].hash_lo)
        free++;
    for (uint32_t b = h->free_block; b != NONE && blocks <= h->blocks_bump; b = t->blocks[b].next)
        blocks++;
    int64_t counted = 0;
    for (uint32_t i = 0; i < h->definitions; i++)
        counted += t->definitions[i].entries;
    for (uint32_t i = 0; i < h->definitions; i++)
        if (!ring_sound(t, i))
            return "a ring lacks an entry of its bucket";
    if (used != h->entries || used != words || used != counted)
        return "entries, index and counts differ";
    if (used + free != h->bump)
        return "entries are neither used nor free";
    if (blocks != h->blocks_bump)
        return "blocks are neither used nor free";
    if (logged)
        return "an unsent entry is not in the log";
    return t->journal->kind == JOURNAL_NONE ? NULL : "a change was not finished";
}

#endif
