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

/* So many entries are looked at for a full one that may go. */
#define FULL_LOOKS 5

/* Of the full entries that were looked at, the one that goes: one that is sent, and that nobody has
 * asked for the longest, neither here nor elsewhere. With a key go the rates of its peers: what
 * they take now would be unseen, and what a silent one took would be charged when it comes. */
typedef struct {
    uint32_t entry; /* or NONE */
    int unsent;
    int64_t asked; /* local ns */
} idle_t;

/* Takes an entry into a sample, or a full one that is sent into `idle` alone. */
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

/* Whether a sample need not go on after so many looks. */
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

/* From all over the table, as entries of a peer lie together: a prime that is larger than every
 * table leads to each entry once. Returns a full one, or NONE. */
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

/* The same from the ring of a definition. The next sample begins behind this one. */
static uint32_t sample_ring(table_t *t, definition_t *d, sample_t *s, int64_t now)
{
    idle_t idle = {NONE, 0, 0};
    for (int64_t looks = 0; looks < d->entries && !sample_ends(s, &idle, looks); looks++) {
        uint32_t e = d->ring;
        /* Before it is looked at, as it may follow its bucket to another definition. */
        d->ring = t->rings[e].next;
        sample_fetch(t, d->ring);
        sample_look(t, s, e, now, &idle);
    }
    return idle.entry;
}

/* Frees an entry at the limit: full, sent and idle, then full, then the least confirmed debt, as
 * time to full, of whoever introduced more than its part (crowding.h), among some 128, so that the
 * cost is bounded. `bucket` limits it to one definition, within which none of this node's indebted
 * ones goes; NONE to any. Returns the entry, or NONE when there is none to free. */
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
