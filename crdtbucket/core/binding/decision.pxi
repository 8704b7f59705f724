# The answer to one call.

cdef uint16_t _forks = 0
"""How many forks lie between the first process and this one."""


def _forked():
    """Is called in the child of a fork: what was decided and what is held belongs to its parent."""
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Decision:
    """The answer to one call: truthy when it is allowed.

    allowed: whether the call may go on; limit: the capacity in tokens; remaining: whole tokens that
    are left; retry_after: seconds until the same cost would pass if nothing else happened, 0 when
    it passed; reset_after: seconds until the bucket is full; mode: how it was decided; shadowed:
    the limit denied the call and took nothing, but the bucket is a shadow, so it is allowed.

    It can be pickled. A decision out of a pickle has all of these, but no bucket: nothing can be
    refunded with it."""

    cdef readonly bint allowed, shadowed
    cdef readonly int64_t cost
    cdef _Decider _bucket
    cdef object _key
    """The key. Of a decision out of a pickle: (name of the bucket, key, limit, remaining)."""
    cdef int64_t debt_ns, rest, wait_ns, given_back
    cdef uint32_t full_count, generation, slot
    cdef uint16_t origin, forks
    cdef readonly object mode

    def __init__(self):
        raise TypeError("decisions come from a bucket: bucket.take(key)")

    cdef _Decider owner(self):
        """The bucket that decided. Raises TypeError when the decision came out of a pickle."""
        if self._bucket is None:
            self.loaded()
            raise TypeError(
                "this decision came out of a pickle, so its bucket is not known: "
                "keep the decision of the take"
            )
        return self._bucket

    cdef tuple loaded(self):
        """(name of the bucket, key, limit, remaining) of a decision out of a pickle. Raises
        TypeError for an object that `__new__` alone has made."""
        if self._key is None:
            raise TypeError("decisions come from a bucket, and this one does not")
        return self._key

    def __bool__(self):
        return self.allowed

    @property
    def key(self):
        return self._key if self._bucket is not None else self.loaded()[1]

    @property
    def bucket(self):
        """The bucket that decided. Raises TypeError when the decision came out of a pickle."""
        return self.owner()

    @property
    def limit(self):
        if self._bucket is None:
            return self.loaded()[2]
        return self._bucket.t.definitions[self.slot].capacity

    @property
    def remaining(self):
        if self._bucket is None:
            return self.loaded()[3]
        cdef int64_t left = tokens_left(
            &self._bucket.t.definitions[self.slot], self.debt_ns, self.rest
        )
        return left if left > 0 else 0

    @property
    def retry_after(self):
        return self.wait_ns / 1e9

    @property
    def reset_after(self):
        return self.full_after() / 1e9

    cdef int64_t full_after(self):
        """The ns from the decision until the bucket is full; of a calendar bucket those from now
        until its period ends."""
        cdef int64_t until = (
            0 if self._bucket is None else self._bucket.t.definitions[self.slot].still_until
        )
        if until and self.debt_ns:
            return max(until - clock_ns(self._bucket.t), 0)
        return self.debt_ns

    @property
    def retry_after_ns(self):
        return self.wait_ns

    @property
    def debt(self):
        """The confirmed debt in ns: the time until the bucket is full."""
        return self.debt_ns + (self.rest > 0)

    @property
    def next_token(self):
        """Whole seconds, rounded up, until one token more is left; 0 when the bucket is full."""
        if self.owner().t.definitions[self.slot].still_until:
            return (self.full_after() + 999_999_999) // 1_000_000_000
        return seconds_to_next(
            &self.owner().t.definitions[self.slot], self.debt_ns, self.rest, self.remaining
        )

    @property
    def spec(self):
        """The definition that decides on the key now: that of the bucket, of an override or of a
        candidate."""
        return (<BucketCore>self.owner()).spec_of(self._key)

    cdef str bucket_name(self):
        return self.loaded()[0] if self._bucket is None else self._bucket.spec.name

    def as_dict(self):
        """The decision in plain values, as for `json.dumps`: `bucket` (its name), `key` (bytes as
        text, those that are no UTF-8 with backslashes), `allowed`, `shadowed`, `mode`, tokens as
        `cost`, `limit` and `remaining`, seconds as `retry_after` and `reset_after`."""
        key = self.plain_key()
        return {
            "bucket": self.bucket_name(),
            "key": key.decode(errors="backslashreplace") if isinstance(key, bytes) else key,
            "allowed": self.allowed,
            "shadowed": self.shadowed,
            "mode": str(self.mode),
            "cost": self.cost,
            "limit": self.limit,
            "remaining": self.remaining,
            "retry_after": self.retry_after,
            "reset_after": self.reset_after,
        }

    cdef object plain_key(self):
        """The key without the class that its caller gave it, such as an enumeration of strings."""
        return str.__str__(self.key) if isinstance(self.key, str) else bytes(self.key)

    def __reduce__(self):
        return _loaded_decision, (
            self.bucket_name(),
            self.plain_key(),
            self.allowed,
            self.shadowed,
            str(self.mode),
            self.cost,
            self.limit,
            self.remaining,
            self.wait_ns,
            self.full_after(),
            self.rest > 0,
        )

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __repr__(self):
        return (
            f"Decision(allowed={self.allowed}, limit={self.limit}, remaining={self.remaining}, "
            f"retry_after={self.retry_after:.6g}, reset_after={self.reset_after:.6g}, "
            f"mode={str(self.mode)!r}{', shadowed=True' if self.shadowed else ''})"
        )


