/* Decisions: take, peek, refund, settle. */
#ifndef CRDTBUCKET_TAKE_H
#define CRDTBUCKET_TAKE_H

#include "room.h"

typedef struct {
    int64_t debt_ns, rest;            /* confirmed debt after the decision: ns and, in 1/p ns, what is beyond */
    int64_t wait_ns;                  /* denied: until the same cost would pass if nothing else happened */
    uint32_t entry, full_count, birth;
    uint16_t origin, bucket;
    int allowed;
} outcome_t;

enum { ALLOWED = 1, DENIED = 0, NEEDS_LOCK = -1 };

static inline void outcome_debt(const definition_t *d, outcome_t *o, i128 units)
{
    if (units < 0)
        units = 0;
    if (d->p == 1) {
        o->debt_ns = (int64_t)units;
        o->rest = 0;
    } else {
        o->debt_ns = (int64_t)(units / d->p);
        o->rest = (int64_t)(units % d->p);
    }
}

static inline void count_offered(table_t *t, definition_t *d, uint32_t e, int64_t n, int allowed)
{
    hot_t *hot = &t->hot[e];
    if (!allowed && only_here(t))
        STORE(hot->denied, hot->denied + n);
    else if (!allowed)
        ADD(hot->denied, n);
    else if (UNLIKELY(admitted_since(hot) >= d->flush_tokens) && !(LOAD(hot->flags) & ENTRY_FLUSH)
             && !(OR(hot->flags, ENTRY_FLUSH) & ENTRY_FLUSH)) {
        uint32_t slot = ADD(t->h->flush_count, 1);
        if (slot < FLUSH_SLOTS)
            STORE(t->flush[slot], e);
        STORE(t->h->flush_wanted, 1);
    }
    mark_attempted(t, e);
}

static inline i128 clamped(const definition_t *d, i128 units)
{
    i128 cap = cap_units(d);
    return units < 0 ? 0 : units > cap ? cap : units;
}

/* Units that must be free beside the cost: predictions, caution. `conf_debt` is the confirmed debt with far added. */
static i128 held_back(table_t *t, uint32_t e, const definition_t *d, const prediction_t *p, i128 conf_debt, int64_t n,
                      int64_t now)
{
    double q = (double)d->q, conf = (double)d->capacity - (double)conf_debt / q;
    double near = near_tokens(t, e, p, conf, now);
    if (near <= 0)
        return 0;
    if (conf_debt + token_units(d, n) <= full_units(d) + slack_units(d) && conf - near < (double)n
        && reserve_tokens(t, e, d, p->slow_claims, (double)n, now) >= (double)n)
        return 0;
    return (i128)ceil(near * q - 1e-9 * q);
}

/* How long (ns) until a node without memory may have taken `taken` tokens of a key, 0 when it may now. Its share is C / R, but
 * it does not take it at once: the bucket may well be empty, so a quarter is free and the rest comes at three quarters of the
 * refill rate. */
static inline int64_t caution_wait(const table_t *t, const definition_t *d, int64_t taken, int64_t now)
{
    const header_t *h = t->h;
    int64_t until = LOAD(h->cautious_until);
    if (LIKELY(now >= until))
        return 0;
    int64_t members = LOAD(h->members), share, at_once;
    if (members < 1)
        members = 1;
    share = d->capacity / members;
    at_once = d->capacity / (4 * members);
    if (at_once < 1)
        at_once = 1;
    if (taken > share)
        return until - now;
    if (taken <= at_once)
        return 0;
    i128 due = LOAD(h->cautious_since) + (4 * (i128)(taken - at_once) * d->q + 3 * d->p - 1) / (3 * (i128)d->p);
    return due <= now ? 0 : due < until ? (int64_t)due - now : until - now;
}

/* What a decision rests on stands as long as the entry lives the life in which `word` was read. */
static inline int decided(const hot_t *hot, uint64_t word, int allowed)
{
    return LIKELY(same_life(word, LOAD(hot->word))) ? allowed : NEEDS_LOCK;
}

