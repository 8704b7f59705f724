/* What was refilled while the update of a peer was under way. See docs/model.md, "Far credit". */
#ifndef CRDTBUCKET_MERGE_REFILLED_H
#define CRDTBUCKET_MERGE_REFILLED_H

#include "../level/renew.h"
#include "lowering.h"
#include "merged_debt.h"

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

/* Hides a debt that was refilled while an update was under way. An update that is old when it
 * arrives has raised the rates of its sender, which is now predicted to have taken more since it
 * was sent than the credit `far` of before. Where all nodes together ask for no more than is
 * refilled, that was refilled meanwhile, and the bucket was full: it is hidden, and not owed.
 *
 * If the credit for what was hidden before has ended without takes, this node may have taken as
 * much, so what was forgiven since is owed again. The sum of its debt and the credit, less its own
 * takes, and with the time as units, falls only when that happens. */
COLD static void hide_refilled(table_t *t, uint32_t e, definition_t *d, const merge_context_t *m,
                               i128 far, int64_t now)
{
    column_t its;
    kept_t kept = kept_for_silent(t, e, d, now);
    i128 more = kept.far - far;
    if (more <= 0 || kept.claims > d->per_second || !column_find(t, e, m->source_origin, &its)
        || !column_taken(&its))
        return;
    struct debt_notes *notes = debt_notes_of(t, e);
    if (!notes)
        return;
    int64_t base = LOAD(t->hot[e].base), net = entry_net(t, e);
    i128 debt = debt_units(d, base, net, now), hidden = units_until(notes->hidden_until, d, now),
         sum = debt + far - token_units(d, net) + (i128)now * d->p, again = notes->hidden_sum - sum;
    again = again < hidden ? again : hidden;
    again = again > 0 ? again : 0;
    notes->hidden_sum = sum + again;
    notes->hidden_until = now + (int64_t)units_to_ns(d, hidden - again + more);
    base_move(t, &t->hot[e], base, base_for(d, debt + again - more, net, now));
}

#endif
