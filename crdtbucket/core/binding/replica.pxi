# What a bucket does where a common store decides: it advertises its own column of a key, and counts
# what the store allowed.


@cython.final
@cython.freelist(16)
cdef class BucketReplica:
    """The entries of a bucket, as one replica of those that a common store has."""

    cdef BucketCore bucket
    cdef table_t *t

    def __cinit__(self, BucketCore bucket not None):
        self.bucket, self.t = bucket, bucket.t

    cdef int current(self, uint64_t lo, uint64_t hi, int64_t now, uint32_t *entry) noexcept:
        """Finds the entry with this hash and brings it to its definition and the running epoch.
        Returns 0 when this bucket has none, or when there is no memory for that. The lock is held;
        without it another process could give the entry to another key."""
        cdef uint32_t e = table_find(self.t, lo, hi)
        self.bucket.follow()
        entry[0] = e
        if e == <uint32_t>NONE:
            return 0
        if self.t.definitions[self.t.hot[e].bucket].name_hash != self.bucket.salt:
            entry[0] = <uint32_t>NONE
            return 0
        return entry_renew(self.t, e, definition_for(self.t, self.bucket.slot, hi), now)

    cdef uint32_t obtain(self, uint64_t lo, uint64_t hi, int64_t now, uint32_t *entry) noexcept:
        """As `current`, but makes an entry where there is none. Returns the entry that was evicted
        for it, or NONE."""
        cdef uint32_t gone = <uint32_t>NONE, slot
        cdef definition_t *d
        if not self.current(lo, hi, now, entry):
            d = self.bucket.definition(hi, &slot)
            entry_for_take(self.t, d, slot, lo, hi, 1, now, entry, &gone)
        return gone

    def open_call(self, object key, object cost=1):
        """What a call to the common store advertises of a key: (low half and high half of its hash,
        generation, taken, refunded, debt in ns, wait in ns): the own column, the debt (shown and
        hidden), and for how long the confirmed level here keeps `cost` from passing (0: it does
        not). The key gets an entry if it has none; None when there is no room for one. Raises as
        `take`."""
        cdef uint64_t lo = 0, hi = 0
        cdef int64_t n = self.bucket.cost_of(cost), now = clock_ns(self.t)
        cdef uint32_t e, gone
        cdef own_state_t s
        check_open(self.bucket.table)
        self.bucket.locate(key, &lo, &hi)
        self.bucket.fitting(hi, n)
        self.bucket.memory.enter()
        gone = self.obtain(lo, hi, now, &e)
        if e != <uint32_t>NONE:
            own_state(self.t, e, n, now, &s)
        self.bucket.memory.leave()
        forget_name(self.bucket.table.names, gone)
        if e == <uint32_t>NONE:
            return None
        self.bucket.note_name(e, key)
        return lo, hi, s.generation, s.taken, s.refunded, s.debt_ns, s.wait_ns

    def close_call(
        self,
        object key,
        int64_t cost,
        *,
        bint allowed,
        int64_t taken,
        int64_t refunded,
        mode,
        debt=None,
        int64_t wait=0,
    ):
        """Books the end of a call to the common store, and returns its Decision: counts `taken` and
        `refunded` tokens here. `debt`: what the store advertised after the call (ns); None for the
        debt here. `wait`: ns that a denied caller waits at least. `key` and `cost` are those of
        `open_call`."""
        cdef uint64_t lo = 0, hi = 0
        cdef int64_t now = clock_ns(self.t)
        cdef uint32_t e, slot, gone = <uint32_t>NONE
        cdef definition_t *d
        cdef outcome_t o
        cdef own_state_t s
        self.bucket.locate(key, &lo, &hi)
        d = self.bucket.definition(hi, &slot)
        memset(&o, 0, sizeof(o))
        memset(&s, 0, sizeof(s))
        o.allowed = allowed
        self.bucket.memory.enter()
        if taken:
            gone = self.obtain(lo, hi, now, &e)
        else:
            self.current(lo, hi, now, &e)
        if e != <uint32_t>NONE:
            if taken or refunded:
                d = &self.t.definitions[self.t.hot[e].bucket]
                book(self.t, d, e, taken, refunded, now)
            count_offered(self.t, d, e, cost, allowed)
            own_state(self.t, e, cost, now, &s)
            o.generation, o.origin, o.full_count = (
                s.generation,
                self.t.hot[e].origin,
                self.t.hot[e].full_count,
            )
        self.bucket.memory.leave()
        forget_name(self.bucket.table.names, gone)
        o.debt_ns = s.debt_ns if debt is None else debt
        if not allowed:
            o.wait_ns = max(wait_for(d, o.debt_ns, cost), s.wait_ns, wait)
        cdef Decision decision = decision_of(self.bucket, key, cost, slot, &o)
        decision.mode = mode
        self.bucket.count(slot, allowed, cost)
        self.bucket.count_mode(slot, allowed, mode)
        return decision

    def give_back(self, object key, int64_t most):
        """As `reset` of a bucket, but gives no more than `most` tokens back. Returns those that
        came back."""
        return reset_key(self.bucket, key, most)

    def own(self, uint64_t lo, uint64_t hi):
        """(generation, taken, refunded) of the own column of the key with this hash. None when the
        key has no entry."""
        cdef uint32_t e
        cdef own_state_t s
        cdef int known
        self.bucket.memory.enter()
        known = self.current(lo, hi, clock_ns(self.t), &e)
        if known:
            own_state(self.t, e, 0, 0, &s)
        self.bucket.memory.leave()
        return (s.generation, s.taken, s.refunded) if known else None

    def void(self, uint64_t lo, uint64_t hi, int64_t tokens):
        """Counts `tokens` both as taken and as refunded, since the common store has charged them to
        nobody. False when the entry is gone, or there is no memory for it."""
        cdef int64_t now = clock_ns(self.t)
        cdef uint32_t e
        cdef int done
        self.bucket.memory.enter()
        done = self.current(lo, hi, now, &e) and book(
            self.t, &self.t.definitions[self.t.hot[e].bucket], e, tokens, tokens, now)
        self.bucket.memory.leave()
        return bool(done)

    def advertised(self, uint64_t lo, uint64_t hi):
        """All that this node advertises of the key with this hash: (generation, taken, refunded,
        debt in ns, columns of others), where each column is (node number, epoch, generation, taken,
        refunded). None when the key has no entry. The debt of a suspect entry is what was taken
        under this epoch: the store knows better what is left of the rest."""
        cdef int64_t now = clock_ns(self.t)
        cdef uint32_t e, origin
        cdef own_state_t s
        cdef column_t c
        # objects of Python are made later, without the lock: their finalizers may take
        cdef wire_column_t held[MAX_ORIGINS]
        cdef uint32_t count = 0, i
        cdef int known
        memset(&c, 0, sizeof(c))
        self.bucket.memory.enter()
        known = self.current(lo, hi, now, &e)
        if known:
            own_state(self.t, e, 0, now, &s)
            if self.t.hot[e].flags & ENTRY_SUSPECT:
                s.debt_ns = min(s.debt_ns, taken_ns(self.t, e))
            while column_next(self.t, e, &c) and count < MAX_ORIGINS:
                origin = column_origin(&c)
                if (
                    origin == self.t.hot[e].origin
                    or self.t.origins[origin].tombstone
                    or not column_generation(&c)
                ):
                    continue
                held[count].origin, held[count].generation = origin, column_generation(&c)
                held[count].taken, held[count].refunded = column_taken(&c), column_refunded(&c)
                count += 1
        self.bucket.memory.leave()
        if not known:
            return None
        others = [
            (
                self.t.origins[held[i].origin].node,
                self.t.origins[held[i].origin].epoch,
                held[i].generation,
                held[i].taken,
                held[i].refunded,
            )
            for i in range(count)
        ]
        return s.generation, s.taken, s.refunded, s.debt_ns, others

    def adopt(self, uint64_t lo, uint64_t hi, int64_t debt, bint same, columns):
        """Merges what the store advertises of the key with this hash: its debt (ns), and the
        columns that this debt contains, each (origin id, generation, taken, refunded), this node's
        own one included. `same`: the store has the key under the definition here, so its debt may
        be adopted. False when the key has no entry."""
        cdef int64_t now = clock_ns(self.t)
        cdef uint32_t e, count = 0
        cdef int known
        cdef wire_column_t *wire
        columns = tuple(columns)
        if len(columns) > MAX_ORIGINS:
            raise WireError(
                f"{len(columns)} columns of one key, at most {MAX_ORIGINS} can be told apart"
            )
        cdef _Scratch room = scratch(len(columns) * sizeof(wire_column_t))
        cdef _Scratch comparison = scratch(sizeof(comparison_t))
        wire = <wire_column_t *>room.at
        memset(comparison.at, 0, sizeof(comparison_t))
        for origin, generation, taken, refunded in columns:
            if not (
                0 < origin < MAX_ORIGINS
                and 0 <= generation <= UINT32_MAX
                and 0 <= refunded <= taken <= MAX_COST
            ):
                raise WireError(f"({origin}, {generation}, {taken}, {refunded}) is no column")
            wire[count].origin, wire[count].generation = origin, generation
            wire[count].taken, wire[count].refunded = taken, refunded
            count += 1
        self.bucket.memory.enter()
        known = self.current(lo, hi, now, &e)
        if known:
            adopt(self.t, e, debt, same, wire, count, <comparison_t *>comparison.at, now)
        self.bucket.memory.leave()
        return bool(known)

    def shortage(self, uint64_t lo, uint64_t hi, int64_t cost):
        """How long (ns) the confirmed level of the key with this hash keeps `cost` from passing; 0:
        it does not."""
        cdef uint32_t e
        cdef own_state_t s
        s.wait_ns = 0
        self.bucket.memory.enter()
        e = table_find(self.t, lo, hi)
        if e != <uint32_t>NONE:
            own_state(self.t, e, cost, clock_ns(self.t), &s)
        self.bucket.memory.leave()
        return s.wait_ns
