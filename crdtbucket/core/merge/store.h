/* What a merge stores: the columns that rose, and rates. */
#ifndef CRDTBUCKET_MERGE_STORE_H
#define CRDTBUCKET_MERGE_STORE_H

#include "../level/rates.h"
#include "../level/unsent_log.h"
#include "../memory/journal.h"
#include "compare.h"

/* What a merge of many entries came to; sums over these entries. */
typedef struct {
    /* Entries merged, ignored, and of buckets that are unknown here; columns refused and capped
     * (see `comparison_t`); entries and columns for which there was no room; and the tokens by
     * which columns rose. */
    int64_t merged, ignored, unknown_bucket, refused_columns, capped_columns, dropped_full, gained;
    /* How many items `merge_out_t` has. */
    uint32_t answer_count, touched_count, gone_count;
    /* The sender had larger counts of the own running epoch, which was given up for a new one. */
    int duplicate_epoch;
    /* Entries that were left out, because the sender has larger counts of the own running epoch. */
    int64_t own_behind;
    /* Entries that advertise a debt so much below the one here that most of the difference is not
     * believed, nor was it only predicted. */
    int64_t lowered;
    /* Tokens by which debts fell because the sender owes less; refunds do not count. */
    int64_t adopted;
    /* New entries for which other entries that the sender had introduced were evicted. */
    int64_t crowded;
    /* Columns that were left out, since no eviction explains their generation. */
    int64_t ahead;
    int64_t rates_cut; /* rates of the sender above what counts in shares */
    /* Entries of a newcomer that brought takes of peers that are silent here. */
    int64_t of_silent;
    /* Nodes that had no rates here before this merge. */
    int64_t newly_rated;
} merge_result_t;

/* Notes that a node has rates here. */
static inline void set_rated(node_t *n, merge_result_t *r)
{
    r->newly_rated += !n->rated;
    n->rated = 1;
}

/* Notes that somebody else than its owner has raised the column `c` of a node, which had `net`
 * tokens, by `brought`. The column by which that node is predicted, this one or one of another of
 * its epochs, keeps what it had at the owner's newest update (`known`), so that `relayed_tokens` is
 * what others brought since. */
static void note_relayed(table_t *t, uint32_t e, uint32_t node, const column_t *c, int64_t net,
                         int64_t brought)
{
    const node_t *n = &t->nodes[node];
    column_t rated = *c;
    if (!column_rated(&rated)) {
        rated = (column_t){0};
        do {
            if (!column_next(t, e, &rated))
                return;
        } while (!column_rated(&rated) || t->origins[column_origin(&rated)].node != node);
    }
    int i = rated.i, same = rated.c == c->c && i == c->i;
    int64_t before = same ? net : column_net(&rated);
    /* Rounds of the owner came without the key, so what it has here was its count at the newest of
     * them. */
    if (seen_later(n, rated.c->last_seen[i])) {
        double fast = unpack_rate(rated.c->fast[i]) * fade(n, rated.c->last_seen[i], fast_ns(t));
        double slow = unpack_rate(rated.c->slow[i]) * fade(n, rated.c->last_seen[i], SLOW_NS);
        rated.c->fast[i] = pack_rate(fast);
        rated.c->slow[i] = pack_rate(slow);
        rated.c->known[i] = (uint64_t)before;
        rated.c->last_seen[i] = stamp_of(n->last_seen);
        if (!column_rated(&rated))
            refresh_near_class(t, e);
    }
    /* The sum is 0, except when the column is of a new generation, or when it is of another epoch
     * than the one with rates. */
    rated.c->known[i] += (uint64_t)(column_net(&rated) - before - brought);
}

/* Stores the columns that rose (`g->raised`). The entry is then sent on if some peer is not
 * connected to the owner of one of them, and only then. A column rises once on every node, so
 * whatever the links are, it reaches every node after finitely many steps, and after that nothing
 * is sent. */
static void store_columns(table_t *t, uint32_t e, const definition_t *d, const merge_context_t *m,
                          const comparison_t *g, merge_result_t *r)
{
    int update = 0;
    for (const wire_column_t *x = g->raised; x < g->raised + g->raised_count; x++) {
        column_t c;
        /* Looked for again, since storing an earlier column may have moved this one. */
        int found = column_find(t, e, x->origin, &c);
        const block_t *was_in = found ? c.block : NULL;
        int64_t net = found ? column_net(&c) : 0,
                before = found && c.c->generation[c.i] == x->generation ? net : 0;
        if (!column_raise(t, e, x, &c, found)) {
            r->dropped_full++;
            continue;
        }
        if (UNLIKELY(c.block != was_in))
            standing_begin(t, d, m, &c, before);
        uint32_t node = t->origins[x->origin].node;
        int64_t brought = x->taken - x->refunded - before;
        update |= m->relays && m->relays[node];
        r->gained += brought;
        if (node && (node != m->source || !m->newer) && t->nodes[node].rated)
            note_relayed(t, e, node, &c, net, brought);
    }
    if (update)
        log_append(t, e);
}

