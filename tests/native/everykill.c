/* Kills a process after every instruction of each operation on a shared table, or takes before it
 * goes on, and proves what is left.
 *
 * A child does the operation step by step. At each instant at which the table differs from the one
 * before, the kill is made on a copy: the copy is repaired as the next one to lock it would, and
 * must verify, hold every key as before the operation or as after it, and serve every key at once;
 * and once more with takes of another process between the kill and the repair. Besides, N children
 * an operation are killed for real, so that the kernel hands the lock on: after every instruction
 * where N is large.
 *
 * Then the operation is done once for each instruction that writes where takes write, and another
 * process takes just before that one: no take may be lost.
 *
 *   everykill [--only TEXT] [--kills N]
 *
 * Exits with 77 where processes may not be traced.
 */
#include <linux/futex.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "operations.h"

static table_t table, copy; /* the table of the child, and the copy that is judged */
static view_t before, after;
static char *pristine;
static const operation_t *operation;
static long step, verdicts;

#define MEETINGS 256
static long meeting[MEETINGS];
static int meetings;

/* ---- the parts of a small table that are ever used ---- */

typedef struct {
    size_t at, bytes;
} stretch_t;

static stretch_t used[16];
static int stretches, words; /* the stretch of the words that takes read without the lock */

static void use(const void *start, size_t bytes)
{
    used[stretches++] = (stretch_t){(size_t)((const char *)start - (const char *)table.h), bytes};
}

static void survey_regions(int64_t keys)
{
    stretches = 0;
    use(table.h, sizeof(header_t));
    use(table.journal, sizeof(journal_t));
    use(table.definitions, 16 * sizeof(definition_t));
    use(table.nodes, 8 * sizeof(node_t));
    use(table.origins, MAX_ORIGINS * sizeof(origin_t));
    use(table.workers, 2 * sizeof(worker_t));
    use(table.flush, 64 * sizeof(uint32_t));
    use(table.attempts, 64);
    use(table.index, (size_t)table.h->index_slots * 8);
    use(table.all_counts, 16 * sizeof(counts_t));
    words = stretches;
    use(table.hot, (size_t)keys * sizeof(hot_t));
    use(table.cold, (size_t)keys * sizeof(cold_t));
    use(table.rings, (size_t)keys * sizeof(ring_t));
    use(table.log_version, ((size_t)keys * 2 + 64) * 8);
    use(table.log_entry, ((size_t)keys * 2 + 64) * 4);
    use(table.blocks, 64 * sizeof(block_t));
}

static int differs_in(int from, int to, const char *a, const char *b)
{
    for (int i = from; i < to; i++)
        if (memcmp(a + used[i].at, b + used[i].at, used[i].bytes))
            return 1;
    return 0;
}

static int differs(const char *a, const char *b) { return differs_in(0, stretches, a, b); }

static void copy_used(char *to, const char *from)
{
    for (int i = 0; i < stretches; i++)
        memcpy(to + used[i].at, from + used[i].at, used[i].bytes);
}

/* ---- the verdict on a copy ---- */

static void fail(const char *why, const view_t *is)
{
    fprintf(stderr, "%s, killed after %ld instructions: %s\n", operation->name, step, why);
    view_print("before", &before);
    view_print("after", &after);
    if (is)
        view_print("is", is);
    exit(1);
}

static void expect_sound(const table_t *t)
{
    const char *wrong = table_verify(t);
    if (wrong)
        fail(wrong, NULL);
}

/* Another process takes without the lock from what the killed one left. Counts what it was
 * granted. */
static void take_meanwhile(table_t *t, int64_t told[BUCKETS][KEYS])
{
    for (int b = 0; b < BUCKETS; b++) {
        uint32_t slot = definition_current(t, NAME[b]);
        for (int k = 0; slot != NONE && k < KEYS; k++) {
            uint64_t lo, hi, word;
            outcome_t o;
            key_hash(NAME[b], k, &lo, &hi);
            uint32_t e = table_find(t, lo, hi);
            if (entry_open(t, e, lo, hi, slot, &word)
                && take(t, &t->definitions[slot], e, 1, 0, clock_ns(t), word, &o) == ALLOWED)
                told[b][k]++;
        }
    }
}

