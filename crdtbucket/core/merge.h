/* The merge: what a peer states about a key joins what this node holds. See docs/model.md, "Merge". */
#ifndef CRDTBUCKET_MERGE_H
#define CRDTBUCKET_MERGE_H

#include "measure.h"
#include "take.h"
#include "weigh.h"

/* How a position in a frame's definition table is understood here. */
typedef struct {
    uint32_t bucket;                  /* local definition, NONE when the bucket is unknown here */
    uint32_t same;                    /* its definition is ours: levels may be adopted */
    int64_t q, p;                     /* the sender's T */
    uint64_t candidate_below;         /* keys of the candidate, to which the two below apply in place of the first two */
    uint32_t candidate, candidate_same;
} wire_definition_t;

/* Buckets may have got other definitions since the sender's were looked up. Until they are again, their keys are merged under
 * those that stand now, by tokens. */
static void wire_definitions_follow(const table_t *t, wire_definition_t *wd, uint32_t count)
{
    for (wire_definition_t *end = wd + count; wd < end; wd++) {
        if (wd->bucket == NONE)
            continue;
        uint32_t bucket = definition_newest(t, wd->bucket), candidate = LOAD(t->definitions[bucket].candidate);
        wd->same &= bucket == wd->bucket;
        wd->candidate_same &= candidate == wd->candidate;
        wd->bucket = bucket;
        wd->candidate = candidate;
        wd->candidate_below = candidate < MAX_DEFINITIONS ? LOAD(t->definitions[bucket].candidate_below) : 0;
    }
}

/* A wire definition as it is understood for one key; `its` is written where that is the candidate's. */
static inline const wire_definition_t *wire_definition_for(const wire_definition_t *wd, uint64_t hash_hi,
                                                           wire_definition_t *its)
{
    if (LIKELY((hash_hi >> 1) >= wd->candidate_below))
        return wd;
    *its = *wd;
    its->bucket = wd->candidate;
    its->same = wd->candidate_same;
    return its;
}

typedef struct {
    int64_t merged, ignored, unknown_bucket, refused_columns, capped_columns, dropped_full, gained;
    uint32_t answer_count, touched_count, gone_count;
    int twin;                         /* larger counts of the own running epoch were heard */
} merge_result_t;

/* The stated debt in units here, at most T * (C + D). Under another definition: its tokens, at our T. */
static inline i128 stated_units(const definition_t *d, const wire_entry_t *w, const wire_definition_t *wd)
{
    i128 cap = cap_units(d), units = (i128)w->debt_ns * d->p;
    if (!wd->same) {
        double tokens = (double)w->debt_ns * (double)wd->p / (double)wd->q, most = (double)d->capacity + (double)d->max_debt;
        units = tokens < most ? (i128)(tokens * (double)d->q) : cap;
    }
    return units < cap ? units : cap;
}

/* Whether an entry raises a column of a node. */
static int brings_of(const table_t *t, const weighed_t *g, uint32_t node)
{
    for (const wire_column_t *x = g->raised; x < g->raised + g->raised_count; x++)
        if (t->origins[x->origin].node == node)
            return 1;
    return 0;
}

/* Credit, in units, that is kept for silent nodes of which an entry brings nothing. */
static i128 far_of_others(const table_t *t, uint32_t e, const definition_t *d, const weighed_t *g, int64_t now)
{
    double claims = predict(t, e, d, now).slow_claims + own_slow_claim(&t->cold[e], d), tokens = 0;
    column_t c = {0};
    while (column_next(t, e, &c))
        if (column_rated(&c) && !brings_of(t, g, t->origins[column_origin(&c)].node))
            tokens += column_far(t, d, &c, claims, now);
    return far_units(d, tokens);
}

/* The debt after the merge, in units, before the clamp. `debt` is signed; `rest`: credit kept for others than those of whom
 * the entry brings something. */
static i128 merged_debt(const definition_t *d, i128 debt, i128 stated, const weighed_t *g, const wire_definition_t *w,
                        i128 rest)
{
    int64_t brings = g->brings_held + g->brings_lacking;
    i128 count = debt + token_units(d, brings), adopt = stated + token_units(d, g->lacks), out;
    if (!w->same) {
        i128 lacking = token_units(d, g->brings_lacking);
        out = debt + token_units(d, g->brings_held) + (lacking < stated ? lacking : stated);
    } else
        out = count < adopt ? count : adopt;
    if (debt < 0 && g->brings_silent > 0 && stated > 0) { /* a burst at the end of a partition is not hidden by the credit */
        i128 brought = token_units(d, g->brings_silent), least = stated < brought ? stated : brought;
        if (adopt < least)
            least = adopt;
        if (out < least - rest)
            out = least - rest;
    }
    return out;
}

