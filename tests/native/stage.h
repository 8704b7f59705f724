/* A table that is damaged again and again: it is made once, and restored in microseconds.
 *
 * Each region has a terabyte around it that may not be touched: any 32-bit number that leads out of
 * a region is noticed, which it would not be if another region began there. */
#ifndef STAGE_H
#define STAGE_H

#include "rig.h"

/* It is no multiple of 64, so that some bits of attempts have no entry. */
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
    table_t *t = &s->t;
    void *regions[] = {&t->h,       &t->journal,     &t->definitions, &t->nodes, &t->origins,
                       &t->workers, &t->flush,       &t->attempts,    &t->index, &t->names,
                       &t->handoff, &t->view,        &t->all_counts,  &t->hot,   &t->cold,
                       &t->rings,   &t->log_version, &t->log_entry,   &t->blocks};
    char *around = mmap(NULL, STAGE_REGIONS * STAGE_APART, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(around != MAP_FAILED, "no addresses: errno %d (is there a limit on virtual memory?)",
          errno);
    memset(s, 0, sizeof *s);
    s->t = (table_t){.fd = -1, .is_virtual = 1};
    size_t begin[STAGE_REGIONS + 1] = {[STAGE_REGIONS] = lay_out(t, NULL, STAGE_KEYS).size};
    for (int i = 0; i < STAGE_REGIONS; i++)
        begin[i] = (size_t)(uintptr_t)*(char **)regions[i];
    for (int i = 0; i < STAGE_REGIONS; i++) {
        s->size[i] = begin[i + 1] - begin[i];
        char *at = around + STAGE_APART / 2 + (size_t)i * STAGE_APART;
        CHECK(mmap(at, s->size[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
                   (off_t)begin[i])
                  == at,
              "errno %d", errno);
        *(char **)regions[i] = at;
    }
    t->counts = t->all_counts;
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
    if (s->t.debt_notes)
        CHECK(!munmap(s->t.debt_notes, s->t.debt_notes_size), "errno %d", errno);
    s->t.debt_notes = NULL;
    if (s->t.remembered)
        CHECK(!munmap(s->t.remembered, s->t.remembered_size), "errno %d", errno);
    s->t.remembered = NULL;
    return &s->t;
}

#endif
