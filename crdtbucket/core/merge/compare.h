/* Compares the columns of a frame's entry with those held here: what only the sender has counted
 * (the entry *brings* it), and what only this node has (the sender *lacks* it). See docs/model.md,
 * "Merge". */
#ifndef CRDTBUCKET_MERGE_COMPARE_H
#define CRDTBUCKET_MERGE_COMPARE_H

#include <stddef.h>
#include <string.h>

#include "../level/earlier_limits.h"
#include "../level/peer_rates.h"
#include "../memory/columns.h"
#include "held.h"
#include "sender.h"
#include "standing.h"
#include "wire.h"

/* By how much the columns of a frame's entry and those held here differ, in tokens, and the columns
 * that rise by the merge. */
typedef struct {
    /* What the entry brings: on columns that are held here in the same generation, and on all
     * others. */
    int64_t brings_held, brings_lacking;
    /* Of both, what was taken by nodes that are silent here. Credit was kept for these. */
    int64_t brings_silent;
    /* Of `brings_silent`, the tokens on columns for which no credit is kept any more, since their
     * owners were given up or were idle. */
    int64_t brings_given_up;
    i128 charged_before; /* of `brings_given_up`, the units that were charged then */
    /* Of `brings_held`, what was taken by nodes that are neither silent nor the sender. They took
     * it just now. */
    int64_t brings_relayed;
    int64_t brings_own; /* of both, what the sender itself has taken */
    /* Of `brings_lacking`, what each column has beyond its last capacity, and no refund gives
     * back (see standing.h). */
    int64_t brings_final;
    /* On columns that only their owners may raise: the tokens that the frame has and this node has
     * not. They do not count yet, since the owners will bring them. */
    int64_t shows;
    int64_t lacks; /* what the sender lacks of the columns here */
    /* Of `lacks`, the tokens that the sender's debt includes already, as the credit that it keeps
     * for peers that are silent to it. Their sum is at most `refilled`, the tokens that were
     * refilled in the longest of these silences. */
    int64_t lacks_credited, refilled;
    int64_t lacks_refunds; /* refunds that the sender lacks, on columns that are not this node's */
    uint32_t raised_count;
    uint32_t refused;    /* columns of others that rise by less than the sender advertises */
    uint32_t capped;     /* columns of the sender that rise by more than is charged */
    uint32_t ahead;      /* columns left out, of a generation that no eviction explains */
    int64_t uncounted;   /* of `capped`: tokens that are not charged */
    int64_t earlier;     /* tokens of rises that the present definition does not explain */
    int older;           /* the sender has an older generation of a column, see `shows_older` */
    int64_t lacks_newer; /* of `lacks`: the newer generations of these columns */
    /* The fields above are cleared for each entry. */
    int mixed; /* the sender has another definition, so the one here does not bound its rises */
    /* The columns that rise, with their new values. They stand in the journal, for a repair. */
    wire_column_t *raised;
    held_t held;
} comparison_t;

/* The tokens in the column `x` that a holder of `y`, or of no column where that is NULL, has not
 * counted. */
static inline int64_t gain(const wire_column_t *x, const wire_column_t *y)
{
    if (!y || y->generation != x->generation)
        return x->taken - x->refunded;
    return (x->taken > y->taken ? x->taken - y->taken : 0)
           - (x->refunded > y->refunded ? x->refunded - y->refunded : 0);
}

#define MOST_TOKENS (INT64_C(1) << 61)

/* Adds tokens of one column (below 2^TOKEN_BITS) to a sum. The sum stays below 2^62: by then it is
 * far beyond every ceiling of debt. */
static inline void add_tokens(int64_t *sum, int64_t tokens)
{
    if (LIKELY(*sum < MOST_TOKENS))
        *sum += tokens;
}

/* Whether the entry has a column of `origin` with rates. */
COLD static int is_rated(const table_t *t, uint32_t e, uint32_t origin)
{
    column_t c;
    return column_find(t, e, origin, &c) && column_rated(&c);
}

