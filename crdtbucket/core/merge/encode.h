/* Entries as they are sent: all columns, the confirmed debt, this node's own rates and those that
 * it relays. See docs/wire.md. */
#ifndef CRDTBUCKET_MERGE_ENCODE_H
#define CRDTBUCKET_MERGE_ENCODE_H

#include "../level/advertised.h"
#include "../level/rates.h"
#include "wire.h"

/* The most bytes that an entry can take on the wire. */
static inline size_t entry_space(const table_t *t, uint32_t e)
{
    size_t columns = INLINE_COLUMNS + 1;
    for (uint32_t b = t->cold[e].overflow; b != NONE; b = t->blocks[b].next)
        columns += INLINE_COLUMNS;
    return 17 + 3 + 10 + 10 + 4 + 3 + columns * (2 + 5 + 8 + 8)
           + (t->h->relayed ? 2 + columns * (2 + 3 + 4) : 0);
}

#define SORT_FEW 16

/* Sorts columns by their positions. Blocks of columns lie newest first, which is the worst case of
 * an insertion sort: so when there are many, each is put in its place by a bit. */
static inline void sort_columns(wire_column_t *c, uint32_t n)
{
    if (n > SORT_FEW) {
        uint64_t used[MAX_ORIGINS / 64] = {0};
        uint16_t at[MAX_ORIGINS];
        wire_column_t sorted[MAX_COLUMNS];
        uint32_t out = 0;
        for (uint32_t i = 0; i < n; i++) {
            used[c[i].origin / 64] |= UINT64_C(1) << c[i].origin % 64;
            at[c[i].origin] = (uint16_t)i;
        }
        for (uint32_t word = 0; word < MAX_ORIGINS / 64; word++)
            for (uint64_t left = used[word]; left; left &= left - 1)
                sorted[out++] = c[at[word * 64 + (uint32_t)__builtin_ctzll(left)]];
        memcpy(c, sorted, out * sizeof *c);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        wire_column_t x = c[i];
        uint32_t j = i;
        for (; j > 0 && c[j - 1].origin > x.origin; j--)
            c[j] = c[j - 1];
        c[j] = x;
    }
}

/* What all entries of one frame are written with. */
typedef struct {
    const table_t *t;
    /* By origin: its position in the announced table; 0xffff: it has none. */
    const uint16_t *position;
    int64_t now;
    faded_t faded;
} encoder_t;

/* Adds the columns of one record to the `count` columns in `out`. Returns how many there are then.
 * `own` is the origin of the entry's own column, which is added elsewhere. */
static inline uint32_t add_columns(const encoder_t *to, uint32_t own, const columns_t *c,
                                   const uint64_t *refunded, wire_column_t *out, uint32_t count)
{
    for (int i = 0; i < INLINE_COLUMNS; i++) {
        uint32_t origin = (uint32_t)(c->taken[i] >> TOKEN_BITS);
        if (!origin || !c->generation[i] || origin == own || to->position[origin] == UINT16_MAX
            || to->t->origins[origin].tombstone)
            /* Without a generation the column has rates alone. One with a generation is sent even
             * before its first take. */
            continue;
        out[count++] = (wire_column_t){to->position[origin], c->generation[i],
                                       (int64_t)(c->taken[i] & TOKEN_MASK),
                                       refunded ? (int64_t)refunded[i] : 0};
    }
    return count;
}

/* Writes all columns of an entry, whose own one has `net` tokens, to `out` in the order of the
 * wire. Returns how many. */
static inline uint32_t advertised_columns(const encoder_t *to, uint32_t e, int64_t net,
                                          wire_column_t *out)
{
    const table_t *t = to->t;
    const hot_t *hot = &t->hot[e];
    uint32_t count = 0, own = hot->origin, b = t->cold[e].overflow;
    if (own && to->position[own] != UINT16_MAX && !t->origins[own].tombstone) {
        int64_t refunded = own_refunded(t, e);
        out[count++] =
            (wire_column_t){to->position[own], hot->generation, net + refunded, refunded};
    }
    count = add_columns(to, own, &t->cold[e].columns, NULL, out, count);
    for (; b != NONE && count < MAX_COLUMNS; b = t->blocks[b].next)
        count = add_columns(to, own, &t->blocks[b].columns, t->blocks[b].refunded, out, count);
    sort_columns(out, count);
    return count;
}

