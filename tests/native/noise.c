/* Random bytes where bytes are read: frames of entries, and the body of a table's file.
 *
 *   noise [--rounds N] [--seed N]
 *
 * A frame is parsed or refused; one that is parsed is merged, and the table verifies. A table in
 * which bits were flipped is refused by whoever opens it alone, or every operation on it ends
 * within its memory: pages around it may not be touched, and an alarm ends what does not end.
 */
#include <signal.h>

#include "rig.h"

#define NAME_ONE 5
#define NAME_TWO 6
#define FRAME 4096

static uint64_t state;

static uint64_t dice(uint64_t sides)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % sides;
}

static void fill(table_t *t)
{
    rig_define(t, NAME_ONE, 100, SECOND, 1);
    rig_define(t, NAME_TWO, 10, SECOND, 3);
    origin_add(t, PEER, PEER_EPOCH);
    origin_add(t, PEER, PEER_EPOCH + 1);
    for (int k = 0; k < 40; k++) {
        take_simply(t, 0, k, 1 + k % 9);
        take_simply(t, 1, k, 1 + k % 9);
    }
    for (int k = 0; k < 40; k += 3) {
        statement_t s = {0, k, 50 * SECOND, 2, {{2, 1, 9, 3}, {3, 1, 7, 2}}};
        rig_merge(t, &s, 1);
    }
    table_lock(t);
    collect_all(t);
    table_unlock(t);
}

/* ---- frames ---- */

static size_t some_frame(const table_t *t, uint8_t *frame)
{
    uint16_t position[MAX_ORIGINS];
    int64_t from = (int64_t)dice(60), count;
    for (int i = 0; i < MAX_ORIGINS; i++)
        position[i] = (uint16_t)i;
    return encode_entries(t, NULL, &from, t->h->bump, position, (int)dice(2), clock_ns(t), frame,
                          80 + dice(dice(4) ? 100 : FRAME - 80), &count);
}

static size_t spoil(uint8_t *frame, size_t size)
{
    for (uint64_t i = 1 + dice(4); i && size; i--)
        switch (dice(4)) {
        case 0:
            frame[dice(size)] ^= (uint8_t)(1 << dice(8));
            break;
        case 1:
            frame[dice(size)] = (uint8_t)dice(256);
            break;
        case 2:
            size = dice(size + 1);
            break;
        default:
            frame[dice(size)] = 0xff;
        }
    return size;
}

/* The frame is in memory of exactly its size, so that a sanitizer notices a read beyond it. */
static int give_frame(table_t *t, const uint8_t *bytes, size_t size)
{
    uint16_t origin[4] = {0, 0, 2, 3};
    wire_tables_t tables = {2, 4, origin};
    int64_t most = (int64_t)size / ENTRY_MIN_BYTES + 1;
    uint8_t *frame = malloc(size + !size);
    wire_entry_t *entries = malloc((size_t)most * sizeof *entries);
    wire_column_t *columns = malloc((size / COLUMN_MIN_BYTES + 1) * sizeof *columns);
    uint32_t *scratch = malloc((size_t)most * 4 * sizeof *scratch);
    memcpy(frame, bytes, size);
    int64_t n = parse_entries(frame, size, &tables, entries, most, columns);
    if (n > 0) {
        wire_definition_t wd[2] = {{0, (uint32_t)dice(2), SECOND, 1},
                                   {1, 1, 1 + (int64_t)dice(1000), 1 + (int64_t)dice(9)}};
        merge_context_t m = {
            .source = PEER, .source_origin = 2, .at = clock_ns(t), .newer = 1, .tables = &tables};
        merge_out_t out = {scratch, scratch + most, scratch + 2 * most, {0}};
        table_lock(t);
        merge_entries(t, entries, n, wd, &m, clock_ns(t), &out);
        refresh_far(t);
        const char *wrong = table_verify(t);
        CHECK(!wrong, "%s", wrong);
        table_unlock(t);
    }
    free(frame);
    free(entries);
    free(columns);
    free(scratch);
    return n > 0;
}

