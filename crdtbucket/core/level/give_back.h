/* Changes of a level that are not a decision: refund, reset, settle. The caller holds the table's
 * lock, and `least` is what `entry_least` says: the debt (units) of a full bucket. */
#ifndef CRDTBUCKET_LEVEL_GIVE_BACK_H
#define CRDTBUCKET_LEVEL_GIVE_BACK_H

#include "take.h"
#include "taken.h"

/* Adds tokens to the entry's own column whatever its level is; below 0 they come back. More tokens
 * than the ceiling of debt, as of a call that was made under a larger limit, may take more ns to
 * refill than fit: then takes wait for the lock while it is done. */
static void charge(table_t *t, definition_t *d, uint32_t e, int64_t tokens, i128 least, int64_t now)
{
    hot_t *hot = &t->hot[e];
    int64_t most = d->capacity + d->max_debt;
    if (LIKELY(tokens <= most && tokens >= -most)) {
        ADD(hot->word, (uint64_t)tokens);
        if (tokens > 0)
            note_over_admission(d, debt_units(d, LOAD(hot->base), entry_net(t, e), now), now);
        advance(t, e, d, least, now);
        return;
    }
    ADD(hot->averaged_net, -tokens); /* `rewrite_end` moves it together with net */
    journal_t *j = rewrite_begin(t, e);
    int64_t net = net_of(j->word);
    i128 debt = debt_units(d, j->base, net, now) + token_units(d, tokens), cap = cap_units(d);
    note_over_admission(d, debt, now);
    if (debt > cap) {
        forgive(d, debt - cap);
        debt = cap;
    }
    j->word += (uint64_t)tokens;
    j->base = base_for(d, debt < least ? least : debt, net + tokens, now);
    rewrite_end(t);
}

/* Gives `n` tokens back, of an entry whose debt was brought forward to `least` or more. Returns 0
 * when its column can count no more refunds, or memory is at its limit. */
static int refund(table_t *t, definition_t *d, uint32_t e, int64_t n, i128 least, int64_t now)
{
    hot_t *hot = &t->hot[e];
    column_t c;
    if (own_refunded(t, e) >= TOKEN_ROLL || !own_refunds(t, e, &c))
        return 0;
    ADD(c.block->refunded[c.i], (uint64_t)n);
    ADD(hot->averaged_net, -n);
    note_given_back(t, e, d, n);
    charge(t, d, e, -n, least, now);
    mark_attempted(t, e);
    return 1;
}

/* Whether the take of a decision, which had this generation, origin and bucket, is still part of
 * the column that is counted now. */
static inline int still_charged(const table_t *t, uint32_t e, uint32_t generation, uint16_t origin,
                                uint32_t bucket)
{
    const hot_t *hot = &t->hot[e];
    return hot->generation == generation && hot->origin == origin && origin == t->h->own_origin
           && hot->bucket == bucket;
}

/* Refunds `n` tokens of a take at which the entry had this `full_count`, if that has not changed:
 * after the bucket was full or forgiven the refund is worth nothing, since time gave the tokens
 * back. Returns the tokens given back, `n` or 0. */
static int64_t refund_if_charged(table_t *t, definition_t *d, uint32_t e, uint32_t full_count,
                                 int64_t n, int64_t now)
{
    i128 least = entry_least(t, e, d, now);
    advance(t, e, d, least, now);
    return LOAD(t->hot[e].full_count) == full_count && refund(t, d, e, n, least, now) ? n : 0;
}

/* Gives back the tokens that make the bucket full, but no more than `most`, and no more than this
 * node has taken and not given back. Returns them. */
COLD static int64_t reset(table_t *t, definition_t *d, uint32_t e, int64_t most, int64_t now)
{
    hot_t *hot = &t->hot[e];
    i128 least = entry_least(t, e, d, now);
    advance(t, e, d, least, now);
    int64_t net = entry_net(t, e);
    i128 tokens = (debt_units(d, LOAD(hot->base), net, now) + d->q - 1) / d->q;
    int64_t n = tokens < net ? (int64_t)tokens : net;
    int part = n > most;
    n = part ? most : n;
    if (n <= 0 || !refund(t, d, e, n, least, now))
        return 0;
    /* After a complete reset no take from before can be refunded as well. */
    if (!part)
        count_full(t, hot);
    return n;
}

/* Charges `n` tokens even when the level has fewer. What would be beyond the ceiling of debt is
 * forgiven and not counted in the column either, so that the column rises no faster than peers
 * believe. Returns the tokens that were charged. */
static int64_t settle(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t now)
{
    hot_t *hot = &t->hot[e];
    int64_t most = d->capacity + d->max_debt, charged;
    uint64_t word;
    i128 least = entry_least(t, e, d, now);
    double far = far_tokens(t, e, now);
    do {
        advance(t, e, d, least, now);
        word = LOAD(hot->word);
        i128 room =
            (cap_units(d) - debt_units(d, LOAD(hot->base), net_of(word), now) + slack_units(d))
            / d->q;
        charged = room > most ? most : room > 0 ? (int64_t)room : 0;
        if (charged > n)
            charged = n;
        /* A column cannot count more, and is closed after this. */
        if (charged > 4 * TOKEN_ROLL)
            charged = 4 * TOKEN_ROLL;
    } while (!word_take(t, e, d, word, charged, far, now));
    ADD_SATURATED(d->forgiven, n - charged);
    count_offered(t, d, e, charged, 1);
    return charged;
}

/* The tokens, rounded up, that a slot lacks when it is free in `ns`: `all` of its tokens come back
 * in `full_ns`. */
static inline int64_t slot_lacks(int64_t all, int64_t ns, int64_t full_ns)
{
    return (int64_t)(((i128)ns * all + full_ns - 1) / full_ns);
}

/* The tokens that are given back at once when a slot of `all` tokens is taken for `ttl` ns: time
 * brings back the rest in just that time. */
static inline int64_t slot_spare(int64_t all, int64_t ttl, int64_t full_ns)
{
    return all - slot_lacks(all, ttl, full_ns);
}

/* The tokens that are given back when a slot is released before its deadline; time has brought back
 * the others. */
static inline int64_t slot_left(int64_t all, int64_t deadline, int64_t now, int64_t full_ns)
{
    return slot_lacks(all, deadline - now, full_ns);
}

#endif
