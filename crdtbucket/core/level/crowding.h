/* Which entry is evicted from a full table when none is full: one of whoever introduced more
 * entries than its part of the table. See docs/model.md, "Full keys are silent", and
 * docs/security.md.
 *
 * Half of a table is for the keys that were asked for here. Of the other half each live peer, and
 * all that relays introduced, have equal parts. Parts are measured in a sample, so nothing has to
 * be counted. The *introducer* of an entry is 0 for this node, the number of a peer, or RELAYED. */
#ifndef CRDTBUCKET_LEVEL_CROWDING_H
#define CRDTBUCKET_LEVEL_CROWDING_H

#include "../memory/columns.h"
#include "units.h"

#define VICTIM_SAMPLE 128

/* A sample of the entries of a table at its limit, and how many of them each introducer has. */
typedef struct {
    uint32_t entry[VICTIM_SAMPLE];
    uint32_t seen;
    uint16_t of[RELAYED + 1];
} sample_t;

/* So many new entries of one frame may evict others of their own introducer, as each costs a
 * sample. The rest are dropped. */
#define CROWDED_A_FRAME 100

/* What making room for a new entry did to others. */
typedef struct {
    uint32_t gone; /* the entry that was evicted for it, or NONE */
    int crowded;   /* its introducer had more than its part, so one of its own was evicted */
} room_t;

/* Adds an entry to a sample. One that was asked for here meanwhile counts as introduced here from
 * now on. */
static inline void sample_add(table_t *t, sample_t *s, uint32_t e)
{
    cold_t *cold = &t->cold[e];
    if (entry_net(t, e) > 0 || cold->weight > 0 || is_attempted(t, e))
        cold->introducer = 0;
    else if (cold->introducer > RELAYED)
        cold->introducer = RELAYED;
    s->entry[s->seen++] = e;
    s->of[cold->introducer]++;
}

/* How many of the sample an introducer has, in such a measure that `s->seen` is exactly its
 * part. */
static inline uint32_t crowding(const table_t *t, const sample_t *s, uint32_t introducer)
{
    uint32_t members = t->h->members > 1 ? (uint32_t)t->h->members : 1;
    return s->of[introducer] * (introducer ? 2 * members : 2);
}

/* The introducer whose entry is evicted for a new one of `introducer`: that one itself when it has
 * more than its part, else the one furthest beyond its part. RELAYED + 1: nobody is beyond it. */
static uint32_t who_pays(const table_t *t, const sample_t *s, uint32_t introducer)
{
    uint32_t most = s->seen, pays = RELAYED + 1;
    if (crowding(t, s, introducer) > s->seen)
        return introducer;
    for (uint32_t i = 0; i < s->seen; i++) {
        uint32_t who = t->cold[s->entry[i]].introducer;
        if (crowding(t, s, who) > most) {
            most = crowding(t, s, who);
            pays = who;
        }
    }
    return pays;
}

/* Makes another peer the introducer of an entry, if there is one that is connected, within its
 * part, and takes from the key itself. Returns whether there is. Without this a peer could
 * introduce keys that others use, and these would be evicted as entries of its own. */
static int hand_over(table_t *t, sample_t *s, uint32_t e)
{
    cold_t *cold = &t->cold[e];
    for (column_t c = {0}; c.blocks <= 2 && column_next(t, e, &c);) {
        uint32_t node = t->origins[column_origin(&c)].node;
        if (node && node != cold->introducer && c.c->last_seen[c.i] && column_taken(&c)
            && t->nodes[node].connected && crowding(t, s, node) < s->seen) {
            s->of[cold->introducer]--;
            s->of[node]++;
            cold->introducer = (uint16_t)node;
            return 1;
        }
    }
    return 0;
}

/* Time until an entry is full, in ns. */
static inline i128 time_to_full(const table_t *t, uint32_t e, int64_t now)
{
    const definition_t *d = &t->definitions[t->hot[e].bucket];
    return debt_units(d, LOAD(t->hot[e].base), entry_net(t, e), now) / d->p;
}

/* Which indebted entry of the sample is evicted for a new one of `introducer`: of those of whoever
 * pays for it (`who_pays`) the one with the least debt; where nobody has more than its part, the
 * one with the least debt of all. Without `any` only an entry of another peer that has more than
 * its part may be evicted. Returns NONE when none may. */
static uint32_t sample_victim(table_t *t, sample_t *s, uint32_t introducer, int any, int64_t now,
                              room_t *room)
{
    uint32_t pays = who_pays(t, s, introducer);
    /* A sample of one bucket does not show that a peer has more than its part of the table. */
    room->crowded = any && introducer && pays == introducer;
    if (!any && (!pays || pays == introducer))
        return NONE;
    for (int of_all = 0; of_all <= any; of_all++) {
        uint32_t best = NONE;
        i128 least = 0;
        for (uint32_t i = 0; i < s->seen; i++) {
            uint32_t e = s->entry[i];
            if (!of_all && (t->cold[e].introducer != pays || (pays && hand_over(t, s, e))))
                continue;
            i128 debt = time_to_full(t, e, now);
            if (best == NONE || debt < least) {
                best = e;
                least = debt;
            }
        }
        if (best != NONE)
            return best;
    }
    return NONE;
}

#endif
