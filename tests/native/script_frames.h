/* Frames that peers send, and what this node knows of them when they come. */
#ifndef SCRIPT_FRAMES_H
#define SCRIPT_FRAMES_H

#include "script.h"

static wire_column_t script_column(script_t *s, const table_t *t, const wire_column_t *known)
{
    wire_column_t c = known ? *known : (wire_column_t){0};
    uint32_t how = choose(&s->in, 16);
    if (!known)
        c.origin = choose(&s->in, 12);
    if (how & 1)
        c.taken += (int64_t)(choose_number(&s->in) & TOKEN_MASK);
    if (how & 2)
        c.refunded += (int64_t)(choose_number(&s->in) & TOKEN_MASK);
    if (how & 4)
        c.generation += choose(&s->in, 4) - (c.generation > 0);
    if (how & 8)
        c.taken -= (int64_t)choose(&s->in, 100);
    c.origin += !c.origin && t->h->own_origin == 0;
    return c;
}

/* Writes what a relay advertises of the rates of others; returns how many. */
static uint16_t script_rates(script_t *s, uint8_t *out)
{
    uint16_t count = 0;
    for (uint32_t place = 1; place < 12 && bytes_left(&s->in); place++)
        if (choose(&s->in, 2)) {
            out = write_number(write_number(out, place), choose_word(&s->in, 2));
            for (int i = 0; i < 4; i++)
                *out++ = (uint8_t)choose(&s->in, 256);
            count++;
        }
    return count;
}

/* Writes an entry as a peer might advertise it that knows what is known here, or something else. */
static uint8_t *script_state(script_t *s, uint8_t *out)
{
    table_t *t = s->t;
    wire_column_t column[WATCHED + 8], sorted[WATCHED + 8];
    uint8_t rates[12 * RELAYED_BYTES];
    wire_entry_t w = {.column = sorted, .relayed = rates};
    uint64_t name = script_key(s, &w.lo, &w.hi);
    uint32_t how = choose(&s->in, 16), e = table_find(t, w.lo, w.hi), count = 0,
             slot = script_slot(t, name, w.hi);
    w.definition = slot == NONE ? 0 : slot;
    if (e != NONE && (how & 1)) {
        count = columns_of(t, e, column, WATCHED);
        for (uint32_t i = 0; i < count; i++)
            column[i] = script_column(s, t, &column[i]);
    }
    for (uint32_t more = choose(&s->in, 8); more; more--)
        column[count++] = script_column(s, t, NULL);
    for (uint32_t place = 0; place < MAX_ORIGINS; place++)
        for (uint32_t i = 0; i < count; i++)
            if (column[i].origin == place && (!w.columns || sorted[w.columns - 1].origin != place))
                sorted[w.columns++] = column[i];
    w.flags = (uint8_t)((how & 2 ? WIRE_REFUNDS : 0) | (how & 4 ? WIRE_RATES : 0));
    w.debt_ns = (int64_t)(choose_number(&s->in) * (how & 8 ? 1 : SECOND / 16) & INT64_MAX);
    w.fast = (uint16_t)(how & 4 ? choose_word(&s->in, 2) : 0);
    w.slow = (uint16_t)(how & 4 ? choose_word(&s->in, 2) : 0);
    if (s->hides && (w.hidden_ns = (int64_t)(choose_number(&s->in) >> 2)))
        w.flags |= WIRE_HIDDEN;
    if (s->relays && (w.relayed_count = script_rates(s, rates)))
        w.flags |= WIRE_RELAYED;
    return write_entry(out, &w);
}

static void script_definitions(const table_t *t, uint32_t how, wire_definition_t *wd)
{
    for (uint32_t i = 0; i < t->h->definitions; i++) {
        const definition_t *d = &t->definitions[i];
        uint32_t newest = how & 1 ? i : definition_newest(t, i);
        wd[i] = (wire_definition_t){newest, !(how & 2) && newest == i, d->q, d->p, 0, NONE, 0};
        if (how & 4)
            wd[i] = (wire_definition_t){i % 3 ? newest : NONE, 0, 1 + d->q / 3, d->p, 0, NONE, 0};
        if (wd[i].bucket != NONE && t->definitions[newest].candidate < MAX_DEFINITIONS) {
            wd[i].candidate = t->definitions[newest].candidate;
            wd[i].candidate_below = t->definitions[newest].candidate_below;
            wd[i].candidate_same = how & 1;
        }
    }
}

static size_t script_frame(script_t *s, uint8_t *frame)
{
    uint8_t *end = frame;
    uint32_t entries = choose(&s->in, 5);
    if (!entries) { /* as it stands in the script */
        size_t size = choose(&s->in, 200);
        size = size < bytes_left(&s->in) ? size : bytes_left(&s->in);
        memcpy(frame, s->in.at, size);
        s->in.at += size;
        return size;
    }
    while (entries--)
        end = script_state(s, end);
    return (size_t)(end - frame);
}