/* News of takes that were made, in part, under a limit that is gone. How much of them that limit has refilled since is not
 * known, so by itself the news empties the bucket and no more: at the rate of now, what a larger limit admits would keep
 * everybody from it for hours. What is beyond that is forgiven, unless it is owed here, or by the sender. */
static i128 charged_at_most(definition_t *d, i128 debt, i128 after, i128 stated)
{
    i128 most = full_units(d);
    most = debt > most ? debt : stated > most ? stated : most;
    if (after <= most)
        return after;
    ADD_SATURATED(d->forgiven, (int64_t)((after - most) / d->q > INT64_MAX ? INT64_MAX : (after - most) / d->q));
    return most;
}

/* `c` has risen by what others tell of its owner, a silent node, and had `net` tokens before. The column by which that node is
 * predicted, this one or that of another life, keeps its count at the owner's newest news. */
static void note_relayed(table_t *t, uint32_t e, uint32_t node, const column_t *c, int64_t net, int64_t brought)
{
    const node_t *n = &t->nodes[node];
    column_t rated = *c;
    if (!column_rated(&rated)) {
        rated = (column_t){0};
        do {
            if (!column_next(t, e, &rated))
                return;
        } while (!column_rated(&rated) || t->origins[column_origin(&rated)].node != node);
    }
    int i = rated.i, same = rated.c == c->c && i == c->i;
    int64_t before = same ? net : column_net(&rated);
    if (heard_later(n, rated.c->heard[i])) {            /* its rounds came without the key, so that was its count then */
        double fast = unpack_rate(rated.c->fast[i]) * fade(n, rated.c->heard[i], fast_ns(t));
        double slow = unpack_rate(rated.c->slow[i]) * fade(n, rated.c->heard[i], SLOW_NS);
        rated.c->fast[i] = pack_rate(fast);
        rated.c->slow[i] = pack_rate(slow);
        rated.c->known[i] = (uint64_t)before;
        rated.c->heard[i] = stamp_of(n->heard);
        if (!column_rated(&rated))
            refresh_near_class(t, e);
    }
    rated.c->known[i] += (uint64_t)(column_net(&rated) - before - brought); /* 0, but for a new birth and another life */
}

/* A column that has risen is news for the peers that do not hear its owner. Nothing else of a merge is news for anybody: a
 * column rises once on every node, so whatever the links are, it has come everywhere after as many steps, and is silent. */
static void store_columns(table_t *t, uint32_t e, const merge_context_t *m, const weighed_t *g, merge_result_t *r)
{
    int news = 0;
    for (const wire_column_t *x = g->raised; x < g->raised + g->raised_count; x++) {
        column_t c;
        int found = column_find(t, e, x->origin, &c);    /* again: an earlier one may have moved it */
        int64_t net = found ? column_net(&c) : 0, before = found && c.c->birth[c.i] == x->birth ? net : 0;
        if (!column_raise(t, e, x, &c, found)) {
            r->dropped_full++;
            continue;
        }
        uint32_t node = t->origins[x->origin].node;
        int64_t brought = x->taken - x->refunded - before;
        news |= m->relays && m->relays[node];
        r->gained += brought;
        if (node && node != m->source && t->nodes[node].rated)
            note_relayed(t, e, node, &c, net, brought);
    }
    if (news)
        log_append(t, e);
}

/* One life of a node has rates at a time. Returns whether others had any. */
static int clear_other_rates(table_t *t, uint32_t e, uint32_t node, uint32_t origin)
{
    column_t c = {0};
    int changed = 0;
    while (column_next(t, e, &c))
        if (column_rated(&c) && column_origin(&c) != origin && t->origins[column_origin(&c)].node == node) {
            c.c->fast[c.i] = c.c->slow[c.i] = 0;
            changed = 1;
        }
    return changed;
}

