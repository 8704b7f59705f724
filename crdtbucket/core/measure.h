/* What is measured for people alone; no decision reads it. */
#ifndef CRDTBUCKET_MEASURE_H
#define CRDTBUCKET_MEASURE_H

#include "repair.h"

/* ---- tokens beyond the capacity ---- */

#define MINUTE (60 * SECOND)

/* A debt (units) was raised, not by a take of this node's level: keeps the most by which one passed the capacity within the
 * running minute and the one before. The table's lock is held. */
static inline void note_excess(definition_t *d, i128 debt, int64_t now)
{
    if (LIKELY(debt < full_units(d) + d->q))
        return;
    i128 over = (debt - full_units(d)) / d->q;
    int64_t minute = now / MINUTE;
    if (minute != d->excess_minute) {
        d->excess_before = minute == d->excess_minute + 1 ? d->excess : 0;
        d->excess = 0;
        d->excess_minute = minute;
    }
    if (over > d->excess)
        d->excess = over > INT64_MAX ? INT64_MAX : (int64_t)over;
}

static inline int64_t excess_tokens(const definition_t *d, int64_t now)
{
    int64_t minutes = now / MINUTE - d->excess_minute;
    if (minutes > 1)
        return 0;
    return minutes == 1 || d->excess > d->excess_before ? d->excess : d->excess_before;
}

/* ---- levels of all keys ---- */

typedef struct {
    int64_t empty;                    /* keys without a whole token */
    double debt, highest;             /* tokens that are lacking to full: of all keys, and of the one that lacks most */
    definition_t d;                   /* as it was when the survey began */
    double per_ns;                    /* tokens a ns */
    uint32_t newest;                  /* the definition that its keys are or will be under */
    uint32_t owner;                   /* and, where that is a candidate, whose: its keys count for that one */
} survey_t;

#define SURVEY_CHUNK 4096             /* the lock is not held longer than for so many: some 20 us */

/* One for each definition that there is now; keys of what comes later are left out. */
static void survey_open(const table_t *t, survey_t *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const definition_t *d = &t->definitions[i];
        s[i] = (survey_t){.d = *d, .per_ns = (double)d->p / (double)d->q, .newest = definition_newest(t, i)};
        s[i].owner = s[i].newest;
    }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; t->definitions[i].candidate_below && j < count; j++)
            if (s[j].newest == t->definitions[i].candidate)
                s[j].owner = i;
}

static void survey_entry(const table_t *t, const hot_t *hot, int64_t now, survey_t *s)
{
    const definition_t *is = &t->definitions[hot->bucket], *d = &s[hot->bucket].d;
    survey_t *out = &s[s[hot->bucket].owner];
    const definition_t *newest = &s[s[hot->bucket].newest].d;
    if (is->name_hash != d->name_hash || is->q != d->q || is->p != d->p)
        return;
    int64_t rest, ns = (int64_t)((uint64_t)LOAD(hot->base) + scaled(d, net_of(LOAD(hot->word)), &rest) - (uint64_t)now);
    if (ns <= 0)
        return;
    double lacking = (double)(ns < d->cap_ns ? ns : d->cap_ns) * s[hot->bucket].per_ns;
    out->debt += lacking;
    if (lacking > out->highest)
        out->highest = lacking;
    out->empty += lacking > (double)newest->capacity - 1;
}

/* Adds up `most` places from `from` on, around the end. */
static void survey(table_t *t, int64_t from, int64_t most, int64_t now, survey_t *s, uint32_t count)
{
    for (int64_t done = 0; done < most;) {
        table_lock(t);
        for (int64_t end = done + SURVEY_CHUNK < most ? done + SURVEY_CHUNK : most; done < end; done++) {
            const hot_t *hot = &t->hot[(from + done) % t->h->bump];
            if ((LOAD(hot->flags) & ENTRY_USED) && hot->bucket < count)
                survey_entry(t, hot, now, s);
        }
        table_unlock(t);
        let_others_in(t);
    }
}

#endif
