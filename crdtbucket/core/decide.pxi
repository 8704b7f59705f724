# A take, from a key to its decision.


cdef class _Decider:
    """A bucket's place in its table, and how one take of it is decided."""

    cdef readonly Table table
    cdef readonly object spec
    cdef public object mode
    cdef table_t *t
    cdef definition_t *d
    cdef uint32_t slot
    cdef uint64_t salt

    def __init__(self, Table table not None, spec, *, int64_t min_debt=0):
        self.table = table
        self.t = &table.t
        self.mode = Mode.EVENTUAL
        self.define(spec, min_debt=min_debt)

    def define(self, spec, *, int64_t min_debt=0):
        """Gives the bucket a new definition; tokens of debt are kept."""
        self.slot = self.table.define(spec, min_debt=min_debt)
        self.d = &self.t.definitions[self.slot]
        self.salt = self.d.name_hash
        self.spec = spec

    cdef inline void follow(self) noexcept:
        """Another process may have given the bucket a new definition, and the slot of this one to another bucket. The lock is
        held."""
        cdef uint32_t slot = definition_newest(self.t, self.slot)
        if self.t.definitions[slot].name_hash != self.salt:
            slot = definition_current(self.t, self.salt)
        if slot != <uint32_t>NONE:
            self.slot = slot
            self.d = &self.t.definitions[slot]

    cdef inline int locate(self, object key, uint64_t *lo, uint64_t *hi) except -1:
        cdef const uint8_t *data = NULL
        cdef Py_ssize_t size = 0
        key_view(key, &data, &size)
        keyed_hash(self.t.h.hash_key, self.salt, data, size, lo, hi)
        return 0

    cdef inline int64_t cost_of(self, object cost) except -1:
        cdef int overflow
        cdef int64_t n
        if cost is _ONE and self.d.capacity:
            return 1
        if PyLong_CheckExact(cost):
            n = PyLong_AsLongLongAndOverflow(cost, &overflow)
            if 0 < n <= self.d.capacity:
                return n
        n = whole_tokens(cost, 1, MAX_COST, "cost")
        if n > self.d.capacity:                             # unless another process has raised it
            self.table.enter()
            self.follow()
            self.table.leave()
        if n > self.d.capacity:
            raise CostExceedsCapacity(n, self.d.capacity)
        return n

    cdef inline Decision answer(self, object key, int64_t n, outcome_t *o):
        cdef Decision decision = Decision.__new__(Decision)
        decision._bucket = self
        decision._key = key
        decision.mode = self.mode
        decision.shadowed = not o.allowed and self.d.shadow
        decision.allowed = o.allowed or decision.shadowed
        decision.cost = n
        decision.debt_ns = o.debt_ns
        decision.rest = o.rest
        decision.wait_ns = 0 if decision.allowed else o.wait_ns
        decision.given_back = 0
        decision.full_count = o.full_count
        decision.birth = o.birth
        decision.origin = o.origin
        decision.slot = self.slot
        return decision

    cdef int new_entry(self, uint64_t lo, uint64_t hi, int64_t n, int64_t now, uint32_t *e, outcome_t *o) except -2:
        """The rare half of a take: an entry is made or renewed. ALLOWED, or DENIED with the outcome filled in."""
        cdef uint32_t gone
        cdef int got
        self.table.enter()
        self.follow()
        got = entry_for_take(self.t, self.d, self.slot, lo, hi, n, 1, now, e, &gone)
        self.table.leave()
        self.table.forget_name(gone)
        if got == ALLOWED:
            return ALLOWED
        memset(o, 0, sizeof(outcome_t))
        o.wait_ns = caution_wait(self.t, self.d, n, now)
        if o.wait_ns > 0:
            return DENIED
        if self.d.allow_when_full:
            o.allowed = 1
        else:
            o.wait_ns = self.t.h.grace_ns
        return DENIED

    cdef inline void note_name(self, uint32_t e, object key):
        if not self.t.hot[e].flags & ENTRY_NAMED:
            atomic_or(&self.t.hot[e].flags, ENTRY_NAMED)
            if len(self.table.names) < self.table.max_names:
                self.table.names[e] = (self.spec.name, key)

    cdef inline int decide(self, object key, uint64_t lo, uint64_t hi, int64_t n, int64_t now, outcome_t *o) except -2:
        cdef uint64_t word
        cdef uint32_t e
        while True:
            e = entry_at_hand(self.t, lo, hi, self.slot, &word)
            if e != <uint32_t>NONE and take(self.t, self.d, e, n, now, word, o) != NEEDS_LOCK:
                break
            if self.new_entry(lo, hi, n, now, &e, o) == DENIED:
                return o.allowed
        self.note_name(e, key)
        return o.allowed

    cdef inline counts_t *counts(self) noexcept:
        return &self.t.counts[self.slot]

    cdef inline void count(self, int allowed, int64_t n):
        cdef counts_t *counts = self.counts()
        if allowed:
            counts.allowed += 1
            counts.granted += n
        elif self.d.shadow:
            counts.shadowed += 1
        else:
            counts.denied += 1
        self.wake()

    cdef void count_mode(self, bint allowed, mode):
        """A decision that was counted was not made in eventual mode."""
        if mode is not Mode.EVENTUAL:
            self.counts().decided[mode is not Mode.STRONG][1 if allowed else 2 if self.d.shadow else 0] += 1

    cdef inline void wake(self):
        if self.t.h.flush_wanted == 1 and self.table.on_wake is not None:
            self.t.h.flush_wanted = 2
            self.table.on_wake()