static void store_rates(table_t *t, uint32_t e, const merge_context_t *m, const wire_entry_t *w, int lives, merge_result_t *r)
{
    column_t own;
    int changed = lives > 1 && clear_other_rates(t, e, m->source, m->source_origin), had = column_find(t, e, m->source_origin, &own);
    if (!had && (w->fast | w->slow) && !t->origins[m->source_origin].marked) {
        had = column_new(t, e, m->source_origin, 0, &own);
        r->dropped_full += !had;
    }
    if (had) {
        changed |= own.c->fast[own.i] != w->fast || own.c->slow[own.i] != w->slow;
        own.c->fast[own.i] = w->fast;
        own.c->slow[own.i] = w->slow;
        own.c->heard[own.i] = stamp_of(m->at);
        own.c->known[own.i] = (uint64_t)column_net(&own);
        t->nodes[m->source].rated = 1;
    }
    if (changed) {
        note_peak(t, e, m->at);
        refresh_near_class(t, e);
    }
}

/* Whether what a relay states of a node on a key, as of the time `at`, is news: of one that is known here, is not heard here, and
 * was not silent for the relay either. So no rates come with a silence behind them for which no credit was kept. */
static int is_relayed_news(const table_t *t, const merge_context_t *m, uint32_t origin, int64_t at, int64_t now)
{
    uint32_t node = t->origins[origin].node;
    const node_t *n = &t->nodes[node];
    return origin && node && node != m->source && n->known && !n->connected && !t->origins[origin].marked
           && now - at <= t->h->near_ns;
}

static void store_relayed_rates(table_t *t, uint32_t e, const merge_context_t *m, const wire_entry_t *w, int64_t now,
                                merge_result_t *r)
{
    const uint8_t *in = w->relayed;
    int changed = 0;
    for (uint32_t i = 0; i < w->relayed_count; i++) {
        wire_rates_t x = {0};
        in = get_relayed(in, in + 9, &x);                /* it was checked, and has no more bytes */
        uint32_t origin = m->tables->origin[x.origin];
        int64_t at = m->at - x.age_ms * MILLISECOND;
        column_t c;
        if (!is_relayed_news(t, m, origin, at, now))
            continue;
        if (!column_find(t, e, origin, &c) && !column_new(t, e, origin, 0, &c)) {
            r->dropped_full++;
            continue;
        }
        if (column_rated(&c) && (int32_t)(stamp_of(at) - c.c->heard[c.i]) <= 0)
            continue;
        clear_other_rates(t, e, t->origins[origin].node, origin);
        c.c->fast[c.i] = x.fast;
        c.c->slow[c.i] = x.slow;
        c.c->heard[c.i] = stamp_of(at);
        c.c->known[c.i] = (uint64_t)column_net(&c);
        t->nodes[t->origins[origin].node].rated = 1;
        changed = 1;
    }
    if (changed) {
        note_peak(t, e, m->at);
        refresh_near_class(t, e);
    }
}

/* Larger counts of the own running epoch: somebody else runs under it, or this process lost some. What a common store was
 * asked for, and peers may have read there, is neither. */
static int own_is_behind(const table_t *t, uint32_t e, const wire_column_t *x)
{
    const hot_t *hot = &t->hot[e];
    if (hot->origin != x->origin)
        return 1;
    int64_t refunded = own_refunded(t, e), taken = entry_net(t, e) + refunded;
    return x->birth > hot->birth || (x->birth == hot->birth && (x->taken > taken + t->h->open_tokens || x->refunded > refunded));
}

/* Where a bulk merge leaves what concerns its caller; each has room for one item an entry of the frame. */
typedef struct {
    uint32_t *answers;                /* entries that the sender should hear */
    uint32_t *touched;
    uint32_t *gone;                   /* evicted for new ones */
    merge_result_t r;
} merge_out_t;

/* The wire's column of an origin, or NULL. */
static const wire_column_t *wire_column_of(const wire_entry_t *w, uint32_t origin)
{
    for (const wire_column_t *x = w->column; x < w->column + w->columns; x++)
        if (x->origin == origin)
            return x;
    return NULL;
}

/* The entry that a wire entry is merged into, as it has to be for that; NONE when it is not: ignored or dropped. `guess` is
 * the entry that it probably is. */