/* Removes the rates of all epochs of a node but `origin`: only one of them has rates at a time.
 * Returns whether another one had any. */
static int clear_other_rates(table_t *t, uint32_t e, uint32_t node, uint32_t origin)
{
    column_t c = {0};
    int changed = 0;
    while (column_next(t, e, &c))
        if (column_rated(&c) && column_origin(&c) != origin
            && t->origins[column_origin(&c)].node == node) {
            c.c->fast[c.i] = c.c->slow[c.i] = 0;
            changed = 1;
        }
    return changed;
}

/* Whether rates of peers are kept for an entry. Slots, for one, are held for a time and not taken
 * at a rate. */
static inline int is_predicted(const table_t *t, uint32_t e)
{
    return !t->definitions[t->hot[e].bucket].unpredicted;
}

/* Stores the rates that the sender advertises of itself. `epochs` is how many epochs it has
 * here. */
static void store_rates(table_t *t, uint32_t e, const merge_context_t *m, const wire_entry_t *w,
                        int epochs, merge_result_t *r)
{
    column_t own;
    int predicted = is_predicted(t, e);
    uint16_t fast = predicted ? w->fast : 0, slow = predicted ? w->slow : 0;
    int changed = epochs > 1 && clear_other_rates(t, e, m->source, m->source_origin),
        had = column_find(t, e, m->source_origin, &own);
    if (!had && (fast | slow) && !t->origins[m->source_origin].tombstone) {
        had = column_new(t, e, m->source_origin, 0, &own);
        r->dropped_full += !had;
    }
    if (had) {
        changed |= own.c->fast[own.i] != fast || own.c->slow[own.i] != slow;
        own.c->fast[own.i] = fast;
        own.c->slow[own.i] = slow;
        double stated = unpack_rate(slow);
        r->rates_cut += claim(&t->definitions[t->hot[e].bucket], stated) < stated;
        own.c->last_seen[own.i] = stamp_of(m->at);
        own.c->known[own.i] = (uint64_t)column_net(&own);
        set_rated(&t->nodes[m->source], r);
    }
    if (changed) {
        note_peak(t, e, m->at);
        refresh_near_class(t, e);
    }
}

/* Whether the rates that a relay advertises of a node, as of the time `at`, are an update of it:
 * the node is known here and not connected, and it was not silent for the relay either. So no rates
 * come together with a silence for which no credit was kept. */
static int is_relayed_update(const table_t *t, const merge_context_t *m, uint32_t origin,
                             int64_t at, int64_t now)
{
    uint32_t node = t->origins[origin].node;
    const node_t *n = &t->nodes[node];
    return origin && node && node != m->source && n->known_by && !n->connected
           && !t->origins[origin].tombstone && now - at <= t->h->near_ns;
}

/* Stores the rates that come with an entry of nodes that are not connected here. */
static void store_relayed_rates(table_t *t, uint32_t e, const merge_context_t *m,
                                const wire_entry_t *w, int64_t now, merge_result_t *r)
{
    const uint8_t *in = w->relayed;
    int changed = 0;
    if (!is_predicted(t, e))
        return;
    for (uint32_t i = 0; i < w->relayed_count; i++) {
        wire_rates_t x = {0};
        /* The bytes were checked before; one such record has 9 bytes at most. */
        in = get_relayed(in, in + 9, &x);
        uint32_t origin = m->tables->origin[x.origin];
        int64_t at = m->at - x.age_ms * MILLISECOND;
        column_t c;
        if (!is_relayed_update(t, m, origin, at, now))
            continue;
        if (!column_find(t, e, origin, &c) && !column_new(t, e, origin, 0, &c)) {
            r->dropped_full++;
            continue;
        }
        if (column_rated(&c) && (int32_t)(stamp_of(at) - c.c->last_seen[c.i]) <= 0)
            continue;
        clear_other_rates(t, e, t->origins[origin].node, origin);
        c.c->fast[c.i] = x.fast;
        c.c->slow[c.i] = x.slow;
        c.c->last_seen[c.i] = stamp_of(at);
        c.c->known[c.i] = (uint64_t)column_net(&c);
        set_rated(&t->nodes[t->origins[origin].node], r);
        changed = 1;
    }
    if (changed) {
        note_peak(t, e, m->at);
        refresh_near_class(t, e);
    }
}

#endif