/* Returns how many tokens of a column's `rise` are charged. Since the last update of its owner on
 * this key, a column can have risen only as far as the limits of that time allow (`rise_allowed`).
 * What relays advertise beyond that, in one step or in many, is taken out of the column `x`. What
 * the owner itself advertises beyond it stays in the column, because no later update of the owner
 * would be believed otherwise, but it is not charged. A column that its owner has never advertised
 * here is not checked. */
static int64_t believed(const table_t *t, uint32_t e, const definition_t *d,
                        const merge_context_t *m, wire_column_t *x, int64_t rise, int64_t now,
                        comparison_t *g)
{
    column_t c;
    int relayed = t->origins[x->origin].node != m->source;
    if ((rise <= d->capacity && !relayed) || !column_find(t, e, x->origin, &c)
        || !c.c->last_seen[c.i])
        return rise;
    int64_t before = relayed ? (int64_t)((uint64_t)column_net(&c) - c.c->known[c.i]) : 0;
    if (LIKELY(before <= 0))
        before = 0;
    if (LIKELY(rise <= d->capacity - before))
        return rise;
    int64_t since = stamp_ns(c.c->last_seen[c.i], now);
    double most = larger(0.0, rise_allowed(d, since, now) - (double)before);
    if (rose_under_earlier(d, (double)rise, since, now))
        add_tokens(&g->earlier, (double)rise <= most ? rise : (int64_t)most);
    if ((double)rise <= most)
        return rise;
    if (!relayed) {
        g->capped++;
        add_tokens(&g->uncounted, rise - (int64_t)most);
        return (int64_t)most;
    }
    g->refused++;
    x->taken -= rise - (int64_t)most;
    return (int64_t)most;
}

/* Adds tokens that the sender lacks on a column whose owner is silent to it; `refilled` tokens
 * were refilled in that silence. */
COLD static void add_credited(double refilled, int64_t tokens, comparison_t *g)
{
    int64_t most = (int64_t)smaller(refilled, (double)MOST_TOKENS),
            all = g->lacks_credited + (tokens < most ? tokens : most);
    g->refilled = most > g->refilled ? most : g->refilled;
    g->lacks_credited = all < g->refilled ? all : g->refilled;
}

/* Adds tokens that the sender lacks on a column. */
static inline void add_lacking(const merge_context_t *m, const definition_t *d, uint32_t origin,
                               int64_t tokens, comparison_t *g)
{
    add_tokens(&g->lacks, tokens);
    if (tokens < 0 && origin != g->held.own)
        add_tokens(&g->lacks_refunds, -tokens);
    if (UNLIKELY(m->silent) && m->silent[origin] > 0)
        add_credited(d->per_second * (double)m->silent[origin] / 1e9, tokens, g);
}

