/* Entries on the wire. All integers are LEB128 varints but for the hash (16 bytes) and the rates (2 bytes each):
 *
 *   hash, flags, definition, debt in ns (rounded up), [fast rate, slow rate], columns, { origin, birth, taken, [refunded] }*,
 *   [nodes, { origin, age in ms, fast rate, slow rate }*]
 *
 * `definition` and `origin` are positions in the tables of the frame or the link. See docs/wire.md.
 */
#ifndef CRDTBUCKET_CODEC_H
#define CRDTBUCKET_CODEC_H

#include "rates.h"

enum wire_flags { WIRE_REFUNDS = 1, WIRE_RATES = 2, WIRE_RELAYED = 4, WIRE_KNOWN = 7 };

#define ENTRY_MIN_BYTES 20
#define COLUMN_MIN_BYTES 3

typedef struct {
    uint64_t lo, hi;
    uint32_t definition, columns;
    int64_t debt_ns;
    uint16_t fast, slow;
    uint16_t relayed_count;           /* nodes whose rates come with it */
    uint8_t flags;
    const wire_column_t *column;
    const uint8_t *relayed;           /* these, as they came, but checked */
} wire_entry_t;

static inline uint8_t *put_varint(uint8_t *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (uint8_t)value | 0x80;
        value >>= 7;
    }
    *out++ = (uint8_t)value;
    return out;
}

/* NULL when it is cut off, longer than 64 bits or not in its shortest form. */
static inline const uint8_t *get_varint(const uint8_t *in, const uint8_t *end, uint64_t *value)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (in == end)
            return NULL;
        uint8_t byte = *in++;
        if (shift == 63 && byte > 1)
            return NULL;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (!byte && shift)
                return NULL;
            *value = v;
            return in;
        }
    }
    return NULL;
}

static inline const uint8_t *get_column(const uint8_t *in, const uint8_t *end, int refunds, wire_column_t *c)
{
    uint64_t origin, birth, taken, refunded = 0;
    if (!(in = get_varint(in, end, &origin)) || origin >= MAX_ORIGINS || !(in = get_varint(in, end, &birth))
        || birth > UINT32_MAX || !(in = get_varint(in, end, &taken)) || taken > TOKEN_MASK)
        return NULL;
    if (refunds && (!(in = get_varint(in, end, &refunded)) || refunded > taken))
        return NULL;
    *c = (wire_column_t){(uint32_t)origin, (uint32_t)birth, (int64_t)taken, (int64_t)refunded};
    return in;
}

/* What a relay states of a node on one key: its rates, and how old they are. */
typedef struct {
    uint32_t origin;
    uint32_t age_ms;
    uint16_t fast, slow;
} wire_rates_t;

#define MOST_AGE_MS 65535

static inline const uint8_t *get_relayed(const uint8_t *in, const uint8_t *end, wire_rates_t *r)
{
    uint64_t origin, age;
    if (!(in = get_varint(in, end, &origin)) || origin >= MAX_ORIGINS || !(in = get_varint(in, end, &age))
        || age > MOST_AGE_MS || end - in < 4)
        return NULL;
    r->origin = (uint32_t)origin;
    r->age_ms = (uint32_t)age;
    memcpy(&r->fast, in, 2);
    memcpy(&r->slow, in + 2, 2);
    return in + 4;
}

/* How a frame's positions are understood here. */
typedef struct {
    uint32_t definitions, origins;    /* how many are announced */
    const uint16_t *origin;           /* here, at each position */
} wire_tables_t;

/* Checks the relayed rates at the end of an entry, which are read when they are needed. NULL when malformed. */
static const uint8_t *skip_relayed(const uint8_t *in, const uint8_t *end, const wire_tables_t *tables, wire_entry_t *e)
{
    uint64_t count;
    wire_rates_t r;
    uint32_t last = 0;
    if (!(in = get_varint(in, end, &count)) || !count || count > MAX_COLUMNS)
        return NULL;
    e->relayed = in;
    e->relayed_count = (uint16_t)count;
    for (uint32_t i = 0; i < count; i++) {
        if (!(in = get_relayed(in, end, &r)) || r.origin >= tables->origins || (i && r.origin <= last))
            return NULL;
        last = r.origin;
    }
    return in;
}

