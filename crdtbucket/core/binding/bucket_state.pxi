# What can be read of a bucket: what it holds of a key, and what it has counted.


cdef class _BucketState(_Replica):
    """The part of a bucket that is read: its keys' columns and debts, and its counters."""

    def columns(self, object key):
        """What is counted for the key: {(node id, epoch): (generation, taken, refunded)}."""
        cdef uint64_t lo = 0, hi = 0
        cdef column_t c
        cdef uint32_t e, origin
        self.locate(key, &lo, &hi)
        e = table_find(self.t, lo, hi)
        out = {}
        if e == <uint32_t>NONE:
            return out
        cdef hot_t *hot = &self.t.hot[e]
        refunded = own_refunded(self.t, e)
        taken = entry_net(self.t, e) + refunded
        if taken:
            out[(self.t.origins[hot.origin].node, self.t.origins[hot.origin].epoch)] = (hot.generation, taken, refunded)
        memset(&c, 0, sizeof(c))
        while column_next(self.t, e, &c):
            origin = column_origin(&c)
            if origin == hot.origin or not column_taken(&c):
                continue
            out[(self.t.origins[origin].node, self.t.origins[origin].epoch)] = (
                column_generation(&c), column_taken(&c), column_refunded(&c))
        return out

    def debt(self, object key):
        """The signed debt of a key in ns, as held (not advanced); None when it has no entry. For tests and diagnosis."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        cdef uint32_t e = table_find(self.t, lo, hi)
        return None if e == <uint32_t>NONE else signed_debt_ns(self.t, e, clock_ns(self.t))

    def credit(self, object key):
        """Tokens that are kept free now for what silent peers may be taking of the key."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        cdef uint32_t e = table_find(self.t, lo, hi)
        return 0.0 if e == <uint32_t>NONE else far_tokens(self.t, e, clock_ns(self.t))

    def hash(self, object key):
        """The keyed hash of a key in this bucket, (low, high) 64 bits each."""
        cdef uint64_t lo = 0, hi = 0
        self.locate(key, &lo, &hi)
        return lo, hi

    @property
    def max_debt(self):
        """Tokens below empty that the level may reach: the definition's, or more where a mesh needs the room."""
        return self.d.max_debt

    @property
    def candidate_max_debt(self):
        """The same of the candidate, 0 without one."""
        cdef int64_t most = 0
        self.memory.enter()
        self.follow()                                       # another process may have replaced either, or ended it
        if self.candidate is not None and self.d.candidate != <uint32_t>NONE:
            most = self.t.definitions[self.d.candidate].max_debt
        self.memory.leave()
        return most

    @property
    def name_hash(self):
        """64 bits that name the bucket in the table and on the wire."""
        return self.salt

    def counters(self):
        """Since the bucket was made: decisions, also by mode, and tokens granted, refunded, forgiven. `guaranteed`: how many
        decisions admitted what only the guaranteed share leaves to this node. `over_admission`: the most
        tokens by which the debt of a key passed the capacity, of the last one to two minutes. A candidate's are in the sums."""
        cdef definition_t *d
        cdef definition_t *other
        cdef counts_t c
        cdef int i
        self.memory.enter()
        self.follow()
        counts_total(self.t, self.slot, &c)
        self.memory.leave()
        d = other = self.d
        if d.candidate != <uint32_t>NONE:
            other = &self.t.definitions[d.candidate]
        modes = {str(mode): dict(zip(("denied", "allowed", "shadowed"), c.decided[i]))
                 for i, mode in enumerate((Mode.STRONG, Mode.FALLBACK))}
        sums = {"allowed": c.allowed, "denied": c.denied, "shadowed": c.shadowed}
        modes[str(Mode.EVENTUAL)] = {name: total - sum(one[name] for one in modes.values()) for name, total in sums.items()}
        both = 0 if other is d else 1
        return {**sums, "modes": modes, "guaranteed": c.guaranteed, "granted": c.granted, "refunded": c.refunded,
                "forgiven": d.forgiven + both * other.forgiven, "refused_full": d.refused_full + both * other.refused_full,
                "keys": d.entries + both * other.entries,
                "over_admission": max(over_admitted_tokens(d, clock_ns(self.t)), over_admitted_tokens(other, clock_ns(self.t)))}

    def decided(self):
        """How many calls each definition has admitted and denied: (admitted, denied) of the bucket's own and of its
        candidate, of which None are known where there is none."""
        cdef counts_t all, c
        self.memory.enter()
        self.follow()
        counts_total(self.t, self.slot, &all)
        cdef uint32_t other = self.d.candidate
        if other != <uint32_t>NONE:
            c = self.t.definitions[other].past
            counts_gather(self.t, other, &c)
        self.memory.leave()
        total = all.allowed + all.shadowed, all.denied
        if other == <uint32_t>NONE:
            return total, None
        its = c.allowed + c.shadowed, c.denied
        return (total[0] - its[0], total[1] - its[1]), its
