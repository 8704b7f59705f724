/* The file of a table, with anything written over it.
 *
 * A process that has the file alone examines all of it: it is refused, or it verifies, and whatever
 * is then done with it stays within its regions, ends, and leaves a table that verifies. A process
 * that joins others reads only the header: the file is refused, or all that the header says lies
 * within the regions.
 *
 * The bytes: how it is opened; how many places are written over, and for each the region, the
 * manner, the place and a word; then a script of what is done with it. */
#include "script_run.h"

#define MOST_PLACES 12

static stage_t stage;

static void use_up(table_t *t)
{
    uint32_t gone[STAGE_KEYS];
    for (int k = 0; k < 30; k++)
        take_simply(t, 2, k, 900000);
    t->virtual_ns += 200 * SECOND;
    table_lock(t);
    collect_all(t);
    log_trim(t, t->h->version, INT64_MAX);
    t->virtual_ns += 200 * SECOND;
    sweep(t, 20, clock_ns(t), gone);
    table_unlock(t);
}

static void state(table_t *t, uint32_t slot, int key)
{
    statement_t s = {slot, key, 50 * SECOND, 7, {{0}}};
    for (uint32_t i = 0; i < s.columns; i++)
        s.column[i] = (wire_column_t){1 + i + (i >= t->h->own_origin - 1), 1, 9 + i, i % 3};
    rig_merge(t, &s, 1);
}

/* Fills a table with all kinds of things: entries that were freed, columns in blocks, refunds,
 * unsent changes, definitions that were replaced, a candidate, a column that was closed, the
 * name of a peer, notes. */
static void fill(table_t *t)
{
    script_fill(t);
    use_up(t);
    for (int k = 0; k < 10; k++) {
        uint32_t slot = (uint32_t)k % SCRIPT_BUCKETS;
        take_simply(t, slot, k, 1 + k % 3);
        state(t, slot, k);
        table_lock(t);
        reset(t, &t->definitions[slot], rig_find(t, SCRIPT_NAME(slot), k), INT64_MAX, clock_ns(t));
        table_unlock(t);
        take_simply(t, slot, k, 2);
    }
    table_lock(t);
    open_epoch(t);
    table_unlock(t);
    take_simply(t, 0, 0, 1);
    uint32_t staged = rig_define(t, SCRIPT_NAME(3), 50, SECOND, 2);
    rig_define(t, SCRIPT_NAME(1), 12, SECOND, 5);
    t->definitions[staged].staged = 1;
    definition_stage(t, 0, staged, UINT64_MAX >> 2, clock_ns(t));
    take_simply(t, 2, 5, 3);
    table_lock(t);
    collect_all(t);
    table_unlock(t);
    take_simply(t, 2, 8, 700000);
    t->h->named = PEER + 1;
    memcpy(t->names[PEER].text, "peer", 4);
    t->names[PEER].bytes = 4;
    memcpy(t->handoff, "notes", 5);
    t->h->handoff_bytes[0] = 5;
    t->h->handoff = 1;
}

/* The bytes of a region that have a meaning. */
static size_t written(const stage_t *s, int region)
{
    const table_t *t = &s->t;
    size_t most = s->size[region], used = (size_t)t->h->bump + 2;
    switch (region) {
    case STAGE_HEADER:
        return sizeof *t->h;
    case STAGE_JOURNAL:
        return sizeof *t->journal;
    case STAGE_DEFINITIONS:
        return 8 * sizeof *t->definitions;
    case STAGE_NODES:
        return 8 * sizeof *t->nodes;
    case STAGE_ORIGINS:
        return 16 * sizeof *t->origins;
    case STAGE_WORKERS:
        return 4 * sizeof *t->workers;
    case STAGE_NAMES:
        return 64;
    case STAGE_COUNTS:
        return 8 * sizeof *t->counts;
    case STAGE_HOT:
        return used * sizeof *t->hot;
    case STAGE_COLD:
        return used * sizeof *t->cold;
    case STAGE_BLOCKS:
        return ((size_t)t->h->blocks_bump + 2) * sizeof *t->blocks;
    default:
        return most < 512 ? most : 512;
    }
}

