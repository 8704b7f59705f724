/* Threads or processes do everything at once on one shared table; then every token is accounted
 * for.
 *
 *   hammer [--workers N] [--rounds N] [--seed N] [--processes] [--flow]
 *
 * The clock stands still, so that a limit of C admits exactly C; with --flow it runs, and a limit
 * admits no more than C and its refill. Threads share one mapping, as a sanitizer needs it;
 * processes have their own counters as workers have.
 */
#include <stdatomic.h>
#include <sys/wait.h>

#include "rig.h"

enum { HOT, WIDE, MESH, CHURN, BUCKETS };
#define TRACKED 32 /* keys of each bucket but CHURN whose tokens are counted */
#define MAX_KEYS 512
#define CHURNED 4096
#define HOT_CAPACITY (1 << 20)
/* Takes for each other operation, so that they meet on the same line. */
#define BURST 50

static const uint64_t NAME[BUCKETS] = {11, 12, 13, 14};

/* What the workers were granted, and what they share beside the table. */
typedef struct {
    _Atomic int64_t told[BUCKETS][TRACKED], told_churn[CHURNED];
    _Atomic int64_t clock, definitions, epochs, churned;
} told_t;

typedef struct {
    table_t t;
    uint64_t seed;
    int number, flow, processes;
    int64_t rounds;
    uint32_t slot[BUCKETS]; /* as it knows the definitions */
    outcome_t last;         /* of a take that may be refunded */
    int last_bucket, last_key;
    int64_t last_cost;
    table_t peer; /* private: what a peer has */
    uint8_t *frame;
} hammer_worker_t;

static told_t *told;

static uint64_t dice(hammer_worker_t *w)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    return w->seed ^= w->seed << 17;
}

/* ---- what a worker does ---- */

static void take_one(hammer_worker_t *w, int bucket)
{
    int key = bucket == HOT ? 0 : (int)(dice(w) % (bucket == CHURN ? CHURNED : TRACKED)), locked,
        evicted = 0;
    int64_t n = bucket == HOT ? 1 : 1 + (int64_t)(dice(w) % 3);
    outcome_t o;
    if (rig_take(&w->t, NAME[bucket], &w->slot[bucket], key, n, &o, &locked, &evicted) != ALLOWED) {
        CHECK(bucket != WIDE, "key %d", key);
        return;
    }
    told->churned += evicted;
    if (bucket == CHURN) {
        told->told_churn[key] += n;
        return;
    }
    told->told[bucket][key] += n;
    w->last = o;
    w->last_bucket = bucket;
    w->last_key = key;
    w->last_cost = n;
}

static void give_back(hammer_worker_t *w)
{
    table_t *t = &w->t;
    if (!w->last_cost || w->last_bucket == HOT)
        return;
    table_lock(t);
    uint32_t slot = definition_current(t, NAME[w->last_bucket]),
             e = rig_find(t, NAME[w->last_bucket], w->last_key);
    if (e != NONE && still_charged(t, e, w->last.generation, w->last.origin, slot))
        told->told[w->last_bucket][w->last_key] -= refund_if_charged(
            t, &t->definitions[slot], e, w->last.full_count, w->last_cost, clock_ns(t));
    table_unlock(t);
    w->last_cost = 0;
}

static void settle_one(hammer_worker_t *w)
{
    table_t *t = &w->t;
    uint64_t lo, hi;
    uint32_t e, gone;
    int key = (int)(dice(w) % TRACKED);
    key_hash(NAME[MESH], key, &lo, &hi);
    table_lock(t);
    uint32_t slot = definition_current(t, NAME[MESH]);
    definition_t *d = &t->definitions[slot];
    if (entry_for_take(t, d, slot, lo, hi, 1, clock_ns(t), &e, &gone) == ALLOWED)
        told->told[MESH][key] += settle(t, d, e, 5, clock_ns(t));
    table_unlock(t);
}

/* A peer's keys, encoded there and merged here. */
static void merge_frame(hammer_worker_t *w)
{
    static const size_t SIZE = 1 << 14;
    table_t *p = &w->peer, *t = &w->t;
    uint16_t position[MAX_ORIGINS], origin[1];
    wire_entry_t entries[TRACKED];
    wire_column_t columns[TRACKED * 4];
    uint32_t scratch[4][TRACKED];
    merge_out_t out = {scratch[0], scratch[1], scratch[2], {0}};
    int64_t from = 0, count;
    for (int i = 0; i < 4; i++)
        take_simply(p, 0, (int)(dice(w) % TRACKED), 1);
    p->virtual_ns += SECOND / 100;
    collect_all(p); /* so that rates are advertised, and predicted here */
    log_trim(p, p->h->version, INT64_MAX);
    memset(position, 0xff, sizeof position);
    position[p->h->own_origin] = 0;
    size_t size = encode_entries(p, NULL, &from, p->h->bump, position, 0, clock_ns(p), w->frame,
                                 SIZE, &count);
    table_lock(t);
    origin[0] = (uint16_t)origin_find(t, PEER_EPOCH + (uint64_t)w->number);
    wire_tables_t tables = {1, 1, origin};
    wire_definition_t definition = {definition_current(t, NAME[MESH]), 0, p->definitions[0].q, 1};
    merge_context_t m = {.source = PEER, .source_origin = origin[0], .at = clock_ns(t), .newer = 1};
    CHECK(parse_entries(w->frame, size, &tables, entries, TRACKED, columns) == count, "%ld entries",
          (long)count);
    merge_entries(t, entries, count, &definition, &m, clock_ns(t), &out);
    refresh_far(t);
    table_unlock(t);
}

