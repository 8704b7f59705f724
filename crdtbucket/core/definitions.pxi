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
        """
        cdef header_t *h = self.t.h
        q, p = spec.emission
        cdef int64_t debt = max(spec.max_debt, min_debt)
        if q * (spec.capacity + debt) >= p << 62:
            debt = max(spec.max_debt, (p << 62) // q - spec.capacity - 1)
        if h.definitions == <uint32_t>MAX_DEFINITIONS:
            raise CrdtbucketError(f"at most {MAX_DEFINITIONS} definitions in the life of a table")
        name = spec.key.encode()
        cdef uint32_t slot = h.definitions
        cdef definition_t *d = &self.t.definitions[slot]
        memset(d, 0, sizeof(definition_t))
        d.q, d.p = q, p
        d.capacity, d.max_debt = spec.capacity, debt
        d.full_ns = q * spec.capacity // p
        d.cap_ns = q * (spec.capacity + debt) // p
        d.per_second = spec.rate_per_second
        d.name_hash = name_hash(name)
        d.definition_hash = spec.definition_hash
        d.quota = spec.max_keys if spec.max_keys is not None else INT64_MAX
        d.allow_when_full = spec.on_table_full == "allow"
        d.shadow = spec.shadow
        d.next = <uint32_t>NONE
        h.definitions += 1
        if name in self.slots:
            self.t.definitions[<uint32_t>self.slots[name]].replaced_ns = clock_ns(&self.t)
            self.t.definitions[<uint32_t>self.slots[name]].next = slot
        self.slots[name] = slot
        self._refresh_flush()
        return slot

    cdef void _refresh_flush(self):
        cdef uint32_t i
        for i in range(self.t.h.definitions):
            self.t.definitions[i].flush_tokens = max(1, self.t.definitions[i].capacity // (20 * max(1, self.t.h.members)))

    def definitions(self):
        """The current ones: (slot, name hash, definition hash, q, p) each."""
        cdef uint32_t i
        cdef definition_t *d
        out = []
        for i in self.slots.values():
            d = &self.t.definitions[i]
            out.append((i, d.name_hash, d.definition_hash, d.q, d.p))
        return out

    @property
    def definition_count(self):
        """Definitions ever made."""
        return self.t.h.definitions

    def all_definitions(self):
        """Of every slot, replaced ones too: (name hash, definition hash, q, p)."""
        cdef uint32_t i
        return [(self.t.definitions[i].name_hash, self.t.definitions[i].definition_hash, self.t.definitions[i].q,
                 self.t.definitions[i].p) for i in range(self.t.h.definitions)]
