/* Changes of several words of an entry, which happen whole: they stand in the journal first. */
#ifndef CRDTBUCKET_REWRITE_H
#define CRDTBUCKET_REWRITE_H

#include "table.h"

/* What is to happen stands there: from here on it will. */
static inline void journal_write(journal_t *j, uint32_t kind)
{
    STORE(j->kind, kind);
    IN_ORDER();
}

/* Raises a stored column to what `x` says, whatever stands there: `c` if it was found. 0 when memory is at its limit. */
static inline int column_raise(table_t *t, uint32_t e, const wire_column_t *x, column_t *c, int found)
{
    if (!found && !column_new(t, e, x->origin, x->refunded != 0, c))
        return 0;
    if (x->refunded && !column_widen(t, e, c))
        return 0;
    c->c->birth[c->i] = x->birth;
    if (c->block)
        c->block->refunded[c->i] = (uint64_t)x->refunded;
    c->c->taken[c->i] = ((uint64_t)x->origin << TOKEN_BITS) | (uint64_t)x->taken;
    return 1;
}

static inline int column_store(table_t *t, uint32_t e, const wire_column_t *x)
{
    column_t c;
    return column_raise(t, e, x, &c, column_find(t, e, x->origin, &c));
}

/* Finishes what the journal says of a rewrite, once or again, and lets takes go on. 0 when memory is at its limit. */
static inline int rewrite_apply(table_t *t)
{
    const journal_t *j = t->journal;
    hot_t *hot = &t->hot[j->entry];
    int done = 1;
    for (uint32_t i = 0; i < j->columns; i++)
        done &= column_store(t, j->entry, &j->column[i]);
    STORE(hot->base, j->base);
    STORE(hot->mark, j->mark);
    STORE(hot->bucket, j->bucket);
    STORE(hot->origin, j->origin);
    STORE(hot->birth, j->birth);
    ADD(hot->full_count, 1);                            /* its old decisions were in other units, or of another epoch */
    STORE(hot->word, j->word);
    STORE(t->journal->kind, JOURNAL_NONE);
    return done;
}

/* Begins a rewrite: takes wait from here on. What is to stand in the entry is filled in by the caller. */
static inline journal_t *rewrite_begin(table_t *t, uint32_t e)
{
    journal_t *j = t->journal;
    hot_t *hot = &t->hot[e];
    uint64_t word = OR(hot->word, BUSY);
    j->entry = e;
    j->base = LOAD(hot->base);
    j->word = (word & TOKEN_MASK) | ((word + LIFE_ONE) & LIFE_MASK);
    j->birth = hot->birth;
    j->bucket = hot->bucket;
    j->origin = hot->origin;
    j->columns = 0;
    return j;
}

static inline int rewrite_end(table_t *t)
{
    journal_t *j = t->journal;
    j->mark = t->hot[j->entry].mark - (entry_net(t, j->entry) - net_of(j->word));
    journal_write(j, JOURNAL_REWRITE);
    return rewrite_apply(t);
}

/* The own column moves from the hot line to a stored one, so that the next take counts under the running epoch.
 * The level does not move. 0 when memory is at its limit. */
static inline int own_column_close(table_t *t, uint32_t e, uint32_t running)
{
    hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    column_t c;
    int64_t refunded = own_refunded(t, e), rest;
    if ((entry_net(t, e) || refunded) && !column_find(t, e, hot->origin, &c) && !column_new(t, e, hot->origin, 0, &c))
        return 0;
    journal_t *j = rewrite_begin(t, e);
    int64_t net = net_of(j->word);
    if (net || refunded) {
        j->columns = 1;
        j->column[0] = (wire_column_t){hot->origin, hot->birth, net + refunded, refunded};
        uint64_t charged = scaled(d, net, &rest);
        j->base = (int64_t)((uint64_t)j->base + charged + (rest > 0));
        j->word &= ~TOKEN_MASK;
    }
    j->origin = (uint16_t)running;
    j->birth = ++t->h->births;
    return rewrite_end(t);
}

#endif
