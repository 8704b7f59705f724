/* Whole frames: the bulk forms of encode and merge. */
#ifndef CRDTBUCKET_FRAME_H
#define CRDTBUCKET_FRAME_H

#include "merge.h"

/* Encodes live items of the log above `*version`, up to `upto`, until `size` bytes are used. `*version` becomes the last
 * one covered. Returns the bytes; `*count` the entries. */
static size_t encode_log(const table_t *t, uint64_t *version, uint64_t upto, const uint16_t *position, int64_t now,
                         uint8_t *out, size_t size, int64_t *count)
{
    uint8_t *start = out;
    uint64_t tail = t->h->log_tail, i = log_after(t, *version);
    *count = 0;
    if (upto > t->h->version)
        upto = t->h->version;                           /* what comes later is not covered */
    for (; i < tail && t->log_version[i] <= upto; i++) {
        if (i + 8 < tail) {
            __builtin_prefetch(&t->hot[t->log_entry[i + 8]]);
            __builtin_prefetch(&t->cold[t->log_entry[i + 8]]);
            __builtin_prefetch((const char *)&t->cold[t->log_entry[i + 8]] + 64);
        }
        if (log_live(t, i)) {
            uint32_t e = t->log_entry[i];
            if ((size_t)(out - start) + entry_space(t, e) > size)
                return (size_t)(out - start);
            out = put_entry(t, e, position, now, out);
            ++*count;
        }
        *version = t->log_version[i];
    }
    if (*version < upto)
        *version = upto;
    return (size_t)(out - start);
}

/* Encodes the given entries, or with `entries` NULL the indebted ones from `*from` on, until `size` bytes are used. */
static size_t encode_entries(const table_t *t, const uint32_t *entries, int64_t *from, int64_t upto,
                             const uint16_t *position, int64_t now, uint8_t *out, size_t size, int64_t *count)
{
    uint8_t *start = out;
    *count = 0;
    for (; *from < upto; ++*from) {
        uint32_t e = entries ? entries[*from] : (uint32_t)*from;
        const hot_t *hot = &t->hot[e];
        if (!(hot->flags & ENTRY_USED))
            continue;
        if (!entries && debt_units(&t->definitions[hot->bucket], hot->base, hot->net, now) <= 0)
            continue;
        if ((size_t)(out - start) + entry_space(t, e) > size)
            break;
        out = put_entry(t, e, position, now, out);
        ++*count;
    }
    return (size_t)(out - start);
}

/* Parses all entries of a frame before anything is changed. Returns how many, or -1 when malformed. */
static int64_t parse_entries(const uint8_t *in, size_t size, uint32_t definitions, uint32_t origins, wire_entry_t *out,
                             int64_t most)
{
    const uint8_t *end = in + size;
    int64_t n = 0;
    while (in < end) {
        if (n == most || !(in = get_entry(in, end, definitions, origins, &out[n])))
            return -1;
        n++;
    }
    return n;
}

/* Merges parsed entries; `positions` picks some of them, or NULL all. */
static void merge_entries(table_t *t, const wire_entry_t *entries, const uint32_t *positions, int64_t n,
                          const wire_definition_t *definitions, const uint16_t *origins, const merge_context_t *m,
                          int64_t now, merge_out_t *out)
{
    followed_t followed;
    for (int64_t i = 0; i < n; i++) {
        if (!positions && i + 32 < n)
            __builtin_prefetch(&t->index[home_slot(t, entries[i + 32].hi)]);
        if (!positions && i + 16 < n) {
            uint32_t e = table_guess(t, entries[i + 16].lo, entries[i + 16].hi);
            if (e != NONE) {
                const char *cold = (const char *)&t->cold[e];
                __builtin_prefetch(&t->hot[e], 1);
                __builtin_prefetch(cold, 1);
                __builtin_prefetch(cold + 64, 1);        /* a record may lie on three lines */
                __builtin_prefetch(cold + sizeof(cold_t) - 1, 1);
            }
        }
        uint32_t at = positions ? positions[i] : (uint32_t)i;
        const wire_entry_t *w = &entries[at];
        if (!merge_entry(t, w, &definitions[w->definition], origins, m, now, &followed, out))
            out->deferred[out->r.deferred_count++] = at;
    }
}

#endif
