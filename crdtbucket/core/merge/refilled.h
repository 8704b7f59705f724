/* What was refilled while the update of a peer was under way. See docs/model.md, "Far credit". */
#ifndef CRDTBUCKET_MERGE_REFILLED_H
#define CRDTBUCKET_MERGE_REFILLED_H

#include "lowering.h"
#include "merged_debt.h"

/* All takes of a node that are known, in tokens. */
COLD static int64_t net_of_node(const table_t *t, uint32_t e, uint32_t node)
{
    int64_t net = 0;
    for (column_t c = {0}; column_next(t, e, &c);)
        if (t->origins[column_origin(&c)].node == node)
            add_tokens(&net, column_net(&c));
    return net;
}

/* What all nodes ask for, in tokens/s, and the credit that is kept for silent ones, in units. */
typedef struct {
    double claims;
    i128 far;
} kept_t;

RARELY COLD static kept_t kept_for_silent(const table_t *t, uint32_t e, const definition_t *d,
                                          int64_t now)
{
    double claims = predict(t, e, d, now).slow_claims + own_slow_claim(&t->cold[e], d);
    return (kept_t){claims, far_units(d, far_sum(t, e, d, claims, now))};
}

/* What is still hidden for a node, in units: its takes that came since are in the debt, and with
 * time refill pays it. */
COLD static i128 still_hidden(const table_t *t, uint32_t e, const definition_t *d,
                              const struct lowered *l, int64_t now)
{
    i128 hidden = units_until(l->hidden_until, d, now),
         came = token_units(d, net_of_node(t, e, l->hidden_of) - l->hidden_net);
    hidden -= came > 0 ? came : 0;
    return hidden > 0 ? hidden : 0;
}

/* An update that is old already has raised the rates of its sender, which is predicted to have
 * taken more since it was sent than the credit `far` of before. Where all together ask for no more
 * than is refilled, that was refilled meanwhile, and the bucket was full: it is hidden, and not
 * owed. What was hidden before and is more than the credit was never taken: it is owed again. */
COLD static void hide_refilled(table_t *t, uint32_t e, definition_t *d, const merge_context_t *m,
                               i128 far, int64_t now)
{
    kept_t kept = kept_for_silent(t, e, d, now);
    i128 more = kept.far - far;
    struct lowered *l =
        more > 0 && kept.claims <= d->per_second ? lowered_of(t, e, d, m->members, now) : NULL;
    if (!l)
        return;
    i128 hidden = still_hidden(t, e, d, l, now), again = hidden > far ? hidden - far : 0;
    int64_t base = LOAD(t->hot[e].base), net = entry_net(t, e);
    i128 debt = debt_units(d, base, net, now) + again - more;
    hidden = l->hidden_of == m->source ? hidden - again : 0;
    l->hidden_of = m->source;
    l->hidden_net = net_of_node(t, e, m->source);
    l->hidden_until = now + (int64_t)units_to_ns(d, hidden + more);
    base_move(t, &t->hot[e], base, base_for(d, debt, net, now));
}

#endif
