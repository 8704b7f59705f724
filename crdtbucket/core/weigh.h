/* What an entry of the wire brings to the columns held here, and what it lacks of them. See docs/model.md, "Merge". */
#ifndef CRDTBUCKET_WEIGH_H
#define CRDTBUCKET_WEIGH_H

#include "codec.h"
#include "earlier.h"

typedef struct {
    uint32_t source;                  /* node that sent the frame */
    uint32_t source_origin;
    int64_t at;                       /* receipt less half the round trip, local ns */
    int newer;                        /* no later frame of this source was seen: its rates count */
    int joining;                      /* the source has no memory: answer what is held */
    int memory;                       /* the source knows what the mesh owes: it settles what is suspect here */
    int late;                         /* too long under way: counts alone, on columns that are held */
    const uint8_t *relays;            /* by node: some peer does not hear it; NULL: all hear all */
    const wire_tables_t *tables;      /* of its positions; NULL where no rates are relayed */
    int common;                       /* the source is the common store, in which every node writes its own column */
} merge_context_t;

#define MAX_HELD (MAX_ORIGINS + 2 * INLINE_COLUMNS)

/* The columns of an entry, copied, with mine as it counts now: each of the wire's meets its own in one step. */
typedef struct {
    uint64_t taken[MAX_HELD];
    int64_t refunded[MAX_HELD];
    uint32_t birth[MAX_HELD];
    uint8_t shown[MAX_HELD];          /* by the sender, or nothing to be shown */
    uint16_t place[MAX_ORIGINS];      /* of an origin; believed when the column there is of that origin: never cleared */
    uint32_t count, own;              /* mine is the last one, its origin is `own` */
} held_t;

/* Tokens that a wire entry and the columns here have over one another, and the columns that rise. */
typedef struct {
    int64_t brings_held, brings_lacking; /* gain of joined over mine: on columns I hold (same birth), and of others */
    int64_t brings_silent;            /* of both, on columns of nodes that were silent here: the credit was kept for them */
    int64_t lacks;                    /* gain of mine over theirs */
    uint32_t raised_count;
    uint32_t refused;                 /* columns of others that rise by a part of what is stated */
    uint32_t capped;                  /* columns of the sender that rise by more than is counted */
    int earlier;                      /* a rise that the definition of now does not explain */
    int mixed;                        /* under another definition, whose capacity is not known here */
    wire_column_t *raised;            /* in the journal, which is to say them to a repair */
    held_t held;
} weighed_t;

static inline uint64_t packed(uint32_t origin, int64_t taken) { return (uint64_t)origin << TOKEN_BITS | (uint64_t)taken; }

/* Tokens in (birth, taken, refunded) that a holder of the other has not counted. */
static inline int64_t gain(uint32_t xb, int64_t xp, int64_t xn, int held, uint32_t yb, int64_t yp, int64_t yn)
{
    if (!held || yb != xb)
        return xp - xn;
    return (xp > yp ? xp - yp : 0) - (xn > yn ? xn - yn : 0);
}

#define MOST_TOKENS (INT64_C(1) << 61)

/* Adds tokens of one column, below 2^TOKEN_BITS, to a sum that stays below 2^62: it is far beyond every ceiling of debt then. */
static inline void add_tokens(int64_t *sum, int64_t tokens)
{
    if (LIKELY(*sum < MOST_TOKENS))
        *sum += tokens;
}

/* A column of an owner that is heard here directly rises by the owner's word alone. */
static inline int trusted(const table_t *t, const merge_context_t *m, uint32_t origin)
{
    uint32_t node = t->origins[origin].node;
    return m->common || node == m->source || node == 0 || !t->nodes[node].connected || t->nodes[node].origin != origin;
}

/* The tokens of a column's rise that count. A column rises, since its owner was last heard on this key, as far as any limit of
 * that time allows. What a relay states beyond that is left out; what the owner states itself is stored, or no later word of
 * it would be believed, and counts up to there. A column that its owner has never stated here is not checked. */
static int64_t believed(const table_t *t, uint32_t e, const definition_t *d, const merge_context_t *m, wire_column_t *x,
                        int64_t rise, int64_t now, weighed_t *g)
{
    column_t c;
    if (LIKELY(rise <= d->capacity) || !column_find(t, e, x->origin, &c) || !c.c->heard[c.i])
        return rise;
    int64_t since = stamp_ns(c.c->heard[c.i], now);
    double most = rise_allowed(d, since, now);
    g->earlier |= rose_under_earlier(d, (double)rise, since, now);
    if ((double)rise <= most)
        return rise;
    if (t->origins[x->origin].node == m->source) {
        g->capped++;
        return (int64_t)most;
    }
    g->refused++;
    x->taken -= rise - (int64_t)most;
    return (int64_t)most;
}

