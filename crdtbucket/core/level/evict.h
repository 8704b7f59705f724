/* Eviction: full keys leave when they are idle; when the table is full, which entry is evicted. */
#ifndef CRDTBUCKET_LEVEL_EVICT_H
#define CRDTBUCKET_LEVEL_EVICT_H

#include "crowding.h"
#include "renew.h"

static inline int is_full(const table_t *t, uint32_t e, uint64_t word, int64_t now)
{
    const hot_t *hot = &t->hot[e];
    return debt_units(&t->definitions[hot->bucket], LOAD(hot->base), net_of(word), now) <= 0;
}

/* Full, acknowledged by every live link, idle for the grace here and on the peers, and without
 * rates of a peer that has been silent for another near horizon: a member behind several relays is
 * often silent for a moment, between two rounds. Rates of a peer whose callers ask for the key
 * stay: by them its takes are predicted once it is silent, when it cannot state them again. */
static inline int is_evictable(const table_t *t, uint32_t e, uint64_t word, int64_t now)
{
    uint16_t flags = LOAD(t->hot[e].flags);
    return (flags & ENTRY_USED) && !(flags & ENTRY_IN_LOG) && !is_attempted(t, e)
           && !((flags & ENTRY_RATED) && now - t->h->near_ns >= LOAD(t->h->far_free_until))
           && !((flags & ENTRY_RATED) && is_asked_elsewhere(t, e, t->h->grace_ns, now))
           && now - t->cold[e].rated_ns > t->h->grace_ns && is_full(t, e, word, now);
}

/* Removes an entry as it was when `word` was read; 0 when it was taken from since. */
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

/* Looks at the next `most` entries; returns how many were evicted. `gone` takes them. */
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

/* Takes an entry into a sample; whether it is full and sent, so that no more need to be seen. A
 * full one that is not sent goes to `full`. */
static inline int sample_look(table_t *t, sample_t *s, uint32_t e, int64_t now, uint32_t *full)
{
    follow_definition(t, e, now);
    if (is_full(t, e, LOAD(t->hot[e].word), now)) {
        *full = e;
        if (!(LOAD(t->hot[e].flags) & ENTRY_IN_LOG) && !is_attempted(t, e))
            return 1;
    }
    sample_add(t, s, e);
    return 0;
}

static inline void sample_fetch(const table_t *t, uint32_t e)
{
    __builtin_prefetch(&t->hot[e]);
    __builtin_prefetch(&t->cold[e]);
}

/* From all over the table, as entries of a peer lie together: a prime that is larger than every
 * table leads to each entry once. Returns a full one, or NONE. */
static uint32_t sample_table(table_t *t, sample_t *s, int64_t now)
{
    header_t *h = t->h;
    uint64_t bump = (uint64_t)h->bump, step = UINT64_C(2654435761) % bump,
             at = h->room_cursor % bump, ahead = (at + 8 * step) % bump;
    uint32_t full = NONE;
    int found = 0;
    for (uint64_t i = 0; i < bump && s->seen < VICTIM_SAMPLE && !found; i++) {
        uint32_t e = (uint32_t)at;
        at = at + step < bump ? at + step : at + step - bump;
        ahead = ahead + step < bump ? ahead + step : ahead + step - bump;
        sample_fetch(t, (uint32_t)ahead);
        if (LOAD(t->hot[e].flags) & ENTRY_USED)
            found = sample_look(t, s, e, now, &full);
    }
    h->room_cursor = (uint32_t)at;
    return full;
}

/* The same from the ring of a definition. The next sample begins behind this one. */
static uint32_t sample_ring(table_t *t, definition_t *d, sample_t *s, int64_t now)
{
    uint32_t full = NONE;
    int found = 0;
    for (int64_t left = d->entries; left > 0 && s->seen < VICTIM_SAMPLE && !found; left--) {
        uint32_t e = d->ring;
        /* Before it is looked at, as it may follow its bucket to another definition. */
        d->ring = t->rings[e].next;
        sample_fetch(t, d->ring);
        found = sample_look(t, s, e, now, &full);
    }
    return full;
}

/* Frees an entry at the limit: full and sent, then full, then the least confirmed debt, as time to
 * full, of whoever introduced more than its part (crowding.h), among some 128, so that the cost is
 * bounded. `bucket` limits it to one definition, within which none of this node's indebted ones
 * goes; NONE to any. Returns the entry, or NONE when there is none to free. */
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
    /* Taken from meanwhile: it is still the one with the least. */
    while (e != NONE && !evict(t, e, LOAD(t->hot[e].word), now))
        ;
    return room->gone = e;
}

/* A new entry for a key, or NONE when its definition has used up its quota or the table is full.
 * With `evicting` another entry may go for it. */
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
    /* The file system is full: this is the limit. */
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
