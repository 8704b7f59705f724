/* A survey of all keys: how full the keys of each bucket are. No decision reads it. */
#ifndef CRDTBUCKET_LEVEL_SURVEY_H
#define CRDTBUCKET_LEVEL_SURVEY_H

#include "../memory/entry_word.h"
#include "definitions.h"
#include "units.h"

/* What a survey finds for one definition. */
typedef struct {
    int64_t empty; /* keys without a whole token */
    /* Tokens that the keys lack until they are full: all together, and the one that lacks most. */
    double debt, highest;
    definition_t d;  /* the definition when the survey began */
    double per_ns;   /* tokens that are refilled in a ns */
    uint32_t newest; /* the definition that its keys are under, or will be */
    /* The definition for which its keys are counted. Keys of a candidate are counted for the
     * bucket's own. */
    uint32_t owner;
} survey_t;

#define SURVEY_CHUNK 4096 /* so many places are looked at under the lock at a time, some 20 us */

/* The newest definition among the first `count` that replaced this one, or it itself. Another
 * process may have made a later one since they were counted. */
static uint32_t survey_newest(const table_t *t, uint32_t slot, uint32_t count)
{
    for (uint32_t next; (next = LOAD(t->definitions[slot].next)) < count;)
        slot = next;
    return slot;
}

/* Begins a survey with one record for each of the first `count` definitions. Keys under later ones
 * are left out. */
static void survey_open(const table_t *t, survey_t *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const definition_t *d = &t->definitions[i];
        s[i] = (survey_t){
            .d = *d, .per_ns = (double)d->p / (double)d->q, .newest = survey_newest(t, i, count)};
        s[i].owner = s[i].newest;
    }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; t->definitions[i].candidate_below && j < count; j++)
            if (s[j].newest == t->definitions[i].candidate)
                s[j].owner = i;
}

/* Adds one entry to the survey. */
static void survey_entry(const table_t *t, const hot_t *hot, int64_t now, survey_t *s)
{
    const definition_t *is = &t->definitions[hot->bucket], *d = &s[hot->bucket].d;
    survey_t *out = &s[s[hot->bucket].owner];
    const definition_t *newest = &s[s[hot->bucket].newest].d;
    if (is->name_hash != d->name_hash || is->q != d->q || is->p != d->p)
        return;
    int64_t rest,
        ns = (int64_t)((uint64_t)LOAD(hot->base) + scaled(d, net_of(LOAD(hot->word)), &rest)
                       - (uint64_t)level_time(d, now));
    if (ns <= 0)
        return;
    double lacking = (double)(ns < d->cap_ns ? ns : d->cap_ns) * s[hot->bucket].per_ns;
    out->debt += lacking;
    if (lacking > out->highest)
        out->highest = lacking;
    out->empty += lacking > (double)newest->capacity - 1;
}

/* Adds `count` places from `from` on, around the end, to the survey of `all` definitions. The
 * caller holds the table's lock. */
static void survey_places(const table_t *t, int64_t from, int64_t count, int64_t now, survey_t *s,
                          uint32_t all)
{
    for (int64_t i = from; i < from + count; i++) {
        const hot_t *hot = &t->hot[i % t->h->bump];
        if ((LOAD(hot->flags) & ENTRY_USED) && hot->bucket < all)
            survey_entry(t, hot, now, s);
    }
}

#endif
