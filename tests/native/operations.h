/* The operations that are interrupted: how the table is prepared for each, and the operation. */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#include "view.h"

typedef struct {
    const char *name;
    int64_t max_keys;
    void (*prepare)(table_t *t);
    void (*run)(table_t *t);
    int64_t returned; /* tokens that are given back by it */
    int mends;        /* it finishes what another began */
    int forgets;      /* it evicts a key that owes, with the takes that came meanwhile */
} operation_t;

/* Leaves the table as a process does that is killed in `run` once `now` holds. */
static void die_in(table_t *t, void (*run)(table_t *), int (*now)(const table_t *));

#define Q SECOND /* one token a second */

static uint32_t slot_of(const table_t *t, int bucket)
{
    return definition_current(t, NAME[bucket]);
}

static void add_peer(table_t *t, int lives)
{
    for (int i = 0; i < lives; i++)
        origin_add(t, PEER, PEER_EPOCH + (uint64_t)i);
    t->nodes[PEER].known_by = BY_LINK;
    t->nodes[PEER].last_seen = t->virtual_ns;
}

static void prepare_plain(table_t *t)
{
    rig_define(t, NAME[0], 100, Q, 1);
    /* Its entries lie in a ring. */
    t->definitions[rig_define(t, NAME[1], 10, Q, 3)].quota = t->h->max_keys;
    add_peer(t, 12);
    for (int k = 0; k < 8; k++)
        take_simply(t, slot_of(t, 0), k, k + 3);
    collect_all(t);
}

/* All keys full again, idle for longer than the grace, and sent. */
static void prepare_idle(table_t *t)
{
    prepare_plain(t);
    log_trim(t, t->h->version, INT64_MAX);
    t->virtual_ns += 200 * SECOND;
}

static void run_insert(table_t *t) { take_simply(t, slot_of(t, 0), 20, 5); }
static void run_insert_fractional(table_t *t) { take_simply(t, slot_of(t, 1), 20, 5); }

/* A bucket with its own limit of keys, which is used up by keys that are full by now; with
 * `still_until` they were kept until then. */
static void fill_quota(table_t *t, int64_t still_until)
{
    prepare_plain(t);
    uint32_t slot = rig_define(t, NAME[2], 10, 2 * Q, 2); /* as T of a calendar bucket, not plain */
    t->definitions[slot].quota = 4;
    t->definitions[slot].still_until = still_until;
    for (int k = 0; k < 4; k++)
        take_simply(t, slot, k, 2);
    collect_all(t);
    log_trim(t, t->h->version, INT64_MAX);
}

static void prepare_quota(table_t *t)
{
    fill_quota(t, 0);
    t->virtual_ns += 200 * SECOND;
}

static void prepare_calendar_quota(table_t *t)
{
    fill_quota(t, t->virtual_ns + 50 * SECOND);
    t->virtual_ns += STILL_AFTER_NS + 200 * SECOND;
}

/* Its keys go from one ring to another. */
static void prepare_quota_redefined(table_t *t)
{
    prepare_quota(t);
    t->definitions[rig_define(t, NAME[2], 7, 2 * Q, 1)].quota = 4;
}

static void run_insert_quota(table_t *t) { take_simply(t, slot_of(t, 2), 20, 5); }

static void prepare_limit(table_t *t)
{
    prepare_plain(t);
    for (int k = 8; k < 16; k++)
        take_simply(t, slot_of(t, 0), k, 30 - k);
    statement_t many = {slot_of(t, 0), 3, 5 * Q, 8, {{0}}};
    for (uint32_t i = 0; i < many.columns; i++)
        many.column[i] = (wire_column_t){origin_find(t, PEER_EPOCH + i), 1, 7, 0};
    rig_merge(t, &many, 1);
    collect_all(t);
}

/* No peer knows of the last takes. */
static void prepare_unsent_limit(table_t *t)
{
    prepare_limit(t);
    log_trim(t, t->h->version, INT64_MAX);
    for (int k = 0; k < 16; k++)
        take_simply(t, slot_of(t, 0), k, 1);
}

