/* What few keys need to remember of their debt, in the process that merges. */
#ifndef CRDTBUCKET_MERGE_DEBT_NOTES_H
#define CRDTBUCKET_MERGE_DEBT_NOTES_H

#include "../level/remembered.h"
#include "../level/units.h"
#include "../memory/mapping.h"

/* Notes about the debt of one key, which few keys need: which part of it no column explains, what
 * it leaves out, and who may give some of it back. They belong to the key that has this hash, under
 * this definition: times in which tokens are refilled say nothing at another rate. */
struct debt_notes {
    uint64_t hash_lo, definition_hash;
    /* Until this local ns a part of the debt is only predicted: it was kept for nodes that were
     * given up, and no column shows it. Each peer gives them up at another moment. */
    int64_t predicted_until;
    /* Until this local ns what those nodes were thought to have taken is not refilled. Their
     * real takes are charged only as far as they are more. */
    int64_t given_up_until;
    /* Until this local ns peers may owe less for no other reason than that entries under another
     * definition have raised the debt here, which they never lower. It outlasts the definition. */
    int64_t mixed_until;
    /* What `hide_refilled` in refilled.h notes of the debt that it hides. */
    i128 hidden_sum;
    int64_t hidden_until;
    /* For buckets without prediction, such as slots, which are taken and given back again and
     * again: the number of the node that took last, and the units of its takes that were charged
     * and have not come back. */
    uint32_t taker;
    i128 charged;
};

/* Notes that credit for a node is charged, since that node is given up. `kept`: the credit, in
 * units; `debt`: by how much it raises the debt above zero. */
static void predict_debt(struct debt_notes *notes, const definition_t *d, i128 kept, i128 debt,
                         int64_t now)
{
    if (notes->predicted_until < now)
        notes->predicted_until = now;
    if (notes->given_up_until < now)
        notes->given_up_until = now;
    notes->predicted_until += (int64_t)units_to_ns(d, debt);
    notes->given_up_until += (int64_t)units_to_ns(d, kept);
}

/* The units of debt that are still only predicted. `notes` may be NULL. */
static i128 predicted_debt(const struct debt_notes *notes, const definition_t *d, int64_t now)
{
    return notes ? units_until(notes->predicted_until, d, now) : 0;
}

/* The notes about the key of this entry; NULL while there are none. What was noted under another
 * definition is dropped at this first look after the change. */
COLD static struct debt_notes *debt_notes_held(const table_t *t, uint32_t e)
{
    struct debt_notes *notes =
        t->debt_notes && t->debt_notes_at[e] ? &t->debt_notes[t->debt_notes_at[e]] : NULL;
    if (!notes || notes->hash_lo != t->hot[e].hash_lo)
        return NULL;
    uint64_t under = t->definitions[t->hot[e].bucket].definition_hash;
    if (UNLIKELY(notes->definition_hash != under))
        *notes = (struct debt_notes){notes->hash_lo, under, .mixed_until = notes->mixed_until};
    return notes;
}

/* The same, and begins them where there are none. There is room for those of every entry, which
 * takes memory only as it is touched. NULL when memory cannot be had. */
COLD static struct debt_notes *debt_notes_of(table_t *t, uint32_t e)
{
    size_t most = (size_t)t->h->max_keys;
    if (!t->debt_notes) {
        size_t size = (most + 1) * sizeof(struct debt_notes) + most * sizeof(uint32_t);
        void *m = map_zeros(size);
        if (m == MAP_FAILED)
            return NULL;
        t->debt_notes = m;
        t->debt_notes_at = (uint32_t *)(t->debt_notes + most + 1);
        t->debt_notes_size = size;
        t->debt_notes_count = 0;
    }
    if (!t->debt_notes_at[e])
        t->debt_notes_at[e] = ++t->debt_notes_count;
    struct debt_notes *notes = &t->debt_notes[t->debt_notes_at[e]];
    if (notes->hash_lo != t->hot[e].hash_lo)
        *notes = (struct debt_notes){.hash_lo = t->hot[e].hash_lo};
    return debt_notes_held(t, e);
}

/* The bytes that these notes and `remembered` take. They lie in the memory of the process that
 * merges, never in a shared table. */
static int64_t remembered_bytes(const table_t *t)
{
    int64_t keys = (int64_t)t->h->bump,
            bytes = t->remembered ? keys * (int64_t)sizeof(struct remembered) : 0;
    if (t->debt_notes)
        bytes += (int64_t)t->debt_notes_count * (int64_t)sizeof(struct debt_notes)
                 + keys * (int64_t)sizeof(uint32_t);
    return bytes;
}

/* The part of these units, taken by nodes that had been given up, which was charged at that
 * time. From now on columns show it. */
COLD static i128 charged_before(const table_t *t, uint32_t e, const definition_t *d, i128 units,
                                int64_t now)
{
    struct debt_notes *notes = debt_notes_held(t, e);
    if (!notes)
        return 0;
    i128 kept = units_until(notes->given_up_until, d, now), charged = kept < units ? kept : units;
    notes->given_up_until -= (int64_t)units_to_ns(d, charged);
    if (notes->predicted_until > notes->given_up_until)
        notes->predicted_until = notes->given_up_until;
    return charged;
}

#endif
