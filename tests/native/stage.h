/* A table to be spoiled again and again: made once, and put back as it was in microseconds.
 *
 * Each region stands alone, with a terabyte around it that may not be touched: whichever number of
 * 32 bits leads out of a region, the step is seen, which it is not where another region begins.
 */
#ifndef STAGE_H
#define STAGE_H

#include "rig.h"

/* No multiple of 64: bits of attempts stand for entries that do not exist. */
#define STAGE_KEYS 40
#define STAGE_APART ((size_t)1 << 40)

/* The regions of a table in the order in which they lie. */
enum stage_regions {
    STAGE_HEADER,
    STAGE_JOURNAL,
    STAGE_DEFINITIONS,
    STAGE_NODES,
    STAGE_ORIGINS,
    STAGE_WORKERS,
    STAGE_FLUSH,
    STAGE_ATTEMPTS,
    STAGE_INDEX,
    STAGE_NAMES,
    STAGE_HANDOFF,
    STAGE_VIEW,
    STAGE_COUNTS,
    STAGE_HOT,
    STAGE_COLD,
    STAGE_RINGS,
    STAGE_LOG_VERSION,
    STAGE_LOG_ENTRY,
    STAGE_BLOCKS,
    STAGE_REGIONS
};

typedef struct {
    table_t t;
    int64_t now;
    size_t size[STAGE_REGIONS];
} stage_t;

static char *stage_region(const stage_t *s, int i)
{
    return (char *)s->t.h + (size_t)i * STAGE_APART;
}

static void stage_map(stage_t *s, int fd)
{
    plan_t p = plan_table(STAGE_KEYS), apart = p;
    size_t header = 0, *from[] = {&header,    &p.journal,     &p.definitions, &p.nodes, &p.origins,
                                  &p.workers, &p.flush,       &p.attempts,    &p.index, &p.names,
                                  &p.handoff, &p.view,        &p.counts,      &p.hot,   &p.cold,
                                  &p.rings,   &p.log_version, &p.log_entry,   &p.blocks};
    size_t *to[] = {
        &header,        &apart.journal,     &apart.definitions, &apart.nodes, &apart.origins,
        &apart.workers, &apart.flush,       &apart.attempts,    &apart.index, &apart.names,
        &apart.handoff, &apart.view,        &apart.counts,      &apart.hot,   &apart.cold,
        &apart.rings,   &apart.log_version, &apart.log_entry,   &apart.blocks};
    int regions = (int)(sizeof from / sizeof *from);
    char *around = mmap(NULL, STAGE_REGIONS * STAGE_APART, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(around != MAP_FAILED, "no addresses: errno %d (is there a limit on virtual memory?)",
          errno);
    memset(s, 0, sizeof *s);
    s->t = (table_t){.fd = -1, .is_virtual = 1};
    for (int i = 0; i < regions; i++) {
        size_t end = i + 1 < regions ? *from[i + 1] : p.size;
        s->size[i] = end - *from[i];
        char *at = around + STAGE_APART / 2 + (size_t)i * STAGE_APART;
        CHECK(mmap(at, s->size[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
                   (off_t)*from[i])
                  == at,
              "errno %d", errno);
        *to[i] = (size_t)i * STAGE_APART;
    }
    table_attach(&s->t, around + STAGE_APART / 2, &apart, STAGE_KEYS);
}

/* The table as `fill` leaves it. */
static void stage_make(stage_t *s, void (*fill)(table_t *t))
{
    table_t made;
    rig_create(&made, STAGE_KEYS);
    fill(&made);
    stage_map(s, made.fd);
    s->now = made.virtual_ns;
    rig_destroy(&made);
}

static table_t *stage_set(stage_t *s)
{
    for (int i = 0; i < STAGE_REGIONS; i++)
        if (s->size[i])
            CHECK(!madvise(stage_region(s, i), s->size[i], MADV_DONTNEED), "errno %d", errno);
    s->t.virtual_ns = s->now;
    s->t.counts = s->t.all_counts;
    return &s->t;
}

#endif
