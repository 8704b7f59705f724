/* Checks whether a table that was found in a file can be used.
 *
 * While other processes use the table its bytes are trusted, because they are memory of this user.
 * Only the header is checked: the regions that it names must lie within the file. A process that
 * has the table for itself checks all of it once, so that no number that is read there leads out of
 * it later, and repairs what a process left behind that died with the lock. */
#ifndef CRDTBUCKET_REPAIR_RESUME_H
#define CRDTBUCKET_REPAIR_RESUME_H

#include <math.h>

#include "../memory/mapping.h"
#include "lock.h"
#include "verify.h"

/* Whether a time or a count is small enough that two of them differ by less than 2^63. */
static inline int in_range(int64_t x) { return x > -(INT64_C(1) << 61) && x < INT64_C(1) << 61; }

/* Whether a place is NONE or below `end`. */
static inline int place_or_none(uint32_t place, int64_t end)
{
    return place == NONE || (int64_t)place < end;
}

/* NULL, or what is wrong with the header. */
static const char *header_fault(const table_t *t, int64_t max_keys)
{
    const header_t *h = t->h;
    plan_t p = plan_table(max_keys);
    if (h->max_keys != max_keys || h->index_slots != p.slots || h->max_blocks != p.max_blocks)
        return "its regions are of other sizes";
    if (h->backed_entries < 0 || h->backed_entries > max_keys || h->bump < 0
        || h->bump > h->backed_entries || h->backed_log < 0 || h->backed_log > log_slots(max_keys)
        || h->backed_blocks < 0 || h->backed_blocks > p.max_blocks || h->blocks_bump < 0
        || h->blocks_bump > h->backed_blocks)
        return "it uses more than it has";
    if (!place_or_none(h->free_entry, h->bump) || !place_or_none(h->free_last, h->bump)
        || !place_or_none(h->free_block, h->blocks_bump) || h->log_head > h->log_tail
        || h->log_tail > (uint64_t)h->backed_log)
        return "its lists lead out of it";
    if (h->named > MAX_NODES)
        return "it has more names than fit";
    if (h->definitions > MAX_DEFINITIONS || h->own_origin >= MAX_ORIGINS)
        return "it has more definitions or epochs than fit";
    if (h->handoff > 2 || h->handoff_bytes[0] < 0 || h->handoff_bytes[0] > HANDOFF_BYTES
        || h->handoff_bytes[1] < 0 || h->handoff_bytes[1] > HANDOFF_BYTES)
        return "its hand-over has an impossible length";
    for (int i = 0; i < 2; i++)
        if (h->view_bytes[i] < 0 || h->view_bytes[i] > VIEW_BYTES)
            return "its view of the mesh has no end";
    if (!in_range(h->near_ns) || !in_range(h->near_bound_ns) || !in_range(h->grace_ns)
        || !in_range(h->averaged_ns))
        return "its times are out of range";
    return NULL;
}

/* NULL, or what is wrong with the journal. */
static const char *journal_fault(const table_t *t)
{
    const journal_t *j = t->journal;
    int64_t definitions = t->h->definitions;
    if (j->kind == JOURNAL_NONE)
        return NULL;
    if (j->kind == JOURNAL_DEFINE)
        return j->slot < MAX_DEFINITIONS && j->slot <= definitions
                       && place_or_none(j->old, definitions)
                       && place_or_none(j->successor, definitions)
                       && place_or_none(j->successor_next, definitions)
                   ? NULL
                   : "its journal leads out of it";
    if (j->kind > JOURNAL_DEFINE || j->entry >= t->h->bump || j->columns > MAX_COLUMNS
        || j->origin >= MAX_ORIGINS || j->bucket >= definitions)
        return "its journal leads out of it";
    for (uint32_t i = 0; i < j->columns; i++)
        if (!j->column[i].origin || j->column[i].origin >= MAX_ORIGINS
            || (uint64_t)j->column[i].taken > TOKEN_MASK)
            return "its journal has a column of no epoch";
    return NULL;
}