static inline void held_add(held_t *h, const columns_t *c, const uint64_t *refunded)
{
    for (int i = 0; i < INLINE_COLUMNS; i++) {
        uint32_t at = h->count++;
        h->taken[at] = c->taken[i];
        h->refunded[at] = refunded ? (int64_t)refunded[i] : 0;
        h->birth[at] = c->birth[i];
        h->shown[at] = !c->taken[i];
        h->place[c->taken[i] >> TOKEN_BITS] = (uint16_t)at;
    }
}

static inline void held_open(held_t *h, const table_t *t, uint32_t e, int64_t net)
{
    const hot_t *hot = &t->hot[e];
    const cold_t *cold = &t->cold[e];
    int64_t refunded = 0;
    h->own = hot->origin;
    h->count = 0;
    held_add(h, &cold->columns, NULL);
    if (UNLIKELY(cold->overflow != NONE)) {
        for (uint32_t b = cold->overflow; b != NONE && h->count + INLINE_COLUMNS < MAX_HELD; b = t->blocks[b].next)
            held_add(h, &t->blocks[b].columns, t->blocks[b].refunded);
        uint32_t stored = h->place[h->own];               /* my refunds */
        if (stored < h->count && h->taken[stored] >> TOKEN_BITS == h->own) {
            refunded = h->refunded[stored];
            h->shown[stored] = 1;
        }
    }
    uint32_t at = h->count++;
    h->taken[at] = packed(h->own, net + refunded);
    h->refunded[at] = refunded;
    h->birth[at] = hot->birth;
    h->shown[at] = 0;
    h->place[h->own] = (uint16_t)at;
}

/* Whether a node has been silent here beyond the near horizon, so that credit is kept for it. This node itself never is. */
static inline int is_silent(const table_t *t, uint32_t node, int64_t now)
{
    return node && now - t->nodes[node].heard > t->h->near_ns;
}

/* A column that differs from the one here, if there is one. */
static void weigh_column(const table_t *t, uint32_t e, const merge_context_t *m, const definition_t *d, const wire_column_t *x,
                         int64_t now, weighed_t *g)
{
    held_t *h = &g->held;
    uint32_t at = h->place[x->origin];
    int held = at < h->count && h->taken[at] >> TOKEN_BITS == x->origin;
    if (!x->origin || t->origins[x->origin].marked)
        return;
    uint32_t birth = held ? h->birth[at] : 0;
    int64_t taken = held ? (int64_t)(h->taken[at] & TOKEN_MASK) : 0, refunded = held ? h->refunded[at] : 0;
    int same_birth = held && x->birth == birth;
    if (held && !h->shown[at]) {
        add_tokens(&g->lacks, gain(birth, taken, refunded, 1, x->birth, x->taken, x->refunded));
        h->shown[at] = 1;
    }
    if (held && (x->birth < birth || (same_birth && x->taken <= taken && x->refunded <= refunded)))
        return;
    if (x->origin == h->own || (m->late && !same_birth))  /* never larger there than here; history, for all I know */
        return;
    if (!trusted(t, m, x->origin)) {
        /* Their level has refunds in it that will be counted here when the owner states them: not twice. */
        if (same_birth && x->refunded > refunded)
            add_tokens(&g->lacks, x->refunded - refunded);
        return;
    }
    wire_column_t *joined = &g->raised[g->raised_count];
    *joined = *x;
    if (same_birth) {
        joined->taken = x->taken > taken ? x->taken : taken;
        joined->refunded = x->refunded > refunded ? x->refunded : refunded;
    }
    int64_t brought = gain(x->birth, joined->taken, joined->refunded, held, birth, taken, refunded);
    if (same_birth && !m->common && !g->mixed)
        brought = believed(t, e, d, m, joined, brought, now, g);
    g->raised_count++;
    add_tokens(same_birth ? &g->brings_held : &g->brings_lacking, brought);
    if (is_silent(t, t->origins[x->origin].node, now))
        add_tokens(&g->brings_silent, brought);
}

/* Weighs all columns of an entry against those of the wire; mine has `net`. */
static void weigh(const table_t *t, uint32_t e, int64_t net, const wire_entry_t *w, const merge_context_t *m,
                  const definition_t *d, int64_t now, weighed_t *g)
{
    held_t *h = &g->held;
    g->brings_held = g->brings_lacking = g->brings_silent = g->lacks = 0;
    g->raised_count = g->refused = g->capped = 0;
    g->earlier = 0;
    g->raised = t->journal->column;
    held_open(h, t, e, net);
    for (const wire_column_t *x = w->column; x < w->column + w->columns; x++) {
        uint32_t at = h->place[x->origin];
        if (LIKELY(at < h->count && h->taken[at] == packed(x->origin, x->taken) && h->birth[at] == x->birth
                   && h->refunded[at] == x->refunded))
            h->shown[at] = 1;
        else
            weigh_column(t, e, m, d, x, now, g);
    }
    for (uint32_t at = 0; at < h->count; at++)
        if (!h->shown[at] && !t->origins[h->taken[at] >> TOKEN_BITS].marked)
            add_tokens(&g->lacks, (int64_t)(h->taken[at] & TOKEN_MASK) - h->refunded[at]);
}

#endif