static int take_slow(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t now, uint64_t first, outcome_t *o)
{
    hot_t *hot = &t->hot[e];
    for (;;) {
        prediction_t p = predict(t, e, d, now);
        i128 far = far_units(d, p.far);
        i128 debt = advance_in(t, e, first, d, least_units(d, &p), now);
        uint64_t word = LOAD(hot->word);
        if (UNLIKELY(!same_life(first, word)))
            return NEEDS_LOCK;
        int64_t net = net_of(word), base = LOAD(hot->base);
        debt = debt_units(d, base, net, now);
        i128 conf_debt = clamped(d, debt + far), cost = token_units(d, n), full = full_units(d);
        i128 back = held_back(t, e, d, &p, conf_debt, n, now);
        i128 over = conf_debt + back + cost - full;
        if (over <= slack_units(d) && UNLIKELY((o->wait_ns = caution_wait(t, d, net + n, now)) > 0)) {
            outcome_debt(d, o, debt);
            return decided(hot, word, DENIED);
        }
        if (over > slack_units(d)) {
            i128 wait = over / d->p;
            if (over - back <= slack_units(d)) {          /* only a prediction is in the way: the reserve gets past it */
                double soon = reserve_wait(t, e, d, p.slow_claims, (double)n, now);
                if (soon < (double)wait)
                    wait = (i128)soon;
            }
            o->wait_ns = wait > INT64_MAX ? INT64_MAX : (int64_t)wait;
            outcome_debt(d, o, debt);
            if (cost_class(n) > LOAD(hot->wanted))
                STORE(hot->wanted, cost_class(n));
            return decided(hot, word, DENIED);
        }
        o->full_count = LOAD(hot->full_count);            /* before the take: what fills the bucket later, it must not hide */
        if (CAS(hot->word, word, word + (uint64_t)n)) {
            outcome_debt(d, o, debt + cost);
            return ALLOWED;
        }
    }
}

/* Decides on an entry that was found open, with its word as it was then. NEEDS_LOCK: it has become another since. */
static inline int take_level(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t now, uint64_t word, outcome_t *o)
{
    hot_t *hot = &t->hot[e];
    const header_t *h = t->h;
    if (UNLIKELY(d->p != 1 || now < LOAD(h->cautious_until)
                 || (now >= LOAD(h->far_free_until) && (LOAD(hot->flags) & ENTRY_RATED))))
        return take_slow(t, d, e, n, now, word, o);
    for (uint64_t first = word;;) {
        int64_t base = LOAD(hot->base);
        uint64_t charged = (word & TOKEN_MASK) * (uint64_t)d->q;
        int64_t debt = (int64_t)((uint64_t)base + charged - (uint64_t)now);
        if (debt < 0) {                                   /* full: the usual case of a lightly used key */
            int64_t raised = (int64_t)((uint64_t)now - charged);
            if (only_here(t)) {
                STORE(hot->full_count, hot->full_count + 1);
                STORE(hot->base, raised);
            } else {
                uint64_t latest = LOAD(hot->word);      /* later than the base: so that was of this life, and of this net */
                if (UNLIKELY(latest != word)) {
                    if (!same_life(first, latest))
                        return NEEDS_LOCK;
                    word = latest;
                    continue;
                }
                ADD(hot->full_count, 1);                /* before: a refund may come to nothing, never to too much */
                if (!CAS(hot->base, base, raised))
                    continue;
            }
            debt = 0;
        } else if (UNLIKELY(debt > d->cap_ns))
            return take_slow(t, d, e, n, now, first, o);
        int near_class = LOAD(hot->near_class);
        int64_t near = near_class ? INT64_C(1) << (near_class - 1) : 0;
        int64_t room = d->full_ns - debt - n * d->q;
        if (LIKELY(room >= 0) && (!near_class || (near <= d->capacity && near * d->q <= room))) {
            o->full_count = LOAD(hot->full_count);        /* before the take: what fills the bucket later, it must not hide */
            if (LIKELY(word_swap(t, hot, &word, word + (uint64_t)n))) {
                o->debt_ns = debt + n * d->q;
                o->rest = 0;
                return ALLOWED;
            }
            if (UNLIKELY(!same_life(first, word)))
                return NEEDS_LOCK;
            continue;
        }
        if (near_class)
            return take_slow(t, d, e, n, now, first, o);
        o->wait_ns = -room;
        o->debt_ns = debt;
        o->rest = 0;
        return decided(hot, first, DENIED);
    }
}

/* The entry of a key for a take here, made when there is none. DENIED: there is no room, or a node without memory may not serve so much. */
static int entry_for_take(table_t *t, definition_t *d, uint32_t bucket, uint64_t lo, uint64_t hi, int64_t n, int64_t now,
                          uint32_t *entry, uint32_t *gone)
{
    uint32_t e = table_find(t, lo, hi);
    *gone = NONE;
    *entry = e;
    if (LIKELY(e != NONE && entry_current(t, e, bucket)))
        return ALLOWED;
    if (e != NONE)
        return entry_renew(t, e, bucket, now) ? ALLOWED : DENIED;
    if (caution_wait(t, d, n, now) > 0)
        return DENIED;
    *entry = entry_obtain(t, lo, hi, bucket, 1, now, gone);
    return *entry == NONE ? DENIED : ALLOWED;
}

