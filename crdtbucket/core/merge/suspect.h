/* Suspect entries: their debts come from a snapshot of unknown age. They limit calls here and are
 * sent to nobody. */
#ifndef CRDTBUCKET_MERGE_SUSPECT_H
#define CRDTBUCKET_MERGE_SUSPECT_H

#include "../level/rates.h"
#include "../level/renew.h"
#include "../level/unsent_log.h"

/* Makes a suspect entry one like any other: it is sent to peers. */
static void unsuspect(table_t *t, uint32_t e)
{
    AND(t->hot[e].flags, (uint16_t)~ENTRY_SUSPECT);
    log_append(t, e);
}

/* Drops what the snapshot said of an entry. What was taken under this epoch stays, as if the key
 * had been unknown before. */
COLD static void suspect_cancel(table_t *t, uint32_t e, int64_t now)
{
    hot_t *hot = &t->hot[e];
    const definition_t *d = &t->definitions[hot->bucket];
    int64_t base = LOAD(hot->base), net = entry_net(t, e);
    i128 debt = debt_units(d, base, net, now), own = token_units(d, net > 0 ? net : 0);
    if (debt > own)
        base_move(t, hot, base, base_for(d, own, net, now));
    for (column_t c = {0}; column_next(t, e, &c);)
        if (column_origin(&c) != hot->origin) /* that one holds the refunds under this epoch */
            column_drop(&c);
    refresh_near_class(t, e);
    unsuspect(t, e);
}

#endif
