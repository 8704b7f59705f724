# A bucket's place in its table: how a take is decided there, and what can be read of it.

assert len(_COUNTED) == COUNTED_MODES, (
    f"COUNTED of mode.py has {len(_COUNTED)} modes, and COUNTED_MODES of definition_layout.h was "
    f"{COUNTED_MODES} when the core was compiled: make them equal, then compile the core again"
)


cdef class _Decider:
    """A bucket's place in its table: its definition, how one take is decided, the columns and debts
    of its keys, and its counters."""

    cdef readonly Table table
    cdef readonly object spec
    cdef readonly object candidate
    """The candidate: the definition that some keys have in place of `spec`, or None."""
    cdef public object mode
    cdef public bint immediate
    """Whether decisions need no I/O, so that the bucket has `take`."""
    cdef object choose
    """Returns the bucket that decides on a key; None where this one decides on all keys."""
    cdef _Memory memory
    cdef table_t *t
    cdef definition_t *d
    cdef int64_t largest
    cdef uint32_t slot
    cdef uint64_t salt, key_salt

    def __cinit__(self, *args, **kwargs):
        # All arguments of a subclass come here. Without a table every method would read memory that
        # is not there.
        if not isinstance(args[0] if args else kwargs.get("table"), Table):
            raise TypeError("a bucket is made of a table and a definition: Bucket(table, spec)")

    def __init__(self, Table table not None, spec, *, int64_t min_debt=0):
        self.table = table
        self.memory, self.t = table.memory, table.t
        self.mode = Mode.EVENTUAL
        self.immediate = True
        self.define(spec, min_debt=min_debt)

    def define(self, spec, *, int64_t min_debt=0, int64_t still_until=0, uint64_t period=0):
        """Gives the bucket a new definition; keys keep their debt in tokens. `period` tells its
        keys from those that have the same names in other periods. `min_debt` and `still_until`: as
        in `TableDefinitions.define`."""
        self.slot = self.table.definitions.define(
            spec, min_debt=min_debt, still_until=still_until, begins=self.spec is None
        )
        self.d = &self.t.definitions[self.slot]
        self.salt = self.d.name_hash
        self.key_salt = self.salt ^ period
        self.spec = spec
        self.measure()

    def stage(self, spec, double share, *, int64_t min_debt=0):
        """Gives a share (0 to 1) of the keys another definition of the same name, the candidate:
        the keys whose hash is low enough, which are the same on all nodes of a mesh. They keep
        their debt in tokens, and a larger share has all keys of a smaller one. `min_debt`: as in
        `define`."""
        if not 0 <= share <= 1:
            raise CrdtbucketError(f"a share is 0 to 1, not {share}")
        if spec.key != self.spec.key:
            raise CrdtbucketError(f"{spec.name!r} is no definition of {self.spec.name!r}")
        self.table.definitions.stage(spec, int(share * (1 << 63)), min_debt=min_debt)
        self.candidate = spec
        self.measure()

    def unstage(self, *, bint keep):
        """Ends the candidate: with `keep` it becomes the definition of all keys, else it is
        dropped. Keys keep their debt in tokens."""
        if self.candidate is None:
            return
        self.slot = self.table.definitions.unstage(self.spec, keep)
        self.d = &self.t.definitions[self.slot]
        if keep:
            self.spec = self.candidate
        self.candidate = None
        self.measure()

    def on_candidate(self, uint64_t hi):
        """Whether the candidate decides on the key whose hash has the high half `hi`."""
        return bool((hi >> 1) < self.d.candidate_below)

    cdef void measure(self) noexcept:
        """Notes the largest capacity of the bucket's two definitions."""
        cdef uint32_t other = self.d.candidate
        self.largest = self.d.capacity
        if other != <uint32_t>NONE and self.t.definitions[other].capacity > self.largest:
            self.largest = self.t.definitions[other].capacity

    cdef inline definition_t *definition(self, uint64_t hi, uint32_t *slot):
        """The definition that decides on the key with this hash; its slot is written to `slot`."""
        slot[0] = definition_for(self.t, self.slot, hi)
        return self.d if slot[0] == self.slot else &self.t.definitions[slot[0]]

    cdef inline uint32_t fitting(self, uint64_t hi, int64_t n) except? 0xffffffff:
        """The slot of the definition that decides on the key with this hash, for a cost that
        `cost_of` has let pass. Raises CostExceedsCapacity."""
        cdef uint32_t slot = definition_for(self.t, self.slot, hi)
        if slot != self.slot or self.largest != self.d.capacity:
            if n > self.t.definitions[slot].capacity:       # unless another process has replaced it
                self.memory.enter()
                self.follow()
                self.memory.leave()
                slot = definition_for(self.t, self.slot, hi)
                if n > self.t.definitions[slot].capacity:
                    refuse_cost(self.spec, n, self.t.definitions[slot].capacity, 0)
        return slot

    cdef inline void follow(self) noexcept:
        """Looks up the definition again: another process may have given the bucket a new one, and
        the slot of this one to another bucket. The lock is held."""
        cdef uint32_t slot = definition_newest(self.t, self.slot)
        if self.t.definitions[slot].name_hash != self.salt:
            slot = definition_current(self.t, self.salt)
        if slot != <uint32_t>NONE:
            self.slot = slot
            self.d = &self.t.definitions[slot]
            self.measure()

    cdef inline int locate(self, object key, uint64_t *lo, uint64_t *hi) except -1:
        """Hashes a key of this bucket to 128 bits. Raises InvalidKey."""
        cdef const uint8_t *data = NULL
        cdef Py_ssize_t size = 0
        key_view(key, &data, &size)
        keyed_hash(self.t.h.hash_key, self.key_salt, data, size, lo, hi)
        return 0

    cdef inline int64_t cost_of(self, object cost) except -1:
        """The tokens of a cost, 1 to the largest capacity. Raises InvalidCost and
        CostExceedsCapacity."""
        cdef int overflow
        cdef int64_t n
        if cost is _ONE and self.d.capacity:
            return 1
        if PyLong_CheckExact(cost):
            n = PyLong_AsLongLongAndOverflow(cost, &overflow)
            if 0 < n <= self.largest:
                return n
        n = whole_tokens(cost, 1, MAX_COST, "cost")
        if n > self.largest:                                # unless another process has raised it
            self.memory.enter()
            self.follow()
            self.memory.leave()
        if n > self.largest:
            refuse_cost(self.spec, n, self.largest, 0)
        return n

    cdef int64_t floor_of(self, object floor, uint32_t slot, int64_t n) except -1:
        """The tokens that a take of `n` leaves to more important calls. Raises InvalidCost for what
        is no floor, and CostExceedsCapacity where even a full bucket does not have both."""
        cdef int64_t capacity = self.t.definitions[slot].capacity
        cdef int64_t tokens = floor_tokens(floor, capacity)
        return fitting_floor(self.spec, tokens, n, capacity, is_smooth(floor))

    cdef int new_entry(
        self,
        uint64_t lo,
        uint64_t hi,
        uint32_t *slot,
        int64_t n,
        int64_t now,
        uint32_t *e,
        outcome_t *o,
    ) except -2:
        """The rare half of a take: makes the entry of a key, or renews it under its present
        definition, whose slot is written to `slot`. Returns ALLOWED with the entry in `e`; or
        DENIED, and then the outcome `o` is filled in."""
        cdef uint32_t gone
        cdef definition_t *d
        cdef int got
        self.memory.enter()
        self.follow()
        # only under the lock: others may have changed it before
        d = self.definition(hi, slot)
        got = entry_for_take(self.t, d, slot[0], lo, hi, n, now, e, &gone)
        self.memory.leave()
        forget_name(self.table.names, gone)
        if got == ALLOWED:
            return ALLOWED
        memset(o, 0, sizeof(outcome_t))
        o.wait_ns = warm_up_wait(self.t, d, n, now)
        if o.wait_ns > 0:
            return DENIED
        if d.allow_when_full:
            o.allowed = 1
        else:
            o.wait_ns = self.t.h.grace_ns
        return DENIED

    cdef inline void note_name(self, uint32_t e, object key):
        """Keeps the name of a key, once for each entry, if there is room for one more."""
        if not self.t.hot[e].flags & ENTRY_NAMED:
            atomic_or(&self.t.hot[e].flags, ENTRY_NAMED)
            if len(self.table.names) < self.table.max_names:
                self.table.names[e] = (self.spec.name, key)

    cdef inline int decide(
        self,
        object key,
        uint64_t lo,
        uint64_t hi,
        uint32_t *slot,
        int64_t n,
        int64_t floor,
        int64_t now,
        outcome_t *o,
    ) except -2:
        """Decides on a take of `n` that leaves `floor` tokens to others. `slot` is the
        definition's; it may be another one afterwards. Returns whether the take is allowed, and the
        outcome in `o`."""
        cdef uint64_t word
        cdef uint32_t e
        while True:
            e = entry_at_hand(self.t, lo, hi, slot[0], &word)
            if (
                e != <uint32_t>NONE
                and take(self.t, &self.t.definitions[slot[0]], e, n, floor, now, word, o)
                != NEEDS_LOCK
            ):
                break
            if self.new_entry(lo, hi, slot, n, now, &e, o) == DENIED:
                return o.allowed
        self.note_name(e, key)
        return o.allowed

    cdef inline void count(self, uint32_t slot, int allowed, int64_t n):
        """Counts a decision on `n` tokens under the definition in `slot`."""
        cdef counts_t *counts = &self.t.counts[slot]
        if allowed:
            counts.allowed += 1
            counts.granted += n
        elif self.t.definitions[slot].shadow:
            counts.shadowed += 1
        else:
            counts.denied += 1
        self.wake()

    cdef void count_mode(self, uint32_t slot, bint allowed, mode):
        """Counts a decision, which `count` has counted already, in its mode, unless that is
        eventual. Raises ValueError for a mode that is not counted."""
        cdef definition_t *d = &self.t.definitions[slot]
        if mode is not Mode.EVENTUAL:
            self.t.counts[slot].decided[<int>_COUNTED.index(mode)][
                1 if allowed else 2 if d.shadow else 0
            ] += 1

    cdef inline void wake(self):
        """Wakes the sender, once, when some key asked for an early message."""
        if self.t.h.flush_wanted == 1 and self.table.on_wake is not None:
            self.t.h.flush_wanted = 2
            self.table.on_wake()

    # ---- what can be read ----

    def columns(self, object key):
        """The columns of the key: {(node number, epoch): (generation, taken, refunded)}."""
        return columns_of(self, key)

    @property
    def max_debt(self):
        """How many tokens below empty the level may go: those of the definition, or more where a
        mesh needs the room."""
        return self.d.max_debt

    @property
    def candidate_max_debt(self):
        """The same for the candidate; 0 where there is none."""
        cdef int64_t most = 0
        self.memory.enter()
        # another process may have replaced either definition, or ended the candidate
        self.follow()
        if self.candidate is not None and self.d.candidate != <uint32_t>NONE:
            most = self.t.definitions[self.d.candidate].max_debt
        self.memory.leave()
        return most

    @property
    def name_hash(self):
        """64 bits that name the bucket in the table and on the wire."""
        return self.salt

    def counters(self):
        """What was counted since the bucket was made, with what the candidate counted: decisions,
        also by mode, and tokens granted, refunded, forgiven. `guaranteed`: how many decisions
        admitted what only the guaranteed share leaves to this node. `over_admission`: the most
        tokens by which the debt of a key passed the capacity, in the last one to two minutes."""
        return counters_of(self)

    def decided(self):
        """How many calls each definition has admitted and denied: (admitted, denied) of the
        bucket's own, and of its candidate, or None where there is none."""
        return decided_by(self)