cdef inline Decision decision_of(
    _Decider bucket, object key, int64_t n, uint32_t slot, outcome_t *o
):
    """The Decision that says what the outcome `o` of a call of `n` under the definition in `slot`
    was."""
    cdef Decision decision = Decision.__new__(Decision)
    decision._bucket = bucket
    decision._key = key
    decision.mode = bucket.mode
    decision.shadowed = not o.allowed and bucket.t.definitions[slot].shadow
    decision.allowed = o.allowed or decision.shadowed
    decision.cost = n
    decision.debt_ns = o.debt_ns
    decision.rest = o.rest
    decision.wait_ns = 0 if decision.allowed else o.wait_ns
    decision.given_back = 0
    decision.full_count = o.full_count
    decision.generation = o.generation
    decision.origin = o.origin
    decision.forks = _forks
    decision.slot = slot
    return decision


def _loaded_decision(*state):
    """Makes a decision out of a pickle. Raises ValueError for a state that no decision has."""
    if len(state) != 11:
        raise ValueError(f"a pickled decision has 11 values, not {len(state)}")
    name, key, allowed, shadowed, mode, cost, limit, remaining, wait, debt, rest = state
    numbers = cost, limit, remaining, wait, debt
    if (
        type(name) is not str
        or type(key) not in (str, bytes)
        or type(mode) is not str
        or not all(type(flag) is bool for flag in (allowed, shadowed, rest))
        or not all(type(n) is int for n in numbers)
        or not (1 <= cost <= MAX_COST and 0 <= remaining <= limit <= INT64_MAX and 1 <= limit)
        or not (0 <= wait <= INT64_MAX and 0 <= debt < INT64_MAX)
        or (allowed and wait)
        or (shadowed and not allowed)
    ):
        raise ValueError(f"no decision has the state {state!r}")
    cdef Decision made = Decision.__new__(Decision)
    made._key = (name, key, limit, remaining)
    made.allowed, made.shadowed, made.mode, made.cost = allowed, shadowed, Mode(mode), cost
    made.wait_ns, made.debt_ns, made.rest, made.given_back = wait, debt, rest, 0
    return made


def show_debt(Decision decision not None, int64_t debt, /):
    """The decision with a debt of at least `debt` ns: a smaller limit, which binds the call as
    well, owes so much. What a refund gives back stays as it is."""
    if debt > decision.debt_ns:
        decision.debt_ns, decision.rest = debt, 0
    return decision


cdef Decision one_decision(object decision):
    """The decision, if it is one on one bucket. Raises InvalidCost for anything else."""
    if type(decision) is not Decision:
        raise InvalidCost(
            f"decision is {decision!r}: pass what take returned; refund_all is for take_all"
        )
    return decision
