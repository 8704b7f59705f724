/* What a table holds, apart from its layout in memory: it must be as before an operation or as
 * after it. */
#ifndef VIEW_H
#define VIEW_H

#include "rig.h"

#define BUCKETS 3
#define VIEW_COLUMNS 20

static const uint64_t NAME[BUCKETS] = {101, 102, 103};

typedef struct {
    uint64_t epoch;
    int64_t generation, taken, refunded;
} view_column_t;

typedef struct {
    /* An entry that is full and has no column counts as none. */
    int exists;
    int unsent;
    int64_t q, capacity, debt_ns;
    int count;
    view_column_t column[VIEW_COLUMNS];
} view_key_t;

typedef struct {
    uint64_t epoch;           /* the running one */
    int64_t allowed[BUCKETS]; /* decisions, as the metrics say */
    int current[BUCKETS];     /* definitions of the name that nothing replaced */
    int epochs;
    view_key_t key[BUCKETS][KEYS];
} view_t;

static void view_add(const table_t *t, view_key_t *v, uint32_t origin, int64_t generation,
                     int64_t taken, int64_t refunded)
{
    if ((!taken && !refunded) || t->origins[origin].tombstone) /* it counts no more */
        return;
    int at = v->count++;
    CHECK(at < VIEW_COLUMNS, "too many columns");
    uint64_t epoch = t->origins[origin].epoch;
    for (; at > 0 && v->column[at - 1].epoch > epoch; at--)
        v->column[at] = v->column[at - 1];
    v->column[at] = (view_column_t){epoch, generation, taken, refunded};
}

static void view_key(const table_t *t, uint32_t e, view_key_t *v)
{
    const hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    column_t c = {0};
    int64_t refunded = own_refunded(t, e), net = entry_net(t, e);
    i128 debt = debt_units(d, hot->base, net, t->virtual_ns);
    CHECK(!hot->generation || hot->origin != t->h->own_origin
              || hot->generation <= t->h->generations,
          "generation %u of %u", hot->generation, t->h->generations);
    v->debt_ns = debt < 0 ? 0 : (int64_t)units_to_ns(d, debt);
    view_add(t, v, hot->origin, hot->generation, net + refunded, refunded);
    while (column_next(t, e, &c))
        if (column_origin(&c) != hot->origin)
            view_add(t, v, column_origin(&c), c.c->generation[c.i], column_taken(&c),
                     column_refunded(&c));
    v->exists = v->count || v->debt_ns;
    v->unsent = (hot->flags & ENTRY_IN_LOG) || is_attempted(t, e);
    v->q = v->exists ? d->q : 0;
    v->capacity = v->exists ? d->capacity : 0;
}

static void view_of(const table_t *t, view_t *v)
{
    memset(v, 0, sizeof *v);
    v->epoch = t->origins[t->h->own_origin].epoch;
    for (int i = 1; i < MAX_ORIGINS; i++)
        v->epochs += t->origins[i].used;
    for (int b = 0; b < BUCKETS; b++) {
        counts_t sum;
        for (uint32_t i = 0; i < t->h->definitions; i++)
            v->current[b] +=
                t->definitions[i].name_hash == NAME[b] && t->definitions[i].next == NONE;
        uint32_t slot = definition_current(t, NAME[b]);
        if (slot == NONE)
            continue;
        counts_total(t, slot, &sum);
        v->allowed[b] = sum.allowed;
        for (int k = 0; k < KEYS; k++) {
            uint32_t e = rig_find(t, NAME[b], k);
            if (e != NONE)
                view_key(t, e, &v->key[b][k]);
        }
    }
}

static int same_level(const view_key_t *a, const view_key_t *b)
{
    return a->exists == b->exists && a->q == b->q && a->capacity == b->capacity
           && a->debt_ns == b->debt_ns;
}

static int same_key(const view_key_t *a, const view_key_t *b)
{
    return same_level(a, b) && a->count == b->count
           && !memcmp(a->column, b->column, sizeof(view_column_t) * (size_t)a->count);
}

/* Whether `b` is as `a`, but that `n` tokens more were taken and given back, which moves no
 * level. */
static int taken_and_returned(const view_key_t *a, const view_key_t *b, int64_t n)
{
    view_key_t moved = *a;
    for (int i = 0; i < a->count; i++) {
        moved.column[i] = (view_column_t){a->column[i].epoch, a->column[i].generation,
                                          a->column[i].taken + n, a->column[i].refunded + n};
        if (same_key(&moved, b))
            return 1;
        moved.column[i] = a->column[i];
    }
    return 0;
}

/* The part that is neither as before an operation nor as after it, or NULL. `returned`: tokens
 * that the operation gives back. */
static const char *judge_views(const view_t *before, const view_t *after, const view_t *is,
                               int64_t returned)
{
    if (is->epoch != before->epoch && is->epoch != after->epoch)
        return "it runs under an epoch that nobody opened";
    for (int b = 0; b < BUCKETS; b++) {
        if (is->allowed[b] != before->allowed[b] && is->allowed[b] != after->allowed[b])
            return "decisions are counted twice, or were lost";
        if (is->current[b] != before->current[b] && is->current[b] != after->current[b])
            return "a bucket has two definitions";
        for (int k = 0; k < KEYS; k++) {
            const view_key_t *x = &before->key[b][k], *y = &after->key[b][k], *z = &is->key[b][k];
            if (!same_key(x, z) && !same_key(y, z)
                && !(returned && taken_and_returned(x, z, returned)))
                return "a key is neither as before nor as after";
            if (z->exists && same_key(x, z) && x->unsent && (y->unsent || !y->exists) && !z->unsent)
                return "what was to be sent is forgotten";
        }
    }
    return NULL;
}

static void view_print(const char *title, const view_t *v)
{
    fprintf(stderr, "%s: epoch %lx\n", title, (unsigned long)v->epoch);
    for (int b = 0; b < BUCKETS; b++) {
        fprintf(stderr, " bucket %d: %d current, %ld allowed\n", b, v->current[b],
                (long)v->allowed[b]);
        for (int k = 0; k < KEYS; k++) {
            const view_key_t *x = &v->key[b][k];
            if (!x->exists)
                continue;
            fprintf(stderr, "  key %d: q %ld debt %ld unsent %d", k, (long)x->q, (long)x->debt_ns,
                    x->unsent);
            for (int i = 0; i < x->count; i++)
                fprintf(stderr, " (%lx %ld %ld %ld)", (unsigned long)x->column[i].epoch,
                        (long)x->column[i].generation, (long)x->column[i].taken,
                        (long)x->column[i].refunded);
            fputc('\n', stderr);
        }
    }
}

#endif
