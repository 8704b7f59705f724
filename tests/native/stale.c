/* A take that was stopped after it had read the word of an entry, and goes on when the entry
 * belongs to another key: it must change nothing, and decide anew. */
#include "rig.h"

#define SMALL 21
#define LARGE 22

typedef struct {
    table_t t;
    uint32_t entry, small, large;
    uint64_t word; /* as the take has read it */
} stopped_t;

static void stop_a_take(stopped_t *s, int64_t p)
{
    uint64_t lo, hi;
    rig_create(&s->t, 64);
    origin_add(&s->t, PEER, PEER_EPOCH);
    s->small = rig_define(&s->t, SMALL, 5, SECOND, p);
    s->large = rig_define(&s->t, LARGE, 1000, SECOND, 1);
    take_simply(&s->t, s->small, 1, 1);
    key_hash(SMALL, 1, &lo, &hi);
    s->entry = table_find(&s->t, lo, hi);
    CHECK(entry_open(&s->t, s->entry, lo, hi, s->small, &s->word), "a fresh entry");
}

/* The entry becomes another key's, with more debt than the first could have. */
static void give_to_another(stopped_t *s, int64_t debt)
{
    table_lock(&s->t);
    CHECK(evict(&s->t, s->entry, s->word, clock_ns(&s->t)), "nobody takes");
    table_unlock(&s->t);
    take_simply(&s->t, s->large, 2, 900);
    CHECK(rig_find(&s->t, LARGE, 2) == s->entry, "another entry");
    statement_t owed = {
        s->large, 2, debt, 1, {{origin_find(&s->t, PEER_EPOCH), 1, debt / SECOND, 0}}};
    if (debt)
        rig_merge(&s->t, &owed, 1);
}

static void define_anew(stopped_t *s)
{
    s->large = rig_define(&s->t, SMALL, 1000, 50 * SECOND, 1);
    table_lock(&s->t);
    entry_renew(&s->t, s->entry, s->large, clock_ns(&s->t));
    table_unlock(&s->t);
}

static void go_on(stopped_t *s, const char *what)
{
    hot_t *hot = &s->t.hot[s->entry], before = *hot;
    outcome_t o = {0};
    int got =
        take(&s->t, &s->t.definitions[s->small], s->entry, 1, 0, clock_ns(&s->t), s->word, &o);
    CHECK(got == NEEDS_LOCK, "%s: it decided %d", what, got);
    CHECK(!memcmp(hot, &before, sizeof before), "%s: it changed the entry", what);
    rig_destroy(&s->t);
}

int main(void)
{
    for (int64_t p = 1; p < 4; p += 2) /* whole ns a token, and fractions */
        for (int64_t later = 0; later < 1000; later += 300) {
            stopped_t s;
            stop_a_take(&s, p);
            give_to_another(&s, 0);
            s.t.virtual_ns += later * SECOND;
            go_on(&s, "another key");
            stop_a_take(&s, p);
            give_to_another(&s, 600 * SECOND);
            s.t.virtual_ns += later * SECOND;
            go_on(&s, "another key in debt");
            stop_a_take(&s, p);
            define_anew(&s);
            s.t.virtual_ns += later * SECOND;
            go_on(&s, "another definition");
        }
    puts("as it was");
    return 0;
}
