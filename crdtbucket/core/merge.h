/* The merge: what a peer states about a key joins what this node holds. See docs/model.md, "Merge". */
#ifndef CRDTBUCKET_MERGE_H
#define CRDTBUCKET_MERGE_H

#include "codec.h"
#include "take.h"

/* How a position in a frame's definition table is understood here. */
typedef struct {
    uint32_t bucket;                  /* local definition, NONE when the bucket is unknown here */
    uint32_t same;                    /* its definition is ours: levels may be adopted */
    int64_t q, p;                     /* the sender's T */
} wire_definition_t;

typedef struct {
    uint32_t source;                  /* node that sent the frame */
    uint32_t source_origin;
    int64_t at;                       /* receipt less half the round trip, local ns */
    int newer;                        /* no later frame of this source was seen: its rates count */
    int joining;                      /* the source has no memory: answer what is held */
    int alone;                        /* the caller has the table to itself */
} merge_context_t;

typedef struct {
    int64_t merged, ignored, unknown_bucket, refused_columns, dropped_full, gained;
    uint32_t answer_count, touched_count, deferred_count, gone_count;
    int twin;                         /* larger counts of the own running epoch were heard */
} merge_result_t;

/* Tokens in (birth, taken, refunded) that a holder of the other has not counted. */
static inline i128 gain(uint32_t xb, int64_t xp, int64_t xn, int held, uint32_t yb, int64_t yp, int64_t yn)
{
    if (!held || yb != xb)
        return (i128)xp - xn;
    return (i128)(xp > yp ? xp - yp : 0) - (xn > yn ? xn - yn : 0);
}

/* A column of an owner that is heard here directly rises by the owner's word alone. */
static inline int trusted(const table_t *t, const merge_context_t *m, uint32_t origin)
{
    uint32_t node = t->origins[origin].node;
    return node == m->source || node == 0 || !t->nodes[node].connected || t->nodes[node].origin != origin;
}

/* A column rises no faster than the limit allows since its owner was last heard on this key, with slack: a quarter and 5 s.
 * One that its owner has never stated here is not checked. */
static inline int plausible(const definition_t *d, const column_t *c, i128 rise, int64_t now)
{
    if (!c->c->heard[c->i])
        return 1;
    double seconds = (double)(now - stamp_ns(c->c->heard[c->i], now)) / 1e9 + 5.0;
    double most = 2.0 * (double)d->capacity + (double)d->max_debt + 1.25 * d->per_second * seconds;
    return (double)rise <= most;
}

/* The columns of one wire entry that are followed here, and what they bring and lack. */
typedef struct {
    i128 brings_held, brings_lacking; /* gain of joined over mine: on columns I hold (same birth), and of others */
    i128 lacks;                       /* gain of mine over theirs */
} gains_t;

typedef struct {
    wire_column_t wire[MAX_COLUMNS], joined[MAX_COLUMNS];
    uint8_t raise[MAX_COLUMNS];
    int source_refused;               /* the sender's own column rose faster than the limit allows */
} followed_t;

static void weigh_column(table_t *t, uint32_t e, const merge_context_t *m, const definition_t *d, followed_t *f,
                         uint32_t i, int64_t now, gains_t *g, merge_result_t *r)
{
    const wire_column_t *x = &f->wire[i];
    wire_column_t *joined = &f->joined[i];
    column_t y;
    int held = column_find(t, e, x->origin, &y);
    uint32_t birth = held ? y.c->birth[y.i] : 0;
    int64_t taken = held ? column_taken(&y) : 0, refunded = held ? column_refunded(&y) : 0;
    int same_birth = held && x->birth == birth;
    f->raise[i] = 0;
    if (!x->origin || t->origins[x->origin].marked
        || (held && (x->birth < birth || (same_birth && x->taken <= taken && x->refunded <= refunded))))
        return;
    if (!trusted(t, m, x->origin)) {
        /* Their level has refunds in it that will be counted here when the owner states them: not twice. */
        if (same_birth && x->refunded > refunded)
            g->lacks += x->refunded - refunded;
        return;
    }
    *joined = *x;
    if (same_birth) {
        joined->taken = x->taken > taken ? x->taken : taken;
        joined->refunded = x->refunded > refunded ? x->refunded : refunded;
    }
    i128 brought = gain(x->birth, joined->taken, joined->refunded, held, birth, taken, refunded);
    if (same_birth && !plausible(d, &y, brought, now)) {
        r->refused_columns++;
        t->h->refused_columns++;
        f->source_refused |= x->origin == m->source_origin;
        return;
    }
    f->raise[i] = 1;
    if (same_birth)
        g->brings_held += brought;
    else
        g->brings_lacking += brought;
}

