/* Who makes room in a full table: whoever introduced more entries than its part of it. See
 * docs/model.md, "Full keys are silent", and docs/security.md.
 *
 * Half of a table is for the keys that were asked for here. Of the other half each live peer, and
 * all that is relayed, have an equal part. Parts are measured in a sample, so nothing is counted.
 */
#ifndef CRDTBUCKET_LEVEL_CROWDING_H
#define CRDTBUCKET_LEVEL_CROWDING_H

#include "../memory/columns.h"
#include "units.h"

#define VICTIM_SAMPLE 128

/* Entries at the limit, and how many of them each node introduced. */
typedef struct {
    uint32_t entry[VICTIM_SAMPLE];
    uint32_t seen;
    uint16_t of[RELAYED + 1];
} sample_t;

/* So many new entries of a frame make room by others of their introducer, as each costs a sample;
 * the rest of them are dropped. */
#define CROWDED_A_FRAME 100

/* What a new entry did to others. */
typedef struct {
    uint32_t gone; /* an entry that went for it, or NONE */
    int crowded;   /* its introducer had more than its part, and made room by its own */
} room_t;

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

/* How much of its part an introducer has, of `seen`. */
static inline uint32_t crowding(const table_t *t, const sample_t *s, uint32_t introducer)
{
    uint32_t members = t->h->members > 1 ? (uint32_t)t->h->members : 1;
    return s->of[introducer] * (introducer ? 2 * members : 2);
}

/* Who makes room for a new entry: its introducer when that has more than its part, else who has
 * most beyond its part. RELAYED + 1: nobody. */
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

/* Hands an entry over to another peer that is within its part and states takes of its own from the
 * key; returns whether there is one. Else a peer could introduce keys of others, and these would be
 * evicted as its own. */
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

/* Of indebted entries the one that goes for a new one: with the least debt, of whoever pays. Where
 * nobody has more than its part, the least debt of all. Without `any` those of another peer alone
 * may go, which has more than its part. */
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