static void run_take(table_t *t) { take_simply(t, slot_of(t, 0), 5, 4); }
static void run_denied(table_t *t) { take_simply(t, slot_of(t, 0), 5, 100); }

static void prepare_settled(table_t *t)
{
    prepare_plain(t);
    take_simply(t, slot_of(t, 1), 2, 8);
}

static void refund_of(table_t *t, int bucket, int key, int64_t n)
{
    uint32_t slot = slot_of(t, bucket);
    table_lock(t);
    uint32_t e = rig_find(t, NAME[bucket], key);
    refund_if_charged(t, &t->definitions[slot], e, t->hot[e].full_count, n, clock_ns(t));
    table_unlock(t);
}

static void run_refund(table_t *t) { refund_of(t, 1, 2, 3); }

static void prepare_refunded(table_t *t)
{
    prepare_settled(t);
    run_refund(t);
}

static void run_settle(table_t *t)
{
    table_lock(t);
    settle(t, &t->definitions[slot_of(t, 0)], rig_find(t, NAME[0], 5), 150, clock_ns(t));
    table_unlock(t);
}

static void run_book(table_t *t)
{
    table_lock(t);
    book(t, &t->definitions[slot_of(t, 0)], rig_find(t, NAME[0], 5), 3, 3, clock_ns(t));
    table_unlock(t);
}

static uint32_t life(const table_t *t, int i) { return origin_find(t, PEER_EPOCH + (uint64_t)i); }

static void run_merge(table_t *t)
{
    statement_t s[3] = {
        {slot_of(t, 0), 1, 60 * Q, 2, {{life(t, 0), 1, 40, 0}, {life(t, 1), 4, 9, 0}}},
        {slot_of(t, 0), 21, 3 * Q, 1, {{life(t, 2), 1, 3, 0}}},
        {slot_of(t, 0), 5, 3 * Q, 1, {{life(t, 2), 1, 3, 0}}}};
    rig_merge(t, s, 3);
}

/* Raises the columns, partly with refunds, so that they move to where these fit. */
static void run_merge_refunds(table_t *t)
{
    statement_t s = {slot_of(t, 0),
                     1,
                     60 * Q,
                     3,
                     {{life(t, 0), 1, 50, 7}, {life(t, 1), 4, 12, 2}, {life(t, 2), 1, 6, 1}}};
    rig_merge(t, &s, 1);
}

static void prepare_merged(table_t *t)
{
    prepare_plain(t);
    run_merge(t);
}

static void run_merge_overflow(table_t *t)
{
    statement_t s = {slot_of(t, 0), 1, 70 * Q, 10, {{0}}};
    for (uint32_t i = 0; i < s.columns; i++)
        s.column[i] = (wire_column_t){life(t, (int)i), 5, 2 + i, i % 2};
    rig_merge(t, &s, 1);
}

/* The peer advertises less debt than is counted here. */
static void run_adopt_less(table_t *t)
{
    statement_t s = {slot_of(t, 0), 1, 2 * Q, 1, {{life(t, 0), 1, 40, 0}}};
    uint32_t e = rig_find(t, NAME[0], 1);
    s.column[1] = (wire_column_t){t->hot[e].origin, t->hot[e].generation, entry_net(t, e), 0};
    s.columns = 2;
    rig_merge(t, &s, 1);
}

/* Larger counts of the running epoch: another one opens. */
static void run_duplicate_name(table_t *t)
{
    statement_t s = {slot_of(t, 0), 1, 20 * Q, 1, {{t->h->own_origin, 99, 40, 0}}};
    rig_merge(t, &s, 1);
}

static void run_define_anew(table_t *t) { rig_define(t, NAME[0], 50, 2 * Q, 1); }
static void run_define_fresh(table_t *t) { rig_define(t, NAME[2], 50, 2 * Q, 1); }

static void prepare_redefined(table_t *t)
{
    prepare_refunded(t);
    rig_define(t, NAME[1], 7, 2 * Q, 5);
    t->virtual_ns += SECOND / 3;
}

static void renew(table_t *t, int bucket, int key)
{
    table_lock(t);
    entry_renew(t, rig_find(t, NAME[bucket], key), slot_of(t, bucket), clock_ns(t));
    table_unlock(t);
}