/* gain of all that is held here over what the sender's entry shows. */
static i128 weigh_mine(const table_t *t, uint32_t e, int64_t net, const wire_column_t *theirs, uint32_t count)
{
    const hot_t *hot = &t->hot[e];
    i128 sum = 0;
    int64_t refunded = own_refunded(t, e), taken = net + refunded;
    uint32_t j = 0;
    for (; j < count && theirs[j].origin != hot->origin; j++)
        ;
    if (hot->origin)
        sum += gain(hot->birth, taken, refunded, j < count, j < count ? theirs[j].birth : 0, j < count ? theirs[j].taken : 0,
                    j < count ? theirs[j].refunded : 0);
    column_t c = {0};
    while (column_next(t, e, &c)) {
        uint32_t origin = column_origin(&c);
        if (origin == hot->origin || t->origins[origin].marked)
            continue;
        for (j = 0; j < count && theirs[j].origin != origin; j++)
            ;
        sum += gain(c.c->birth[c.i], column_taken(&c), column_refunded(&c), j < count, j < count ? theirs[j].birth : 0,
                    j < count ? theirs[j].taken : 0, j < count ? theirs[j].refunded : 0);
    }
    return sum;
}

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

/* The debt after the merge, in units, before the clamp. `debt` is signed. */
static i128 merged_debt(const definition_t *d, i128 debt, i128 stated, const gains_t *g, const wire_definition_t *w)
{
    i128 brings = g->brings_held + g->brings_lacking, q = d->q;
    i128 count = debt + q * brings, adopt = stated + q * g->lacks, out;
    if (!w->same) {
        i128 lacking = q * g->brings_lacking;
        out = debt + q * g->brings_held + (lacking < stated ? lacking : stated);
    } else
        out = count < adopt ? count : adopt;
    if (debt < 0 && brings > 0 && stated > 0) {          /* a burst at the end of a partition is not hidden by the credit */
        i128 least = stated < q * brings ? stated : q * brings;
        if (adopt < least)
            least = adopt;
        if (out < least)
            out = least;
    }
    return out;
}

static void store_columns(table_t *t, uint32_t e, const merge_context_t *m, followed_t *f, uint32_t count,
                          merge_result_t *r)
{
    for (uint32_t i = 0; i < count; i++) {
        const wire_column_t *x = &f->joined[i];
        column_t c;
        if (!f->raise[i])
            continue;
        int found = column_find(t, e, x->origin, &c);    /* again: an earlier one may have moved it */
        int64_t before = found && c.c->birth[c.i] == x->birth ? column_taken(&c) - column_refunded(&c) : 0;
        if (!found && !column_new(t, e, x->origin, x->refunded != 0, &c)) {
            r->dropped_full++;
            continue;
        }
        if (x->refunded && !column_widen(t, e, &c)) {
            r->dropped_full++;
            continue;
        }
        c.c->birth[c.i] = x->birth;
        if (c.block)
            c.block->refunded[c.i] = (uint64_t)x->refunded;
        c.c->taken[c.i] = ((uint64_t)x->origin << TOKEN_BITS) | (uint64_t)x->taken;
        uint32_t node = t->origins[x->origin].node;
        int64_t brought = x->taken - x->refunded - before;
        r->gained += brought;
        if (node && node != m->source && brought > 0) {
            const node_t *n = &t->nodes[node];
            double sum = relayed_tokens(n, c.c->relayed[c.i]) + (double)brought;
            c.c->relayed[c.i] = (uint16_t)((pack_rate(sum) & ~15) | (n->silences & 15));
        }
    }
}

static void store_rates(table_t *t, uint32_t e, const merge_context_t *m, const wire_entry_t *w, merge_result_t *r)
{
    column_t c = {0}, own = {0};
    int had = 0, changed = 0;
    while (column_next(t, e, &c)) {                       /* one life of a node has rates at a time */
        if (column_origin(&c) == m->source_origin) {
            own = c;
            had = 1;
        } else if ((c.c->fast[c.i] | c.c->slow[c.i]) && t->origins[column_origin(&c)].node == m->source) {
            c.c->fast[c.i] = c.c->slow[c.i] = 0;
            changed = 1;
        }
    }
    if (!had && (w->fast | w->slow)) {
        had = column_new(t, e, m->source_origin, 0, &own);
        r->dropped_full += !had;
    }
    if (had) {
        changed |= own.c->fast[own.i] != w->fast || own.c->slow[own.i] != w->slow;
        own.c->fast[own.i] = w->fast;
        own.c->slow[own.i] = w->slow;
        own.c->heard[own.i] = stamp_of(m->at);
        own.c->relayed[own.i] = 0;
        t->nodes[m->source].rated = 1;
    }
    if (changed)
        refresh_near_class(t, e);
}