/* The view as it would be without these takes. */
static void untake(view_t *v, int64_t told[BUCKETS][KEYS], const table_t *t)
{
    for (int b = 0; b < BUCKETS; b++)
        for (int k = 0; k < KEYS; k++) {
            view_key_t *x = &v->key[b][k];
            if (!told[b][k])
                continue;
            uint32_t e = rig_find(t, NAME[b], k);
            if (e == NONE || !x->count)
                fail("a take that was told is lost", v);
            const hot_t *hot = &t->hot[e];
            int own = 0;
            while (own < x->count
                   && (x->column[own].epoch != t->origins[hot->origin].epoch
                       || x->column[own].generation != hot->generation))
                own++;
            if (own == x->count || x->column[own].taken < told[b][k])
                fail("a take that was told is lost", v);
            x->column[own].taken -= told[b][k];
            if (!x->column[own].taken && !x->column[own].refunded) {
                memmove(&x->column[own], &x->column[own + 1],
                        sizeof(view_column_t) * (size_t)(x->count - own - 1));
                x->count--;
            }
            const definition_t *d = &t->definitions[hot->bucket];
            x->debt_ns = (int64_t)units_to_ns(
                d, debt_units(d, hot->base, entry_net(t, e), clock_ns(t)) - told[b][k] * d->q);
            x->debt_ns = x->debt_ns < 0 ? 0 : x->debt_ns;
            if (!(x->exists = x->count || x->debt_ns))
                x->q = x->capacity = 0;
        }
}

/* Every key decides at once; two rounds through the lock are the most that an entry of another
 * epoch and definition needs. */
static void expect_served(table_t *t)
{
    for (int b = 0; b < BUCKETS; b++) {
        uint32_t slot = definition_current(t, NAME[b]);
        for (int k = 0; slot != NONE && k < KEYS; k++) {
            outcome_t o;
            int locked, evicted = 0;
            rig_take(t, NAME[b], &slot, k, 1, &o, &locked, &evicted);
            if (locked > 2)
                fail("a key is stuck", NULL);
        }
    }
    expect_sound(t);
}

static void judge_repaired(table_t *t, int64_t told[BUCKETS][KEYS], int meanwhile)
{
    view_t is, again;
    expect_sound(t);
    view_of(t, &is);
    again = is;
    untake(&is, told, t);
    const char *why = judge_views(&before, &after, &is, operation->returned);
    if (why)
        fail(why, &is);
    table_repair(t);
    view_of(t, &is);
    if (memcmp(&is, &again, sizeof is))
        fail("a second repair changes something", &is);
    expect_sound(t);
    if (!meanwhile)
        expect_served(t);
    verdicts++;
}

static int holds_lock(const table_t *t, pid_t child)
{
    int word = t->h->lock.__data.__lock;
    return (word & FUTEX_OWNER_DIED) || (word & FUTEX_TID_MASK) == child;
}

/* What a kill of `child` now would leave. */
static void judge_copy(pid_t child)
{
    /* Once as a process does that finds the file and has it alone, which computes everything
     * anew. */
    for (int meanwhile = 0, alone = 1; meanwhile < 2; meanwhile += !alone, alone = 0) {
        int64_t told[BUCKETS][KEYS] = {{0}};
        int held = holds_lock(&table, child);
        copy_used((char *)copy.h, (const char *)table.h);
        mutex_init(&copy.h->lock, 1);
        copy.virtual_ns = table.virtual_ns;
        if (meanwhile)
            take_meanwhile(&copy, told);
        if (alone)
            table_rebuild(&copy);
        else if (held)
            table_repair(&copy);
        judge_repaired(&copy, told, meanwhile);
    }
}

/* ---- the child, step by step ---- */

#define UNTRACED 77 /* exit status where no process may be traced */

static pid_t start_child(void)
{
    pid_t child = fork();
    CHECK(child >= 0, "errno %d", errno);
    if (!child) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
            _exit(UNTRACED);
        raise(SIGSTOP);
        operation->run(&table);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child, "errno %d", errno);
    if (WIFEXITED(status) && WEXITSTATUS(status) == UNTRACED) {
        fprintf(stderr, "ptrace is not permitted\n");
        exit(UNTRACED);
    }
    CHECK(WIFSTOPPED(status), "status %x", status);
    return child;
}

/* 0 when the child has ended. */
static int one_step(pid_t child)
{
    int status;
    CHECK(!ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), "errno %d", errno);
    CHECK(waitpid(child, &status, 0) == child, "errno %d", errno);
    if (WIFSTOPPED(status)) {
        CHECK(WSTOPSIG(status) == SIGTRAP, "the child got signal %d", WSTOPSIG(status));
        return 1;
    }
    CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "status %x", status);
    return 0;
}

static void die_in(table_t *t, void (*run)(table_t *), int (*now)(const table_t *))
{
    const operation_t dying = {.run = run}, *meant = operation;
    int status;
    operation = &dying;
    pid_t child = start_child();
    while (!now(t))
        CHECK(one_step(child), "it never came to that");
    CHECK(!kill(child, SIGKILL) && waitpid(child, &status, 0) == child, "errno %d", errno);
    operation = meant;
}