static uint32_t merge_place(table_t *t, const wire_entry_t *w, uint32_t guess, uint32_t bucket, const merge_context_t *m,
                            int64_t now, merge_out_t *out, int *existed)
{
    merge_result_t *r = &out->r;
    uint32_t e = entry_holds(t, guess, w->lo, w->hi) ? guess : table_find(t, w->lo, w->hi), gone;
    *existed = e != NONE;
    if (!*existed && (!w->debt_ns || m->late)) {
        r->ignored++;
        return NONE;
    }
    if (!*existed) {
        e = entry_obtain(t, w->lo, w->hi, bucket, 1, now, &gone);
        if (gone != NONE)
            out->gone[r->gone_count++] = gone;
    }
    const wire_column_t *own = wire_column_of(w, t->h->own_origin);
    if (e != NONE && own && own_is_behind(t, e, own)) {
        if (open_epoch(t))
            r->twin = 1;
        else
            e = NONE;
    }
    if (e == NONE || (!entry_current(t, e, bucket) && !entry_renew(t, e, bucket, now))) {
        r->dropped_full++;
        return NONE;
    }
    return e;
}

/* An entry out of a snapshot is one like any other from here on, and is told. */
static void unsuspect(table_t *t, uint32_t e)
{
    AND(t->hot[e].flags, (uint16_t)~ENTRY_SUSPECT);
    log_append(t, e);
}

/* What a snapshot said of an entry goes, and what was taken in this life is left, as if the key had been unknown before. */
static void suspect_cancel(table_t *t, uint32_t e, int64_t now)
{
    hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    int64_t base = LOAD(hot->base), net = entry_net(t, e);
    i128 debt = debt_units(d, base, net, now), own = token_units(d, net > 0 ? net : 0);
    if (debt > own)
        base_move(t, hot, base, base_for(d, own, net, now));
    columns_free(t, e);
    refresh_near_class(t, e);
    unsuspect(t, e);
}

/* Joins the columns and the debt of a wire entry into an entry that is current. Returns whether the sender, who states a
 * debt, should hear that the key is full here. */
static int join_entry(table_t *t, uint32_t e, const wire_entry_t *w, const wire_definition_t *wd, const merge_context_t *m,
                      int64_t now, weighed_t *g, merge_result_t *r)
{
    hot_t *hot = &t->hot[e];
    definition_t *d = &t->definitions[hot->bucket];
    if (UNLIKELY(LOAD(hot->flags) & ENTRY_SUSPECT) && (m->memory || m->common))
        suspect_cancel(t, e, now);
    i128 far = entry_far(t, e, d, now), least = UNLIKELY(t->h->shared_bursts) ? entry_least(t, e, d, now) : -far;
    advance(t, e, d, least, now);
    int64_t base = LOAD(hot->base), net = entry_net(t, e); /* one net throughout: a take that comes between stays charged */
    i128 debt = debt_units(d, base, net, now), cap = cap_units(d);
    g->mixed = !wd->same;
    weigh(t, e, net, w, m, d, now, g);
    if (UNLIKELY(g->refused)) {
        r->refused_columns += g->refused;
        t->h->refused_columns += g->refused;
    }
    r->capped_columns += g->capped;
    i128 rest = far > 0 && g->brings_silent > 0 ? far_of_others(t, e, d, g, now) : 0;
    i128 stated = stated_units(d, w, wd), after = merged_debt(d, debt, stated, g, wd, rest);
    if (UNLIKELY(g->earlier))
        after = charged_at_most(d, debt, after, wd->same ? stated : 0);
    if (after > debt)
        note_excess(d, after, now);
    if (after > cap) {
        ADD_SATURATED(d->forgiven, (int64_t)((after - cap) / d->q));
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
    journal_t *j = t->journal;
    j->entry = e;
    j->base = after == debt ? base : base_for(d, after, net, now);
    j->columns = g->raised_count;
    journal_write(j, JOURNAL_JOIN);
    if (after != debt)
        base_move(t, hot, base, j->base);
    store_columns(t, e, m, g, r);
    STORE(j->kind, JOURNAL_NONE);
    return debt <= slack_units(d) && stated > 0 && after < stated;
}

static void merge_entry(table_t *t, const wire_entry_t *w, uint32_t guess, const wire_definition_t *wd,
                        const merge_context_t *m, int lives, int64_t now, weighed_t *g, merge_out_t *out)
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
    int full_here = join_entry(t, e, w, wd, m, now, g, r);
    if (m->newer)
        store_rates(t, e, m, w, lives, r);
    if (UNLIKELY(w->relayed_count))
        store_relayed_rates(t, e, m, w, now, r);
    r->merged++;
    if (m->joining || (existed && full_here))
        out->answers[r->answer_count++] = e;
    out->touched[r->touched_count++] = e;
}

#endif
