# The entries of a frame or a snapshot after they were read, and the result of merging them.

Merged = namedtuple(
    "Merged",
    "merged ignored unknown_bucket refused_columns capped_columns dropped gained duplicate_epoch "
    "own_behind lowered adopted crowded ahead of_silent rates_cut answers touched mixed room "
    "following",
    module="crdtbucket._core",
)
Merged.__doc__ = """What a merge of many entries did. Numbers of entries: `merged`; `ignored`; of an
`unknown_bucket`; `dropped`, for which there was no room; in which the sender has larger
counts of the running epoch, which are ignored (`own_behind`); by which a debt fell by much less
than was advertised (`lowered`); for which the sender made room by others that it had introduced
(`crowded`); of a newcomer, with takes of peers that are silent here (`of_silent`); `room`: evicted
for new ones.
Numbers of columns: that rose by less than was advertised (`refused_columns`); of the sender, that
rose by more than is charged (`capped_columns`); left out, since no eviction explains their
generation (`ahead`). `rates_cut`: rates of the sender above what counts in shares, twice the
refill rate. Tokens: by which columns rose (`gained`); by which debts fell because the sender owes
less (`adopted`). `duplicate_epoch`: a new epoch was opened, since the sender had larger counts of
the running one. Arrays of entries: to answer the sender with (`answers`), and that were merged
(`touched`). `mixed`: the positions of definitions in the frame under which entries came, and that
the bucket does not have here. `following`: the entry of the frame to continue with, or -1 at its
end."""


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
    """The positions of the definitions that these entries name, and whose buckets are defined
    otherwise here. There are hardly ever any."""
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
    """The entries of a frame, and what positions in it mean here. The buffers and memory to which
    its pointers lead live as long as this object."""
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