static long noise_in_frames(long rounds)
{
    long merged = 0;
    uint8_t frame[FRAME];
    table_t t;
    rig_create(&t, 128);
    fill(&t);
    for (long i = 0; i < rounds; i++) {
        t.virtual_ns += (int64_t)dice(SECOND / 50);
        merged += give_frame(&t, frame, spoil(frame, some_frame(&t, frame)));
        /* A new table, else its columns are all at their largest. */
        if (i % 1000 == 999) {
            rig_destroy(&t);
            rig_create(&t, 128);
            fill(&t);
        }
    }
    rig_destroy(&t);
    return merged;
}

/* ---- a table's body ---- */

static int file_of(table_t *t, size_t *size)
{
    rig_create(t, 128);
    fill(t);
    *size = t->size;
    int fd = dup(t->fd);
    rig_destroy(t);
    return fd;
}

/* Flips bits of words that are not empty: in empty ones it mostly changes nothing. */
static void flip_bits(const table_t *t)
{
    char *regions[] = {(char *)t->h,        (char *)t->journal, (char *)t->definitions,
                       (char *)t->nodes,    (char *)t->origins, (char *)t->hot,
                       (char *)t->cold,     (char *)t->blocks,  (char *)t->index,
                       (char *)t->log_entry};
    size_t sizes[] = {sizeof *t->h,
                      128,
                      3 * sizeof *t->definitions,
                      64,
                      128,
                      90 * sizeof *t->hot,
                      90 * sizeof *t->cold,
                      40 * sizeof *t->blocks,
                      200 * 8,
                      90 * 4};
    for (uint64_t i = 1 + dice(3); i; i--) {
        size_t region = dice(sizeof regions / sizeof *regions);
        uint64_t *word = (uint64_t *)regions[region] + dice(sizes[region] / 8);
        *word = dice(3) ? *word ^ UINT64_C(1) << dice(64) : dice(2) ? UINT64_MAX >> dice(64) : 0;
    }
}

static void use_all(table_t *t)
{
    static uint8_t frame[FRAME];
    uint32_t gone[256];
    uint64_t sum, debt, next;
    outcome_t o;
    for (uint32_t s = 0; s < t->h->definitions; s++) {
        uint32_t slot = definition_newest(t, s);
        for (int k = 0; t->definitions[slot].name_hash && k < 60; k++) {
            int locked, evicted = 0;
            rig_take(t, t->definitions[slot].name_hash, &slot, k, 1, &o, &locked, &evicted);
            CHECK(locked < 10, "a key is stuck");
        }
    }
    table_lock(t);
    collect_all(t);
    collect_flush(t, clock_ns(t));
    log_trim(t, t->h->version / 2, INT64_MAX);
    sweep(t, 200, clock_ns(t), gone);
    digest_range(t, 0, UINT64_MAX, 100, INT64_MAX, clock_ns(t), 1, NULL, &sum, &debt, &next);
    prune(t, 2);
    forget_node(t, PEER, clock_ns(t));
    open_epoch(t);
    some_frame(t, frame);
    table_unlock(t);
}

static long noise_in_tables(long rounds)
{
    long used = 0;
    for (long i = 0; i < rounds; i++) {
        table_t made, t;
        size_t size;
        int fd = file_of(&made, &size);
        char *around = mmap(NULL, size + (64 << 20), PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(around != MAP_FAILED && !table_map(&t, fd, 128, 1), "errno %d", errno);
        munmap(t.memory, size);
        CHECK(mmap(around + (32 << 20), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0)
                  != MAP_FAILED,
              "no map");
        table_attach(&t, around + (32 << 20), 128);
        t.virtual_ns = NOW;
        flip_bits(&t);
        alarm(20);
        if (!table_resume(&t, 128)) {
            use_all(&t);
            used++;
        }
        munmap(around, size + (64 << 20));
        close(fd);
    }
    alarm(0);
    return used;
}

int main(int argc, char **argv)
{
    long rounds = 2000;
    state = 88172645463325252ull;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--rounds"))
            rounds = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--seed"))
            state ^= (uint64_t)atoll(argv[i + 1]) * UINT64_C(0x9e3779b97f4a7c15);
    }
    long merged = noise_in_frames(rounds), used = noise_in_tables(rounds / 10);
    printf("%ld of %ld frames merged, %ld of %ld tables used\n", merged, rounds, used, rounds / 10);
    return 0;
}
