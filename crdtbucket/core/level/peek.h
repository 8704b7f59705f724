/* What a take would get now. Looking at a key stores nothing. */
#ifndef CRDTBUCKET_LEVEL_PEEK_H
#define CRDTBUCKET_LEVEL_PEEK_H

#include "take.h"

/* Whether a take of `n` would be allowed, as far as that can be seen without the lock and without a
 * prediction. 0 means that it has to be looked at closely (`peek`), not that it would be denied. */
static inline int fits_at_sight(const table_t *t, uint64_t lo, uint64_t hi, uint32_t bucket,
                                int64_t n, int64_t now)
{
    const definition_t *d = &t->definitions[bucket];
    uint64_t word;
    uint32_t e = entry_at_hand(t, lo, hi, bucket, &word);
    if (e == NONE || !is_plain(t, d, &t->hot[e], now))
        return 0;
    uint64_t charged = (word & TOKEN_MASK) * (uint64_t)d->q;
    int64_t debt = (int64_t)((uint64_t)LOAD(t->hot[e].base) + charged - (uint64_t)now);
    return has_room(d, LOAD(t->hot[e].near_class), d->full_ns - (debt < 0 ? 0 : debt) - n * d->q);
}

/* Writes to `o` the answer that a take of `n` would get now which leaves `floor` tokens. `e` is the
 * entry of the key, or NONE. */
static void peek(table_t *t, const definition_t *d, uint32_t e, int64_t n, int64_t floor,
                 int64_t now, outcome_t *o)
{
    prediction_t p = {0};
    i128 debt = 0;
    int64_t net = 0;
    *o = (outcome_t){0};
    if (e != NONE) {
        p = predict(t, e, d, now);
        net = entry_net(t, e);
        debt = debt_units(d, LOAD(t->hot[e].base), net, now);
        i128 least = least_units(d, &p), noted = taken_lately(t, e, d, now) - far_units(d, p.far);
        debt = debt < noted ? noted : debt;
        debt = debt < least ? least : debt;
    }
    o->wait_ns = judge(t, e, d, &p, debt, net, n, floor, now).wait_ns;
    o->allowed = !o->wait_ns;
    outcome_debt(d, o, clamped(d, debt));
}

#endif
