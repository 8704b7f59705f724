# Estimates of several buckets, set aside together.


cdef class AllReservation:
    """Estimates of several buckets that are set aside together; made by `Limiter.reserve_all`.

    Entering takes all of them, or raises `ReservationDenied` with the decision that binds. Leaving gives back each one that was not
    committed.

    reservations: one of each that was asked for, in order, once entered; what names the same key shares one.
    """

    cdef object buckets
    cdef object find
    cdef object acquire
    cdef tuple wanted
    cdef list sizes
    cdef int64_t ttl_ns
    cdef bint entered
    cdef readonly tuple reservations

    def __init__(self, buckets, find, acquire, wanted, ttl):
        """`buckets()` and `find`: as in `asked`; `acquire`: the AllDecision of what was found, as `take_all`. Nothing is taken
        yet."""
        self.buckets, self.find, self.acquire = buckets, find, acquire
        self.wanted = tuple(wanted)
        self.ttl_ns = ttl_ns(ttl)
        self.reservations = ()

    def __enter__(self):
        self.hold(take_all(self.begin()))
        return self

    async def __aenter__(self):
        self.hold(await self.acquire(self.begin()))
        return self

    def __exit__(self, kind, error, trace):
        self.leave()

    async def __aexit__(self, kind, error, trace):
        self.leave()

    def commit(self, *actual):
        """Charges the true costs, one of each that was asked for, as `Reservation.commit` does.

        Raises `InvalidCost` when they are more or fewer, before anything is charged."""
        cdef Reservation one
        cdef Py_ssize_t place = 0
        cdef int64_t tokens
        if not self.reservations:
            raise ReservationError("commit before the reservation was entered or granted")
        if len(actual) != len(self.sizes):
            raise InvalidCost(f"{len(actual)} costs for {len(self.sizes)} reservations")
        cdef dict costs = {}
        cdef Py_ssize_t item, last = 0
        for item in range(len(actual)):
            tokens = checked_actual(actual[item])
            last += <Py_ssize_t>self.sizes[item]
            while place < last:
                one = <Reservation>self.reservations[place]
                costs[one] = costs.get(one, 0) + tokens
                place += 1
        for one, each in costs.items():
            one.book.commit(one, checked_actual(each))

    cdef list begin(self):
        """What is asked for, once."""
        if self.entered:
            raise ReservationError("a reservation is entered once: make another one")
        self.entered = True
        parts, self.sizes = asked(self.wanted, self.buckets(), self.find)
        return parts

    cdef int hold(self, AllDecision answer) except -1:
        cdef Decision decision
        cdef Reservation one
        if not answer.allowed:
            raise ReservationDenied(
                f"{answer.binding.cost} tokens of {answer.binding.bucket.spec.name!r} cannot be set aside now; "
                f"retry after {answer.retry_after:.3f} s", answer.binding)
        cdef dict made = {}
        for decision in answer.decisions:
            if decision not in made:
                one = new_reservation((<BucketCore>decision.owner()).reservations, decision._key, decision.cost, self.ttl_ns)
                one.book.hold(one, decision)
                made[decision] = one
        self.reservations = tuple([made[decision] for decision in answer.decisions])
        return 0

    cdef int leave(self) except -1:
        cdef Reservation one
        for one in self.reservations:
            one.book.leave(one)
        return 0