/* Larger counts of the own running epoch: somebody else runs under it, or this process lost some. */
static int own_is_behind(const table_t *t, uint32_t e, const wire_column_t *x)
{
    const hot_t *hot = &t->hot[e];
    if (hot->origin != x->origin)
        return 1;
    int64_t refunded = own_refunded(t, e), taken = hot->net + refunded;
    return x->birth > hot->birth || (x->birth == hot->birth && (x->taken > taken || x->refunded > refunded));
}

/* Where a bulk merge leaves what concerns its caller; each has room for one item an entry of the frame. */
typedef struct {
    uint32_t *answers;                /* entries that the sender should hear */
    uint32_t *touched;
    uint32_t *deferred;               /* positions that need the table to themselves */
    uint32_t *gone;                   /* evicted for new ones */
    merge_result_t r;
} merge_out_t;

/* Merges one entry; 0 when that needs the table to itself. */
static int merge_entry(table_t *t, const wire_entry_t *w, const wire_definition_t *wd, const uint16_t *origins,
                       const merge_context_t *m, int64_t now, followed_t *f, merge_out_t *out)
{
    merge_result_t *r = &out->r;
    if (wd->bucket == NONE) {
        r->unknown_bucket++;
        return 1;
    }
    definition_t *d = &t->definitions[wd->bucket];
    uint32_t e = table_find(t, w->lo, w->hi), gone;
    int existed = e != NONE;
    if (!existed && !w->debt_ns) {
        r->ignored++;
        return 1;
    }
    if (!m->alone && (existed ? !entry_current(t, e, wd->bucket)
                              : t->h->entries >= t->h->max_keys || d->entries >= d->quota))
        return 0;
    const uint8_t *in = w->body;
    for (uint32_t i = 0; i < w->columns; i++) {           /* checked by get_entry */
        in = get_column(in, in + 64, w->flags & WIRE_REFUNDS, &f->wire[i]);
        f->wire[i].origin = origins[f->wire[i].origin];
        if (!m->alone && f->wire[i].origin == t->h->own_origin
            && (existed ? own_is_behind(t, e, &f->wire[i]) : f->wire[i].birth > t->h->births))
            return 0;
    }
    if (!existed) {
        e = entry_obtain(t, w->lo, w->hi, wd->bucket, m->alone, now, &gone);
        if (gone != NONE)
            out->gone[r->gone_count++] = gone;
        if (e == NONE) {
            r->dropped_full++;
            return 1;
        }
    }
    for (uint32_t i = 0; i < w->columns; i++)
        if (f->wire[i].origin == t->h->own_origin && own_is_behind(t, e, &f->wire[i])) {
            if (!open_epoch(t)) {
                r->dropped_full++;
                return 1;
            }
            r->twin = 1;
        }
    if (!entry_current(t, e, wd->bucket) && !entry_renew(t, e, wd->bucket, now)) {
        r->dropped_full++;
        return 1;
    }
    hot_t *hot = &t->hot[e];
    gains_t g = {0};
    i128 far = entry_far(t, e, d, now);
    advance(t, e, d, far, now);
    int64_t net = LOAD(hot->net);                         /* one net throughout: a take that comes between stays charged */
    i128 debt = debt_units(d, LOAD(hot->base), net, now), cap = cap_units(d);
    f->source_refused = 0;
    for (uint32_t i = 0; i < w->columns; i++) {
        f->raise[i] = 0;
        if (f->wire[i].origin != hot->origin)             /* mine is never larger there than here */
            weigh_column(t, e, m, d, f, i, now, &g, r);
    }
    g.lacks += weigh_mine(t, e, net, f->wire, w->columns);
    i128 stated = stated_units(d, w, wd), after = merged_debt(d, debt, stated, &g, wd);
    if (after > cap) {
        ADD(d->forgiven, (int64_t)((after - cap) / d->q));
        after = cap;
        hot->full_count++;
    }
    if (after < -far)
        after = -far;
    if (after != debt) {
        if (after <= 0 && debt > 0)
            hot->full_count++;
        STORE(hot->base, base_for(d, after, net, now));
    }
    store_columns(t, e, m, f, w->columns, r);
    if (m->newer && !f->source_refused)
        store_rates(t, e, m, w, r);
    r->merged++;
    if (m->joining || (existed && debt <= slack_units(d) && stated > 0 && after < stated))
        out->answers[r->answer_count++] = e;
    out->touched[r->touched_count++] = e;
    return 1;
}

#endif
