/* The entries of a frame, read by a second implementation of docs/wire.md. */
#ifndef SPELLING_H
#define SPELLING_H

#include "rig.h"

enum { RELAYED_BYTES = 16 }; /* one node's rates at most: two numbers and 4 bytes */

static uint8_t *write_number(uint8_t *out, uint64_t value)
{
    for (; value >> 7; value >>= 7)
        *out++ = (uint8_t)(value & 127) | 128;
    *out++ = (uint8_t)value;
    return out;
}

static uint8_t *write_entry(uint8_t *out, const wire_entry_t *w)
{
    memcpy(out, &w->lo, 8);
    memcpy(out + 8, &w->hi, 8);
    out[16] = w->flags;
    out = write_number(out + 17, w->definition);
    out = write_number(out, (uint64_t)w->debt_ns);
    if (w->flags & WIRE_HIDDEN)
        out = write_number(out, (uint64_t)w->hidden_ns);
    if (w->flags & WIRE_RATES) {
        memcpy(out, &w->fast, 2);
        memcpy(out + 2, &w->slow, 2);
        out += 4;
    }
    out = write_number(out, w->columns);
    for (const wire_column_t *c = w->column; c < w->column + w->columns; c++) {
        out = write_number(out, c->origin);
        out = write_number(out, c->generation);
        out = write_number(out, (uint64_t)c->taken);
        if (w->flags & WIRE_REFUNDS)
            out = write_number(out, (uint64_t)c->refunded);
    }
    if (w->flags & WIRE_RELAYED) {
        const uint8_t *in = w->relayed;
        out = write_number(out, w->relayed_count);
        for (uint32_t i = 0; i < w->relayed_count; i++) {
            wire_rates_t r;
            in = get_relayed(in, in + RELAYED_BYTES, &r);
            out = write_number(out, r.origin);
            out = write_number(out, r.age_ms);
            memcpy(out, &r.fast, 2);
            memcpy(out + 2, &r.slow, 2);
            out += 4;
        }
    }
    return out;
}

/* A frame as it is read here, in memory of exactly its size, so that a sanitizer notices a read
 * beyond it. */
typedef struct {
    int64_t n, most;
    uint8_t *bytes;
    uint16_t *origin;
    wire_entry_t *entries;
    wire_column_t *columns;
} read_t;

static void *block_of(size_t bytes)
{
    void *block = malloc(bytes);
    CHECK(block, "no memory");
    return block;
}

static void read_frame(read_t *f, const uint8_t *bytes, size_t size, const wire_tables_t *tables)
{
    f->most = (int64_t)(size / ENTRY_MIN_BYTES) + 1;
    f->bytes = block_of(size);
    f->entries = block_of((size_t)f->most * sizeof *f->entries);
    f->columns = block_of((size / COLUMN_MIN_BYTES + 1) * sizeof *f->columns);
    f->origin = block_of(tables->origins * sizeof *f->origin);
    memcpy(f->bytes, bytes, size);
    memcpy(f->origin, tables->origin, tables->origins * sizeof *f->origin);
    f->n = parse_entries(f->bytes, size,
                         &(wire_tables_t){tables->definitions, tables->origins, f->origin},
                         f->entries, f->most, f->columns);
}

static void read_free(read_t *f)
{
    free(f->bytes);
    free(f->origin);
    free(f->entries);
    free(f->columns);
}

static const uint16_t *positions_alike(void)
{
    static uint16_t alike[MAX_ORIGINS];
    for (int i = 0; i < MAX_ORIGINS; i++)
        alike[i] = (uint16_t)i;
    return alike;
}

static void check_entry(const wire_entry_t *w, const wire_tables_t *tables)
{
    CHECK(w->definition < tables->definitions && w->columns <= MAX_COLUMNS && w->debt_ns >= 0
              && w->debt_ns >> 62 == 0 && w->hidden_ns >= 0 && w->hidden_ns >> 62 == 0,
          "definition %u, %u columns, a debt of %ld ns", w->definition, w->columns,
          (long)w->debt_ns);
    for (uint32_t i = 0; i < w->columns; i++) {
        const wire_column_t *c = &w->column[i];
        CHECK(c->origin < tables->origins && (!i || c->origin > c[-1].origin), "column %u is of %u",
              i, c->origin);
        CHECK(c->refunded >= 0 && c->refunded <= c->taken && c->taken >> TOKEN_BITS == 0,
              "column %u: (%ld %ld)", i, (long)c->taken, (long)c->refunded);
    }
}

/* Bytes that are understood lie within all bounds, and can be written in one way only. */
static void check_spelling(const uint8_t *bytes, size_t size, uint32_t definitions,
                           uint32_t origins)
{
    wire_tables_t tables = {definitions, origins, positions_alike()};
    read_t f;
    read_frame(&f, bytes, size, &tables);
    if (f.n >= 0) {
        uint8_t *again = block_of(size), *out = again;
        for (int64_t i = 0; i < f.n; i++) {
            check_entry(&f.entries[i], &tables);
            out = write_entry(out, &f.entries[i]);
        }
        CHECK((size_t)(out - again) == size && !memcmp(again, bytes, size),
              "the frame has another spelling, too");
        free(again);
    }
    read_free(&f);
}

#endif
