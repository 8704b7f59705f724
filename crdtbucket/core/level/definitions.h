/* The definitions of buckets: which one a key has, how one replaces another, and what was counted
 * under them. */
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

/* The definition of a key, of the two that its bucket may have: the same on all nodes, as the hash
 * is. */
static inline uint32_t definition_for(const table_t *t, uint32_t bucket, uint64_t hash_hi)
{
    const definition_t *d = &t->definitions[bucket];
    uint32_t candidate =
        UNLIKELY((hash_hi >> 1) < LOAD(d->candidate_below)) ? LOAD(d->candidate) : NONE;
    /* None, also where it was ended just now. */
    return LIKELY(candidate >= MAX_DEFINITIONS) ? bucket : candidate;
}

/* ---- slots of definitions: used again when no key stands under them any more ---- */

/* Decisions taken under a definition look up its numbers for so long at least. */
#define REPLACED_FOR (60 * SECOND)

/* Processes that share a table, or look twice, compute the end of a period apart by a little. */
static inline int same_end(const definition_t *a, const definition_t *b)
{
    return !a->still_until == !b->still_until
           && (a->still_until - b->still_until <= SECOND
               && b->still_until - a->still_until <= SECOND);
}

static inline int same_definition(const definition_t *a, const definition_t *b)
{
    return a->q == b->q && a->p == b->p && a->capacity == b->capacity && a->max_debt == b->max_debt
           && a->quota == b->quota && a->allow_when_full == b->allow_when_full
           && a->shadow == b->shadow && a->unpredicted == b->unpredicted && same_end(a, b);
}

/* Marks the replaced definitions that no key needs on its way to the newest one; returns how many
 * there are. */
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

/* Its keys are all its own again. */
static inline void definition_unstage(definition_t *d)
{
    STORE(d->candidate_below, 0);
    STORE(d->candidate, NONE);
}

/* The slot of the definition that is in force for a bucket, whichever process made it; NONE when
 * there is none. */
static inline uint32_t definition_current(const table_t *t, uint64_t name_hash)
{
    for (uint32_t i = 0; i < t->h->definitions; i++)
        if (t->definitions[i].name_hash == name_hash && t->definitions[i].next == NONE
            && !t->definitions[i].staged)
            return i;
    return NONE;
}

/* Finishes what the journal says of a definition, once or again. */
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
    STORE(d->name_hash, 0); /* nobody's until all of it stands */
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

/* Writes a definition to a free slot, in the place of `old` unless that is NONE. Callers that still
 * hold an earlier definition of this slot are redirected to its successor. */
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

/* Ends a definition: `into` takes over its keys. What it has counted stays in the sums of the
 * bucket. */
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
    /* Peers' tables are to be understood anew. */
    t->h->defined++;
}

#endif
