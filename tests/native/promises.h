/* What must hold of a table whatever was done with it, and of what it advertises: a second
 * implementation, from what is promised. */
#ifndef PROMISES_H
#define PROMISES_H

#include "spelling.h"
#include "stage.h"

#define WATCHED 24 /* columns of an entry that are compared */
#define STATED_BYTES (1 << 16)
#define ROUNDINGS 100 /* each by less than a ns; no script does so much */

/* ---- a table ---- */

static uint32_t columns_of(const table_t *t, uint32_t e, wire_column_t *out, uint32_t most)
{
    const hot_t *hot = &t->hot[e];
    uint32_t count = 1;
    int64_t refunded = own_refunded(t, e);
    out[0] = (wire_column_t){hot->origin, hot->generation, entry_net(t, e) + refunded, refunded};
    column_t c = {0};
    while (count < most && column_next(t, e, &c))
        if (column_origin(&c) != hot->origin)
            out[count++] = (wire_column_t){column_origin(&c), c.c->generation[c.i],
                                           column_taken(&c), column_refunded(&c)};
    return count;
}

typedef struct {
    int used, suspect;
    uint64_t lo, hi;
    uint32_t bucket, full_count;
    i128 debt, least; /* below which an operation brings it up first */
    uint32_t count;
    wire_column_t column[WATCHED];
} seen_t;

typedef struct {
    int64_t inserted;
    seen_t entry[STAGE_KEYS];
} snapshot_t;

static void look_at(const table_t *t, snapshot_t *s)
{
    s->inserted = t->h->inserted;
    for (uint32_t e = 0; e < STAGE_KEYS; e++) {
        const hot_t *hot = &t->hot[e];
        seen_t *x = &s->entry[e];
        if (!(x->used = e < t->h->bump && (hot->flags & ENTRY_USED)))
            continue;
        const definition_t *d = &t->definitions[hot->bucket];
        x->suspect = !!(hot->flags & ENTRY_SUSPECT);
        x->lo = hot->hash_lo;
        x->hi = hot->hash_hi;
        x->bucket = hot->bucket;
        x->full_count = hot->full_count;
        x->debt = debt_units(d, hot->base, entry_net(t, e), t->virtual_ns);
        prediction_t p = predict(t, e, d, t->virtual_ns);
        x->least = t->h->shared_bursts ? least_units(d, &p) : 0;
        x->count = columns_of(t, e, x->column, WATCHED);
    }
}

static const wire_column_t *seen_column(const seen_t *x, uint32_t origin)
{
    for (uint32_t i = 0; i < x->count; i++)
        if (x->column[i].origin == origin)
            return &x->column[i];
    return NULL;
}

static int as_large(const wire_column_t *a, const wire_column_t *b)
{
    return a->generation > b->generation
           || (a->generation == b->generation && a->taken >= b->taken
               && a->refunded >= b->refunded);
}

/* Columns only rise, except those of an epoch with a tombstone. */
static void check_rise(const table_t *t, const snapshot_t *before, const snapshot_t *after)
{
    /* A key may have been forgotten, and have come again. */
    if (before->inserted != after->inserted)
        return;
    for (uint32_t e = 0; e < STAGE_KEYS; e++) {
        const seen_t *x = &before->entry[e], *y = &after->entry[e];
        if (!x->used || !y->used || y->count == WATCHED)
            continue;
        if (x->suspect && !y->suspect)
            continue; /* The debt of a snapshot of unknown age may have been cancelled. */
        CHECK(x->lo == y->lo && x->hi == y->hi, "entry %u is another key's", e);
        for (uint32_t i = 0; i < x->count; i++) {
            const wire_column_t *c = &x->column[i], *is = seen_column(y, c->origin);
            CHECK(t->origins[c->origin].tombstone || !(c->taken || c->refunded)
                      || (is && as_large(is, c)),
                  "entry %u: (%u %u %ld %ld) became (%u %ld %ld)", e, c->origin, c->generation,
                  (long)c->taken, (long)c->refunded, is ? is->generation : 0,
                  is ? (long)is->taken : 0, is ? (long)is->refunded : 0);
        }
    }
}