/* Compares a column of a frame that differs from the one here, or is not held here. */
static void compare_column(table_t *t, uint32_t e, const merge_context_t *m, const definition_t *d,
                           const wire_column_t *x, int64_t now, comparison_t *g)
{
    held_t *h = &g->held;
    uint32_t at = h->place[x->origin];
    int held = at < h->count && h->taken[at] >> TOKEN_BITS == x->origin;
    if (!x->origin || t->origins[x->origin].tombstone)
        return;
    /* The frame has larger counts of this node's own column than this node. That column alone is
     * ignored, so the sender counts as one that lacks all takes of this node. The rest of the entry
     * is merged: otherwise a bad member that has sent two nodes such counts of each other could
     * keep each of them from ever learning what the other one took. */
    if (UNLIKELY(x->origin == h->own) && own_is_behind(t, e, x))
        return;
    wire_column_t mine = {0};
    if (held)
        mine = (wire_column_t){x->origin, h->generation[at], (int64_t)(h->taken[at] & TOKEN_MASK),
                               h->refunded[at]};
    int same_generation = held && x->generation == mine.generation,
        corrects = held && owner_corrects(t, e, m, x, &mine, now);
    if (held && !h->shown[at]) {
        add_lacking(m, d, x->origin, gain(&mine, x), g);
        h->shown[at] = 1;
    }
    if (UNLIKELY(held && x->generation < mine.generation) && shows_older(t, m, x->origin, now)) {
        g->older = 1;
        add_tokens(&g->lacks_newer, gain(&mine, x));
    }
    if (held && LIKELY(!corrects)
        && (x->generation < mine.generation
            || (same_generation && x->taken <= mine.taken && x->refunded <= mine.refunded)))
        return;
    /* A merge never raises this node's own column. Tokens that a late frame has in another
     * generation may have been refilled long ago, so they do not count. */
    if (x->origin == h->own || (m->late && !same_generation))
        return;
    if (!trusted(t, m, x->origin)) {
        add_tokens(&g->shows, gain(x, held ? &mine : NULL));
        /* The sender's debt includes these refunds already. Here they count when their owner
         * advertises them, and they must not count twice. */
        if (same_generation && x->refunded > mine.refunded)
            add_tokens(&g->lacks, x->refunded - mine.refunded);
        return;
    }
    if (UNLIKELY(!same_generation && !m->common && !explained_generation(t, m, x, now))) {
        g->ahead++;
        return;
    }
    wire_column_t *rising = &g->raised[g->raised_count];
    *rising = *x;
    int both = same_generation && LIKELY(!corrects);
    if (both && mine.taken > x->taken)
        rising->taken = mine.taken;
    if (both && mine.refunded > x->refunded)
        rising->refunded = mine.refunded;
    int64_t brought = gain(rising, held ? &mine : NULL);
    if (held && !m->common && !g->mixed)
        brought = believed(t, e, d, m, rising, brought, now, g);
    brought =
        not_refilled(t, e, d, m, x->origin, at, held ? &mine : NULL, same_generation, brought);
    g->raised_count++;
    add_tokens(same_generation ? &g->brings_held : &g->brings_lacking, brought);
    if (!same_generation && brought > d->capacity)
        add_tokens(&g->brings_final, brought - d->capacity);
    uint32_t node = t->origins[x->origin].node;
    if (node == m->source)
        add_tokens(&g->brings_own, brought);
    if (is_silent(t, node, now)) {
        add_tokens(&g->brings_silent, brought);
        if (same_generation && !is_rated(t, e, x->origin))
            add_tokens(&g->brings_given_up, brought);
    } else if (same_generation && node != m->source && brought > 0)
        add_tokens(&g->brings_relayed, brought);
}

/* Compares all columns of an entry with those of the frame. This node's own one has `net`
 * tokens. */
static void compare_columns(table_t *t, uint32_t e, int64_t net, const wire_entry_t *w,
                            const merge_context_t *m, const definition_t *d, int64_t now,
                            comparison_t *g)
{
    held_t *h = &g->held;
    memset(g, 0, offsetof(comparison_t, mixed));
    g->raised = t->journal->column;
    held_open(h, t, e, net);
    for (const wire_column_t *x = w->column; x < w->column + w->columns; x++) {
        uint32_t at = h->place[x->origin];
        int same = at < h->count && h->taken[at] >> TOKEN_BITS == x->origin
                   && h->generation[at] == x->generation;
        if (same && x->origin == m->source_origin) /* a relay may have brought it earlier */
            note_generation(t, x);
        if (LIKELY(same && h->taken[at] == packed(x->origin, x->taken)
                   && h->refunded[at] == x->refunded))
            h->shown[at] = 1;
        else
            compare_column(t, e, m, d, x, now, g);
    }
    for (uint32_t at = 0; at < h->count; at++)
        if (!h->shown[at] && !t->origins[h->taken[at] >> TOKEN_BITS].tombstone)
            add_lacking(m, d, (uint32_t)(h->taken[at] >> TOKEN_BITS),
                        (int64_t)(h->taken[at] & TOKEN_MASK) - h->refunded[at], g);
}

#endif
