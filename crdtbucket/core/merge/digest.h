/* Digests for anti-entropy: sums over all keys whose hashes lie in a range, which two nodes
 * compare. The index lies in the order of hashes, so such a range is a stretch of it. */
#ifndef CRDTBUCKET_MERGE_DIGEST_H
#define CRDTBUCKET_MERGE_DIGEST_H

#include "../level/units.h"
#include "../memory/columns.h"
#include "../memory/hash.h"
#include "../memory/index.h"

/* Mixes the bits of a number. */
static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ (x >> 32);
}

/* A number that is the same on two nodes if they have the same columns of a key, in whatever
 * order. */
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

#define DIGEST_SLACK 1024 /* room in `items` beyond `most`: a digest ends at a gap of the index */

/* One key of a digest. */
typedef struct {
    uint64_t lo, hi, fingerprint, debt_ns;
} digest_item_t;

#define QUIET_NS (3 * SECOND)

/* Whether an entry is quiet: not attempted here for QUIET_NS, and not updated within that time by a
 * peer whose callers ask for the key. What is in flight differs on all nodes and needs no repair.
 * Updates of an idle peer are repairs and do not count: else two nodes that repair each other again
 * and again would hide the key from this one. */
static inline int is_quiet(const table_t *t, uint32_t e, int64_t now)
{
    return !(LOAD(t->hot[e].flags) & (ENTRY_IN_LOG | ENTRY_SUSPECT)) && !is_attempted(t, e)
           && now - t->cold[e].rated_ns >= QUIET_NS && !is_asked_elsewhere(t, e, QUIET_NS, now);
}

#define SLOTS_A_LOOK 32 /* so many empty slots cost as much as one entry */
#define DIGEST_AHEAD 12

/* Prefetches what the look at the slot some steps further on will need. */
static inline void digest_fetch(const table_t *t, int64_t slot, int64_t slots)
{
    slot += DIGEST_AHEAD;
    uint64_t word = LOAD(t->index[slot < slots ? slot : slot - slots]);
    if (word)
        fetch_entry(t, (uint32_t)word - 1);
}

/* Sums up the fingerprints (`*sum`) and the debts in ns (`*debt_sum`) of the indebted quiet
 * entries, with `all_entries` of all indebted ones, whose `hash_hi` lies in [first, last]. It ends
 * after `most` such entries, or after looking at `looks` entries; a little later, as it goes on to
 * the next gap of the index. `*next` becomes 0 at the end of the range, else the first `hash_hi`
 * that was not covered. `items`, unless NULL, gets the entries, up to `most` + DIGEST_SLACK.
 * Returns how many were summed up. */
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
                /* The range, and what was displaced from it, has ended. */
                break;
            /* At a gap every entry before it has a smaller hash than all after it. */
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
            /* A run of entries over the end of the index belongs to the end, and is met twice. */
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
