/* What has not been sent to, or acknowledged by, every link yet: the attempts since the last round,
 * and the log of versions.
 *
 * Versions rise for the whole process, not for each entry. The log has its items, each an entry and
 * a version, in the order of versions; of each entry at most one item is live, the newest. A link
 * acknowledges ranges of versions. */
#ifndef CRDTBUCKET_LEVEL_UNSENT_LOG_H
#define CRDTBUCKET_LEVEL_UNSENT_LOG_H

#include "../memory/backing.h"
#include "rates.h"

/* Whether the item at the position `i` of the log is live: the newest one of its entry, and not
 * acknowledged by every link. */
static inline int log_live(const table_t *t, uint64_t i)
{
    uint32_t e = t->log_entry[i];
    return (LOAD(t->hot[e].flags) & ENTRY_IN_LOG)
           && t->cold[e].version == (uint32_t)t->log_version[i];
}

/* Moves the live items of the log to its beginning; the others go. */
static void log_compact(table_t *t)
{
    header_t *h = t->h;
    uint64_t out = 0;
    change_many(t);
    for (uint64_t i = h->log_head; i < h->log_tail; i++)
        if (log_live(t, i)) {
            t->log_version[out] = t->log_version[i];
            t->log_entry[out++] = t->log_entry[i];
        }
    h->log_head = 0;
    h->log_tail = out;
    change_end(t);
}

/* Makes room for one more item. Where half of the log is live, the log grows. Returns 0 when all of
 * it is live and there is no memory to grow. */
static int log_make_room(table_t *t)
{
    header_t *h = t->h;
    log_compact(t);
    if (h->log_tail >= (uint64_t)h->backed_log / 2)
        grow(t, LOG);
    return h->log_tail < (uint64_t)h->backed_log;
}

/* Gives an entry a new version, so that it is sent to every link. Returns 0 when there is no room
 * in the log: that is counted, and peers learn of the entry by digests. */
static int log_append(table_t *t, uint32_t e)
{
    header_t *h = t->h;
    if (UNLIKELY(h->log_tail == (uint64_t)h->backed_log) && !log_make_room(t)) {
        h->unlogged++;
        return 0;
    }
    t->log_version[h->log_tail] = ++h->version;
    t->log_entry[h->log_tail] = e;
    STORE(h->log_tail, h->log_tail + 1);
    STORE(t->cold[e].version, (uint32_t)h->version);
    OR(t->hot[e].flags, ENTRY_IN_LOG);
    return 1;
}

/* The position of the first item with a version above `version`. */
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

/* Takes items out of the log whose versions every link that counts has acknowledged, those up to
 * `version`; at most `most` of them. */
static void log_trim(table_t *t, uint64_t version, int64_t most)
{
    header_t *h = t->h;
    for (; most-- > 0 && h->log_head < h->log_tail && t->log_version[h->log_head] <= version;
         h->log_head++)
        if (log_live(t, h->log_head))
            AND(t->hot[t->log_entry[h->log_head]].flags, (uint16_t)~ENTRY_IN_LOG);
    if (h->log_head == h->log_tail) {
        STORE(h->log_head, 0);
        STORE(h->log_tail, 0);
    }
}

/* Gives an entry that was attempted its rates (`average`) and a version. Returns 1, or 0 when it
 * was evicted since. */
static inline int collect_entry(table_t *t, uint32_t e, int64_t now, weights_t *weights)
{
    if (!(AND(t->hot[e].flags, (uint16_t)~ENTRY_FLUSH) & ENTRY_USED))
        return 0; /* evicted since */
    average(t, e, now, weights);
    log_append(t, e);
    return 1;
}

/* Prefetches the entries whose attempt bits are set in one word; `first` is that of its lowest
 * bit. */
static inline void collect_ahead(const table_t *t, uint64_t marks, uint32_t first)
{
    for (; marks; marks &= marks - 1)
        fetch_entry(t, first + (uint32_t)__builtin_ctzll(marks));
}

/* Collects the attempts since the last round, from the entry `*from` on, until about `most` are
 * done. `*from` becomes the entry to continue with, or -1 at the end. Returns how many attempts
 * there were. A round begins with 0 and repeats this until the end. */
static int64_t collect_round(table_t *t, int64_t *from, int64_t most, int64_t now)
{
    header_t *h = t->h;
    weights_t weights = {0};
    int64_t count = 0, words = (h->bump + 63) / 64, i = *from / 64;
    /* An entry that asks for a flush from here on is not in this round. */
    if (!*from) {
        STORE(h->flush_count, 0);
        STORE(h->flush_wanted, 0);
    }
    for (; i < words && count < most; i++) {
        if (i + 1 < words)
            collect_ahead(t, LOAD(t->attempts[i + 1]), (uint32_t)(i + 1) * 64);
        uint64_t marks = LOAD(t->attempts[i]);
        for (uint64_t left = marks; left; left &= left - 1)
            count += collect_entry(t, (uint32_t)(i * 64 + __builtin_ctzll(left)), now, &weights);
        /* Only after the entries: a process that is killed before this has lost no attempt. */
        if (marks)
            CLEAR(t->attempts[i], marks);
    }
    /* A take that found its bit still set has been counted before CLEAR, and what is sent from here
     * on must show it: a read that only acquires could be done before the others see CLEAR. */
    FENCE();
    *from = i < words ? i * 64 : -1;
    if (*from < 0)
        h->averaged_ns = now;
    return count;
}

/* Collects only the entries that asked for an early flush. Their attempt bits stay set for the next
 * round. Returns how many there were. */
static int64_t collect_flush(table_t *t, int64_t now)
{
    weights_t weights = {0};
    uint32_t count = LOAD(t->h->flush_count) < FLUSH_SLOTS ? LOAD(t->h->flush_count) : FLUSH_SLOTS;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t e = LOAD(t->flush[i]);
        if (e < t->h->bump)
            collect_entry(t, e, now, &weights);
    }
    STORE(t->h->flush_count, 0);
    STORE(t->h->flush_wanted, 0);
    return count;
}

#endif
