/* What was surely taken lately, and is owed whatever is kept for silent peers. See docs/model.md,
 * "After a silence". */
#ifndef CRDTBUCKET_LEVEL_TAKEN_H
#define CRDTBUCKET_LEVEL_TAKEN_H

#include "predict.h"

/* The local ns, which may be negative, at which all noted takes are refilled. */
static int64_t taken_until(const table_t *t, uint32_t e)
{
    int64_t until = LOAD(t->cold[e].taken_until);
    return until ? until : INT64_MIN;
}

/* Whether some takes are noted: a credit that has ended may hide them. */
static inline int has_noted(const table_t *t, uint32_t e)
{
    return UNLIKELY(LOAD(t->hot[e].flags) & ENTRY_NOTED);
}

/* The units of noted takes that are not refilled. */
static inline i128 taken_lately(const table_t *t, uint32_t e, const definition_t *d, int64_t now)
{
    if (!has_noted(t, e))
        return 0;
    i128 units = units_until(taken_until(t, e), d, now), cap = cap_units(d);
    return units < cap ? units : cap;
}

/* Notes that so many units were taken just now; what is beyond the ceiling of debt is forgiven. It
 * is rounded down, as many notes in a row would else be more than the debt. A process that shares
 * the table may note others meanwhile. */
COLD static void note_taken(table_t *t, uint32_t e, const definition_t *d, i128 units, int64_t now)
{
    int64_t *until = &t->cold[e].taken_until, before = LOAD(*until), after;
    if (!has_noted(t, e))
        OR(t->hot[e].flags, ENTRY_NOTED);
    do {
        i128 all = units_until(before ? before : INT64_MIN, d, now) + units, cap = cap_units(d);
        after = now + (int64_t)((all < cap ? all : cap) / d->p);
    } while (!CAS(*until, before, after));
}

/* Notes that tokens came back, which were taken here or by a peer. */
static inline void note_given_back(table_t *t, uint32_t e, const definition_t *d, int64_t tokens)
{
    i128 ns = units_to_ns(d, token_units(d, tokens));
    int64_t *until = &t->cold[e].taken_until, before = LOAD(*until);
    while (before && !CAS(*until, before, ns < d->cap_ns ? before - (int64_t)ns : 0))
        ;
}

/* Takes `n` tokens of an entry if it still has this word. Beside a credit of `far` tokens they are
 * noted first, so that no process which is killed in between hides a take. Returns 1, or 0 when the
 * word has changed. */
static inline int word_take(table_t *t, uint32_t e, const definition_t *d, uint64_t word, int64_t n,
                            double far, int64_t now)
{
    if (far > 0)
        note_taken(t, e, d, token_units(d, n), now);
    if (CAS(t->hot[e].word, word, word + (uint64_t)n))
        return 1;
    if (far > 0)
        note_given_back(t, e, d, n);
    return 0;
}

/* The debt of a full bucket, in units. It is zero while no peer is silent; else below zero by what
 * silent peers may have taken (the far credit), and above that by the tokens that are left to
 * them. */
static inline i128 least_units(const definition_t *d, const prediction_t *p)
{
    return far_units(d, p->held) - far_units(d, p->far);
}

/* Raises the debt of an entry with the revision of `first` to what is noted, less the credit of
 * `far` units that is still kept: that for a peer which is seen again has ended. Takes stay noted
 * until they are refilled, as peers may owe less of them. To call this twice changes nothing. */
COLD static void owe_noted(table_t *t, uint32_t e, uint64_t first, const definition_t *d, i128 far,
                           int64_t now)
{
    hot_t *hot = &t->hot[e];
    i128 noted = taken_lately(t, e, d, now), least = noted - far;
    while (noted > 0) {
        int64_t base = LOAD(hot->base);
        /* The word is read after the base, so the base belonged to this revision. */
        uint64_t word = LOAD(hot->word);
        if (UNLIKELY(!same_revision(first, word)))
            return;
        if (debt_units(d, base, net_of(word), now) >= least
            || base_swap(t, hot, base, base_for(d, least, net_of(word), now)))
            break;
    }
    if (noted <= 0 && far <= 0)
        AND(hot->flags, (uint16_t)~ENTRY_NOTED);
}

/* The least debt of an entry, in units; its debt is first raised to what is noted. The caller holds
 * the lock. */
static inline i128 entry_least(table_t *t, uint32_t e, const definition_t *d, int64_t now)
{
    prediction_t p = {0};
    if (UNLIKELY(now >= LOAD(t->h->far_free_until)) && (LOAD(t->hot[e].flags) & ENTRY_RATED))
        p = predict(t, e, d, now);
    if (has_noted(t, e))
        owe_noted(t, e, LOAD(t->hot[e].word), d, far_units(d, p.far), now);
    return least_units(d, &p);
}

#endif