static void encode_some(hammer_worker_t *w)
{
    uint16_t position[MAX_ORIGINS];
    uint64_t version = 0;
    int64_t count;
    for (int i = 0; i < MAX_ORIGINS; i++)
        position[i] = (uint16_t)i;
    table_lock(&w->t);
    encode_log(&w->t, &version, w->t.h->version, position, clock_ns(&w->t), w->frame, 1 << 14,
               &count);
    if (dice(w) % 4 == 0)
        log_trim(&w->t, version, INT64_MAX);
    table_unlock(&w->t);
}

static void look(hammer_worker_t *w)
{
    table_t *t = &w->t;
    uint64_t sum, debt, next, lo, hi;
    outcome_t o;
    key_hash(NAME[HOT], 0, &lo, &hi);
    table_lock(t);
    digest_range(t, 0, UINT64_MAX, 100, INT64_MAX, clock_ns(t), 1, NULL, &sum, &debt, &next);
    uint32_t e = table_find(t, lo, hi);
    if (e != NONE)
        peek(t, &t->definitions[t->hot[e].bucket], e, 1, 0, clock_ns(t), &o);
    const char *wrong = table_verify(t);
    CHECK(!wrong, "%s", wrong);
    table_unlock(t);
}

/* Between the two jumps the debts are larger, so nothing is minted. */
static void jump(hammer_worker_t *w)
{
    table_lock(&w->t);
    shift_all(&w->t, 1000, 0, clock_ns(&w->t));
    shift_all(&w->t, -1000, 0, clock_ns(&w->t));
    table_unlock(&w->t);
}

static void keep_up(hammer_worker_t *w)
{
    uint32_t gone[64];
    table_lock(&w->t);
    switch (dice(w) % 3) {
    case 0:
        sweep(&w->t, 64, clock_ns(&w->t), gone);
        break;
    case 1:
        collect_all(&w->t);
        break;
    default:
        collect_flush(&w->t, clock_ns(&w->t));
    }
    table_unlock(&w->t);
}

static void redefine_one(hammer_worker_t *w)
{
    if (told->definitions++ < 200)
        rig_define(&w->t, NAME[MESH + dice(w) % 2], 1000 + (int64_t)(dice(w) % 100), SECOND / 1000,
                   1 + (int64_t)(dice(w) % 3));
}

static void open_another_epoch(hammer_worker_t *w)
{
    if (told->epochs++ >= 100)
        return;
    table_lock(&w->t);
    CHECK(open_epoch(&w->t), "no origin");
    table_unlock(&w->t);
}

static void *die_with_the_lock(void *t)
{
    table_lock(t);
    return NULL; /* the next one to lock it repairs while others take */
}

static void lose_one(hammer_worker_t *w)
{
    pthread_t thread;
/* Neither finds a lock whose holder is gone: an emulator does not pass set_robust_list on. */
#if defined(__SANITIZE_THREAD__) || defined(EMULATED)
    table_lock(&w->t);
    table_rebuild(&w->t);
    table_unlock(&w->t);
    return;
#endif
    if (w->processes) {
        pid_t child = fork();
        if (!child) {
            table_lock(&w->t);
            _exit(0);
        }
        CHECK(waitpid(child, NULL, 0) == child, "errno %d", errno);
        return;
    }
    CHECK(!pthread_create(&thread, NULL, die_with_the_lock, &w->t), "errno %d", errno);
    pthread_join(thread, NULL);
}

static void act(hammer_worker_t *w)
{
    uint64_t roll = dice(w) % 1000;
    if (w->flow)
        w->t.virtual_ns = NOW + (told->clock += (int64_t)(dice(w) % 200));
    if (roll < 700)
        for (int i = 0; i < BURST; i++)
            take_one(w, roll < 400 ? HOT : WIDE);
    else if (roll < 800)
        take_one(w, MESH);
    else if (roll < 900)
        take_one(w, CHURN);
    else if (roll < 930)
        give_back(w);
    else if (roll < 940)
        settle_one(w);
    else if (roll < 950)
        merge_frame(w);
    else if (roll < 960)
        encode_some(w);
    else if (roll < 990)
        keep_up(w);
    else if (roll < 992)
        look(w);
    else if (roll < 994)
        jump(w);
    else if (roll < 996)
        redefine_one(w);
    else if (roll < 998)
        open_another_epoch(w);
    else if (roll < 999)
        lose_one(w);
}

static void *work(void *argument)
{
    hammer_worker_t *w = argument;
    int64_t rounds = w->rounds;
    while (rounds-- > 0)
        act(w);
    return NULL;
}

/* ---- the account ---- */

