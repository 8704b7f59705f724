/* Entries that follow time, a new definition of their bucket, and a new epoch. */
#ifndef CRDTBUCKET_RENEW_H
#define CRDTBUCKET_RENEW_H

#include "dirty.h"

/* Moves `base` so that the debt lies within [-far, T * (C + D)], in the life in which `first` was read, and does nothing in
 * another. Returns the debt in units. */
static inline i128 advance_in(table_t *t, uint32_t e, uint64_t first, definition_t *d, i128 far, int64_t now)
{
    hot_t *hot = &t->hot[e];
    for (;;) {
        int64_t base = LOAD(hot->base);
        uint64_t word = LOAD(hot->word);                /* later: so the base was still that of this life */
        if (UNLIKELY(!same_life(first, word)))
            return 0;
        int64_t net = net_of(word);
        i128 debt = debt_units(d, base, net, now), bound = debt;
        if (debt < -far)
            bound = -far;
        else if (debt > cap_units(d))
            bound = cap_units(d);
        else
            return debt;
        ADD(hot->full_count, 1);                        /* before: a refund may come to nothing, never to too much */
        if (CAS(hot->base, base, base_for(d, bound, net, now))) {
            if (debt > bound)
                ADD_SATURATED(d->forgiven, (int64_t)((debt - bound) / d->q));
            /* base is whole ns: what a clamp rounds up is part of the debt from here on */
            return debt_units(d, LOAD(hot->base), net, now);
        }
    }
}

/* Every operation under the lock begins with it. */
static inline i128 advance(table_t *t, uint32_t e, definition_t *d, i128 far, int64_t now)
{
    return advance_in(t, e, LOAD(t->hot[e].word), d, far, now);
}

/* Moves a base that was `from`. Of takes that found the bucket full and moved it meanwhile, the larger debt stays. */
static inline void base_move(hot_t *hot, int64_t from, int64_t to)
{
    for (int64_t base = from; !CAS(hot->base, base, to) && (int64_t)((uint64_t)to - (uint64_t)base) > 0;)
        ;
}

/* An entry of an older definition follows its bucket: a change of rate keeps the tokens of debt, a change of capacity the
 * debt. */
static void redefine(table_t *t, uint32_t e, uint32_t bucket, int64_t now)
{
    definition_t *old = &t->definitions[t->hot[e].bucket], *new = &t->definitions[bucket];
    advance(t, e, old, entry_far(t, e, old, now), now);
    journal_t *j = rewrite_begin(t, e);
    i128 debt = debt_units(old, j->base, net_of(j->word), now);
    /* d / q tokens of debt, in the new units: d * q' / q, rounded up; both factors are below 2^115 only together */
    i128 whole = debt / old->q, part = debt % old->q;
    i128 units = whole * new->q + (part * new->q + (part > 0 ? old->q - 1 : 0)) / old->q;
    i128 cap = cap_units(new);
    if (units > cap) {
        ADD_SATURATED(new->forgiven, (int64_t)((units - cap) / new->q));
        units = cap;
    }
    old->entries--;
    new->entries++;
    j->bucket = (uint16_t)bucket;
    j->base = base_for(new, units, net_of(j->word), now);
    rewrite_end(t);
}

/* The definition of a key, of the two that its bucket may have: the same on all nodes, as the hash is. */
static inline uint32_t definition_for(const table_t *t, uint32_t bucket, uint64_t hash_hi)
{
    const definition_t *d = &t->definitions[bucket];
    uint32_t candidate = UNLIKELY((hash_hi >> 1) < LOAD(d->candidate_below)) ? LOAD(d->candidate) : NONE;
    return LIKELY(candidate >= MAX_DEFINITIONS) ? bucket : candidate; /* none, also where it was ended just now */
}

/* The entry counts for this definition and the running epoch. */
static inline int entry_current(const table_t *t, uint32_t e, uint32_t bucket)
{
    const hot_t *hot = &t->hot[e];
    return LIKELY(LOAD(hot->bucket) == bucket && LOAD(hot->origin) == t->h->own_origin && entry_net(t, e) < TOKEN_ROLL);
}

/* Whether the entry can be taken from without the lock; `*word` is what the take is to replace. It is read before all else:
 * an entry that changes later has another one. */
static inline int entry_open(const table_t *t, uint32_t e, uint64_t lo, uint64_t hi, uint32_t bucket, uint64_t *word)
{
    if (UNLIKELY(e == NONE))
        return 0;
    const hot_t *hot = &t->hot[e];
    *word = LOAD(hot->word);
    return LIKELY((*word & ~LIFE_MASK) < (uint64_t)TOKEN_ROLL && LOAD(hot->hash_lo) == lo && LOAD(hot->hash_hi) == hi
                  && LOAD(hot->bucket) == bucket && LOAD(hot->origin) == LOAD(t->h->own_origin));
}

