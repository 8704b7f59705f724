/* Eviction: full keys leave when they are idle; when the table is full, which entry is evicted. */
#ifndef CRDTBUCKET_LEVEL_EVICT_H
#define CRDTBUCKET_LEVEL_EVICT_H

#include "renew.h"

static inline int is_full(const table_t *t, uint32_t e, uint64_t word, int64_t now)
{
    const hot_t *hot = &t->hot[e];
    return debt_units(&t->definitions[hot->bucket], LOAD(hot->base), net_of(word), now) <= 0;
}

/* Full, acknowledged by every live link, idle for the grace, and no silent peer's rates are kept in
 * it. */
static inline int is_evictable(const table_t *t, uint32_t e, uint64_t word, int64_t now)
{
    uint16_t flags = LOAD(t->hot[e].flags);
    return (flags & ENTRY_USED) && !(flags & ENTRY_IN_LOG) && !is_attempted(t, e)
           && !((flags & ENTRY_RATED) && now >= LOAD(t->h->far_free_until))
           && now - t->cold[e].rated_ns > t->h->grace_ns && is_full(t, e, word, now);
}

/* Removes an entry as it was when `word` was read; 0 when it was taken from since. */
static int evict(table_t *t, uint32_t e, uint64_t word, int64_t now)
{
    if (!CAS(t->hot[e].word, word, word | BUSY))
        return 0;
    if (is_full(t, e, word, now))
        t->h->evicted_full++;
    else
        t->h->evicted_indebted++;
    entry_remove(t, e);
    return 1;
}

/* Looks at the next `most` entries; returns how many were evicted. `gone` takes them. */
static int64_t sweep(table_t *t, int64_t most, int64_t now, uint32_t *gone)
{
    header_t *h = t->h;
    int64_t evicted = 0;
    if (most > h->bump)
        most = h->bump;
    for (int64_t i = 0; i < most; i++) {
        if (h->sweep_cursor >= h->bump)
            h->sweep_cursor = 0;
        uint32_t e = h->sweep_cursor++;
        if (LOAD(t->hot[e].flags) & ENTRY_USED)
            follow_definition(t, e, now);
        uint64_t word = LOAD(t->hot[e].word);
        if (is_evictable(t, e, word, now) && evict(t, e, word, now))
            gone[evicted++] = e;
    }
    return evicted;
}

#define VICTIM_SAMPLE 256

/* Frees an entry at the limit: full and sent, then full, then (if `indebted` may go) the least
 * confirmed debt, as time to full, among the next ones, so that the cost is bounded. `bucket`
 * limits it to one definition, NONE to any. Returns the entry, or NONE when there is none to free.
 */
static uint32_t make_room(table_t *t, uint32_t bucket, int indebted, int64_t now)
{
    header_t *h = t->h;
    uint32_t best = NONE;
    uint64_t best_word = 0;
    i128 best_debt = 0;
    int best_class = indebted ? 3 : 2, seen = 0;
    for (int64_t i = 0; i < h->bump && seen < VICTIM_SAMPLE; i++) {
        if (h->sweep_cursor >= h->bump)
            h->sweep_cursor = 0;
        uint32_t e = h->sweep_cursor++;
        uint16_t flags = LOAD(t->hot[e].flags);
        if (!(flags & ENTRY_USED) || (bucket != NONE && t->hot[e].bucket != bucket))
            continue;
        seen++;
        follow_definition(t, e, now);
        const definition_t *d = &t->definitions[t->hot[e].bucket];
        uint64_t word = LOAD(t->hot[e].word);
        i128 debt = debt_units(d, LOAD(t->hot[e].base), net_of(word), now);
        debt = debt > 0 ? debt / d->p : 0;
        int class = debt ? 2 : (flags & ENTRY_IN_LOG) || is_attempted(t, e) ? 1 : 0;
        if (class < best_class || (class == best_class && debt < best_debt)) {
            best = e;
            best_word = word;
            best_class = class;
            best_debt = debt;
            if (!class)
                break;
        }
    }
    if (best == NONE)
        return NONE;
    /* Taken from meanwhile: it is still the one with the least. */
    while (!evict(t, best, best_word, now))
        best_word = LOAD(t->hot[best].word);
    return best;
}

/* A new entry for a key, or NONE when its definition has used up its quota or the table is full.
 * With `evicting` another entry may go for it; `gone` is that one, or NONE. */
static uint32_t entry_obtain(table_t *t, uint64_t lo, uint64_t hi, uint32_t bucket, int evicting,
                             int64_t now, uint32_t *gone)
{
    definition_t *d = &t->definitions[bucket];
    *gone = NONE;
    if (UNLIKELY(d->entries >= d->quota)) {
        if (!evicting || (*gone = make_room(t, bucket, 0, now)) == NONE)
            goto refused;
    } else if (UNLIKELY(t->h->entries >= t->h->max_keys)) {
        if (!evicting || (*gone = make_room(t, NONE, 1, now)) == NONE)
            goto refused;
    }
    uint32_t e = entry_insert(t, lo, hi, bucket, level_time(d, now), now);
    /* The file system is full: this is the limit. */
    if (UNLIKELY(e == NONE && evicting && *gone == NONE))
        if ((*gone = make_room(t, NONE, 1, now)) != NONE)
            e = entry_insert(t, lo, hi, bucket, level_time(d, now), now);
    if (LIKELY(e != NONE))
        return e;
refused:
    d->refused_full++;
    t->h->refused_full++;
    return NONE;
}

#endif
