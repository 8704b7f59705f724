# The definitions of a table's buckets.


cdef uint64_t name_hash(bytes name):
    """The 64 bits that name a bucket in tables and on the wire, the same on all nodes."""
    cdef uint64_t lo, hi
    cdef uint64_t key[2]
    key[0] = 0x6372647462756b65u
    key[1] = 0x6275636b65746e61u
    keyed_hash(key, 0, <const uint8_t *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &lo, &hi)
    return lo


cdef object _room(uint32_t slot):
    """The slot that a definition has got. Raises CrdtbucketError when none was free."""
    if slot == <uint32_t>NONE:
        raise CrdtbucketError(
            f"{MAX_DEFINITIONS} definitions are in use, or were within the last minute: "
            "define fewer buckets, or change them less often"
        )
    return slot


cdef int _known(uint32_t slot, spec) except -1:
    """Raises CrdtbucketError for the slot of a bucket that has no definition."""
    if slot == <uint32_t>NONE:
        raise CrdtbucketError(f"bucket {spec.name!r} has no definition in this table")
    return 0


@cython.final
cdef class TableDefinitions:
    """The definitions of a table's buckets, each in a slot: those in force, candidates, and those
    that were replaced."""

    cdef _Memory memory
    cdef table_t *t
    cdef dict names
    """{name hash: name} of the buckets that this process has defined."""

    def __cinit__(self, _Memory memory not None):
        self.memory, self.t, self.names = memory, &memory.t, {}

    def define(self, spec, *, int64_t min_debt=0, int64_t still_until=0, bint begins=False):
        """Makes `spec` the definition of its bucket and returns its slot. An earlier definition of
        the same name is replaced, and its keys follow when they are next touched: they keep their
        debt in tokens. The same definition again changes nothing. Raises CrdtbucketError when no
        slot is free.

        `min_debt`: `max_debt` is raised to this many tokens. `still_until`: the local ns at which
        the period ends within which nothing is refilled (a second more or less is the same); 0 for
        a bucket that always refills. `begins`: this process has not defined the bucket before, so
        its ceiling of debt is raised to that of the definition in force: nothing is forgiven that
        may be owed under the definition of other processes."""
        cdef definition_t made
        cdef definition_t *before = NULL
        cdef uint32_t old, slot
        cdef int64_t ceiling = 0
        while True:
            # Computed without the lock: while Python runs, another thread may fork, or the handler
            # of a signal may take.
            self._made(spec, max(min_debt, ceiling - <int64_t>spec.capacity), &made)
            self.memory.enter()
            old = slot = definition_current(self.t, made.name_hash)
            if old == <uint32_t>NONE:
                break
            before = &self.t.definitions[old]
            if not begins or before.capacity + before.max_debt <= ceiling:
                break
            ceiling = before.capacity + before.max_debt
            before = NULL
            self.memory.leave()
        made.still_until = still_until
        if before:
            made.candidate = before.candidate
            made.candidate_below = before.candidate_below
            made.staged_ns = before.staged_ns
        if old == <uint32_t>NONE or not same_definition(before, &made):
            slot = self._replace(old, &made)
        self.memory.leave()
        return _room(slot)

    def stage(self, spec, uint64_t below, *, int64_t min_debt=0):
        """Makes `spec` the candidate of the bucket of its name, which has a definition, and returns
        its slot. The candidate gets the keys with hash_hi / 2 below `below` (0 to 2^63). They move
        when they are next touched, as of now, and keep their debt in tokens. An earlier candidate
        is replaced. Raises as `define`, and CrdtbucketError for a bucket without a definition."""
        cdef definition_t made
        cdef uint32_t slot, base
        self._made(spec, min_debt, &made)
        made.staged = 1
        self.memory.enter()
        base = slot = definition_current(self.t, made.name_hash)
        if base != <uint32_t>NONE:
            slot = self.t.definitions[base].candidate
            if slot == <uint32_t>NONE or not same_definition(&self.t.definitions[slot], &made):
                slot = self._replace(slot, &made)
            if slot != <uint32_t>NONE:
                definition_stage(self.t, base, slot, below, clock_ns(self.t))
        self.memory.leave()
        _known(base, spec)
        return _room(slot)

    def unstage(self, spec, bint keep):
        """Ends the candidate of a bucket: with `keep` it becomes the definition of all keys, else
        the other one is that again. Returns the slot of the definition that is left, which takes
        over what was counted under the other one."""
        cdef uint64_t named = name_hash(spec.table_name.encode())
        cdef uint32_t base, candidate, left
        self.memory.enter()
        base = left = definition_current(self.t, named)
        candidate = base
        if base != <uint32_t>NONE:
            candidate = self.t.definitions[base].candidate
        if candidate != <uint32_t>NONE:
            left = candidate if keep else base
            definition_retire(self.t, base if keep else candidate, left, clock_ns(self.t))
        self.memory.leave()
        _known(base, spec)
        return left

    cdef _made(self, spec, int64_t min_debt, definition_t *made):
        """Fills in the definition `made` from a specification, and notes its name."""
        q, p = spec.emission
        cdef int64_t debt = max(spec.max_debt, min_debt)
        if q * (spec.capacity + debt) >= p << 62:
            debt = max(spec.max_debt, (p << 62) // q - spec.capacity - 1)
        memset(made, 0, sizeof(definition_t))
        made.q, made.p = q, p
        made.capacity, made.max_debt = spec.capacity, debt
        made.full_ns = q * spec.capacity // p
        made.cap_ns = q * (spec.capacity + debt) // p
        made.per_second = spec.rate_per_second
        made.name_hash = name_hash(spec.table_name.encode())
        self.names[made.name_hash] = spec.table_name
        made.definition_hash = spec.definition_hash
        made.quota = spec.max_keys if spec.max_keys is not None else INT64_MAX
        made.allow_when_full = spec.on_table_full == "allow"
        made.shadow = spec.shadow
        made.unpredicted = spec.slots is not None or spec.period is not None
        made.next = made.candidate = made.ring = <uint32_t>NONE

    cdef uint32_t _replace(self, uint32_t old, definition_t *made) noexcept:
        """Writes a definition to a free slot and returns that; without one it changes nothing and
        returns NONE. The definition replaces that in the slot `old`, unless that is NONE, and takes
        over its counters. The lock is held."""
        cdef definition_t *before = NULL
        cdef int64_t now = clock_ns(self.t)
        cdef uint32_t slot = definition_free_slot(self.t, now)
        if slot == <uint32_t>NONE:
            return slot
        if old != <uint32_t>NONE:
            before = &self.t.definitions[old]
            made.earlier_count, made.earlier = before.earlier_count, before.earlier
            earlier_follow(made, before, 1, now)
            made.forgiven, made.refused_full = before.forgiven, before.refused_full
            made.forgiven_part = before.forgiven_part
            made.over_admitted = before.over_admitted
            made.over_admitted_before = before.over_admitted_before
            made.over_admitted_minute = before.over_admitted_minute
            before.forgiven = before.refused_full = before.forgiven_part = 0
        definition_place(self.t, slot, made, old, now)
        refresh_flush(self.t)
        return slot

    @property
    def free(self):
        """How many more definitions there is room for now."""
        return definitions_free(self.t, clock_ns(self.t))

    def current(self):
        """(slot, name hash, definition hash, q, p) of each definition in force."""
        cdef uint32_t i
        cdef definition_t *d
        out = []
        for i in range(self.t.h.definitions):
            d = &self.t.definitions[i]
            if d.name_hash and d.next == <uint32_t>NONE and not d.staged:
                out.append((i, d.name_hash, d.definition_hash, d.q, d.p))
        return out

    def at(self, uint32_t slot):
        """(name of the bucket, capacity, definition hash, q, p) of the definition in a slot. The
        name is "?" when this process has not defined the bucket. Raises CrdtbucketError for a slot
        that is not in use."""
        cdef definition_t *d = &self.t.definitions[slot]
        if slot >= self.t.h.definitions or not d.name_hash:
            raise CrdtbucketError(f"no definition {slot}")
        named = self.names.get(d.name_hash, "?")
        return named, d.capacity, d.definition_hash, d.q, d.p

    def candidates(self):
        """{name hash: definition hash of the candidate} of the buckets that have a candidate."""
        cdef uint32_t i
        return {
            self.t.definitions[i].name_hash: self.t.definitions[
                self.t.definitions[i].candidate
            ].definition_hash
            for i in range(self.t.h.definitions)
            if self.t.definitions[i].candidate != <uint32_t>NONE
        }

    @property
    def made(self):
        """How many definitions were ever made in this table."""
        return self.t.h.defined

    def all(self):
        """(name hash, definition hash, q, p) of every slot, also of definitions that were
        replaced."""
        cdef uint32_t i
        return [
            (
                self.t.definitions[i].name_hash,
                self.t.definitions[i].definition_hash,
                self.t.definitions[i].q,
                self.t.definitions[i].p,
            )
            for i in range(self.t.h.definitions)
        ]
