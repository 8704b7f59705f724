# What the binding uses of the headers for entries on the wire: their codec, merges, digests.

cdef extern from "core/core.h" nogil:
    ctypedef struct wire_definition_t:
        uint32_t bucket, same, candidate, candidate_same
        int64_t q, p
        uint64_t candidate_below
    ctypedef struct wire_column_t:
        uint32_t origin, generation
        int64_t taken, refunded
    ctypedef struct comparison_t:
        pass
    ctypedef struct wire_tables_t:
        uint32_t definitions, origins
        const uint16_t *origin
    ctypedef struct wire_entry_t:
        uint64_t lo, hi
        uint32_t definition, columns
    ctypedef struct merge_context_t:
        uint32_t source, source_origin
        int64_t at, answers_since
        int newer, last_word, joining, woke, late, memory, keeps_credit, newcomer, reopen
        const uint8_t *relays
        const int64_t *silent
        const wire_tables_t *tables
        int64_t crowded, room, most_room
    ctypedef struct merge_result_t:
        int64_t merged, ignored, unknown_bucket, refused_columns, capped_columns
        int64_t dropped_full, gained
        uint32_t answer_count, touched_count, gone_count
        int duplicate_epoch
        int64_t own_behind, lowered, adopted, crowded, ahead, of_silent, rates_cut, newly_rated
    ctypedef struct merge_out_t:
        uint32_t *answers
        uint32_t *touched
        uint32_t *gone
        merge_result_t r
    ctypedef struct digest_item_t:
        uint64_t lo, hi, fingerprint, debt_ns

    size_t encode_log(
        const table_t *,
        uint64_t *,
        uint64_t,
        const uint16_t *,
        int64_t,
        uint8_t *,
        size_t,
        int64_t *,
    )
    size_t encode_entries(
        const table_t *,
        const uint32_t *,
        int64_t *,
        int64_t,
        const uint16_t *,
        int,
        int64_t,
        uint8_t *,
        size_t,
        int64_t *,
    )
    int64_t parse_entries(
        const uint8_t *, size_t, const wire_tables_t *, wire_entry_t *, int64_t, wire_column_t *
    )
    void wire_definitions_follow(const table_t *, wire_definition_t *, uint32_t)
    int64_t merge_entries(
        table_t *,
        const wire_entry_t *,
        int64_t,
        const wire_definition_t *,
        const merge_context_t *,
        int64_t,
        merge_out_t *,
    )
    int restore_entry(table_t *, const wire_entry_t *, const wire_definition_t *, int64_t, int64_t)
    int64_t settle_suspects(table_t *, int64_t, int64_t, int, int64_t)
    int64_t digest_range(
        const table_t *,
        uint64_t,
        uint64_t,
        int64_t,
        int64_t,
        int64_t,
        int,
        digest_item_t *,
        uint64_t *,
        uint64_t *,
        uint64_t *,
    )
    void adopt(
        table_t *, uint32_t, int64_t, int, const wire_column_t *, uint32_t, comparison_t *, int64_t
    )

cdef extern from "core/binding/packed_number.h":
    const uint8_t *take_number(
        const uint8_t *at, const uint8_t *end, uint64_t *value, bint *negative
    )
    uint8_t *put_number(uint8_t *at, uint64_t value, bint negative)
    bint number_fits(uint64_t value, bint negative, int64_t low, uint64_t high)
