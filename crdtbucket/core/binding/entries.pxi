# Entries of a frame or a snapshot, read, and what a merge of them did.

Merged = namedtuple(
    "Merged",
    "merged ignored unknown_bucket refused_columns capped_columns dropped gained duplicate_epoch "
    "own_behind lowered adopted crowded ahead of_silent rates_cut answers touched mixed room "
    "following",
    module="crdtbucket._core",
)
Merged.__doc__ = """What a bulk merge did: counts, whether a new epoch was opened, as the sender had
larger counts of the own one (`duplicate_epoch`), how many entries were left out for that reason
(`own_behind`), how many debts fell by much less than was advertised (`lowered`), by how many tokens
debts fell because the sender owes less (`adopted`), for how many new entries the sender made room
by others of its own (`crowded`), how many columns were left out as no eviction explains their
generation (`ahead`), how many entries of a newcomer brought takes of peers that are silent here
(`of_silent`), how many rates of the sender count in shares for less than they are, which is twice
the refill rate (`rates_cut`), and arrays of entries to answer the sender with (`answers`) and that
were merged (`touched`); `mixed`: which of the frame's definitions have entries in it and are of a
bucket that is defined otherwise here; `room`: how many entries were evicted for new ones; and
`following`: the entry of the frame to go on with, or -1 at its end."""


cdef array uints(uint32_t *items, uint32_t count):
    cdef array out = clone(_UINTS, count, False)
    if count:
        memcpy(out.data.as_voidptr, items, count * sizeof(uint32_t))
    return out


cdef tuple mixed_in(
    const wire_definition_t *wd,
    uint32_t count,
    const wire_entry_t *parsed,
    int64_t first,
    int64_t end,
):
    """The definitions that these entries stand under and that a bucket here has otherwise; there
    are hardly ever any."""
    cdef int64_t i
    cdef uint32_t at
    mixed = {
        at
        for at in range(count)
        if wd[at].bucket != <uint32_t>NONE and not wd[at].same and not wd[at].candidate_same
    }
    return tuple(sorted(mixed & {parsed[i].definition for i in range(first, end)})) if mixed else ()


@cython.final
cdef class _Entries:
    """The entries of a frame, and what their positions mean here."""
    cdef _Items payload, origins
    cdef _Scratch definition, entry, column
    cdef wire_definition_t *definitions
    cdef wire_entry_t *entries
    cdef wire_tables_t tables
    cdef int64_t count


cdef int64_t part_end(_Entries f, int64_t start, int64_t most) noexcept:
    """Where the part that begins at `start` ends: after `most` entries, or sooner, once they
    have 8 * `most` columns together."""
    cdef int64_t end = start, left = 8 * most if most < 1 << 58 else INT64_MAX
    while end < f.count and end - start < most and left > 0:
        left -= f.entries[end].columns
        end += 1
    return end