static int64_t counted(const table_t *t, int bucket, int key)
{
    uint32_t e = rig_find(t, NAME[bucket], key);
    column_t c = {0};
    if (e == NONE)
        return 0;
    int64_t sum = entry_net(t, e);
    while (column_next(t, e, &c))
        if (column_origin(&c) != t->hot[e].origin && t->origins[column_origin(&c)].node == 0)
            sum += column_taken(&c) - column_refunded(&c);
    return sum;
}

static void settle_accounts(table_t *t, int flow)
{
    int64_t hot;
    table_lock(t);
    const char *wrong = table_verify(t);
    CHECK(!wrong, "%s", wrong);
    table_unlock(t);
    while (!flow && take_simply(t, definition_current(t, NAME[HOT]), 0, 1) == ALLOWED)
        told->told[HOT][0]++;
    for (int b = 0; b < CHURN; b++)
        for (int k = 0; k < TRACKED; k++)
            CHECK(counted(t, b, k) == told->told[b][k], "bucket %d, key %d: %ld counted, %ld told",
                  b, k, (long)counted(t, b, k), (long)told->told[b][k]);
    /* Some tokens were evicted with an entry; none came from another key. */
    for (int k = 0; k < CHURNED; k++)
        CHECK(counted(t, CHURN, k) <= told->told_churn[k], "key %d: %ld counted, %ld told", k,
              (long)counted(t, CHURN, k), (long)told->told_churn[k]);
    hot = told->told[HOT][0];
    int64_t refilled = flow ? told->clock / (SECOND / 1000) : 0;
    CHECK(flow ? hot <= HOT_CAPACITY + refilled : hot == HOT_CAPACITY, "%ld admitted", (long)hot);
    printf("%ld of %d admitted, %ld evicted, %ld repairs, %u epochs\n", (long)hot, HOT_CAPACITY,
           (long)told->churned, (long)t->h->repairs, (unsigned)told->epochs);
}

/* ---- starting it ---- */

static void start_worker(hammer_worker_t *w, const table_t *t, int number, uint64_t seed)
{
    w->t = *t;
    w->number = number;
    w->seed = seed * 1000003 + (uint64_t)number + 1;
    w->frame = malloc(1 << 14);
    rig_claim(&w->t, number + 1);
    for (int b = 0; b < BUCKETS; b++)
        w->slot[b] = definition_current(t, NAME[b]);
    CHECK(!table_open(&w->peer, 64, HASH_KEY, 1), "no memory");
    w->peer.virtual_ns = NOW;
    w->peer.h->spare_epoch = PEER_EPOCH + (uint64_t)number;
    open_epoch(&w->peer);
    rig_define(&w->peer, NAME[MESH], 1 << 20, SECOND, 1); /* its debts stay */
}

static void run_workers(hammer_worker_t *workers, int count, int processes)
{
    pthread_t threads[MAX_WORKERS];
    for (int i = 0; i < count; i++) {
        workers[i].processes = processes;
        if (!processes)
            CHECK(!pthread_create(&threads[i], NULL, work, &workers[i]), "errno %d", errno);
        else if (!fork()) {
            work(&workers[i]);
            _exit(0);
        }
    }
    for (int i = 0; i < count; i++) {
        int status = 0;
        if (processes)
            wait(&status);
        else
            pthread_join(threads[i], NULL);
        CHECK(!status, "a worker ended with status %x", status);
    }
}

int main(int argc, char **argv)
{
    static hammer_worker_t workers[MAX_WORKERS];
    int count = 4, processes = 0, flow = 0;
    int64_t rounds = 20000, seed = 1;
    table_t t;
    for (int i = 1; i < argc; i++) {
        processes |= !strcmp(argv[i], "--processes");
        flow |= !strcmp(argv[i], "--flow");
        int64_t *value = !strcmp(argv[i], "--rounds") ? &rounds
                         : !strcmp(argv[i], "--seed") ? &seed
                                                      : NULL;
        if (value && i + 1 < argc)
            *value = atoll(argv[++i]);
        else if (!strcmp(argv[i], "--workers") && i + 1 < argc)
            count = atoi(argv[++i]);
    }
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    rig_create(&t, MAX_KEYS);
    t.nodes[PEER].known_by = BY_LINK;
    t.nodes[PEER].last_seen = NOW;
    rig_define(&t, NAME[HOT], HOT_CAPACITY, SECOND / 1000, 1);
    rig_define(&t, NAME[WIDE], INT64_C(1) << 30, SECOND, 1);
    rig_define(&t, NAME[MESH], 1000, SECOND / 1000, 1);
    rig_define(&t, NAME[CHURN], 1000, 1000, 1);
    for (int i = 0; i < count; i++) {
        origin_add(&t, PEER, PEER_EPOCH + (uint64_t)i);
        start_worker(&workers[i], &t, i, (uint64_t)seed);
        workers[i].rounds = rounds;
        workers[i].flow = flow;
    }
    run_workers(workers, count, processes);
    settle_accounts(&t, flow);
    for (int i = 0; i < count; i++) {
        table_close(&workers[i].peer);
        free(workers[i].frame);
    }
    rig_destroy(&t);
    return 0;
}
