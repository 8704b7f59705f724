# Estimates of several buckets that are set aside together.


cdef class AllReservation:
    """Estimates of several buckets that are set aside together; made by `Limiter.reserve_all`.

    Entering takes all of them, or raises `ReservationDenied` with the decision that binds. Leaving
    gives back each one that was not committed.

    decision: the AllDecision on the estimates, once entered. reservations: one of each that was
    asked for, in order, once entered; what names the same key shares one.
    """

    cdef MultiCore multi
    cdef object acquire
    cdef tuple wanted
    cdef list sizes
    cdef int64_t ttl_ns
    cdef bint entered
    cdef readonly AllDecision decision
    cdef readonly tuple reservations

    def __cinit__(self, MultiCore multi not None, acquire, wanted, ttl):
        """`acquire`: an async function that takes what `multi._asked` has found, in whatever modes,
        and returns its AllDecision. Nothing is taken yet."""
        self.multi, self.acquire = multi, acquire
        self.wanted = all_of(wanted)
        self.ttl_ns = ttl_ns(ttl)
        self.reservations = ()

    def __enter__(self):
        self.begin()
        self.sizes = []
        try:
            self.hold(self.multi.take_named(self.wanted, self.sizes))
        except AcquireRequired as error:
            raise AcquireRequired(
                error.bucket, "with", "async with limiter.reserve_all([...])"
            ) from None
        return self

    async def __aenter__(self):
        self.begin()
        parts, self.sizes = self.multi._asked(self.wanted)
        self.hold(await self.acquire(parts))
        return self

    def __exit__(self, kind, error, trace):
        self.leave()

    async def __aexit__(self, kind, error, trace):
        self.leave()

    def commit(self, *actual):
        """Charges the true costs, one of each that was asked for, as `Reservation.commit` does.

        Raises `InvalidCost` when they are more or fewer, before anything is charged."""
        cdef Reservation one
        cdef Py_ssize_t place = 0, last = 0, item
        cdef int64_t tokens
        if not self.reservations:
            raise ReservationError(
                "commit before the reservation was entered or granted: "
                "commit within its `with` block"
            )
        if len(actual) != len(self.wanted):
            raise InvalidCost(
                f"{len(actual)} costs for {len(self.wanted)} reservations: "
                "commit one cost for each that was asked for, in the same order"
            )
        cdef list totals = [0] * len(self.reservations)
        for item in range(len(actual)):
            tokens = checked_actual(actual[item])
            last += <Py_ssize_t>self.sizes[item] if self.sizes else 1
            while place < last:
                one = <Reservation>self.reservations[place]
                totals[one.first] = checked_actual(totals[one.first] + tokens)
                place += 1
        for place in range(len(totals)):
            one = <Reservation>self.reservations[place]
            if one.first == place:
                one.book.commit(one, totals[place])

    cdef int begin(self) except -1:
        if self.entered:
            raise ReservationError("a reservation is entered once: make another with reserve_all()")
        self.entered = True
        return 0

    cdef int hold(self, AllDecision answer) except -1:
        cdef Decision decision
        cdef Reservation one
        if answer is None:
            raise TypeError("a take of all returned None in place of an AllDecision")
        self.decision = answer
        if not answer.allowed:
            raise ReservationDenied(
                f"an estimate of {answer.binding.cost} of {answer.binding.bucket.spec.name!r} "
                f"cannot be set aside now; retry after {answer.retry_after:.3f} s",
                answer.binding,
            )
        cdef dict made = {}
        cdef list each = []
        for decision in answer.decisions:
            one = made.get(decision)
            if one is None:
                one = new_reservation(
                    (<BucketCore>decision.owner()).reservations,
                    decision._key,
                    decision.cost,
                    self.ttl_ns,
                    _ZERO,
                )
                one.first = len(each)
                one.book.hold(one, decision)
                made[decision] = one
            each.append(one)
        self.reservations = tuple(each)
        return 0

    cdef int leave(self) except -1:
        cdef Reservation one
        for one in self.reservations:
            one.book.leave(one)
        return 0
