/* Any operations in any order. After each the table verifies, debts are within their bounds, and
 * columns have only risen; at the end a node that joins merges all of it. */
#include "script_run.h"

#define FEW_BLOCKS 24 /* so that columns find no room now and then */

static stage_t busy, empty;
static snapshot_t seen[2];
static int latest;

static void fill(table_t *t)
{
    script_fill(t);
    t->h->max_blocks = FEW_BLOCKS;
}

static void nothing(table_t *t) { (void)t; }

static void look(table_t *t)
{
    table_lock(t);
    check_table(t);
    look_at(t, &seen[!latest]);
    check_rise(t, &seen[latest], &seen[!latest]);
    latest = !latest;
    table_unlock(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!busy.t.h) {
        stage_make(&busy, fill);
        stage_make(&empty, nothing);
    }
    table_t *t = stage_set(&busy);
    look_at(t, &seen[latest]);
    script_run(t, (bytes_t){data, data + size}, look);
    check_statement(t, &empty);
    return 0;
}
