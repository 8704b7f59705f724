/* A shared table for the native tests, and what the binding does around the core, without an
 * interpreter. */
#ifndef RIG_H
#define RIG_H

#include <Python.h>

#include "../../crdtbucket/core/core.h"

#define KEYS 24
#define NOW (1000 * SECOND)
#define EPOCH UINT64_C(0xe0) /* that a rig begins under */
#define PEER 1               /* node, whose epochs are PEER_EPOCH and on */
#define PEER_EPOCH UINT64_C(0xa0)

#define CHECK(condition, ...)                                               \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                   \
            fputc('\n', stderr);                                            \
            abort();                                                        \
        }                                                                   \
    } while (0)

static const uint64_t HASH_KEY[2] = {17, 23};

/* Collects the changes of a whole round. */
static inline void collect_all(table_t *t)
{
    for (int64_t from = 0; from >= 0;)
        collect_round(t, &from, INT64_MAX, clock_ns(t));
}

static int memory_file(void)
{
    int fd = memfd_create("table", MFD_CLOEXEC);
    CHECK(fd >= 0, "errno %d", errno);
    return fd;
}

static void rig_claim(table_t *t, int worker)
{
    t->workers[worker] = (worker_t){getpid(), worker + 1};
    CHECK(back_counts(t, worker), "no memory");
    t->counts = t->all_counts + (size_t)worker * MAX_DEFINITIONS;
}

static void rig_create(table_t *t, int64_t max_keys)
{
    int error = table_create(t, memory_file(), max_keys, HASH_KEY, 1);
    CHECK(!error, "errno %d", error);
    t->virtual_ns = NOW;
    t->h->spare_epoch = EPOCH;
    CHECK(open_epoch(t), "no origin");
    rig_claim(t, 0);
}

static void rig_destroy(table_t *t)
{
    close(t->fd);
    table_close(t);
}

/* Capacity and T = q / p ns a token. Returns the slot. */
static uint32_t rig_define(table_t *t, uint64_t name, int64_t capacity, int64_t q, int64_t p)
{
    definition_t made = {.q = q,
                         .p = p,
                         .capacity = capacity,
                         .max_debt = capacity,
                         .name_hash = name,
                         .next = NONE,
                         .candidate = NONE,
                         .ring = NONE,
                         .quota = INT64_MAX,
                         .per_second = 1e9 * (double)p / (double)q};
    made.full_ns = (int64_t)((i128)q * capacity / p);
    made.cap_ns = (int64_t)((i128)q * 2 * capacity / p);
    made.flush_tokens = capacity / 20 + 1;
    made.definition_hash = name ^ (uint64_t)q;
    table_lock(t);
    uint32_t old = definition_current(t, name), slot = definition_free_slot(t, clock_ns(t));
    CHECK(slot != NONE, "no slot");
    definition_place(t, slot, &made, old, clock_ns(t));
    table_unlock(t);
    return slot;
}

static void key_hash(uint64_t name, int key, uint64_t *lo, uint64_t *hi)
{
    keyed_hash(HASH_KEY, name, (const uint8_t *)&key, sizeof key, lo, hi);
}

static uint32_t rig_find(const table_t *t, uint64_t name, int key)
{
    uint64_t lo, hi;
    key_hash(name, key, &lo, &hi);
    return table_find(t, lo, hi);
}

/* Takes as the binding does. `slot` follows the definition of the bucket when the lock is held.
 * `locked` counts how often it was, and `evicted` the entries that were evicted for that. */
static int rig_take(table_t *t, uint64_t name, uint32_t *follow, int key, int64_t n, outcome_t *o,
                    int *locked, int *evicted)
{
    uint32_t slot = *follow, e, gone;
    definition_t *d = &t->definitions[slot];
    uint64_t lo, hi, word;
    key_hash(name, key, &lo, &hi);
    e = table_find(t, lo, hi);
    for (*locked = 0; !entry_open(t, e, lo, hi, slot, &word)
                      || take(t, d, e, n, 0, clock_ns(t), word, o) == NEEDS_LOCK;) {
        ++*locked;
        table_lock(t);
        /* A process would define its bucket again. */
        if ((slot = definition_current(t, name)) == NONE) {
            table_unlock(t);
            return DENIED;
        }
        *follow = slot;
        d = &t->definitions[slot];
        int got = entry_for_take(t, d, slot, lo, hi, n, clock_ns(t), &e, &gone);
        table_unlock(t);
        *evicted += gone != NONE;
        if (got != ALLOWED)
            return DENIED;
    }
    return o->allowed;
}

static int take_simply(table_t *t, uint32_t slot, int key, int64_t n)
{
    outcome_t o;
    int locked, evicted = 0;
    return rig_take(t, t->definitions[slot].name_hash, &slot, key, n, &o, &locked, &evicted);
}

/* What a peer advertises of one key. */
typedef struct {
    uint32_t slot;
    int key;
    int64_t debt_ns;
    uint32_t columns;
    wire_column_t column[16];
} statement_t;

static void rig_merge(table_t *t, const statement_t *statements, int64_t n)
{
    wire_entry_t entries[8] = {0};
    wire_definition_t definitions[8];
    uint32_t scratch[4][8];
    merge_out_t out = {scratch[0], scratch[1], scratch[2], {0}};
    merge_context_t m = {
        .source = PEER, .source_origin = origin_find(t, PEER_EPOCH), .at = clock_ns(t), .newer = 1};
    for (int64_t i = 0; i < n; i++) {
        const statement_t *s = &statements[i];
        const definition_t *d = &t->definitions[s->slot];
        definitions[i] = (wire_definition_t){s->slot, 1, d->q, d->p};
        entries[i] = (wire_entry_t){.definition = (uint32_t)i,
                                    .columns = s->columns,
                                    .debt_ns = s->debt_ns,
                                    .fast = 7,
                                    .slow = 9,
                                    .column = s->column};
        key_hash(d->name_hash, s->key, &entries[i].lo, &entries[i].hi);
    }
    table_lock(t);
    merge_entries(t, entries, n, definitions, &m, clock_ns(t), &out);
    table_unlock(t);
}

#endif
