/* What a take would get: a look at a key that stores nothing. */
#ifndef CRDTBUCKET_LEVEL_PEEK_H
#define CRDTBUCKET_LEVEL_PEEK_H

#include <math.h>

#include "take.h"

/* Whether a take would be allowed, as far as that can be seen without the lock and a prediction.
 * 0: it has to be looked at closely. */
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

/* The answer that a take would get now; nothing is stored. */
static void peek(table_t *t, const definition_t *d, uint32_t e, int64_t n, int64_t now,
                 outcome_t *o)
{
    prediction_t p = {0};
    i128 debt = 0, far = 0, full = full_units(d);
    *o = (outcome_t){.entry = e};
    if (e != NONE) {
        p = predict(t, e, d, now);
        far = far_units(d, p.far);
        debt = debt_units(d, LOAD(t->hot[e].base), entry_net(t, e), now);
        i128 least = least_units(d, &p);
        debt = debt < least ? least : debt;
    }
    i128 conf_debt = clamped(d, debt + far);
    i128 back = held_back(t, e, d, &p, conf_debt, n, now),
         over = conf_debt + back + token_units(d, n) - full;
    lack_t lack = {INFINITY, 0, 0};
    if (UNLIKELY(e != NONE && over > slack_units(d)
                 && (lack = guarantee_lack(t, e, d, p.counted, n, now)).tokens <= 0))
        over = 0;
    o->allowed = over <= slack_units(d);
    if (!o->allowed)
        o->wait_ns = LOAD(d->still_until)
                         ? until_end(d, now)
                         : sooner((int64_t)(over / d->p), guarantee_wait(d, lack, n));
    else if ((o->wait_ns = warm_up_wait(t, d, (e == NONE ? 0 : entry_net(t, e)) + n, now)) > 0)
        o->allowed = 0;
    outcome_debt(d, o, clamped(d, debt));
}

#endif