/* The entry of a key if it can be taken from without the lock, with its word; else NONE. */
static inline uint32_t entry_at_hand(const table_t *t, uint64_t lo, uint64_t hi, uint32_t bucket, uint64_t *word)
{
    uint32_t e = table_guess(t, lo, hi);                /* nearly always right, and `entry_open` looks closer */
    if (LIKELY(entry_open(t, e, lo, hi, bucket, word)))
        return e;
    e = table_find(t, lo, hi);
    return entry_open(t, e, lo, hi, bucket, word) ? e : NONE;
}

/* Brings an entry to its bucket's definition and to the running epoch; 0 when memory is at its limit. An entry lives on
 * under the old definition until it is touched, but changes as of the moment of the change, so it does not matter when that
 * is. Needs the table to itself. */
static inline int entry_renew(table_t *t, uint32_t e, uint32_t bucket, int64_t now)
{
    int64_t since = INT64_MIN;
    while (t->hot[e].bucket != bucket) {
        const definition_t *d = &t->definitions[t->hot[e].bucket];
        int64_t at = d->next != NONE ? d->replaced_ns : d->candidate == bucket ? d->staged_ns : now;
        at = at > now ? now : at < since ? since : at;
        redefine(t, e, d->next != NONE ? d->next : bucket, at);
        since = at;
    }
    if (t->hot[e].origin == t->h->own_origin && entry_net(t, e) >= TOKEN_ROLL && !open_epoch(t))
        return 0;
    return t->hot[e].origin == t->h->own_origin || own_column_close(t, e, t->h->own_origin);
}

/* ---- slots of definitions: used again when no key stands under them any more ---- */

#define REPLACED_FOR (60 * SECOND)    /* decisions taken under a definition look up its numbers for so long at least */

static inline int same_definition(const definition_t *a, const definition_t *b)
{
    return a->q == b->q && a->p == b->p && a->capacity == b->capacity && a->max_debt == b->max_debt && a->quota == b->quota
           && a->allow_when_full == b->allow_when_full && a->shadow == b->shadow;
}

/* Marks the replaced definitions that no key needs on its way to the newest one; returns how many there are. */
static uint32_t definitions_idle(const table_t *t, int64_t now, uint8_t idle[MAX_DEFINITIONS])
{
    uint32_t count = 0, all = t->h->definitions;
    for (uint32_t i = 0; i < all; i++) {
        const definition_t *d = &t->definitions[i];
        idle[i] = !d->name_hash || (d->next != NONE && !d->entries && now - d->replaced_ns >= REPLACED_FOR);
    }
    for (uint32_t i = 0; i < all; i++)
        if (t->definitions[i].entries)
            for (uint32_t j = t->definitions[i].next; j != NONE && idle[j]; j = t->definitions[j].next)
                idle[j] = 0;
    for (uint32_t i = 0; i < all; i++)
        count += idle[i];
    return count;
}

static int64_t definitions_free(const table_t *t, int64_t now)
{
    uint8_t idle[MAX_DEFINITIONS];
    return MAX_DEFINITIONS - t->h->definitions + definitions_idle(t, now, idle);
}

/* A slot for one more definition, or NONE. */
static uint32_t definition_free_slot(const table_t *t, int64_t now)
{
    uint8_t idle[MAX_DEFINITIONS];
    if (definitions_idle(t, now, idle))
        for (uint32_t i = 0; i < t->h->definitions; i++)
            if (idle[i])
                return i;
    return t->h->definitions < MAX_DEFINITIONS ? t->h->definitions : NONE;
}

/* The newest definition that replaced this one, or it itself. */
static inline uint32_t definition_newest(const table_t *t, uint32_t slot)
{
    for (uint32_t next; (next = LOAD(t->definitions[slot].next)) != NONE;)
        slot = next;
    return slot;
}

static void counts_add(counts_t *sum, const counts_t *more)
{
    int64_t *to = (int64_t *)sum;
    const int64_t *from = (const int64_t *)more;
    for (size_t i = 0; i < sizeof(counts_t) / sizeof(int64_t); i++)
        to[i] += LOAD(from[i]);
}

/* Adds up what all processes counted under a definition. */
static void counts_gather(const table_t *t, uint32_t slot, counts_t *sum)
{
    for (int i = 0; i < MAX_WORKERS; i++)
        if (t->workers[i].pid)
            counts_add(sum, &t->all_counts[(size_t)i * MAX_DEFINITIONS + slot]);
}

