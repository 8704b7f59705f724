/* The word, the base and the attempt bit of an entry, and how they are changed: by
 * compare-and-swap where several processes share the table, by plain stores where one process has
 * it (`only_here`). */
#ifndef CRDTBUCKET_MEMORY_ENTRY_WORD_H
#define CRDTBUCKET_MEMORY_ENTRY_WORD_H

#include "regions.h"

/* A time (ns) as a stamp, which wraps after 52 days. */
static inline uint32_t stamp_of(int64_t ns) { return (uint32_t)((uint64_t)ns >> STAMP_SHIFT); }

/* The time (ns) of a stamp. Stamps wrap, so it is taken for the latest such time before `now`: at
 * most 2^31 stamps, which are 26 days. A stamp that seems to be more than a second ahead of `now`
 * counts as that old, too. */
static inline int64_t stamp_ns(uint32_t stamp, int64_t now)
{
    int32_t past = (int32_t)(stamp_of(now) - stamp);
    if (past < -1000)
        past = INT32_MAX;
    return now - past * (INT64_C(1) << STAMP_SHIFT);
}

/* The net tokens of a word; and below, of an entry's word as it is now. */
static inline int64_t net_of(uint64_t word) { return (int64_t)(word & TOKEN_MASK); }
static inline int64_t entry_net(const table_t *t, uint32_t e)
{
    return net_of(LOAD(t->hot[e].word));
}
/* Whether `later`, the word of an entry as it is now, has the revision of the earlier `word`, and
 * nobody is changing the entry. */
static inline int same_revision(uint64_t word, uint64_t later)
{
    return !((word ^ later) & (BUSY | REVISION_MASK));
}

/* Replaces the word by `next` if it is still `*word`. Returns 1; or 0 when it has changed, and then
 * `*word` is what it is now. */
static inline int word_swap(const table_t *t, hot_t *hot, uint64_t *word, uint64_t next)
{
    if (!only_here(t))
        return CAS(hot->word, *word, next);
    STORE(hot->word, next);
    return 1;
}

/* Counts that the bucket was full or that debt was forgiven. It is called before the base moves: if
 * the process is killed in between, a refund comes to nothing, and never gives back what time has
 * given back already. */
static inline void count_full(const table_t *t, hot_t *hot)
{
    if (only_here(t))
        STORE(hot->full_count, hot->full_count + 1);
    else
        ADD(hot->full_count, 1);
}

/* Replaces the base by `next` if it is still `base`. Returns 1, or 0 when it has changed. */
static inline int base_swap(const table_t *t, hot_t *hot, int64_t base, int64_t next)
{
    if (!only_here(t))
        return CAS(hot->base, base, next);
    STORE(hot->base, next);
    return 1;
}

_Static_assert(sizeof(cold_t) + 64 - _Alignof(cold_t) <= 4 * 64, "it lies on four lines at most");

/* Prefetches the lines that a round or a merge touches of an entry: the hot line and all lines of
 * the cold record. */
static inline void fetch_entry(const table_t *t, uint32_t e)
{
    const char *cold = (const char *)&t->cold[e];
    __builtin_prefetch(&t->hot[e], 1);
    __builtin_prefetch(cold, 1);
    __builtin_prefetch(cold + 64, 1);
    __builtin_prefetch(cold + 128, 1);
    __builtin_prefetch(cold + sizeof(cold_t) - 1, 1);
}

/* ---- attempts since the last round ---- */

/* Notes that a call asked for the key, admitted or not. It is one bit, and neither a list nor a
 * count, so that a process that is killed here leaves nothing half done. */
static inline void mark_attempted(table_t *t, uint32_t e)
{
    uint64_t *word = &t->attempts[e >> 6], bit = UINT64_C(1) << (e & 63);
    if (!(__atomic_load_n(word, __ATOMIC_SEQ_CST) & bit))
        OR(*word, bit);
}

static inline int is_attempted(const table_t *t, uint32_t e)
{
    return (int)(LOAD(t->attempts[e >> 6]) >> (e & 63)) & 1;
}

/* Forgets that a call asked for the key. */
static inline void clear_attempted(table_t *t, uint32_t e)
{
    AND(t->attempts[e >> 6], ~(UINT64_C(1) << (e & 63)));
}

#endif
