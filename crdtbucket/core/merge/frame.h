/* Whole frames: many entries are encoded, parsed or merged in one call. The lock is held. */
#ifndef CRDTBUCKET_MERGE_FRAME_H
#define CRDTBUCKET_MERGE_FRAME_H

#include "../level/advertised.h"
#include "encode.h"
#include "merge.h"

/* Encodes the live items of the log with versions above `*version`, up to `upto`, into the `size`
 * bytes of `out`, until these are used. `*version` becomes the last version that is covered.
 * Returns the bytes written, and in `*count` the entries. */
static size_t encode_log(const table_t *t, uint64_t *version, uint64_t upto,
                         const uint16_t *position, int64_t now, uint8_t *out, size_t size,
                         int64_t *count)
{
    encoder_t to = {t, position, now, NOT_FADED};
    uint8_t *start = out;
    uint64_t tail = t->h->log_tail, i = log_after(t, *version);
    *count = 0;
    if (upto > t->h->version)
        upto = t->h->version; /* what gets a version later is not covered */
    for (; i < tail && t->log_version[i] <= upto; i++) {
        if (i + 8 < tail) {
            __builtin_prefetch(&t->hot[t->log_entry[i + 8]]);
            __builtin_prefetch(&t->cold[t->log_entry[i + 8]]);
            __builtin_prefetch((const char *)&t->cold[t->log_entry[i + 8]] + 64);
        }
        if (log_live(t, i) && !(LOAD(t->hot[t->log_entry[i]].flags) & ENTRY_SUSPECT)) {
            /* A suspect entry is left out. It gets a new version when it is not suspect any
             * more. */
            uint32_t e = t->log_entry[i];
            if ((size_t)(out - start) + entry_space(t, e) > size)
                return (size_t)(out - start);
            out = put_entry(&to, e, out);
            ++*count;
        }
        *version = t->log_version[i];
    }
    if (*version < upto)
        *version = upto;
    return (size_t)(out - start);
}

/* Encodes entries into the `size` bytes of `out`, until these are used: those listed in `entries`,
 * from the item `*from` up to `upto`; or with NULL the indebted entries (with `full` all) from the
 * place `*from` up to `upto`. `*from` becomes where to continue. Returns the bytes written, and in
 * `*count` the entries. */
static size_t encode_entries(const table_t *t, const uint32_t *entries, int64_t *from, int64_t upto,
                             const uint16_t *position, int full, int64_t now, uint8_t *out,
                             size_t size, int64_t *count)
{
    encoder_t to = {t, position, now, NOT_FADED};
    uint8_t *start = out;
    *count = 0;
    for (; *from < upto; ++*from) {
        uint32_t e = entries ? entries[*from] : (uint32_t)*from;
        const hot_t *hot = &t->hot[e];
        if ((LOAD(hot->flags) & (ENTRY_USED | ENTRY_SUSPECT)) != ENTRY_USED)
            continue;
        if (!entries && !full) {
            advertised_t debt = advertised_debt(t, e, entry_net(t, e), now);
            if (!debt.shown && !debt.hidden)
                continue;
        }
        if ((size_t)(out - start) + entry_space(t, e) > size)
            break;
        out = put_entry(&to, e, out);
        ++*count;
    }
    return (size_t)(out - start);
}

/* Parses all entries of a frame before anything is changed: into `out`, which has room for `most`
 * entries, and `columns`, which has room for as many as the bytes can hold (size /
 * COLUMN_MIN_BYTES). Returns how many entries there are; -1 when the frame is malformed. */
static int64_t parse_entries(const uint8_t *in, size_t size, const wire_tables_t *tables,
                             wire_entry_t *out, int64_t most, wire_column_t *columns)
{
    const uint8_t *end = in + size;
    int64_t n = 0;
    while (in < end) {
        if (n == most || !(in = get_entry(in, end, tables, columns, &out[n])))
            return -1;
        columns += out[n++].columns;
    }
    return n;
}

/* How many epochs of a node are known here, and so may have columns. */
static int epochs_of(const table_t *t, uint32_t node)
{
    int epochs = 0;
    for (uint32_t i = 1; i < MAX_ORIGINS; i++)
        epochs += t->origins[i].used && t->origins[i].node == node;
    return epochs;
}

#define MERGE_BLOCK 16

/* A merge of many entries. What comes next of the table is prefetched a block of entries at a time:
 * first the places in the index, then the lines that they lead to. Waits for memory (and for page
 * tables) overlap only when little else is done between them. */
typedef struct {
    table_t *t;
    const wire_entry_t *entries;
    int64_t n;
    /* For this block and the next: which entries of the table they probably are. */
    uint32_t guesses[2][MERGE_BLOCK];
} bulk_t;

/* The end of the block that begins at `from`. */
static inline int64_t bulk_end(const bulk_t *b, int64_t from)
{
    return from + MERGE_BLOCK < b->n ? from + MERGE_BLOCK : b->n;
}

/* Prefetches the places in the index of the block that begins at `from`. */
static void bulk_fetch_slots(const bulk_t *b, int64_t from)
{
    for (int64_t i = from; i < bulk_end(b, from); i++) {
        const uint64_t *slot = &b->t->index[home_slot(b->t, b->entries[i].hi)];
        __builtin_prefetch(slot);
        __builtin_prefetch(slot + 8); /* some entries are found on the next line */
    }
}

/* Looks up the entries of a block in the index, and prefetches their lines. */
static void bulk_fetch_lines(bulk_t *b, int64_t from)
{
    const table_t *t = b->t;
    for (int64_t i = from; i < bulk_end(b, from); i++) {
        const wire_entry_t *w = &b->entries[i];
        uint32_t e = table_guess(t, w->lo, w->hi);
        b->guesses[from / MERGE_BLOCK % 2][i - from] = e;
        if (e == NONE)
            continue;
        fetch_entry(t, e);
        if (t->remembered)
            __builtin_prefetch(&t->remembered[e], 1);
    }
}

/* Merges `n` parsed entries; fewer when `m->most_room` of them have looked for room in a full
 * table. Returns how many were merged. */
static int64_t merge_entries(table_t *t, const wire_entry_t *entries, int64_t n,
                             const wire_definition_t *definitions, const merge_context_t *m,
                             int64_t now, merge_out_t *out)
{
    bulk_t b = {t, entries, n, {{0}}};
    comparison_t comparison;
    memset(comparison.held.place, 0, sizeof comparison.held.place);
    int epochs = epochs_of(t, m->source);
    merge_context_t whole = *m;
    whole.members = members_known(t, m->source);
    bulk_fetch_slots(&b, 0);
    bulk_fetch_lines(&b, 0);
    bulk_fetch_slots(&b, MERGE_BLOCK);
    int64_t from = 0, dropped = out->r.dropped_full, gone = out->r.gone_count;
    for (; from < n; from += MERGE_BLOCK) {
        int64_t looked = out->r.gone_count - gone + out->r.dropped_full - dropped;
        if (m->most_room && looked >= m->most_room)
            break;
        bulk_fetch_lines(&b, from + MERGE_BLOCK);
        bulk_fetch_slots(&b, from + 2 * MERGE_BLOCK);
        for (int64_t i = from; i < bulk_end(&b, from); i++)
            merge_entry(t, &entries[i], b.guesses[from / MERGE_BLOCK % 2][i - from],
                        &definitions[entries[i].definition], &whole, epochs, now, &comparison, out);
    }
    return from < n ? from : n;
}

#endif
