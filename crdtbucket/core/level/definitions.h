/* The definitions of buckets: which of them a key is under, how one replaces another, and what
 * was counted under them. A `slot`, `bucket` or `candidate` is the place of a definition in the
 * table. */
#ifndef CRDTBUCKET_LEVEL_DEFINITIONS_H
#define CRDTBUCKET_LEVEL_DEFINITIONS_H

#include "../memory/journal.h"
#include "earlier_limits.h"
#include "over_admission.h"

/* The newest definition that replaced this one, or it itself. */
static inline uint32_t definition_newest(const table_t *t, uint32_t slot)
{
    for (uint32_t next; (next = LOAD(t->definitions[slot].next)) != NONE;)
        slot = next;
    return slot;
}

/* The slot of the definition for the key with this hash: of the two that a bucket may have, the
 * candidate's or `bucket` itself. It is the same on all nodes, as the hash is. */
static inline uint32_t definition_for(const table_t *t, uint32_t bucket, uint64_t hash_hi)
{
    const definition_t *d = &t->definitions[bucket];
    uint32_t candidate =
        UNLIKELY((hash_hi >> 1) < LOAD(d->candidate_below)) ? LOAD(d->candidate) : NONE;
    /* There is no candidate, or another thread has just ended it. */
    return LIKELY(candidate >= MAX_DEFINITIONS) ? bucket : candidate;
}

/* ---- slots of definitions: used again when no key stands under them any more ---- */

/* How long a replaced definition is kept at least: decisions that were made under it still look up
 * its numbers. */
#define REPLACED_FOR (60 * SECOND)

/* Whether two definitions have the same end of a calendar period. Processes that share a table, or
 * that compute it twice, come to ends that differ a little. */
static inline int same_end(const definition_t *a, const definition_t *b)
{
    return !a->still_until == !b->still_until
           && (a->still_until - b->still_until <= SECOND
               && b->still_until - a->still_until <= SECOND);
}

/* Whether two definitions decide in the same way. */
static inline int same_definition(const definition_t *a, const definition_t *b)
{
    return a->q == b->q && a->p == b->p && a->capacity == b->capacity && a->max_debt == b->max_debt
           && a->quota == b->quota && a->allow_when_full == b->allow_when_full
           && a->shadow == b->shadow && a->unpredicted == b->unpredicted && same_end(a, b);
}

/* Marks in `idle` the slots that can be used again: free ones, and definitions that were replaced
 * more than REPLACED_FOR ago, have no entry, and lie on no entry's way to its newest definition.
 * Returns how many there are. */
static uint32_t definitions_idle(const table_t *t, int64_t now, uint8_t idle[MAX_DEFINITIONS])
{
    uint32_t count = 0, all = t->h->definitions;
    for (uint32_t i = 0; i < all; i++) {
        const definition_t *d = &t->definitions[i];
        idle[i] = !d->name_hash
                  || (d->next != NONE && !d->entries && now - d->replaced_ns >= REPLACED_FOR);
    }
    for (uint32_t i = 0; i < all; i++)
        if (t->definitions[i].entries)
            for (uint32_t j = t->definitions[i].next; j != NONE && idle[j];
                 j = t->definitions[j].next)
                idle[j] = 0;
    for (uint32_t i = 0; i < all; i++)
        count += idle[i];
    return count;
}

/* How many more definitions there is room for. */
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

/* Adds the counters `more`, which another process may be writing, to `sum`. */
static void counts_add(counts_t *sum, const counts_t *more)
{
    int64_t *to = (int64_t *)sum;
    const int64_t *from = (const int64_t *)more;
    for (size_t i = 0; i < sizeof(counts_t) / sizeof(int64_t); i++)
        to[i] += LOAD(from[i]);
}

/* Adds to `sum` what all processes have counted under the definition in `slot`. */
static void counts_gather(const table_t *t, uint32_t slot, counts_t *sum)
{
    for (int i = 0; i < MAX_WORKERS; i++)
        if (t->workers[i].pid)
            counts_add(sum, &t->all_counts[(size_t)i * MAX_DEFINITIONS + slot]);
}

/* Sets `sum` to what was counted for the bucket of this slot under all definitions that it had. The
 * caller holds the table's lock. */
