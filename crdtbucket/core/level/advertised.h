/* The debt of a key as it is sent to peers. See docs/model.md, "Merge". */
#ifndef CRDTBUCKET_LEVEL_ADVERTISED_H
#define CRDTBUCKET_LEVEL_ADVERTISED_H

#include "predict.h"
#include "taken.h"

/* A debt as it is advertised: in ns, rounded up, from 0 to the ceiling. What a stored level owes by
 * its rounding alone is 0, else two nodes whose bucket is full would answer each other for ever. */
static inline int64_t stated_ns(const definition_t *d, i128 debt)
{
    i128 cap = cap_units(d);
    return debt <= slack_units(d) ? 0 : (int64_t)units_to_ns(d, debt > cap ? cap : debt);
}

/* A debt as it is advertised, ns: `shown`, and what is `hidden` by the far credit. */
typedef struct {
    int64_t shown;
    /* What this node owes by itself beyond that: at most the far credit, and all of it while the
     * bucket has not been full. Whoever keeps less credit owes it, too: otherwise this node would
     * advertise a full bucket to that one for as long as the credit lasts, whatever is taken from
     * it. */
    int64_t hidden;
} advertised_t;

/* The debt that an entry, whose column has `net` tokens, advertises at `now`: at least what was
 * surely taken lately, also where the far credit hides it. */
static inline advertised_t advertised_debt(const table_t *t, uint32_t e, int64_t net, int64_t now)
{
    const definition_t *d = &t->definitions[t->hot[e].bucket];
    i128 debt = debt_units(d, LOAD(t->hot[e].base), net, now), far = entry_far(t, e, d, now);
    int64_t shown = stated_ns(d, debt);
    if (LIKELY(far <= 0 && !has_noted(t, e)))
        return (advertised_t){shown, 0};
    int64_t all = stated_ns(d, debt + far), noted = stated_ns(d, taken_lately(t, e, d, now));
    shown = noted > shown ? noted : shown;
    return (advertised_t){shown, all > shown ? all - shown : 0};
}

#endif
