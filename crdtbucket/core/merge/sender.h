/* The sender of an entry, and which columns are believed of it. See docs/model.md, "Merge". */
#ifndef CRDTBUCKET_MERGE_SENDER_H
#define CRDTBUCKET_MERGE_SENDER_H

#include "../level/peer_rates.h"
#include "wire.h"

typedef struct {
    uint32_t source; /* node that sent the frame */
    uint32_t source_origin;
    int64_t at; /* receipt less the age of the frame, local ns */
    int newer;  /* no later frame of this source was seen: its rates count */
    /* No frame of its epoch had a higher number, on earlier links either: of its own it has counted
     * no more than it states. */
    int last_word;
    int64_t seen_since; /* when it was met, or was seen again after a silence, local ns */
    int joining;        /* the source has no memory: answer what is held */
    /* The source knows the debts of the mesh, so its entries settle what is suspect here. */
    int memory;
    int keeps_credit; /* as much as the source states is owed here */
    /* Peers that were silent before this process began, by origin: for how long, in ns, the debts
     * include what the source keeps for them. NULL: for nobody. */
    const int64_t *silent;
    /* The source began after a peer fell silent here: it does not know how much was kept for that
     * one, nor what was refilled meanwhile. */
    int newcomer;
    /* The source stood still, and has not completed a round since: it took what it brings just
     * before that or after it. */
    int woke;
    /* Too long under way: counts alone, on columns that are held. */
    int late;
    /* Larger counts of the own running epoch are believed: a new one is opened. */
    int reopen;
    const uint8_t *relays;       /* by node: whether some peer is not connected to it; NULL: none */
    const wire_tables_t *tables; /* of its positions; NULL where no rates are relayed */
    /* The source is the common store, in which every node writes its own column. */
    int common;
    /* What earlier parts of the frame came to, of `merge_result_t`. */
    int64_t crowded, room;
    int64_t most_room; /* so many entries, about, may look for room in one go; 0: any number */
    int64_t members;   /* that are known, see lowering.h; filled in for a whole frame */
} merge_context_t;

/* Only its owner raises a column while that owner is connected here. */
static inline int trusted(const table_t *t, const merge_context_t *m, uint32_t origin)
{
    uint32_t node = t->origins[origin].node;
    return m->common || node == m->source || node == 0 || !t->nodes[node].connected
           || t->nodes[node].origin != origin;
}

/* More entries than a process makes in a second; a generation counts those that it made. */
#define ENTRIES_A_SECOND 1e6

/* Whether a process can have come so far that it shows this generation, by the highest that it
 * showed itself and the time since then. What goes beyond is left out: a column under it would be
 * in the way of its owner's for ever. */
COLD static int explained_generation(table_t *t, const merge_context_t *m, const wire_column_t *x,
                                     int64_t now)
{
    origin_t *o = &t->origins[x->origin];
    if (x->generation > o->generation && o->generation) {
        int64_t since = now - t->nodes[o->node].last_seen;
        double more = ENTRIES_A_SECOND * ((double)(since > 0 ? since : 0) / 1e9 + 5.0);
        if ((double)(x->generation - o->generation) > more)
            return 0;
    }
    if (o->node == m->source && m->source && x->generation > o->generation)
        o->generation = x->generation;
    return 1;
}

/* Whether the sender may know of more takes of a node than the newer generation held here shows,
 * as a relay may have invented that one. Neither it nor the owner is silent, and the owner has no
 * link here, by which its own generation would be known. */
COLD static int shows_older(const table_t *t, const merge_context_t *m, uint32_t origin,
                            int64_t now)
{
    uint32_t node = t->origins[origin].node;
    return node && node != m->source && !t->nodes[node].connected && !is_silent(t, node, now)
           && m->source && !is_silent(t, m->source, now) && !m->late;
}

#endif