static void restore(void) { copy_used((char *)table.h, pristine); }

/* Runs the operation whole, to know how it ends. */
static void know_the_ends(void)
{
    if (!operation->mends)
        view_of(&table, &before);
    copy_used(pristine, (const char *)table.h);
    operation->run(&table);
    expect_sound(&table);
    view_of(&table, &after);
    if (operation->mends)
        before = after;
    restore();
}

static long kill_on_copies(void)
{
    pid_t child = start_child();
    long instants = 0;
    char *last = calloc(1, table.size);
    copy_used(last, (const char *)table.h);
    meetings = 0;
    for (step = 1; one_step(child); step++) {
        if (!differs(last, (const char *)table.h))
            continue;
        if (differs_in(words, words + 1, last, (const char *)table.h) && meetings < MEETINGS)
            meeting[meetings++] = step - 1;
        copy_used(last, (const char *)table.h);
        instants++;
        judge_copy(child);
    }
    free(last);
    restore();
    return instants;
}

/* Takes of another process come just before each instruction that writes where takes write: code
 * that writes what it has read before, without checking that it is still there, loses them. */
static void meet_takes(void)
{
    for (int i = 0; i < meetings; i++) {
        int64_t told[BUCKETS][KEYS] = {{0}};
        int status;
        pid_t child = start_child();
        for (step = 0; step < meeting[i]; step++)
            CHECK(one_step(child), "it ends sooner than before");
        take_meanwhile(&table, told);
        CHECK(!ptrace(PTRACE_CONT, child, NULL, NULL), "errno %d", errno);
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status), "status %x", status);
        table_lock(&table);
        judge_repaired(&table, told, 1);
        table_unlock(&table);
        expect_served(&table);
        restore();
    }
}

static void kill_for_real(long steps, long kills)
{
    for (long i = 0; i < kills; i++) {
        long at = steps * (2 * i + 1) / (2 * kills);
        int64_t told[BUCKETS][KEYS] = {{0}};
        int status;
        pid_t child = start_child();
        for (step = 0; step < at && one_step(child); step++)
            ;
        CHECK(!kill(child, SIGKILL) && waitpid(child, &status, 0) == child, "errno %d", errno);
        table_lock(&table);
        judge_repaired(&table, told, 1);
        table_unlock(&table);
        expect_served(&table);
        restore();
    }
}

static void interrupt(long kills)
{
    rig_create(&table, operation->max_keys);
    rig_create(&copy, operation->max_keys);
    survey_regions(operation->max_keys);
    pristine = calloc(1, table.size); /* only what is used is ever touched */
    operation->prepare(&table);
    know_the_ends();
    long instants = kill_on_copies(), steps = step;
    if (!operation->forgets)
        meet_takes();
    kill_for_real(steps, kills < steps ? kills : steps);
    printf("%-45s %6ld instructions %5ld states %5ld kills %3d meetings\n", operation->name, steps,
           instants, kills < steps ? kills : steps, meetings);
    fflush(stdout);
    free(pristine);
    rig_destroy(&table);
    rig_destroy(&copy);
}

/* ---- how long the others wait ---- */

static int64_t held;
static int is_growing(const table_t *t) { return t->h->bump > held; }

/* The instructions of a repair among so many keys. */
static long steps_among(int64_t keys)
{
    const operation_t mending = {.run = run_repair};
    long steps = 0;
    rig_create(&table, 2 * keys);
    prepare_plain(&table);
    for (int k = KEYS; table.h->bump < keys; k++)
        take_simply(&table, slot_of(&table, 1), k, 1);
    held = table.h->bump;
    die_in(&table, run_insert, is_growing);
    operation = &mending;
    for (pid_t child = start_child(); one_step(child);)
        steps++;
    table_lock(&table);
    CHECK(!table_verify(&table) && table.h->repairs == 1, "%s", table_verify(&table));
    table_unlock(&table);
    rig_destroy(&table);
    return steps;
}

static void repair_is_local(void)
{
    long few = steps_among(32), many = steps_among(2000);
    printf("repair: %ld steps among few keys, %ld among many\n", few, many);
    CHECK(many < 2 * few, "%ld and %ld instructions", few, many);
}

int main(int argc, char **argv)
{
    const char *only = "";
    long kills = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--only"))
            only = argv[i + 1];
        else if (!strcmp(argv[i], "--kills"))
            kills = atol(argv[i + 1]);
    }
    for (int i = 0; i < OPERATION_COUNT; i++)
        if (strstr(OPERATIONS[i].name, only)) {
            operation = &OPERATIONS[i];
            interrupt(kills);
        }
    repair_is_local();
    printf("%ld verdicts\n", verdicts);
    return 0;
}
