/* The merge of an entry that a peer sent into the entry that this node holds. See docs/model.md,
 * "Merge". */
#ifndef CRDTBUCKET_MERGE_MERGE_H
#define CRDTBUCKET_MERGE_MERGE_H

#include "../level/evict.h"
#include "../level/over_admission.h"
#include "lowering.h"
#include "refilled.h"
#include "store.h"
#include "suspect.h"

/* What a merge of many entries returns. Each list has room for one item for each entry of the
 * frame. */
typedef struct {
    uint32_t *answers; /* entries of this node that are to be sent to the sender */
    uint32_t *touched; /* entries that were merged */
    uint32_t *gone;    /* entries that were evicted for new ones */
    merge_result_t r;
} merge_out_t;

/* The column that a frame's entry has of an origin, or NULL. */
static const wire_column_t *wire_column_of(const wire_entry_t *w, uint32_t origin)
{
    for (const wire_column_t *x = w->column; x < w->column + w->columns; x++)
        if (x->origin == origin)
            return x;
    return NULL;
}

/* Whether an entry that is not held here has takes or rates that are believed. */
static int brings_any(const table_t *t, const wire_entry_t *w, const merge_context_t *m)
{
    for (const wire_column_t *x = w->column; x < w->column + w->columns; x++)
        if (x->taken && x->origin && !t->origins[x->origin].tombstone && trusted(t, m, x->origin))
            return 1;
    return w->fast | w->slow;
}

/* The node that introduces an entry which is not held here: the sender, if it has taken tokens of
 * the key itself; else RELAYED. */
static uint32_t introducer_of(const table_t *t, const wire_entry_t *w, const merge_context_t *m)
{
    for (const wire_column_t *x = w->column; m->source && x < w->column + w->columns; x++)
        if (x->taken && x->origin && t->origins[x->origin].node == m->source)
            return m->source;
    return RELAYED;
}

/* At most so many entries of a full table are evicted for the new entries of one frame. Each
 * eviction has to look at a sample of entries, and no frame may hold up the event loop. Entries
 * that are dropped for this reason come again by anti-entropy. */
#define ROOM_A_FRAME 2048

/* Finds or makes the entry into which a frame's entry is merged, and brings it to its definition
 * and the running epoch. Returns NONE when the frame's entry is ignored or dropped, which `out`
 * counts. `guess` is the entry that it probably is, or NONE. */
static uint32_t merge_place(table_t *t, const wire_entry_t *w, uint32_t guess, uint32_t bucket,
                            const merge_context_t *m, int64_t now, merge_out_t *out, int *existed)
{
    merge_result_t *r = &out->r;
    uint32_t e = entry_holds(t, guess, w->lo, w->hi) ? guess : table_find(t, w->lo, w->hi);
    *existed = e != NONE;
    if (!*existed
        && ((!w->debt_ns && !w->hidden_ns && !m->silent) || m->late || !brings_any(t, w, m))) {
        r->ignored++;
        return NONE;
    }
    int crowded = m->crowded + r->crowded >= CROWDED_A_FRAME;
    if (!*existed && UNLIKELY(crowded || m->room + r->gone_count >= ROOM_A_FRAME)) {
        r->crowded += crowded;
        r->dropped_full++;
        return NONE;
    }
    if (!*existed) {
        room_t room;
        e = entry_obtain(t, w->lo, w->hi, bucket, introducer_of(t, w, m), 1, now, &room);
        r->crowded += room.crowded;
        if (room.gone != NONE)
            out->gone[r->gone_count++] = room.gone;
    }
    const wire_column_t *own = wire_column_of(w, t->h->own_origin);
    if (UNLIKELY(e != NONE && own && own_is_behind(t, e, own))) {
        if (!m->reopen)
            r->own_behind++;
        else if (open_epoch(t))
            r->duplicate_epoch = 1;
        else
            e = NONE;
    }
    if (e == NONE || (!entry_current(t, e, bucket) && !entry_renew(t, e, bucket, now))) {
        r->dropped_full++;
        return NONE;
    }
    return e;
}

/* Returns the debt `after` a merge, limited to the range from `least` to the ceiling; `debt` is
 * the one before it. All are units. Counts the debt that is forgiven, and notes it where the bucket
 * was full or a debt was forgiven. */
static i128 clamp_merged(const table_t *t, hot_t *hot, definition_t *d, i128 debt, i128 after,
                         i128 least, int64_t now)
{
    i128 cap = cap_units(d);
    if (after > debt)
        note_over_admission(d, after, now);
    if (after > cap) {
        forgive(d, after - cap);
        after = cap;
        count_full(t, hot);
    }
    if (after < least) {
        after = least;
        if (least > 0)
            count_full(t, hot);
    }
    if (after <= 0 && debt > 0)
        count_full(t, hot);
    return after;
}

/* Counts the tokens by which a debt fell because the sender owes less. Refunds, by which the
 * columns bring less than 0 tokens, are not counted. */
static inline void count_adopted(const definition_t *d, const comparison_t *g, i128 debt,
                                 i128 after, merge_result_t *r)
{
    int64_t brings = g->brings_lacking + g->brings_held;
    i128 kept = debt + (brings < 0 ? token_units(d, brings) : 0), owed = after > 0 ? after : 0;
    if (UNLIKELY(owed < kept))
        add_tokens(&r->adopted, (int64_t)((kept - owed) / d->q));
}