/* Whether the numbers of a definition fit together, so that its arithmetic cannot overflow. */
static int definition_sound(const definition_t *d)
{
    if (d->q <= 0 || d->p <= 0 || d->capacity <= 0 || d->max_debt < 0
        || d->capacity > INT64_MAX - d->max_debt)
        return 0;
    u128 most = ((u128)1 << 62) * (u128)d->p, charged = (u128)(d->capacity + d->max_debt);
    return charged < most / (u128)d->q + 1
           && d->full_ns == (int64_t)((u128)d->q * (u128)d->capacity / (u128)d->p)
           && d->cap_ns == (int64_t)((u128)d->q * charged / (u128)d->p);
}

/* Whether the earlier limits of a definition are numbers that can be computed with. */
static int earlier_sound(const definition_t *d)
{
    if (d->earlier_count > EARLIER)
        return 0;
    for (uint32_t i = 0; i < d->earlier_count; i++)
        if (!in_range(d->earlier[i].until) || !(d->earlier[i].burst >= 0)
            || !(d->earlier[i].per_second >= 0) || !(d->earlier[i].burst < INFINITY)
            || !(d->earlier[i].per_second < INFINITY))
            return 0;
    return 1;
}

/* Whether a definition may name this slot as another one: it is NONE, or a definition stands
 * there. */
static inline int definition_or_none(const table_t *t, uint32_t place)
{
    return place == NONE || (place < t->h->definitions && t->definitions[place].name_hash);
}

/* NULL, or what is wrong with the definitions. */
static const char *definitions_fault(const table_t *t)
{
    uint32_t all = t->h->definitions;
    for (uint32_t i = 0; i < all; i++) {
        const definition_t *d = &t->definitions[i];
        uint32_t steps = 0;
        if (!definition_or_none(t, d->next) || !definition_or_none(t, d->candidate)
            || (d->candidate == NONE && d->candidate_below) || !earlier_sound(d)
            || !in_range(d->replaced_ns) || !in_range(d->staged_ns) || !in_range(d->still_until)
            || !in_range(d->over_admitted_minute) || (d->name_hash && !definition_sound(d)))
            return "a definition is none";
        for (uint32_t at = i; at != NONE && at < all; at = t->definitions[at].next)
            if (++steps > all)
                return "definitions replace each other in a circle";
    }
    return NULL;
}

/* NULL, or what is wrong with epochs, names and entries. */
static const char *entries_fault(const table_t *t)
{
    for (uint32_t i = 0; i < MAX_ORIGINS; i++)
        if (t->origins[i].node >= MAX_NODES)
            return "an epoch is of no node";
    for (uint32_t i = 0; i < t->h->named; i++)
        if (t->names[i].bytes > NAME_BYTES)
            return "a node's name has no end";
    for (int64_t e = 0; e < t->h->bump; e++) {
        const hot_t *hot = &t->hot[e];
        if (!(hot->flags & ENTRY_USED))
            continue;
        if (hot->bucket >= t->h->definitions || hot->origin >= MAX_ORIGINS || hot->near_class > 63)
            return "an entry leads out of the table";
        if (!in_range(hot->averaged_net) || !in_range(hot->denied) || !in_range(t->cold[e].rated_ns)
            || !in_range(t->cold[e].taken_until))
            return "an entry's times are out of range";
    }
    return NULL;
}

/* Checks and repairs a table that nobody else uses. Returns NULL, or why it cannot be used. */
static const char *table_resume(table_t *t, int64_t max_keys)
{
    const char *wrong;
    if ((wrong = header_fault(t, max_keys)) || (wrong = definitions_fault(t))
        || (wrong = journal_fault(t)) || (wrong = entries_fault(t)))
        return wrong;
    if (mutex_init(&t->h->lock, 1) || mutex_init(&t->h->lead, 1))
        return "its locks cannot be made";
    table_lock(t);
    table_rebuild(t);
    /* Once more, since finishing the journal has changed them. */
    if (!(wrong = definitions_fault(t)) && !(wrong = entries_fault(t)))
        wrong = table_verify(t);
    table_unlock(t);
    return wrong;
}

#endif