/* Reads one entry and checks all of it; `column` has room for its columns. NULL when malformed. */
static const uint8_t *get_entry(const uint8_t *in, const uint8_t *end, const wire_tables_t *tables, wire_column_t *column,
                                wire_entry_t *e)
{
    uint64_t definition, debt, columns;
    if (end - in < ENTRY_MIN_BYTES)
        return NULL;
    memcpy(&e->lo, in, 8);
    memcpy(&e->hi, in + 8, 8);
    e->flags = in[16];
    in += 17;
    if (e->flags & ~WIRE_KNOWN || !(in = get_varint(in, end, &definition)) || definition >= tables->definitions
        || !(in = get_varint(in, end, &debt)) || debt >= UINT64_C(1) << 62)
        return NULL;
    e->definition = (uint32_t)definition;
    e->debt_ns = (int64_t)debt;
    e->fast = e->slow = 0;
    if (e->flags & WIRE_RATES) {
        if (end - in < 4)
            return NULL;
        memcpy(&e->fast, in, 2);
        memcpy(&e->slow, in + 2, 2);
        in += 4;
    }
    if (!(in = get_varint(in, end, &columns)) || columns > MAX_COLUMNS)
        return NULL;
    e->columns = (uint32_t)columns;
    e->column = column;
    uint32_t last = 0;
    for (uint32_t i = 0; i < columns; i++, column++) {
        if (!(in = get_column(in, end, e->flags & WIRE_REFUNDS, column)) || column->origin >= tables->origins)
            return NULL;
        if (i && column->origin <= last)                 /* rising, so none stands twice */
            return NULL;
        last = column->origin;
        column->origin = tables->origin[last];
    }
    e->relayed_count = 0;
    return e->flags & WIRE_RELAYED ? skip_relayed(in, end, tables, e) : in;
}

/* Most bytes that the entry can take. */
static inline size_t entry_space(const table_t *t, uint32_t e)
{
    size_t columns = INLINE_COLUMNS + 1;
    for (uint32_t b = t->cold[e].overflow; b != NONE; b = t->blocks[b].next)
        columns += INLINE_COLUMNS;
    return 17 + 3 + 10 + 4 + 3 + columns * (2 + 5 + 8 + 8) + (t->h->relayed ? 2 + columns * (2 + 3 + 4) : 0);
}

#define SORT_FEW 16

/* By place. Blocks of columns lie newest first, which is the worst case of an insertion sort: many are put by a bit each. */
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

/* What entries are written with. */
typedef struct {
    const table_t *t;
    const uint16_t *position;         /* of an origin in the announced table, 0xffff is none */
    int64_t now;
    faded_t faded;
} encoder_t;

/* Adds what is stated of a record's columns. Returns how many there are by then. */
static inline uint32_t state_columns(const encoder_t *to, uint32_t own, const columns_t *c, const uint64_t *refunded,
                                     wire_column_t *out, uint32_t count)
{
    for (int i = 0; i < INLINE_COLUMNS; i++) {
        uint32_t origin = (uint32_t)(c->taken[i] >> TOKEN_BITS);
        if (!origin || !c->birth[i] || origin == own || to->position[origin] == UINT16_MAX || to->t->origins[origin].marked)
            continue;                                   /* rates alone; a birth is news even before its first take */
        out[count++] = (wire_column_t){to->position[origin], c->birth[i], (int64_t)(c->taken[i] & TOKEN_MASK),
                                       refunded ? (int64_t)refunded[i] : 0};
    }
    return count;
}