static void run_redefine(table_t *t) { renew(t, 1, 2); }
static void run_renew_quota(table_t *t) { renew(t, 2, 2); }

/* A slot whose definition was replaced long ago and in which decisions were counted. */
static void prepare_reused_slot(table_t *t)
{
    prepare_plain(t);
    rig_define(t, NAME[2], 5, Q, 1);
    t->counts[slot_of(t, 2)].allowed = 11;
    rig_define(t, NAME[2], 6, Q, 1);
    t->counts[slot_of(t, 2)].allowed = 4;
    t->virtual_ns += 2 * REPLACED_FOR;
}

static void run_define_reused(table_t *t) { rig_define(t, NAME[1], 9, Q, 2); }

static void run_open_epoch(table_t *t)
{
    table_lock(t);
    open_epoch(t);
    table_unlock(t);
}

static void prepare_epoch(table_t *t)
{
    prepare_refunded(t);
    run_open_epoch(t);
}

static void run_close_column(table_t *t)
{
    renew(t, 1, 2);
    renew(t, 0, 3);
}

static void run_sweep(table_t *t)
{
    uint32_t gone[64];
    table_lock(t);
    sweep(t, 64, clock_ns(t), gone);
    table_unlock(t);
}

static void prepare_attempted(table_t *t)
{
    prepare_plain(t);
    for (int k = 4; k < 12; k++)
        take_simply(t, slot_of(t, 0), k, 2);
    t->virtual_ns += SECOND / 10;
}

static void run_round(table_t *t)
{
    table_lock(t);
    collect_all(t);
    table_unlock(t);
}

static void run_flush(table_t *t)
{
    table_lock(t);
    collect_flush(t, clock_ns(t));
    table_unlock(t);
}

static void prepare_flush(table_t *t)
{
    prepare_plain(t);
    for (int k = 4; k < 12; k++)
        take_simply(t, slot_of(t, 0), k, 20);
}

static void touch(table_t *t, int key)
{
    table_lock(t);
    log_append(t, rig_find(t, NAME[0], key));
    table_unlock(t);
}

static void prepare_long_log(table_t *t)
{
    prepare_plain(t);
    do
        touch(t, (int)(t->h->log_tail % 8));
    while (t->h->log_tail < (uint64_t)t->h->backed_log);
}

static void run_touch(table_t *t) { touch(t, 3); }

static void run_trim(table_t *t)
{
    table_lock(t);
    log_trim(t, t->h->version - 3, INT64_MAX);
    table_unlock(t);
}

static void run_prune(table_t *t)
{
    int64_t place = 0;
    table_lock(t);
    t->origins[life(t, 0)].tombstone = TOMBSTONE_NEW;
    table_unlock(t);
    while (place >= 0) {
        table_lock(t);
        place = prune_some(t, place, 2);
        table_unlock(t);
    }
}

static void run_add_origin(table_t *t)
{
    table_lock(t);
    origin_add(t, PEER, 0xabc);
    table_unlock(t);
}

static void prepare_silent(table_t *t)
{
    prepare_merged(t);
    t->nodes[PEER].rated = 1;
    refresh_far(t);
    t->virtual_ns += 5 * SECOND;
}

static void run_forget(table_t *t)
{
    table_lock(t);
    forget_node(t, PEER, clock_ns(t));
    table_unlock(t);
}

static int is_joining(const table_t *t)
{
    return t->journal->kind == JOURNAL_MERGE && t->blocks[1].next != NONE;
}
static int is_rewriting(const table_t *t) { return t->journal->kind == JOURNAL_REWRITE; }
static int is_defining(const table_t *t)
{
    return t->journal->kind == JOURNAL_DEFINE && !t->counts[2].allowed;
}
static int is_inserting(const table_t *t)
{
    return t->h->bump > 8 && (t->hot[8].flags & ENTRY_USED);
}

static void prepare_dead_in_merge(table_t *t)
{
    prepare_merged(t);
    die_in(t, run_merge_overflow, is_joining);
}

static void prepare_dead_in_renewal(table_t *t)
{
    prepare_epoch(t);
    die_in(t, run_close_column, is_rewriting);
}

