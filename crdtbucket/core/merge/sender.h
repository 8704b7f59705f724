/* The sender of a frame, and which columns it is believed about. See docs/model.md, "What a
 * peer is believed". */
#ifndef CRDTBUCKET_MERGE_SENDER_H
#define CRDTBUCKET_MERGE_SENDER_H

#include "../level/peer_rates.h"
#include "../memory/columns.h"
#include "wire.h"

/* What is known of the sender of a frame, and how the frame is to be merged. */
typedef struct {
    uint32_t source; /* the node that sent the frame; 0 for a common store */
    uint32_t source_origin;
    int64_t at; /* when the frame was sent: its receipt less its age, local ns */
    int newer;  /* no later frame of this sender has arrived, so its rates count */
    /* No frame of the sender's epoch with a higher number has arrived, on earlier links either, and
     * the sender made this frame after it was met, or seen again after its last silence. So it has
     * counted no more in its own column than this frame shows, and no relay has brought more. */
    int last_word;
    int64_t answers_since; /* when the first such frame came, local ns */
    int joining;           /* the sender joined without memory: answer all entries that are held */
    /* The sender knows the debts of the mesh, so entries that are suspect here (see suspect.h) give
     * way to its own. */
    int memory;
    /* The sender's debts include the credit that it keeps for silent peers, so this node owes at
     * least what the sender advertises. */
    int keeps_credit;
    /* Peers that were silent to the sender before this process began, by the origin of their
     * column: for how long (ns) they have been. The debts of the sender include the credit that it
     * keeps for them. NULL: there is none. */
    const int64_t *silent;
    /* The sender's process began after a peer fell silent here, so it knows neither how much credit
     * was kept for that peer, nor what was refilled meanwhile. */
    int newcomer;
    /* The sender's process stood still a moment ago, so what it brings was taken just before that,
     * or since. */
    int woke;
    /* The frame was under way too long. Only its counts are used, on columns that are held. */
    int late;
    /* Where the sender has larger counts of this node's own running epoch, they are believed, and a
     * new epoch is opened. */
    int reopen;
    /* By node: whether its columns are sent on, because some peer is not connected to it. NULL:
     * those of no node are. */
    const uint8_t *relays;
    /* The origins and definitions that the positions in the frame mean here. NULL if the frame
     * relays no rates. */
    const wire_tables_t *tables;
    /* The sender is the common store, in which every node writes its own column. */
    int common;
    /* Sums over the earlier parts of the frame: `crowded` and `gone_count` of `merge_result_t`. */
    int64_t crowded, room;
    int64_t most_room; /* about so many entries may look for room in one call; 0: any number */
    int64_t members;   /* the number of members, see lowering.h; `merge_entries` fills it in */
} merge_context_t;

/* Whether the sender may raise a column of this origin. While the owner of a column is connected
 * here under that epoch, only the owner may. */
static inline int trusted(const table_t *t, const merge_context_t *m, uint32_t origin)
{
    uint32_t node = t->origins[origin].node;
    return m->common || node == m->source || node == 0 || !t->nodes[node].connected
           || t->nodes[node].origin != origin;
}

/* No process makes so many entries in a second. The generation of an entry is the number of
 * entries that its process has made by then. */
#define ENTRIES_A_SECOND 1e6

/* Notes that the owner of the column `x` has sent it itself, and its generation is believed. */
static inline void note_generation(table_t *t, const wire_column_t *x)
{
    origin_t *o = &t->origins[x->origin];
    if (UNLIKELY(x->generation > o->generation))
        o->generation = x->generation;
}

/* Whether the owner of the column `x` can have made so many entries that the column has this
 * generation. This follows from the highest generation that the owner itself has sent, and from the
 * time since then. A column with a higher one is left out, since it would hide the owner's own
 * columns for ever. */
COLD static int explained_generation(table_t *t, const merge_context_t *m, const wire_column_t *x,
                                     int64_t now)
{
    const origin_t *o = &t->origins[x->origin];
    if (x->generation > o->generation && o->generation) {
        int64_t since = now - t->nodes[o->node].last_seen;
        double more = ENTRIES_A_SECOND * ((double)(since > 0 ? since : 0) / 1e9 + 5.0);
        if ((double)(x->generation - o->generation) > more)
            return 0;
    }
    if (o->node == m->source && m->source)
        note_generation(t, x);
    return 1;
}

/* Whether the sender, which has an older generation of a column than this node, may nevertheless
 * know of more takes: a relay may have invented the newer generation that is held here. That is
 * possible if neither the sender nor the owner of the column is silent, and the owner has no link
 * here, by which its true generation would be known. */
COLD static int shows_older(const table_t *t, const merge_context_t *m, uint32_t origin,
                            int64_t now)
{
    uint32_t node = t->origins[origin].node;
    return node && node != m->source && !t->nodes[node].connected && !is_silent(t, node, now)
           && m->source && !is_silent(t, m->source, now) && !m->late;
}

/* Whether the sender has updated this column of its own since `answers_since`, in a later unit of
 * its stamp: earlier frames may have come in the same one. */
COLD static int updated_since(const table_t *t, uint32_t e, const merge_context_t *m,
                              uint32_t origin, int64_t now)
{
    column_t c;
    return column_find(t, e, origin, &c) && c.c->last_seen[c.i]
           && stamp_ns(c.c->last_seen[c.i], now) > m->answers_since + (INT64_C(1) << STAMP_SHIFT);
}

/* Whether the owner of a column, which sends it, has counted less than is held here, and is to be
 * believed. While the owner had no link here, or was silent, relays may have raised the column. A
 * bad relay may have raised it to any value, which would hide all that the owner counts from now
 * on. Once the owner has updated the column, only the common store raises it: the store is ahead of
 * the owner while that waits for an answer. */
static inline int owner_corrects(const table_t *t, uint32_t e, const merge_context_t *m,
                                 const wire_column_t *x, const wire_column_t *mine, int64_t now)
{
    return UNLIKELY(x->origin == m->source_origin && m->last_word)
           && (x->generation < mine->generation
               || (x->generation == mine->generation
                   && (x->taken < mine->taken || x->refunded < mine->refunded)))
           && !updated_since(t, e, m, x->origin, now);
}

/* Whether a frame's column `x` of this node's own running epoch has larger counts than this node
 * has. Then another process runs under that epoch, this process has lost counts, or the sender has
 * invented them. While this node waits for answers of a common store, the store may have counted
 * the tokens of these calls (`open_tokens`), and a peer may have read them there. So counts that
 * are larger by no more than these tokens do not qualify. An entry that is not yet of the running
 * epoch has counted nothing under it. */
static int own_is_behind(const table_t *t, uint32_t e, const wire_column_t *x)
{
    const hot_t *hot = &t->hot[e];
    if (hot->origin != x->origin)
        return 1;
    int64_t refunded = own_refunded(t, e), taken = entry_net(t, e) + refunded;
    return x->generation > hot->generation
           || (x->generation == hot->generation
               && (x->taken > taken + t->h->open_tokens || x->refunded > refunded));
}

#endif
