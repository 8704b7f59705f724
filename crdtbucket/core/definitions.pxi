# The definitions of a table's buckets.


cdef uint64_t name_hash(bytes name):
    cdef uint64_t lo, hi
    cdef uint64_t key[2]
    key[0] = 0x6372647462756b65u
    key[1] = 0x6275636b65746e61u
    keyed_hash(key, 0, <const uint8_t *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &lo, &hi)
    return lo


cdef class _Definitions(_Memory):
    def define(self, spec, *, int64_t min_debt=0):
        """Makes `spec` the definition of its bucket and returns its slot. An earlier one of the same name is replaced, and
        its keys follow when they are next touched: debt in tokens is kept. `min_debt`: tokens that `max_debt` is raised to.
        The same definition again changes nothing. Raises CrdtbucketError when no slot is free.
        """
        cdef definition_t made
        cdef definition_t *old = NULL
        q, p = spec.emission
        cdef int64_t debt = max(spec.max_debt, min_debt)
        if q * (spec.capacity + debt) >= p << 62:
            debt = max(spec.max_debt, (p << 62) // q - spec.capacity - 1)
        name = spec.key.encode()
        memset(&made, 0, sizeof(made))
        made.q, made.p = q, p
        made.capacity, made.max_debt = spec.capacity, debt
        made.full_ns = q * spec.capacity // p
        made.cap_ns = q * (spec.capacity + debt) // p
        made.per_second = spec.rate_per_second
        made.name_hash = name_hash(name)
        made.definition_hash = spec.definition_hash
        made.quota = spec.max_keys if spec.max_keys is not None else INT64_MAX
        made.allow_when_full = spec.on_table_full == "allow"
        made.shadow = spec.shadow
        made.next = <uint32_t>NONE
        cdef uint32_t before
        cdef int64_t slot
        self.enter()
        try:
            before = definition_current(&self.t, made.name_hash)
            if before != <uint32_t>NONE:
                old = &self.t.definitions[before]
                if same_definition(old, &made):
                    self.slots[name] = before
                    return before
            slot = self._free_slot()
            if old:
                made.forgiven, made.refused_full = old.forgiven, old.refused_full
                made.excess, made.excess_before, made.excess_minute = old.excess, old.excess_before, old.excess_minute
            definition_place(&self.t, slot, &made, before, clock_ns(&self.t))
        finally:
            self.leave()
        self.slots[name] = slot
        self._refresh_flush()
        return slot

    cdef int64_t _free_slot(self) except -1:
        cdef uint32_t slot = definition_free_slot(&self.t, clock_ns(&self.t))
        if slot == <uint32_t>NONE:
            raise CrdtbucketError(f"{MAX_DEFINITIONS} definitions are in use, or were within the last minute: define fewer "
                                  "buckets, or change them less often")
        return slot

    @property
    def free_definitions(self):
        """How many definitions there is room for now."""
        return definitions_free(&self.t, clock_ns(&self.t))

    cdef void _refresh_flush(self):
        cdef uint32_t i
        for i in range(self.t.h.definitions):
            self.t.definitions[i].flush_tokens = max(1, self.t.definitions[i].capacity // (20 * max(1, self.t.h.members)))

    def definitions(self):
        """The current ones: (slot, name hash, definition hash, q, p) each."""
        cdef uint32_t i
        cdef definition_t *d
        out = []
        for i in range(self.t.h.definitions):
            d = &self.t.definitions[i]
            if d.name_hash and d.next == <uint32_t>NONE:
                out.append((i, d.name_hash, d.definition_hash, d.q, d.p))
        return out

    @property
    def definition_count(self):
        """Definitions ever made."""
        return self.t.h.defined

    def all_definitions(self):
        """Of every slot, replaced ones too: (name hash, definition hash, q, p)."""
        cdef uint32_t i
        return [(self.t.definitions[i].name_hash, self.t.definitions[i].definition_hash, self.t.definitions[i].q,
                 self.t.definitions[i].p) for i in range(self.t.h.definitions)]