/* A peer appears under this epoch. Returns its origin. */
static uint32_t script_join(table_t *t, uint32_t peer, uint64_t epoch)
{
    node_t *n = &t->nodes[peer];
    uint32_t origin = origin_find(t, epoch);
    if (!origin)
        origin = origin_add(t, peer, epoch);
    if (!n->known_by)
        n->last_seen = clock_ns(t);
    n->known_by = BY_LINK;
    n->origin = (uint16_t)origin;
    t->origins[origin].tombstone = 0; /* it is back */
    return origin;
}

static void script_receive(script_t *s)
{
    static uint8_t frame[SCRIPT_FRAME * 4];
    static wire_definition_t wd[MAX_DEFINITIONS];
    table_t *t = s->t;
    uint16_t origins[MAX_ORIGINS];
    uint32_t how = choose(&s->in, 128), peer = 1 + how % SCRIPT_PEERS;
    if (!t->nodes[peer].known_by)
        script_join(t, peer, SCRIPT_EPOCH(peer, 1));
    merge_context_t m = s->sender;
    m.source = peer;
    m.source_origin = t->nodes[peer].origin;
    m.at = clock_ns(t) - choose(&s->in, 200) * SECOND / 100;
    m.newer = how & 1;
    m.joining = how >> 1 & 1;
    for (uint32_t i = 0; i < MAX_ORIGINS; i++)
        origins[i] = (uint16_t)(t->origins[i].used ? i : 0);
    /* A snapshot of the running epoch is refused. */
    if (how & 64)
        origins[t->h->own_origin] = 0;
    wire_tables_t tables = {t->h->definitions, MAX_ORIGINS, origins};
    m.tables = &tables;
    size_t size = script_frame(s, frame);
    read_t f;
    merge_out_t out;
    script_definitions(t, how >> 3, wd);
    check_spelling(frame, size, tables.definitions, tables.origins);
    read_frame(&f, frame, size, &tables);
    if (f.n > 0 && how & 64) {
        table_lock(t);
        for (int64_t i = 0; i < f.n; i++)
            restore_entry(t, &f.entries[i], &wd[f.entries[i].definition], i % 3 ? -1 : 0,
                          clock_ns(t));
        table_unlock(t);
    } else if (f.n > 0) {
        merge_all(t, &f, wd, &m, &out);
        free(out.answers);
    }
    read_free(&f);
}

/* Sets how the next frames are to be read: what their sender remembers, for which nodes it keeps
 * credit, and what they contain. */
static void script_sender(script_t *s)
{
    static int64_t silent[MAX_ORIGINS];
    static uint8_t relayed[MAX_NODES];
    uint32_t how = choose(&s->in, 256), kept = choose(&s->in, 60);
    for (int i = 0; i < MAX_ORIGINS; i++)
        silent[i] = kept * SECOND;
    memset(relayed, 1, sizeof relayed);
    s->sender = (merge_context_t){.late = how & 1,
                                  .memory = how >> 1 & 1,
                                  .keeps_credit = how >> 2 & 1,
                                  .newcomer = how >> 3 & 1,
                                  .reopen = how >> 4 & 1,
                                  .silent = kept ? silent : NULL,
                                  .relays = how & 32 ? relayed : NULL};
    s->hides = how >> 6 & 1;
    s->relays = how >> 7;
}

/* Sets which nodes this one sees, whose rates it relays, and which ones a relay alone sees. */
static void script_view(script_t *s)
{
    table_t *t = s->t;
    uint32_t how = choose(&s->in, 256);
    node_t *n = &t->nodes[1 + choose(&s->in, SCRIPT_PEERS)];
    table_lock(t);
    t->h->relayed += (how & 1) - n->relayed;
    n->relayed = how & 1;
    n->unmet = how >> 1 & 1;
    n->unproven = how >> 2 & 1;
    t->h->shared_bursts = how >> 3 & 1;
    if (n->known_by && how & 16) {
        n->known_by = how & 32 ? BY_RELAYS : BY_LINK;
        n->connected = n->known_by == BY_LINK && how & 64;
        set_last_seen(t, n, clock_ns(t));
    }
    refresh_far(t);
    table_unlock(t);
}

/* One step of work that goes over all entries part by part, while other things happen. */
static void script_part(script_t *s)
{
    table_t *t = s->t;
    uint32_t what = choose(&s->in, 3), some = 1 + choose(&s->in, STAGE_KEYS);
    table_lock(t);
    if (what == 0) {
        s->leaver = s->leaver ? s->leaver : 1 + choose(&s->in, SCRIPT_PEERS);
        s->given_up = forget_some(t, s->leaver, clock_ns(t), s->given_up, some);
        t->nodes[s->leaver].connected = 0;
        if (s->given_up < 0) {
            t->nodes[s->leaver].known_by = 0;
            s->given_up = s->leaver = 0;
        }
        refresh_far(t);
    } else if (what == 1) {
        int64_t ns = s->near ? t->h->near_bound_ns : choose(&s->in, 200) * SECOND / 50;
        s->near = set_near(t, ns, s->near, some);
        s->near = s->near < 0 ? 0 : s->near;
    } else {
        s->cancelled = s->settled ? s->cancelled : (int)choose(&s->in, 2);
        settle_suspects(t, s->settled, some, s->cancelled, clock_ns(t));
        s->settled = s->settled + some < t->h->bump ? s->settled + some : 0;
    }
    table_unlock(t);
}

#endif