static void prepare_dead_in_definition(table_t *t)
{
    prepare_reused_slot(t);
    die_in(t, run_define_reused, is_defining);
}

static void prepare_dead_in_insert(table_t *t)
{
    prepare_plain(t);
    die_in(t, run_insert, is_inserting);
}

static void run_repair(table_t *t)
{
    table_lock(t);
    table_unlock(t);
}

static void prepare_empty(table_t *t) { rig_define(t, NAME[0], 100, Q, 1); }

static const operation_t OPERATIONS[] = {
    {"insert", 64, prepare_plain, run_insert, 0, 0},
    {"insert in a bucket of fractions", 64, prepare_plain, run_insert_fractional, 0, 0},
    {"first insert, which makes the regions grow", 64, prepare_empty, run_insert, 0, 0},
    {"insert at the limit: evicts", 16, prepare_limit, run_insert, 0, 0, 1},
    {"insert at the limit: evicts the unsent", 16, prepare_unsent_limit, run_insert, 0, 0, 1},
    {"insert at the quota of a bucket: evicts", 64, prepare_quota, run_insert_quota, 0, 0, 1},
    {"insert at that of a calendar bucket", 64, prepare_calendar_quota, run_insert_quota, 0, 0, 1},
    {"take", 64, prepare_plain, run_take, 0, 0},
    {"take that finds the bucket full", 64, prepare_idle, run_take, 0, 0},
    {"denied take", 64, prepare_plain, run_denied, 0, 0},
    {"refund, the first: needs a wide column", 64, prepare_settled, run_refund, 3, 0},
    {"refund again", 64, prepare_refunded, run_refund, 3, 0},
    {"settle", 64, prepare_plain, run_settle, 0, 0},
    {"book of a call without an answer", 64, prepare_plain, run_book, 3, 0},
    {"merge of three keys", 64, prepare_plain, run_merge, 0, 0},
    {"merge of refunds: columns move", 64, prepare_merged, run_merge_refunds, 0, 0},
    {"merge that adds blocks", 64, prepare_merged, run_merge_overflow, 0, 0},
    {"merge that adopts a smaller debt", 64, prepare_merged, run_adopt_less, 0, 0},
    {"merge of a duplicate name's counts", 64, prepare_plain, run_duplicate_name, 0, 0},
    {"definition of a new bucket", 64, prepare_plain, run_define_fresh, 0, 0},
    {"definition anew", 64, prepare_plain, run_define_anew, 0, 0},
    {"definition in a reused slot", 64, prepare_reused_slot, run_define_reused, 0, 0},
    {"renewal under a new definition", 64, prepare_redefined, run_redefine, 0, 0},
    {"renewal in a bucket with a quota", 64, prepare_quota_redefined, run_renew_quota, 0, 0},
    {"new epoch", 64, prepare_refunded, run_open_epoch, 0, 0},
    {"renewal under a new epoch: the column closes", 64, prepare_epoch, run_close_column, 0, 0},
    {"sweep", 64, prepare_idle, run_sweep, 0, 0},
    {"round of versions", 64, prepare_attempted, run_round, 0, 0},
    {"early flush", 64, prepare_flush, run_flush, 0, 0},
    {"version in a full log: compacts", 64, prepare_long_log, run_touch, 0, 0},
    {"trim of the log", 64, prepare_attempted, run_trim, 0, 0},
    {"prune", 64, prepare_merged, run_prune, 0, 0},
    {"new origin", 64, prepare_plain, run_add_origin, 0, 0},
    {"farewell to a node", 64, prepare_silent, run_forget, 0, 0},
    {"repair of an insert", 64, prepare_dead_in_insert, run_repair, 0, 1},
    {"repair of a merge", 64, prepare_dead_in_merge, run_repair, 0, 1},
    {"repair of a renewal", 64, prepare_dead_in_renewal, run_repair, 0, 1},
    {"repair of a definition", 64, prepare_dead_in_definition, run_repair, 0, 1},
};
#define OPERATION_COUNT ((int)(sizeof OPERATIONS / sizeof *OPERATIONS))

#endif
