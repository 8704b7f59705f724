/* Entries on the wire. All integers are LEB128 varints, except for the hash (16 bytes) and the
 * rates (2 bytes each):
 *
 * hash, flags, definition, debt in ns (rounded up), [hidden debt in ns], [fast rate, slow rate],
 * number of columns, { origin, generation, taken, [refunded] }*, [number of nodes, { origin, age in
 * ms, fast rate, slow rate }*]
 *
 * What stands in [ ] is there when a flag says so. `definition` and `origin` are positions in the
 * tables of the frame or of the link. See docs/wire.md. */
#ifndef CRDTBUCKET_MERGE_WIRE_H
#define CRDTBUCKET_MERGE_WIRE_H

#include <string.h>

#include "../memory/layout.h"

/* The entry has refunds; own rates; relayed rates; a hidden debt. */
enum wire_flags {
    WIRE_REFUNDS = 1,
    WIRE_RATES = 2,
    WIRE_RELAYED = 4,
    WIRE_HIDDEN = 8,
    WIRE_KNOWN = 15
};

#define ENTRY_MIN_BYTES 20
#define COLUMN_MIN_BYTES 3

/* An entry of a frame, parsed. `hidden_ns` and `debt_ns` are its two debts, `fast` and `slow` the
 * sender's packed rates. */
typedef struct {
    uint64_t lo, hi;
    uint32_t definition, columns;
    int64_t debt_ns;
    int64_t hidden_ns; /* see `advertised_t` */
    uint16_t fast, slow;
    uint16_t relayed_count; /* how many nodes' rates are relayed with it */
    uint8_t flags;
    const wire_column_t *column;
    const uint8_t *relayed; /* the relayed rates, encoded as they came, but checked */
} wire_entry_t;

/* Writes a number and returns where it ends. */
static inline uint8_t *put_varint(uint8_t *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (uint8_t)value | 0x80;
        value >>= 7;
    }
    *out++ = (uint8_t)value;
    return out;
}

/* Reads a number and returns where it ends; NULL when it is cut off, longer than 64 bits, or not in
 * its shortest form. */
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

/* Reads one column and returns where it ends; NULL when it is malformed. */
static inline const uint8_t *get_column(const uint8_t *in, const uint8_t *end, int refunds,
                                        wire_column_t *c)
{
    uint64_t origin, generation, taken, refunded = 0;
    if (!(in = get_varint(in, end, &origin)) || origin >= MAX_ORIGINS
        || !(in = get_varint(in, end, &generation)) || generation > UINT32_MAX
        || !(in = get_varint(in, end, &taken)) || taken > TOKEN_MASK)
        return NULL;
    if (refunds && (!(in = get_varint(in, end, &refunded)) || refunded > taken))
        return NULL;
    *c = (wire_column_t){(uint32_t)origin, (uint32_t)generation, (int64_t)taken, (int64_t)refunded};
    return in;
}

/* What a relay advertises of another node on one key: its rates, packed, and how old they are.
 * `origin` is a position. */
typedef struct {
    uint32_t origin;
    uint32_t age_ms;
    uint16_t fast, slow;
} wire_rates_t;

#define MOST_AGE_MS 65535

/* Reads such a record and returns where it ends; NULL when it is malformed. */
static inline const uint8_t *get_relayed(const uint8_t *in, const uint8_t *end, wire_rates_t *r)
{
    uint64_t origin, age;
    if (!(in = get_varint(in, end, &origin)) || origin >= MAX_ORIGINS
        || !(in = get_varint(in, end, &age)) || age > MOST_AGE_MS || end - in < 4)
        return NULL;
    r->origin = (uint32_t)origin;
    r->age_ms = (uint32_t)age;
    memcpy(&r->fast, in, 2);
    memcpy(&r->slow, in + 2, 2);
    return in + 4;
}

/* How positions in a frame are understood here. */
typedef struct {
    uint32_t definitions, origins; /* how many of them the sender has announced */
    const uint16_t *origin;        /* by position: the origin here */
} wire_tables_t;

/* Checks the relayed rates at the end of an entry and returns where they end. They are read later,
 * if they are needed. NULL when they are malformed. */
static const uint8_t *skip_relayed(const uint8_t *in, const uint8_t *end,
                                   const wire_tables_t *tables, wire_entry_t *e)
{
    uint64_t count;
    wire_rates_t r;
    uint32_t last = 0;
    if (!(in = get_varint(in, end, &count)) || !count || count > MAX_COLUMNS)
        return NULL;
    e->relayed = in;
    e->relayed_count = (uint16_t)count;
    for (uint32_t i = 0; i < count; i++) {
        if (!(in = get_relayed(in, end, &r)) || r.origin >= tables->origins
            || (i && r.origin <= last))
            return NULL;
        last = r.origin;
    }
    return in;
}

/* Reads one entry, checks all of it, and returns where it ends; NULL when it is malformed. `column`
 * has room for its columns. */
static const uint8_t *get_entry(const uint8_t *in, const uint8_t *end, const wire_tables_t *tables,
                                wire_column_t *column, wire_entry_t *e)
{
    uint64_t definition, debt, columns, hidden = 0;
    if (end - in < ENTRY_MIN_BYTES)
        return NULL;
    memcpy(&e->lo, in, 8);
    memcpy(&e->hi, in + 8, 8);
    e->flags = in[16];
    in += 17;
    if (e->flags & ~WIRE_KNOWN || !(in = get_varint(in, end, &definition))
        || definition >= tables->definitions || !(in = get_varint(in, end, &debt))
        || debt >= UINT64_C(1) << 62)
        return NULL;
    e->definition = (uint32_t)definition;
    e->debt_ns = (int64_t)debt;
    if (e->flags & WIRE_HIDDEN
        && (!(in = get_varint(in, end, &hidden)) || !hidden || hidden >= UINT64_C(1) << 62))
        return NULL;
    e->hidden_ns = (int64_t)hidden;
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
        if (!(in = get_column(in, end, e->flags & WIRE_REFUNDS, column))
            || column->origin >= tables->origins)
            return NULL;
        if (i && column->origin <= last) /* positions rise, so no column comes twice */
            return NULL;
        last = column->origin;
        column->origin = tables->origin[last];
    }
    e->relayed_count = 0;
    return e->flags & WIRE_RELAYED ? skip_relayed(in, end, tables, e) : in;
}

#endif