/* NEEDS_LOCK: the entry has become another since `word` was read. */
static inline int take(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t now, uint64_t word, outcome_t *o)
{
    hot_t *hot = &t->hot[e];
    o->entry = e;
    o->birth = LOAD(hot->birth);                        /* those of this life, or it is not decided */
    o->origin = LOAD(hot->origin);
    o->allowed = take_level(t, d, e, n, now, word, o);
    if (LIKELY(o->allowed >= 0))
        count_offered(t, d, e, n, o->allowed);
    return o->allowed;
}

/* The answer that a take would get now; nothing is stored. */
static void peek(table_t *t, const definition_t *d, uint32_t e, int64_t n, int64_t now, outcome_t *o)
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
    i128 back = held_back(t, e, d, &p, conf_debt, n, now), over = conf_debt + back + token_units(d, n) - full;
    o->allowed = over <= slack_units(d);
    if (!o->allowed)
        o->wait_ns = (int64_t)(over / d->p);
    else if ((o->wait_ns = caution_wait(t, d, (e == NONE ? 0 : entry_net(t, e)) + n, now)) > 0)
        o->allowed = 0;
    outcome_debt(d, o, clamped(d, debt));
}

/* Gives `n` tokens back. The caller has checked that the bucket was neither full nor forgiven since the take.
 * 0 when memory for the refund's column is at its limit. */
static int refund(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t now)
{
    hot_t *hot = &t->hot[e];
    column_t c;
    i128 least = entry_least(t, e, d, now);
    advance(t, e, d, least, now);
    if (!column_find(t, e, hot->origin, &c)) {
        if (!column_new(t, e, hot->origin, 1, &c))
            return 0;
    } else if (!column_widen(t, e, &c))
        return 0;
    ADD(c.block->refunded[c.i], (uint64_t)n);
    ADD(hot->mark, -n);
    ADD(hot->word, -(uint64_t)n);
    advance(t, e, d, least, now);
    mark_attempted(t, e);
    return 1;
}

/* Whether the take of a decision still stands in the column that is counted now. */
static inline int still_charged(const table_t *t, uint32_t e, uint32_t birth, uint16_t origin, uint32_t bucket)
{
    const hot_t *hot = &t->hot[e];
    return hot->birth == birth && hot->origin == origin && origin == t->h->own_origin && hot->bucket == bucket;
}

/* A refund of a take after which the bucket was full or forgiven is worth nothing: time gave the tokens back. */
static int64_t refund_if_charged(table_t *t, definition_t *d, uint32_t e, uint32_t full_count, int64_t n, int64_t now)
{
    advance(t, e, d, entry_least(t, e, d, now), now);
    if (LOAD(t->hot[e].full_count) != full_count || own_refunded(t, e) >= TOKEN_ROLL)
        return 0;
    return refund(t, d, e, n, now) ? n : 0;
}

/* Gives back what makes the bucket full, but no more than this node has taken and not given back. Returns the tokens. */
static int64_t reset(table_t *t, definition_t *d, uint32_t e, int64_t now)
{
    hot_t *hot = &t->hot[e];
    advance(t, e, d, entry_least(t, e, d, now), now);
    int64_t net = entry_net(t, e);
    i128 tokens = (debt_units(d, LOAD(hot->base), net, now) + d->q - 1) / d->q;
    int64_t n = tokens < net ? (int64_t)tokens : net;
    if (n <= 0 || own_refunded(t, e) >= TOKEN_ROLL || !refund(t, d, e, n, now))
        return 0;
    ADD(hot->full_count, 1);                            /* no take from before comes back a second time */
    return n;
}

/* Charges `n` tokens whatever the level. What would lie beyond the ceiling of debt is forgiven and not counted either, so
 * that the column rises no faster than peers believe. Returns the tokens charged. */
static int64_t settle(table_t *t, definition_t *d, uint32_t e, int64_t n, int64_t now)
{
    hot_t *hot = &t->hot[e];
    int64_t most = d->capacity + d->max_debt, charged;
    uint64_t word;
    i128 least = entry_least(t, e, d, now);
    do {
        advance(t, e, d, least, now);
        word = LOAD(hot->word);
        i128 room = (cap_units(d) - debt_units(d, LOAD(hot->base), net_of(word), now) + slack_units(d)) / d->q;
        charged = room > most ? most : room > 0 ? (int64_t)room : 0;
        if (charged > n)
            charged = n;
        if (charged > 4 * TOKEN_ROLL)                   /* a column has no more room, and is closed after this */
            charged = 4 * TOKEN_ROLL;
    } while (!CAS(hot->word, word, word + (uint64_t)charged));
    ADD_SATURATED(d->forgiven, n - charged);
    count_offered(t, d, e, charged, 1);
    return charged;
}

#endif
