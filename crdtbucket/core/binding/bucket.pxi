# The methods of a bucket that its users call.

cdef class BucketCore(_Decider):
    """A bucket of a table: decisions on its keys. Safe to call from any thread."""

    cdef public ReservationBook reservations
    cdef public BucketCore named
    """The bucket that callers name: this one, or the one that it overrides for some keys."""
    cdef frozenset others
    """The buckets that `choose` has ever returned: their decisions may still be refunded here."""

    def redirect(self, object choose, object others):
        """Sets the function that chooses: `choose(key)` returns the bucket that decides on a key,
        this one or one of `others`, which override it. With None this one decides on all keys."""
        self.choose = choose
        self.others = (self.others or frozenset()).union(others)

    def returned(self, object key, int64_t tokens):
        """Is called when so many tokens of a key came back; for subclasses."""

    def charged(self, object key, int64_t tokens):
        """Is called when so many tokens of a key were settled; for subclasses."""

    def of(self, object key):
        """The bucket that decides on a key: this one, or that of an override for the key."""
        return self if self.choose is None else self.choose(key)

    def spec_of(self, object key):
        """The definition that decides on a key."""
        cdef uint64_t lo = 0, hi = 0
        if self.choose is not None and (other := self.choose(key)) is not self:
            return other.spec_of(key)
        if self.candidate is None:
            return self.spec
        self.locate(key, &lo, &hi)
        return self.candidate if self.on_candidate(hi) else self.spec

    def take(self, object key, object cost=1, object floor=0):
        """Takes `cost` tokens (1 to the capacity) of `key` (str or bytes, 1 to 512 bytes; a str is
        its UTF-8). In process, no I/O. `floor`: the share of the capacity that has to be left, 0 up
        to 1, or a priority: "critical", "normal", "batch" or "smooth". Returns a Decision. Raises
        InvalidKey, InvalidCost, CostExceedsCapacity."""
        if self.choose is not None and (other := self.choose(key)) is not self:
            return other.take(key, cost, floor)
        cdef uint64_t lo = 0, hi = 0
        cdef outcome_t o
        cdef int64_t n = self.cost_of(cost)
        cdef uint32_t slot
        check_open(self.table)
        self.locate(key, &lo, &hi)
        prefetch_slot(self.t, hi)
        slot = self.fitting(hi, n)
        self.decide(
            key,
            lo,
            hi,
            &slot,
            n,
            0 if floor is _ZERO else self.floor_of(floor, slot, n),
            clock_ns(self.t),
            &o,
        )
        self.count(slot, o.allowed, n)
        return decision_of(self, key, n, slot, &o)

    def peek(self, object key, object cost=1, object floor=0):
        """The Decision that a take would get now; nothing changes."""
        if self.choose is not None and (other := self.choose(key)) is not self:
            return other.peek(key, cost, floor)
        cdef uint64_t lo = 0, hi = 0
        cdef outcome_t o
        cdef int64_t n = self.cost_of(cost)
        cdef uint32_t slot
        check_open(self.table)
        self.locate(key, &lo, &hi)
        slot = self.fitting(hi, n)
        cdef int64_t least = 0 if floor is _ZERO else self.floor_of(floor, slot, n)
        self.look(lo, hi, &slot, n, least, clock_ns(self.t), &o)
        return decision_of(self, key, n, slot, &o)

    cdef void look(
        self,
        uint64_t lo,
        uint64_t hi,
        uint32_t *slot,
        int64_t n,
        int64_t floor,
        int64_t now,
        outcome_t *o,
    ) noexcept:
        """Writes to `o` what a take of `n` that leaves `floor` tokens would get now. `slot` is the
        definition's; it may be another one afterwards."""
        cdef uint32_t e
        cdef definition_t *d
        self.memory.enter()
        self.follow()
        d = self.definition(hi, slot)
        e = table_find(self.t, lo, hi)
        if e != <uint32_t>NONE and self.t.hot[e].bucket != slot[0]:
            entry_renew(self.t, e, slot[0], now)
        peek(self.t, d, e, n, floor, now, o)
        self.memory.leave()

    def debt(self, object key):
        """The signed debt of a key in ns, as it is held (not advanced); None when the key has no
        entry. For tests and diagnosis."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        cdef uint32_t e = table_find(self.t, lo, hi)
        return None if e == <uint32_t>NONE else signed_debt_ns(self.t, e, clock_ns(self.t))

    def credit(self, object key):
        """The far credit of a key: tokens that are kept free now for what silent peers may be
        taking."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        cdef uint32_t e = table_find(self.t, lo, hi)
        return 0.0 if e == <uint32_t>NONE else far_tokens(self.t, e, clock_ns(self.t))

    def hash(self, object key):
        """The keyed hash of a key in this bucket, (low, high) 64 bits each."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        return lo, hi

    def refund(self, object decision, object tokens=None):
        """Gives back `tokens` (default: all that is left) of an allowed decision of this bucket.
        Returns the tokens that came back: 0 when the bucket has been full or forgiven since (they
        were back already), the key or epoch is gone, it is shadowed, or this process was forked
        since: its parent gives them back. Raises InvalidCost for more than was taken."""
        cdef Decision taken = one_decision(decision)
        cdef int64_t left = taken.cost - taken.given_back
        if taken._bucket is not self and not (self.others and taken._bucket in self.others):
            raise InvalidCost(
                f"the decision is of bucket {taken.owner().spec.name!r}, not of this "
                f"{self.spec.name!r}, which may be that of another limiter: refund it there"
            )
        if not taken.allowed:
            raise InvalidCost("a denied decision took nothing: refund allowed ones only")
        if tokens is not None:
            left = whole_tokens(tokens, 1, MAX_COST, "refund")
        return (<BucketCore>taken._bucket).put_back(taken, left)

    cdef int64_t put_back(self, Decision decision, int64_t n) except -1:
        """Gives back `n` tokens of an allowed decision of this bucket. Returns the tokens that came
        back."""
        cdef uint64_t lo = 0, hi = 0
        cdef int64_t left = decision.cost - decision.given_back
        if n > left:
            raise InvalidCost(
                f"refund of {n} tokens, but only {left} of the {decision.cost} taken are left "
                "to give back"
            )
        decision.given_back += n
        if decision.shadowed or decision.forks != _forks or not n:
            return 0
        self.locate(decision._key, &lo, &hi)
        n = self.give_back(lo, hi, decision.generation, decision.origin, decision.full_count, n)
        if n:
            self.returned(decision._key, n)
        return n

    def reserve(self, object key, object estimate, object ttl=60.0, object floor=0):
        """Sets `estimate` tokens aside while a `with` or `async with` block learns the true cost.

        Entering raises `ReservationDenied` when they are not there, and as `take`. `ttl`: seconds
        (above 0) after which the estimate goes back; at most a second late while the limiter is
        open, else when a reservation of this bucket is next used. `floor`: as of `take`, for the
        estimate. See `Reservation`."""
        if self.choose is not None and (other := self.choose(key)) is not self:
            return other.reserve(key, estimate, ttl, floor)
        whole_tokens(estimate, 1, MAX_COST, "estimate")
        return new_reservation(self.reservations, key, estimate, ttl_ns(ttl), floor)

    cdef int64_t give_back(self, uint64_t lo, uint64_t hi, uint32_t generation, uint16_t origin,
                           uint32_t full_count, int64_t n):
        """Gives back `n` tokens of a take, by what its outcome says of the entry. Returns the
        tokens that came back."""
        cdef int64_t now = clock_ns(self.t)
        cdef uint32_t e, slot
        cdef definition_t *d
        self.memory.enter()
        e = table_find(self.t, lo, hi)
        d = self.definition(hi, &slot)
        if e == <uint32_t>NONE or not still_charged(self.t, e, generation, origin, slot):
            n = 0
        else:
            # if the bucket was full meanwhile, `advance` in there finds that out
            n = refund_if_charged(self.t, d, e, full_count, n, now)
        self.memory.leave()
        self.t.counts[slot].refunded += n
        return n

    def reset(self, object key):
        """Gives `key` back what it lacks, but no more than was taken here and not given back: peers
        learn of it as of any refund. Returns the tokens that came back. What only others have taken
        is theirs to give back."""
        if self.choose is not None and (other := self.choose(key)) is not self:
            return other.reset(key)
        return reset_key(self, key)

    def reset_all(self):
        """`reset` of every key of this bucket that is held; an override is a bucket of its own.
        Returns the hashes (low, high) of the keys to which tokens came back. Looks at every key of
        the table; other threads go on between slices of them."""
        return reset_keys(self)

    def reset_some(self, int64_t place):
        """A part of `reset_all`, from `place` on, 0 at first: the hashes, and the next place or -1
        at the end."""
        return reset_places(self, place)

    def settle(self, object key, object tokens):
        """Charges `tokens` (1 to 2^62) to `key` whatever its level: the true cost of something
        already served. May go into debt, down to `max_debt` below empty; what would go beyond is
        forgiven. Returns the tokens charged."""
        if self.choose is not None and (other := self.choose(key)) is not self:
            return other.settle(key, tokens)
        cdef uint64_t lo = 0, hi = 0
        cdef int64_t n = whole_tokens(tokens, 1, MAX_SETTLE, "settle")
        cdef int64_t now = clock_ns(self.t), charged
        cdef uint32_t e, gone, slot
        cdef definition_t *d
        cdef int got
        check_open(self.table)
        self.locate(key, &lo, &hi)
        self.memory.enter()
        self.follow()
        d = self.definition(hi, &slot)
        charged = 0
        got = entry_for_take(self.t, d, slot, lo, hi, 1, now, &e, &gone)
        if got == ALLOWED:
            charged = settle(self.t, d, e, n, now)
        self.memory.leave()
        forget_name(self.table.names, gone)
        if got != ALLOWED:
            return 0
        self.note_name(e, key)
        self.t.counts[slot].granted += charged
        self.wake()
        if charged:
            self.charged(key, charged)
        return charged

    def take_burst(self, object key, object calls, object cost=1):
        """Makes `calls` takes (0 to 1,000,000) of `cost` at one moment, and returns how many were
        allowed. All are decided before any other call. Raises as `take`, and InvalidCost for
        another number of calls."""
        if self.choose is not None and (other := self.choose(key)) is not self:
            return other.take_burst(key, calls, cost)
        cdef uint64_t lo = 0, hi = 0
        cdef outcome_t o
        cdef int64_t most = whole_number(calls, 0, MAX_BURST, "calls", "")
        cdef int64_t n = self.cost_of(cost), now = clock_ns(self.t), i, allowed = 0
        cdef uint32_t slot
        check_open(self.table)
        self.locate(key, &lo, &hi)
        slot = self.fitting(hi, n)
        for i in range(most):
            if self.decide(key, lo, hi, &slot, n, 0, now, &o) or self.t.definitions[slot].shadow:
                allowed += 1
            self.count(slot, o.allowed, n)
        return allowed

    def take_as(self, object key, object cost, mode):
        """A take whose Decision names `mode`; with None the mode of the bucket."""
        # a strong bucket has no take of its own
        return self.in_mode(BucketCore.take(self, key, cost), mode)

    cdef Decision in_mode(self, Decision decision, mode):
        """Makes a decision, which was counted, one in `mode`; None leaves its mode."""
        if mode is not None:
            decision.mode = mode
            self.count_mode(decision.slot, decision.allowed and not decision.shadowed, mode)
        return decision

    def take_many(self, keys, costs=1):
        """Takes from each key, in order, at one moment. `costs` is one cost, or a sequence of as
        many as there are keys. All arguments are checked before anything is taken. Returns
        `Decisions` of arrays."""
        return take_keys(self, keys, costs) if self.choose is None else self.take_apart(keys, costs)

    def take_apart(self, keys, costs):
        """`take_many` where some keys may have other limits. Buckets for which that is possible
        have a method of their own in place of this one."""
        return take_keys(self, keys, costs)

    def take_here(self, keys, costs):
        """`take_many` where this bucket decides on all keys."""
        return take_keys(self, keys, costs)