static void write_over(const stage_t *s, bytes_t *in, int header_alone)
{
    uint32_t places = choose(in, MOST_PLACES + 1);
    size_t size[STAGE_REGIONS];
    for (int i = 0; i < STAGE_REGIONS; i++)
        size[i] = written(s, i);
    while (places--) {
        int region = (int)choose(in, STAGE_REGIONS);
        uint32_t how = choose(in, 8);
        size_t at = choose_word(in, 2);
        uint64_t word = choose_word(in, 8), was = 0;
        if (header_alone)
            region = 0;
        size_t bytes = (size_t)1 << how % 4;
        at = at * bytes % (size[region] - bytes + 1);
        char *place = stage_region(s, region) + at;
        memcpy(&was, place, bytes);
        word = how & 4 ? was ^ word : word;
        memcpy(place, &word, bytes);
    }
}

/* As the binding does for the first process of a node. */
static void begin_epoch(table_t *t)
{
    table_lock(t);
    for (uint32_t i = 1; i < MAX_NODES; i++) {
        if (t->nodes[i].known_by)
            forget_node(t, i, clock_ns(t));
        memset(&t->nodes[i], 0, sizeof t->nodes[i]);
    }
    t->h->warming_up_until = INT64_MIN;
    t->h->members = 1;
    t->h->open_tokens = 0;
    t->h->handoff = t->h->refused = 0;
    t->h->view_bytes[0] = t->h->view_bytes[1] = 0;
    drop_unknown_epochs(t);
    t->h->spare_epoch = EPOCH + 1;
    open_epoch(t);
    for (uint32_t i = 0; i < t->h->definitions; i++)
        t->definitions[i].flush_tokens = 1 + t->definitions[i].capacity / 20;
    table_unlock(t);
}

static void open_alone(table_t *t, bytes_t *in)
{
    if (table_resume(t, STAGE_KEYS))
        return;
    begin_epoch(t);
    script_run(t, *in, NULL);
    table_lock(t);
    collect_all(t);
    const char *wrong = table_verify(t);
    CHECK(!wrong, "it was used, and %s", wrong);
    table_unlock(t);
}

/* Reads all that the header says is there. */
static void open_with_others(const table_t *t)
{
    const header_t *h = t->h;
    uint64_t sum = 0;
    if (header_fault(t, STAGE_KEYS))
        return;
    for (int64_t e = 0; e < h->bump; e++)
        sum += t->hot[e].word + t->cold[e].version;
    for (uint64_t i = h->log_head; i < h->log_tail; i++)
        sum += t->log_version[i] + t->log_entry[i];
    for (int64_t b = 0; b < h->blocks_bump; b++)
        sum += t->blocks[b].next;
    for (uint32_t i = 0; i < h->definitions; i++)
        sum += t->definitions[i].name_hash;
    for (uint32_t i = 0; i < h->named; i++)
        sum += t->names[i].bytes;
    for (int64_t i = 0; h->handoff && i < h->handoff_bytes[h->handoff - 1]; i += 4096)
        sum += t->handoff[(h->handoff - 1) * (size_t)HANDOFF_BYTES + (size_t)i];
    for (int k = 0; k < SCRIPT_KEYS; k++)
        sum += rig_find(t, SCRIPT_NAME(0), k);
    sum += t->origins[h->own_origin].epoch
           + (h->free_entry == NONE ? 0 : t->hot[h->free_entry].word)
           + (h->free_last == NONE ? 0 : t->hot[h->free_last].word)
           + (h->free_block == NONE ? 0 : t->blocks[h->free_block].next);
    __asm__ volatile("" ::"r"(sum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bytes_t in = {data, data + size};
    if (!stage.t.h)
        stage_make(&stage, fill);
    table_t *t = stage_set(&stage);
    uint32_t with_others = choose(&in, 4) == 3;
    write_over(&stage, &in, (int)with_others);
    if (with_others)
        open_with_others(t);
    else
        open_alone(t, &in);
    return 0;
}
