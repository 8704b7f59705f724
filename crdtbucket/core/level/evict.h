/* Eviction: full keys leave when they are idle; when the table is full, which entry is evicted. */
#ifndef CRDTBUCKET_LEVEL_EVICT_H
#define CRDTBUCKET_LEVEL_EVICT_H

#include "crowding.h"
#include "renew.h"
#include "taken.h"

/* Whether the bucket of an entry, as it was when `word` was read, is full, and no take is noted
 * that a credit may hide. */
static inline int is_full(const table_t *t, uint32_t e, uint64_t word, int64_t now)
{
    const hot_t *hot = &t->hot[e];
    return debt_units(&t->definitions[hot->bucket], LOAD(hot->base), net_of(word), now) <= 0
           && taken_lately(t, e, &t->definitions[hot->bucket], now) <= 0;
}

/* Whether an entry may be evicted although the table has room: it is full; every live link has
 * acknowledged it; it has been idle for `grace_ns`, here and at the peers; and it has no rates of a
 * peer that has been silent for yet another near horizon (a member behind several relays is often
 * silent for a moment, between two rounds). Rates of a peer whose callers ask for the key must
 * stay: by them its takes are predicted once it is silent, and then it cannot send them again. */
static inline int is_evictable(const table_t *t, uint32_t e, uint64_t word, int64_t now)
{
    uint16_t flags = LOAD(t->hot[e].flags);
    return (flags & ENTRY_USED) && !(flags & ENTRY_IN_LOG) && !is_attempted(t, e)
           && !((flags & ENTRY_RATED) && now - t->h->near_ns >= LOAD(t->h->far_free_until))
           && !((flags & ENTRY_RATED) && is_asked_elsewhere(t, e, t->h->grace_ns, now))
           && now - t->cold[e].rated_ns > t->h->grace_ns && is_full(t, e, word, now);
}

/* Removes an entry if it is still as it was when `word` was read. Returns 0 when a call has taken
 * from it since. */
static int evict(table_t *t, uint32_t e, uint64_t word, int64_t now)
{
    t->journal->undo.busy = e;
    if (!CAS(t->hot[e].word, word, word | BUSY))
        return 0;
    if (is_full(t, e, word, now))
        t->h->evicted_full++;
    else
        t->h->evicted_indebted++;
    entry_remove(t, e);
    return 1;
}

/* Evicts what may be evicted of the next `most` entries, around the end. Returns how many that
 * were; `gone` gets their numbers. */
static int64_t sweep(table_t *t, int64_t most, int64_t now, uint32_t *gone)
{
    header_t *h = t->h;
    int64_t evicted = 0;
    if (most > h->bump)
        most = h->bump;
    for (int64_t i = 0; i < most; i++) {
        if (h->sweep_cursor >= h->bump)
            h->sweep_cursor = 0;
        uint32_t e = h->sweep_cursor++;
        if (LOAD(t->hot[e].flags) & ENTRY_USED)
            follow_definition(t, e, now);
        uint64_t word = LOAD(t->hot[e].word);
        if (is_evictable(t, e, word, now) && evict(t, e, word, now))
            gone[evicted++] = e;
    }
    return evicted;
}

/* After so many entries the search for a full one to evict ends, if it has found one that is
 * sent. */
#define FULL_LOOKS 5

/* Which of the full entries that were looked at is evicted: one that is sent, before one that is
 * not; and of these the one that nobody has asked for the longest, here or at a peer. Its rates of
 * peers go with it: what these take now would not be predicted, and what a silent one took would be
 * charged when it comes. */
typedef struct {
    uint32_t entry; /* or NONE */
    /* 1: it is to be sent with the next round, or some link has not acknowledged it. */
    int unsent;
    int64_t asked; /* local ns at which it was last asked for */
} idle_t;

/* Looks at one entry: a full one may become `idle`. What is not full, or not sent, is added to the
 * sample. */
static inline void sample_look(table_t *t, sample_t *s, uint32_t e, int64_t now, idle_t *idle)
{
    follow_definition(t, e, now);
    int unsent = 1;
    if (is_full(t, e, LOAD(t->hot[e].word), now)) {
        int64_t here = t->cold[e].weight > 0 ? t->cold[e].rated_ns : 0,
                there = asked_elsewhere(t, e, now), asked = here > there ? here : there;
        unsent = (LOAD(t->hot[e].flags) & ENTRY_IN_LOG) || is_attempted(t, e);
        if (idle->entry == NONE || unsent < idle->unsent
            || (unsent == idle->unsent && asked < idle->asked))
            *idle = (idle_t){e, unsent, asked};
    }
    if (unsent)
        sample_add(t, s, e);
}