/* `base` is whole ns: a debt may lie above the ceiling by what a clamp rounds, and each closing of
 * a column since. */
static void check_table(const table_t *t)
{
    const char *wrong = table_verify(t);
    CHECK(!wrong, "%s", wrong);
    CHECK(t->h->entries <= t->h->max_keys && t->h->blocks_used <= t->h->max_blocks,
          "more than fits");
    for (uint32_t e = 0; e < t->h->bump; e++) {
        const hot_t *hot = &t->hot[e];
        const definition_t *d = &t->definitions[hot->bucket];
        if (!(hot->flags & ENTRY_USED))
            continue;
        i128 debt = debt_units(d, hot->base, entry_net(t, e), t->virtual_ns);
        CHECK(debt <= cap_units(d) + ROUNDINGS * slack_units(d),
              "entry %u: its debt is above the ceiling by %ld ns", e,
              (long)((debt - cap_units(d)) / d->p));
        CHECK(own_refunded(t, e) >= 0
                  && entry_net(t, e) + own_refunded(t, e) <= (int64_t)TOKEN_MASK,
              "entry %u: its column", e);
        CHECK(hot->near_class <= 63, "entry %u: near class %u", e, hot->near_class);
    }
}

/* ---- what a table advertises ---- */

static size_t statement_of(const table_t *t, uint8_t *out)
{
    int64_t from = 0, count;
    size_t size = encode_entries(t, NULL, &from, t->h->bump, positions_alike(), 0, clock_ns(t), out,
                                 STATED_BYTES, &count);
    CHECK(from == t->h->bump, "%d bytes are too few", STATED_BYTES);
    return size;
}

/* Units of debt that a key has where it was unknown: what its columns charge, but not more than is
 * stated. */
static i128 debt_at_first_sight(const definition_t *d, const wire_entry_t *w)
{
    i128 charged = 0, stated = ((i128)w->debt_ns + w->hidden_ns) * d->p, cap = cap_units(d);
    for (const wire_column_t *c = w->column; c < w->column + w->columns; c++)
        charged += (i128)d->q * (c->taken - c->refunded);
    if (stated > cap)
        stated = cap;
    return charged < 0 ? 0 : charged < stated ? charged : stated;
}

static void check_same_entry(const table_t *t, const wire_entry_t *said, const wire_entry_t *back)
{
    const definition_t *d = &t->definitions[said->definition];
    CHECK(said->lo == back->lo && said->hi == back->hi && said->definition == back->definition,
          "another key");
    CHECK((i128)back->debt_ns == units_to_ns(d, debt_at_first_sight(d, said)),
          "a debt of %ld ns came back as %ld ns", (long)said->debt_ns, (long)back->debt_ns);
    CHECK(said->columns == back->columns, "%u columns came back as %u", said->columns,
          back->columns);
    for (uint32_t i = 0; i < said->columns; i++)
        CHECK(!memcmp(&said->column[i], &back->column[i], sizeof *said->column),
              "column %u came back as another", i);
}

static void merge_all(table_t *t, const read_t *f, const wire_definition_t *wd,
                      const merge_context_t *how, merge_out_t *out)
{
    uint32_t *scratch = block_of((size_t)f->most * 3 * sizeof *scratch);
    *out = (merge_out_t){scratch, scratch + f->most, scratch + 2 * f->most, {0}};
    table_lock(t);
    merge_entries(t, f->entries, f->n, wd, how, clock_ns(t), out);
    refresh_far(t);
    table_unlock(t);
    CHECK(out->r.touched_count <= f->n && out->r.answer_count <= f->n && out->r.gone_count <= f->n,
          "more came of the frame than it has");
}

/* The definitions and epochs of `t` in an empty table, where all of them are a peer's. 0 when there
 * is no room for its own. */
