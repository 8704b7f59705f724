/* Digests for anti-entropy. The index lies in the order of hashes, so a range of them is a stretch
 * of it. */
#ifndef CRDTBUCKET_MERGE_DIGEST_H
#define CRDTBUCKET_MERGE_DIGEST_H

#include "../level/units.h"
#include "../memory/columns.h"
#include "../memory/hash.h"
#include "../memory/index.h"

static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ (x >> 32);
}

/* Of the columns, in any order. */
static uint64_t fingerprint(const table_t *t, uint32_t e)
{
    const hot_t *hot = &t->hot[e];
    uint64_t sum = 0;
    int64_t refunded = own_refunded(t, e);
    if (hot->origin && !t->origins[hot->origin].tombstone && entry_net(t, e) + refunded)
        sum += mix(mix(t->origins[hot->origin].epoch ^ hot->generation)
                   + (uint64_t)(entry_net(t, e) + refunded) * 3 + (uint64_t)refunded);
    for (column_t c = {0}; column_next(t, e, &c);) {
        uint32_t origin = column_origin(&c);
        if (origin == hot->origin || t->origins[origin].tombstone || !column_taken(&c))
            continue;
        sum += mix(mix(t->origins[origin].epoch ^ c.c->generation[c.i])
                   + (uint64_t)column_taken(&c) * 3 + (uint64_t)column_refunded(&c));
    }
    return mix(sum ^ hot->hash_lo ^ ROTL64(hot->hash_hi, 32));
}

#define DIGEST_SLACK 1024 /* items beyond `most` until the index has a gap */

typedef struct {
    uint64_t lo, hi, fingerprint, debt_ns;
} digest_item_t;

#define QUIET_NS (3 * SECOND)

/* Neither attempted here lately, nor updated lately by a peer whose callers ask for the key: what
 * is in flight differs on all nodes, and needs no repair. Updates of an idle peer are repairs. They
 * do not count, else two that repair each other again and again would hide the key from this node.
 */
static inline int is_quiet(const table_t *t, uint32_t e, int64_t now)
{
    return !(LOAD(t->hot[e].flags) & (ENTRY_IN_LOG | ENTRY_SUSPECT)) && !is_attempted(t, e)
           && now - t->cold[e].rated_ns >= QUIET_NS && !is_asked_elsewhere(t, e, QUIET_NS, now);
}

#define SLOTS_A_LOOK 32 /* slots that are empty cost as much as an entry */
#define DIGEST_AHEAD 12

/* The lines that the look at a slot some steps on will need. */
static inline void digest_fetch(const table_t *t, int64_t slot, int64_t slots)
{
    slot += DIGEST_AHEAD;
    uint64_t word = LOAD(t->index[slot < slots ? slot : slot - slots]);
    if (word)
        fetch_entry(t, (uint32_t)word - 1);
}

/* Sums up indebted quiet entries (with `all_entries` the others too) with hash_hi in [first, last],
 * at most `most`, and looks at `looks` entries at most: a little more, up to a gap. `*next` becomes
 * the place to continue with: 0 at the end of the range, else the first hash_hi that was not
 * covered. `items` may be NULL when only the sums are wanted. */
static int64_t digest_range(const table_t *t, uint64_t first, uint64_t last, int64_t most,
                            int64_t looks, int64_t now, int all_entries, digest_item_t *items,
                            uint64_t *sum, uint64_t *debt_sum, uint64_t *next)
{
    int64_t slot = home_slot(t, first), slots = t->h->index_slots, end = home_slot(t, last),
            count = 0, looked = 0;
    *sum = *debt_sum = *next = 0;
    const int64_t start = slot;
    for (int64_t steps = 0; steps < 2 * slots; steps++, slot = slot + 1 == slots ? 0 : slot + 1) {
        uint64_t word = LOAD(t->index[slot]);
        digest_fetch(t, slot, slots);
        int past_end = steps > end - start, wrapped = start + steps >= slots;
        if (!word) {
            if (past_end || steps == end - start)
                /* Beyond the range and its displaced entries. */
                break;
            /* A gap: every entry before it has a smaller hash. */
            if (count >= most || looked >= looks || steps / SLOTS_A_LOOK >= looks) {
                *next = (uint64_t)((((u128)(slot + 1)) << 64) / (u128)slots) + 1;
                break;
            }
            continue;
        }
        looked++;
        uint32_t e = (uint32_t)word - 1;
        const hot_t *hot = &t->hot[e];
        if (hot->hash_hi < first || hot->hash_hi > last)
            continue;
        if ((home_slot(t, hot->hash_hi) > slot) != wrapped)
            /* A run over the end belongs to the end, and is seen twice. */
            continue;
        const definition_t *d = &t->definitions[hot->bucket];
        i128 debt = debt_units(d, LOAD(hot->base), entry_net(t, e), now) / d->p;
        if (debt <= 0 || (!all_entries && !is_quiet(t, e, now)))
            continue;
        uint64_t print = fingerprint(t, e);
        *sum += print;
        *debt_sum += (uint64_t)debt;
        if (items && count < most + DIGEST_SLACK)
            items[count] = (digest_item_t){hot->hash_lo, hot->hash_hi, print, (uint64_t)debt};
        count++;
    }
    return count;
}

#endif