/* Merges the columns and the debt of a frame's entry into an entry that is current. Returns whether
 * the key was full here while the sender advertises a debt: then the sender is to be answered. */
static int merge_levels(table_t *t, uint32_t e, const wire_entry_t *w, const wire_definition_t *wd,
                        const merge_context_t *m, int64_t now, comparison_t *g, merge_result_t *r)
{
    hot_t *hot = &t->hot[e];
    definition_t *d = &t->definitions[hot->bucket];
    if (UNLIKELY(LOAD(hot->flags) & ENTRY_SUSPECT) && (m->memory || m->common))
        suspect_cancel(t, e, now);
    i128 far = entry_far(t, e, d, now),
         least = UNLIKELY(t->h->shared_bursts) ? entry_least(t, e, d, now) : -far;
    if (has_noted(t, e))
        owe_noted(t, e, LOAD(hot->word), d, far, now);
    advance(t, e, d, least, now);
    /* The same value of `net` is used throughout, so that a take which another thread makes
     * meanwhile stays charged. */
    int64_t base = LOAD(hot->base), net = entry_net(t, e);
    i128 debt = debt_units(d, base, net, now);
    g->mixed = !wd->same;
    compare_columns(t, e, net, w, m, d, now, g);
    int64_t back = -(g->brings_held + g->brings_lacking);
    if (UNLIKELY(back > 0))
        note_given_back(t, e, d, back);
    if (UNLIKELY(g->refused)) {
        r->refused_columns += g->refused;
        t->h->refused_columns += g->refused;
    }
    r->capped_columns += g->capped;
    r->ahead += g->ahead;
    r->of_silent += m->newcomer && g->brings_silent > 0;
    if (UNLIKELY(g->brings_given_up > 0))
        g->charged_before = charged_before(t, e, d, token_units(d, g->brings_given_up), now);
    i128 rest = far > 0 && g->brings_silent > 0 ? far_left(t, e, d, m, g, now) : far;
    i128 stated = stated_units(d, w->debt_ns, wd), hidden = stated_units(d, w->hidden_ns, wd),
         apart = UNLIKELY(g->brings_silent > 0)
                     ? debt_apart(t, e, d, m, w, g, debt + far, stated + hidden, rest, now)
                     : UNBOUNDED,
         advertised = stated + (UNLIKELY(hidden > far) ? hidden - far : 0),
         after = merged_debt(d, debt, advertised, stated, hidden, g, m, wd, rest, apart);
    if (UNLIKELY(g->older))
        after = owed_by_older(t, e, d, g, advertised, after);
    if (UNLIKELY(far > 0))
        note_brought(t, e, d, m, g, stated + hidden, now);
    if (UNLIKELY(g->earlier > 0))
        after = charged_at_most(d, debt, after, wd->same ? advertised : 0, g);
    after = lowered_at_most(t, e, d, m, g, debt, after, now, &r->lowered);
    after = clamp_merged(t, hot, d, debt, after, least, now);
    if (UNLIKELY(g->mixed))
        note_mixed(t, e, d, m->members, after, now);
    count_adopted(d, g, debt, after, r);
    journal_t *j = t->journal;
    j->entry = e;
    j->base = after == debt ? base : base_for(d, after, net, now);
    j->columns = g->raised_count;
    journal_write(j, JOURNAL_MERGE);
    if (after != debt)
        base_move(t, hot, base, j->base);
    store_columns(t, e, d, m, g, r);
    STORE(j->kind, JOURNAL_NONE);
    return debt + far <= slack_units(d) && stated > 0 && after < stated;
}

/* Stores the rates that come with a frame's entry: the sender's own, and those that it relays. */
static void merge_rates(table_t *t, uint32_t e, const wire_entry_t *w, const merge_context_t *m,
                        int epochs, int64_t now, merge_result_t *r)
{
    definition_t *d = &t->definitions[t->hot[e].bucket];
    int old = now - m->at > t->h->near_ns && !m->late;
    i128 far = UNLIKELY(old) ? kept_for_silent(t, e, d, now).far : 0;
    if (m->newer) {
        note_got(t, e, d, now);
        store_rates(t, e, m, w, epochs, r);
    }
    if (UNLIKELY(w->relayed_count) && !m->late)
        store_relayed_rates(t, e, m, w, now, r);
    if (UNLIKELY(old))
        hide_refilled(t, e, d, m, far, now);
}

/* Merges one entry of a frame; `wd` is its definition, and `g` is memory for the comparison. For
 * other parameters see `merge_place` and `store_rates`. */
static void merge_entry(table_t *t, const wire_entry_t *w, uint32_t guess,
                        const wire_definition_t *wd, const merge_context_t *m, int epochs,
                        int64_t now, comparison_t *g, merge_out_t *out)
{
    merge_result_t *r = &out->r;
    int existed;
    if (wd->bucket == NONE) {
        r->unknown_bucket++;
        return;
    }
    wire_definition_t its;
    wd = wire_definition_for(wd, w->hi, &its);
    uint32_t e = merge_place(t, w, guess, wd->bucket, m, now, out, &existed);
    if (e == NONE)
        return;
    int full_here = merge_levels(t, e, w, wd, m, now, g, r);
    merge_rates(t, e, w, m, epochs, now, r);
    r->merged++;
    if (m->joining || (existed && full_here))
        out->answers[r->answer_count++] = e;
    out->touched[r->touched_count++] = e;
}

#endif
