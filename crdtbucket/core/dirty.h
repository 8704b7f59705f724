/* What is not acknowledged yet: the list of attempts of this round, and the log of versions.
 *
 * Versions rise for the whole process, never per entry. The log is in their order, with at most one live item an entry,
 * and a link acknowledges ranges of it.
 */
#ifndef CRDTBUCKET_DIRTY_H
#define CRDTBUCKET_DIRTY_H

#include "predict.h"

static void log_compact(table_t *t)
{
    header_t *h = t->h;
    uint64_t out = 0;
    for (uint64_t i = h->log_head; i < h->log_tail; i++) {
        uint32_t e = t->log_entry[i];
        if ((t->hot[e].flags & ENTRY_IN_LOG) && t->cold[e].version == (uint32_t)t->log_version[i]) {
            t->log_version[out] = t->log_version[i];
            t->log_entry[out++] = e;
        }
    }
    h->log_head = 0;
    h->log_tail = out;
}

static void log_append(table_t *t, uint32_t e)
{
    header_t *h = t->h;
    if (h->log_tail == (uint64_t)h->log_slots)
        log_compact(t);
    t->log_version[h->log_tail] = ++h->version;
    t->log_entry[h->log_tail++] = e;
    t->cold[e].version = (uint32_t)h->version;
    OR(t->hot[e].flags, ENTRY_IN_LOG);
}

/* Position of the first item with a version above `version`. */
static uint64_t log_after(const table_t *t, uint64_t version)
{
    uint64_t low = t->h->log_head, high = t->h->log_tail;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (t->log_version[middle] > version)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static inline int log_live(const table_t *t, uint64_t i)
{
    uint32_t e = t->log_entry[i];
    return (t->hot[e].flags & ENTRY_IN_LOG) && t->cold[e].version == (uint32_t)t->log_version[i];
}

/* Every link that counts has acknowledged all versions up to `version`. */
static void log_trim(table_t *t, uint64_t version)
{
    header_t *h = t->h;
    for (; h->log_head < h->log_tail && t->log_version[h->log_head] <= version; h->log_head++)
        if (log_live(t, h->log_head))
            AND(t->hot[t->log_entry[h->log_head]].flags, (uint16_t)~ENTRY_IN_LOG);
    if (h->log_head == h->log_tail)
        h->log_head = h->log_tail = 0;
}

/* Attempts since the last round get versions and rates. Returns how many. */
static int64_t collect_round(table_t *t, int64_t now)
{
    header_t *h = t->h;
    int64_t count = 0;
    uint64_t tail = LOAD(h->attempts_tail);
    for (; h->attempts_head < tail; h->attempts_head++, count++) {
        uint32_t *slot = &t->attempts[h->attempts_head % (uint64_t)h->max_keys], e = LOAD(*slot);
        if (!e)
            break;                                      /* being written: next round */
        *slot = 0;
        e--;
        AND(t->hot[e].flags, (uint16_t)~(ENTRY_ATTEMPTED | ENTRY_FLUSH));
        average(t, e, now);
        log_append(t, e);
    }
    h->averaged_ns = now;
    t->flush_count = 0;
    h->flush_wanted = 0;
    return count;
}

/* Only the entries that asked for an early flush. They stay in the list of attempts, if there, for the round. */
static int64_t collect_flush(table_t *t, int64_t now)
{
    uint32_t count = t->flush_count < FLUSH_SLOTS ? t->flush_count : FLUSH_SLOTS;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t e = t->flush[i];
        if (!(AND(t->hot[e].flags, (uint16_t)~ENTRY_FLUSH) & ENTRY_USED))
            continue;
        average(t, e, now);
        log_append(t, e);
    }
    t->flush_count = 0;
    t->h->flush_wanted = 0;
    return count;
}

#endif