/* All columns of an entry in the order of the wire; returns how many. */
static inline uint32_t stated_columns(const encoder_t *to, uint32_t e, int64_t net, wire_column_t *out)
{
    const table_t *t = to->t;
    const hot_t *hot = &t->hot[e];
    uint32_t count = 0, own = hot->origin, b = t->cold[e].overflow;
    if (own && to->position[own] != UINT16_MAX) {
        int64_t refunded = own_refunded(t, e);
        out[count++] = (wire_column_t){to->position[own], hot->birth, net + refunded, refunded};
    }
    count = state_columns(to, own, &t->cold[e].columns, NULL, out, count);
    for (; b != NONE && count < MAX_COLUMNS; b = t->blocks[b].next)
        count = state_columns(to, own, &t->blocks[b].columns, t->blocks[b].refunded, out, count);
    sort_columns(out, count);
    return count;
}

/* What this node knows of the rates of nodes that some peer does not hear, as of now, in the order of
 * the wire; returns how many. */
static uint32_t relayed_rates(const encoder_t *to, uint32_t e, wire_rates_t *out)
{
    const table_t *t = to->t;
    uint32_t count = 0;
    column_t c = {0};
    while (column_next(t, e, &c) && count < MAX_COLUMNS) {
        uint32_t origin = column_origin(&c);
        const node_t *n = &t->nodes[t->origins[origin].node];
        int64_t age = age_of(n, &c, to->now);
        if (!n->relayed || !column_rated(&c) || to->position[origin] == UINT16_MAX || age >= t->h->near_ns)
            continue;
        double fast = unpack_rate(c.c->fast[c.i]) * fade(n, c.c->heard[c.i], fast_ns(t));
        wire_rates_t r = {to->position[origin], (uint32_t)((age + MILLISECOND - 1) / MILLISECOND), pack_rate(fast),
                          pack_rate(slow_rate(n, &c))};
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

static inline int any_refunds(const wire_column_t *columns, uint32_t count)
{
    int64_t all = 0;
    for (uint32_t i = 0; i < count; i++)
        all |= columns[i].refunded;
    return all != 0;
}

/* Writes an entry with all its columns. The stated debt is computed, not stored, and never holds a prediction. */
static uint8_t *put_entry(encoder_t *to, uint32_t e, uint8_t *out)
{
    const table_t *t = to->t;
    const hot_t *hot = &t->hot[e];
    wire_column_t columns[MAX_COLUMNS + INLINE_COLUMNS];
    int64_t net = entry_net(t, e), debt = stated_debt(&t->definitions[hot->bucket], LOAD(hot->base), net, to->now);
    uint32_t count = stated_columns(to, e, net, columns);
    int refunds = t->cold[e].overflow != NONE && any_refunds(columns, count);
    uint16_t fast, slow;
    stated_rates(t, e, to->now, &to->faded, &fast, &slow);
    int rates = (fast | slow) != 0;
    wire_rates_t relayed[MAX_COLUMNS];
    uint32_t others = UNLIKELY(t->h->relayed) ? relayed_rates(to, e, relayed) : 0;
    memcpy(out, &hot->hash_lo, 8);
    memcpy(out + 8, &hot->hash_hi, 8);
    out[16] = (uint8_t)((refunds ? WIRE_REFUNDS : 0) | (rates ? WIRE_RATES : 0) | (others ? WIRE_RELAYED : 0));
    out = put_varint(out + 17, hot->bucket);
    out = put_varint(out, (uint64_t)debt);
    if (rates) {
        memcpy(out, &fast, 2);
        memcpy(out + 2, &slow, 2);
        out += 4;
    }
    out = put_varint(out, count);
    for (uint32_t i = 0; i < count; i++) {
        out = put_varint(out, columns[i].origin);
        out = put_varint(out, columns[i].birth);
        out = put_varint(out, (uint64_t)columns[i].taken);
        if (refunds)
            out = put_varint(out, (uint64_t)columns[i].refunded);
    }
    return others ? put_relayed(relayed, others, out) : out;
}

#endif