static int prepare_joiner(const table_t *t, table_t *joiner, wire_definition_t *wd)
{
    uint32_t own = 0;
    for (uint32_t i = MAX_ORIGINS - 1; i; i--)
        own = t->origins[i].used ? own : i;
    memcpy(joiner->definitions, t->definitions, t->h->definitions * sizeof *t->definitions);
    memcpy(joiner->origins, t->origins, MAX_ORIGINS * sizeof *t->origins);
    for (uint32_t i = 1; i < MAX_ORIGINS; i++)
        if (!joiner->origins[i].node)
            joiner->origins[i].node = PEER;
    joiner->origins[own] = (origin_t){.epoch = 1, .used = 1};
    joiner->h->definitions = t->h->definitions;
    joiner->h->own_origin = own;
    joiner->virtual_ns = t->virtual_ns;
    for (uint32_t i = 0; i < t->h->definitions; i++) {
        definition_t *d = &joiner->definitions[i];
        d->entries = 0;
        d->ring = NONE;
        d->quota = INT64_MAX;
        wd[i] = (wire_definition_t){.bucket = i, .same = 1, .q = d->q, .p = d->p};
    }
    return own != 0;
}

/* What a table advertises is read back as it is; a node that joins and merges it advertises the
 * same; and merged back it changes nothing. */
static void check_statement(table_t *t, stage_t *empty)
{
    static uint8_t said[STATED_BYTES], back[STATED_BYTES];
    static wire_definition_t wd[MAX_DEFINITIONS];
    static snapshot_t before, after;
    read_t f, g;
    merge_out_t out;
    size_t size = statement_of(t, said);
    wire_tables_t tables = {t->h->definitions, MAX_ORIGINS, positions_alike()};
    check_spelling(said, size, tables.definitions, MAX_ORIGINS);
    read_frame(&f, said, size, &tables);
    CHECK(f.n >= 0, "it states what cannot be read");
    table_t *joiner = stage_set(empty);
    if (prepare_joiner(t, joiner, wd)) {
        merge_context_t m = {.source = PEER,
                             .source_origin = t->h->own_origin,
                             .at = clock_ns(t),
                             .newer = 1,
                             .tables = &tables};
        merge_all(joiner, &f, wd, &m, &out);
        free(out.answers);
        check_table(joiner);
        /* An ignored entry has a debt that no take explains: none at first sight, as seen below. */
        CHECK(!out.r.refused_columns && !out.r.dropped_full && out.r.merged + out.r.ignored == f.n,
              "a part of it is refused");
        uint16_t positions[MAX_ORIGINS];
        memcpy(positions, positions_alike(), sizeof positions);
        positions[joiner->h->own_origin] = UINT16_MAX;
        int64_t from = 0, count;
        size = encode_entries(joiner, NULL, &from, joiner->h->bump, positions, 0, clock_ns(t), back,
                              STATED_BYTES, &count);
        read_frame(&g, back, size, &tables);
        /* Columns of a generation that no eviction explains are left out. */
        int64_t j = 0, compared = out.r.ahead ? 0 : f.n;
        for (int64_t i = 0; i < compared; i++)
            if (debt_at_first_sight(&t->definitions[f.entries[i].definition], &f.entries[i]) > 0) {
                CHECK(j < g.n, "keys are missing");
                check_same_entry(t, &f.entries[i], &g.entries[j++]);
            }
        CHECK(out.r.ahead || j == g.n, "%ld keys came back as %ld", (long)j, (long)g.n);
        read_free(&g);
    }
    /* What is noted is charged with any entry, and is no effect of an echo. */
    for (uint32_t e = 0; e < STAGE_KEYS; e++)
        t->cold[e].taken_until = 0;
    look_at(t, &before);
    merge_context_t echo = {.source = PEER, .at = clock_ns(t), .tables = &tables};
    merge_all(t, &f, wd, &echo, &out);
    free(out.answers);
    look_at(t, &after);
    check_table(t);
    check_rise(t, &before, &after);
    CHECK(!out.r.gained && !out.r.duplicate_epoch, "an echo of the own statement brings %ld tokens",
          (long)out.r.gained);
    for (uint32_t e = 0; e < STAGE_KEYS; e++) {
        const seen_t *x = &before.entry[e], *y = &after.entry[e];
        i128 moved = y->debt - x->debt, slack = slack_units(&t->definitions[y->bucket]);
        CHECK(!x->used || !y->used || x->debt < 0 || x->debt < x->least
                  || (moved <= slack && -moved <= ROUNDINGS * slack),
              "an echo moved the level of entry %u by %ld", e, (long)moved);
    }
    read_free(&f);
}

#endif