static void counts_total(const table_t *t, uint32_t slot, counts_t *sum)
{
    *sum = (counts_t){0};
    for (uint32_t i = 0; i < t->h->definitions; i++)
        if (t->definitions[i].name_hash == t->definitions[slot].name_hash) {
            counts_gather(t, i, sum);
            counts_add(sum, &t->definitions[i].past);
        }
}

/* Puts the keys of a bucket with hash_hi / 2 below `below` under its candidate, from `now` on. */
static inline void definition_stage(table_t *t, uint32_t bucket, uint32_t candidate, uint64_t below,
                                    int64_t now)
{
    definition_t *d = &t->definitions[bucket];
    if (d->candidate == candidate && d->candidate_below == below)
        return;
    earlier_follow(&t->definitions[candidate], d, 1, now);
    STORE(d->staged_ns, now);
    STORE(d->candidate, candidate);
    STORE(d->candidate_below, below);
}

/* Ends the candidate of a definition: it has all keys of the bucket again. */
static inline void definition_unstage(definition_t *d)
{
    STORE(d->candidate_below, 0);
    STORE(d->candidate, NONE);
}

/* The slot of the definition that is in force for the bucket of this name, whichever process made
 * it; NONE when there is none. */
static inline uint32_t definition_current(const table_t *t, uint64_t name_hash)
{
    for (uint32_t i = 0; i < t->h->definitions; i++)
        if (t->definitions[i].name_hash == name_hash && t->definitions[i].next == NONE
            && !t->definitions[i].staged)
            return i;
    return NONE;
}

/* Writes the definition that stands in the journal to its slot. A repair may do this a second
 * time. */
static void define_apply(table_t *t)
{
    header_t *h = t->h;
    const journal_t *j = t->journal;
    definition_t *d = &t->definitions[j->slot];
    if (j->successor != NONE) {
        t->definitions[j->successor].past = j->past;
        for (int i = 0; i < MAX_WORKERS; i++)
            if (t->workers[i].pid)
                t->all_counts[(size_t)i * MAX_DEFINITIONS + j->slot] = (counts_t){0};
        for (uint32_t i = 0; i < h->definitions; i++)
            if (t->definitions[i].next == j->slot && i != j->slot)
                STORE(t->definitions[i].next, j->successor_next);
    }
    STORE(d->name_hash, 0); /* the slot is free until all of it is written */
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

/* Writes the definition `made` to a free slot. Unless `old` is NONE, it replaces the definition
 * there. Callers that still hold an earlier definition of the slot itself are redirected to the
 * successor of that. */
static void definition_place(table_t *t, uint32_t slot, const definition_t *made, uint32_t old,
                             int64_t now)
{
    const definition_t *d = &t->definitions[slot];
    journal_t *j = t->journal;
    j->slot = slot;
    j->old = old;
    j->base = now;
    j->made = *made;
    j->defined = t->h->defined + 1;
    j->successor = j->successor_next = NONE;
    if (slot < t->h->definitions && d->name_hash) {
        j->successor = definition_newest(t, slot);
        j->successor_next = d->next;
        j->past = t->definitions[j->successor].past;
        counts_gather(t, slot, &j->past);
        counts_add(&j->past, &d->past);
    }
    journal_write(j, JOURNAL_DEFINE);
    define_apply(t);
}

/* Ends the definition `from`: `into` takes over its keys. What was counted under it stays in the
 * sums of the bucket. */
static void definition_retire(table_t *t, uint32_t from, uint32_t into, int64_t now)
{
    definition_t *old = &t->definitions[from], *d = &t->definitions[into];
    count_forgiven(d, old->forgiven, old->forgiven_part);
    d->refused_full += old->refused_full;
    old->forgiven = old->refused_full = old->forgiven_part = 0;
    if (old->over_admitted_minute > d->over_admitted_minute
        || (old->over_admitted_minute == d->over_admitted_minute
            && old->over_admitted > d->over_admitted)) {
        d->over_admitted = old->over_admitted;
        d->over_admitted_before = old->over_admitted_before;
        d->over_admitted_minute = old->over_admitted_minute;
    }
    d->staged = 0;
    earlier_follow(d, old, !old->staged, now);
    old->replaced_ns = now;
    STORE(old->next, into);
    definition_unstage(old);
    definition_unstage(d);
    /* The definitions that peers name must be looked up again. */
    t->h->defined++;
}

#endif