/* Writes the rates that this node relays of an entry, as it knows them now, to `out` in the order
 * of the wire: those of nodes to which some peer is not connected. Returns how many. */
static uint32_t relayed_rates(const encoder_t *to, uint32_t e, wire_rates_t *out)
{
    const table_t *t = to->t;
    uint32_t count = 0;
    for (column_t c = {0}; column_next(t, e, &c) && count < MAX_COLUMNS;) {
        uint32_t origin = column_origin(&c);
        const node_t *n = &t->nodes[t->origins[origin].node];
        int64_t age = age_of(n, &c, to->now);
        if (!n->relayed || !column_rated(&c) || to->position[origin] == UINT16_MAX
            || age >= t->h->near_ns)
            continue;
        double fast = unpack_rate(c.c->fast[c.i]) * fade(n, c.c->last_seen[c.i], fast_ns(t));
        wire_rates_t r = {to->position[origin], (uint32_t)((age + MILLISECOND - 1) / MILLISECOND),
                          pack_rate(fast), pack_rate(slow_rate(n, &c))};
        uint32_t at = count;
        if (!(r.fast | r.slow) || r.age_ms > MOST_AGE_MS)
            continue;
        for (; at && out[at - 1].origin > r.origin; at--)
            out[at] = out[at - 1];
        out[at] = r;
        count++;
    }
    return count;
}

/* Writes relayed rates and returns where they end. */
static uint8_t *put_relayed(const wire_rates_t *r, uint32_t count, uint8_t *out)
{
    out = put_varint(out, count);
    for (const wire_rates_t *end = r + count; r < end; r++) {
        out = put_varint(out, r->origin);
        out = put_varint(out, r->age_ms);
        memcpy(out, &r->fast, 2);
        memcpy(out + 2, &r->slow, 2);
        out += 4;
    }
    return out;
}

/* Whether one of these columns has refunds. */
static inline int any_refunds(const wire_column_t *columns, uint32_t count)
{
    int64_t all = 0;
    for (uint32_t i = 0; i < count; i++)
        all |= columns[i].refunded;
    return all != 0;
}

/* Writes an entry with all its columns, and returns where it ends. The advertised debt is computed
 * here; it is stored nowhere. */
static uint8_t *put_entry(encoder_t *to, uint32_t e, uint8_t *out)
{
    const table_t *t = to->t;
    const hot_t *hot = &t->hot[e];
    wire_column_t columns[MAX_COLUMNS + INLINE_COLUMNS];
    int64_t net = entry_net(t, e);
    advertised_t debt = advertised_debt(t, e, net, to->now);
    uint32_t count = advertised_columns(to, e, net, columns);
    int refunds = t->cold[e].overflow != NONE && any_refunds(columns, count);
    uint16_t fast, slow;
    advertised_rates(t, e, to->now, &to->faded, &fast, &slow);
    int rates = (fast | slow) != 0;
    wire_rates_t relayed[MAX_COLUMNS];
    uint32_t others = UNLIKELY(t->h->relayed) ? relayed_rates(to, e, relayed) : 0;
    memcpy(out, &hot->hash_lo, 8);
    memcpy(out + 8, &hot->hash_hi, 8);
    out[16] = (uint8_t)((refunds ? WIRE_REFUNDS : 0) | (rates ? WIRE_RATES : 0)
                        | (others ? WIRE_RELAYED : 0) | (debt.hidden ? WIRE_HIDDEN : 0));
    out = put_varint(out + 17, hot->bucket);
    out = put_varint(out, (uint64_t)debt.shown);
    if (UNLIKELY(debt.hidden))
        out = put_varint(out, (uint64_t)debt.hidden);
    if (rates) {
        memcpy(out, &fast, 2);
        memcpy(out + 2, &slow, 2);
        out += 4;
    }
    out = put_varint(out, count);
    for (uint32_t i = 0; i < count; i++) {
        out = put_varint(out, columns[i].origin);
        out = put_varint(out, columns[i].generation);
        out = put_varint(out, (uint64_t)columns[i].taken);
        if (refunds)
            out = put_varint(out, (uint64_t)columns[i].refunded);
    }
    return others ? put_relayed(relayed, others, out) : out;
}

#endif