/* Whether a sample is large enough after so many looks. */
static inline int sample_ends(const sample_t *s, const idle_t *idle, int64_t looks)
{
    return s->seen >= VICTIM_SAMPLE
           || (looks >= FULL_LOOKS && idle->entry != NONE && !idle->unsent);
}

static inline void sample_fetch(const table_t *t, uint32_t e)
{
    __builtin_prefetch(&t->hot[e]);
    __builtin_prefetch(&t->cold[e]);
}

/* Looks at entries from all over the table, since those that one peer introduced lie together. The
 * step is a prime that is larger than every table, so each entry is met once. Returns a full entry,
 * or NONE and the sample. */
static uint32_t sample_table(table_t *t, sample_t *s, int64_t now)
{
    header_t *h = t->h;
    uint64_t bump = (uint64_t)h->bump, step = UINT64_C(2654435761) % bump,
             at = h->room_cursor % bump, ahead = (at + 8 * step) % bump;
    idle_t idle = {NONE, 0, 0};
    int64_t looks = 0;
    for (uint64_t i = 0; i < bump && !sample_ends(s, &idle, looks); i++) {
        uint32_t e = (uint32_t)at;
        at = at + step < bump ? at + step : at + step - bump;
        ahead = ahead + step < bump ? ahead + step : ahead + step - bump;
        sample_fetch(t, (uint32_t)ahead);
        if (LOAD(t->hot[e].flags) & ENTRY_USED) {
            sample_look(t, s, e, now, &idle);
            looks++;
        }
    }
    h->room_cursor = (uint32_t)at;
    return idle.entry;
}

/* The same among the entries of one definition. The next sample goes on behind this one. */
static uint32_t sample_ring(table_t *t, definition_t *d, sample_t *s, int64_t now)
{
    idle_t idle = {NONE, 0, 0};
    for (int64_t looks = 0; looks < d->entries && !sample_ends(s, &idle, looks); looks++) {
        uint32_t e = d->ring;
        /* Before the entry is looked at, since that may move it to another definition. */
        d->ring = t->rings[e].next;
        sample_fetch(t, d->ring);
        sample_look(t, s, e, now, &idle);
    }
    return idle.entry;
}

/* Evicts one entry when the table, or a bucket, is at its limit: a full one that is sent and idle,
 * else any full one, else the one with the least confirmed debt (as time to full), of whoever
 * introduced more than its part (crowding.h). It looks at some 128, so that the cost is bounded.
 * `bucket` limits it to one definition, within which no indebted entry of this node is evicted;
 * NONE does not limit it. `introducer` is that of the new entry. Returns the entry, which is also
 * `room->gone`, or NONE. */
RARELY static uint32_t make_room(table_t *t, uint32_t bucket, uint32_t introducer, int64_t now,
                                 room_t *room)
{
    sample_t s;
    memset(s.of, 0, sizeof s.of);
    s.seen = 0;
    if (!t->h->bump)
        return NONE;
    uint32_t e = bucket == NONE ? sample_table(t, &s, now)
                                : sample_ring(t, &t->definitions[bucket], &s, now);
    if (e == NONE)
        e = sample_victim(t, &s, introducer, bucket == NONE, now, room);
    /* A call has taken from it meanwhile: it is still the one that is evicted. */
    while (e != NONE && !evict(t, e, LOAD(t->hot[e].word), now))
        ;
    return room->gone = e;
}

/* Makes an entry for a key, with a full bucket. Returns NONE when its definition has used up its
 * limit of keys, or when the table is full; with `evicting` another entry may be evicted for it
 * first. `*room` says what happened to others. */
static uint32_t entry_obtain(table_t *t, uint64_t lo, uint64_t hi, uint32_t bucket,
                             uint32_t introducer, int evicting, int64_t now, room_t *room)
{
    definition_t *d = &t->definitions[bucket];
    *room = (room_t){NONE, 0};
    if (UNLIKELY(d->entries >= d->quota)) {
        if (!evicting || make_room(t, bucket, introducer, now, room) == NONE)
            goto refused;
    } else if (UNLIKELY(t->h->entries >= t->h->max_keys)) {
        if (!evicting || make_room(t, NONE, introducer, now, room) == NONE)
            goto refused;
    }
    uint32_t e = entry_insert(t, lo, hi, bucket, level_time(d, now), now);
    /* The file system has no memory for one more entry: the table is at its limit with what it
     * has. */
    if (UNLIKELY(e == NONE && evicting && room->gone == NONE))
        if (make_room(t, NONE, introducer, now, room) != NONE)
            e = entry_insert(t, lo, hi, bucket, level_time(d, now), now);
    if (LIKELY(e != NONE)) {
        t->cold[e].introducer = (uint16_t)introducer;
        return e;
    }
refused:
    d->refused_full++;
    t->h->refused_full++;
    return NONE;
}

#endif