/* Of a bucket under all of its definitions. The table's lock is held. */
static void counts_total(const table_t *t, uint32_t slot, counts_t *sum)
{
    *sum = (counts_t){0};
    for (uint32_t i = 0; i < t->h->definitions; i++)
        if (t->definitions[i].name_hash == t->definitions[slot].name_hash) {
            counts_gather(t, i, sum);
            counts_add(sum, &t->definitions[i].past);
        }
}

/* Keys whose hash lies below `below` are the candidate's. */
static inline void definition_stage(definition_t *d, uint32_t candidate, uint64_t below, int64_t now)
{
    if (d->candidate == candidate && d->candidate_below == below)
        return;
    STORE(d->staged_ns, now);
    STORE(d->candidate, candidate);
    STORE(d->candidate_below, below);
}

/* Its keys are all its own again. */
static inline void definition_unstage(definition_t *d)
{
    STORE(d->candidate_below, 0);
    STORE(d->candidate, NONE);
}

/* The definition that stands for a bucket now, whoever made it; NONE for none. */
static inline uint32_t definition_current(const table_t *t, uint64_t name_hash)
{
    for (uint32_t i = 0; i < t->h->definitions; i++)
        if (t->definitions[i].name_hash == name_hash && t->definitions[i].next == NONE && !t->definitions[i].staged)
            return i;
    return NONE;
}

/* Finishes what the journal says of a definition, once or again. */
static void define_apply(table_t *t)
{
    header_t *h = t->h;
    const journal_t *j = t->journal;
    definition_t *d = &t->definitions[j->slot];
    if (j->heir != NONE) {
        t->definitions[j->heir].past = j->past;
        for (int i = 0; i < MAX_WORKERS; i++)
            if (t->workers[i].pid)
                t->all_counts[(size_t)i * MAX_DEFINITIONS + j->slot] = (counts_t){0};
        for (uint32_t i = 0; i < h->definitions; i++)
            if (t->definitions[i].next == j->slot && i != j->slot)
                STORE(t->definitions[i].next, j->onward);
    }
    STORE(d->name_hash, 0);                             /* nobody's until all of it stands */
    definition_t nameless = j->made;
    nameless.name_hash = 0;
    *d = nameless;
    STORE(d->name_hash, j->made.name_hash);
    if (j->slot == h->definitions)
        STORE(h->definitions, j->slot + 1);
    STORE(h->defined, j->defined);
    if (j->old != NONE) {
        t->definitions[j->old].replaced_ns = j->base;
        STORE(t->definitions[j->old].next, j->slot);
        definition_unstage(&t->definitions[j->old]);
    }
    STORE(t->journal->kind, JOURNAL_NONE);
}

/* Writes a definition to a free slot, in the place of `old` unless that is NONE. Who passed through an earlier one in the slot
 * goes on to what had replaced that. */
static void definition_place(table_t *t, uint32_t slot, const definition_t *made, uint32_t old, int64_t now)
{
    const definition_t *d = &t->definitions[slot];
    journal_t *j = t->journal;
    j->slot = slot;
    j->old = old;
    j->base = now;
    j->made = *made;
    j->defined = t->h->defined + 1;
    j->heir = j->onward = NONE;
    if (slot < t->h->definitions && d->name_hash) {
        j->heir = definition_newest(t, slot);
        j->onward = d->next;
        j->past = t->definitions[j->heir].past;
        counts_gather(t, slot, &j->past);
        counts_add(&j->past, &d->past);
    }
    journal_write(j, JOURNAL_DEFINE);
    define_apply(t);
}

/* A definition lives on as another, and its keys follow. What it counted is in the sums of the bucket as before. */
static void definition_join(table_t *t, uint32_t from, uint32_t into, int64_t now)
{
    definition_t *old = &t->definitions[from], *d = &t->definitions[into];
    ADD_SATURATED(d->forgiven, old->forgiven);
    d->refused_full += old->refused_full;
    old->forgiven = old->refused_full = 0;
    if (old->excess_minute > d->excess_minute || (old->excess_minute == d->excess_minute && old->excess > d->excess)) {
        d->excess = old->excess;
        d->excess_before = old->excess_before;
        d->excess_minute = old->excess_minute;
    }
    d->staged = 0;
    old->replaced_ns = now;
    STORE(old->next, into);
    definition_unstage(old);
    definition_unstage(d);
    t->h->defined++;                                    /* peers' tables are to be understood anew */
}

/* Brings an entry whose definition was replaced, or that is the candidate's now, to the newest one of its key; what the
 * candidate has it keeps. Needs the table to itself. */
static inline void follow_definition(table_t *t, uint32_t e, int64_t now)
{
    uint32_t bucket = definition_for(t, definition_newest(t, t->hot[e].bucket), t->hot[e].hash_hi);
    if (UNLIKELY(bucket != t->hot[e].bucket))
        entry_renew(t, e, bucket, now);
}

#endif
