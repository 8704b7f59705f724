/* Any bytes as the entries of a frame: they are refused, or read in the only way in which they
 * can be written, and merged. Then what the table advertises is read back whole. The first bytes
 * choose the sender of the frame, how much its tables announce, and what this node knows of it. */
#include "script_frames.h"

static stage_t busy, empty;
static snapshot_t before, after;

static void fill(table_t *t)
{
    script_fill(t);
    for (int k = 0; k < 12; k++)
        for (uint32_t slot = 0; slot < SCRIPT_BUCKETS; slot++)
            take_simply(t, slot, k, 1 + k % 5);
    collect_all(t);
}

static void nothing(table_t *t) { (void)t; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wire_definition_t wd[SCRIPT_BUCKETS];
    bytes_t in = {data, data + size};
    if (!busy.t.h) {
        stage_make(&busy, fill);
        stage_make(&empty, nothing);
    }
    table_t *t = stage_set(&busy);
    static const int64_t silent[MAX_ORIGINS] = {[1 ... MAX_ORIGINS - 1] = 30 * SECOND};
    uint32_t how = choose(&in, 256), peer = 1 + how % SCRIPT_PEERS, more = choose(&in, 256),
             origins = more % 16;
    wire_tables_t tables = {1 + (how >> 6) % SCRIPT_BUCKETS, origins ? origins : MAX_ORIGINS,
                            positions_alike()};
    if (more & 128) { /* all peers are silent, and relays advertise them */
        t->virtual_ns += 5 * SECOND;
        for (uint32_t i = 1; i <= SCRIPT_PEERS; i++)
            t->nodes[i].connected = i == peer;
        t->h->near_ns = t->h->near_bound_ns = SECOND;
        t->h->predict = 1;
        refresh_far(t);
    }
    merge_context_t m = {.source = peer,
                         .source_origin = t->nodes[peer].origin,
                         .at = clock_ns(t),
                         .newer = how >> 2 & 1,
                         .joining = how >> 3 & 1,
                         .reopen = how >> 4 & 1,
                         .late = more >> 4 & 1,
                         .memory = more >> 5 & 1,
                         .keeps_credit = more >> 6 & 1,
                         .newcomer = more >> 6 & 1,
                         .silent = more & 64 ? silent : NULL,
                         .tables = &tables};
    read_t f;
    merge_out_t out;
    check_spelling(in.at, bytes_left(&in), tables.definitions, tables.origins);
    read_frame(&f, in.at, bytes_left(&in), &tables);
    if (f.n > 0) {
        uint16_t used[MAX_ORIGINS];
        for (int i = 0; i < MAX_ORIGINS; i++)
            used[i] = (uint16_t)(t->origins[i].used ? i : 0);
        read_free(&f);
        tables.origin = used; /* epochs that are not followed here */
        read_frame(&f, in.at, bytes_left(&in), &tables);
        script_definitions(t, how >> 5, wd);
        look_at(t, &before);
        merge_all(t, &f, wd, &m, &out);
        look_at(t, &after);
        check_table(t);
        check_rise(t, &before, &after);
        CHECK(out.r.merged + out.r.ignored + out.r.unknown_bucket + out.r.dropped_full == f.n
                  || out.r.dropped_full,
              "entries of the frame are lost");
        free(out.answers);
        check_statement(t, &empty);
    }
    read_free(&f);
    return 0;
}
