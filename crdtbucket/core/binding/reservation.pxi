# Tokens set aside for work whose true cost is known only when it is done.

cdef object _NEW = ReservationState.NEW
cdef object _HELD = ReservationState.HELD
cdef object _RETURNED = ReservationState.RETURNED
cdef object _COMMITTED = ReservationState.COMMITTED
cdef enum: EXPIRED_AT_ONCE = 16_384  # some 8 ms


cdef int64_t checked_actual(object actual) except -1:
    return whole_tokens(actual, 0, MAX_SETTLE, "actual")


cdef Reservation new_reservation(
    ReservationBook book, object key, object estimate, int64_t ttl, object floor
):
    cdef Reservation one = Reservation.__new__(Reservation)
    if book is None:
        raise ReservationError(
            "this bucket keeps no reservations: set `reservations` to a ReservationBook of it"
        )
    one.book, one.key, one.estimate, one.ttl_ns, one.state = book, key, estimate, ttl, _NEW
    one.floor = floor
    return one


@cython.final
@cython.freelist(64)
cdef class Reservation:
    """An estimate that is taken while a `with` (or `async with`) block runs.

    Entering takes the estimate, or raises `ReservationDenied`. `commit` replaces the estimate by
    the true cost. Leaving without it, by an exception too, gives the estimate back; so does the end
    of `ttl`. Safe to use from several threads. It belongs to the process that entered it: in one
    that is forked meanwhile, leaving gives nothing back, and `commit` raises `ReservationError`.

    state: a ReservationState; decision: the one on the estimate, once entered; deadline_ns: local
    time at which the estimate goes back, once entered; actual: the cost that was committed, in
    tokens, or None.
    """

    cdef ReservationBook book
    cdef readonly object key, estimate, state, actual
    cdef object floor
    cdef readonly Decision decision
    cdef readonly int64_t ttl_ns, deadline_ns
    cdef Py_ssize_t first
    """Its first place among the reservations of an `AllReservation`."""
    cdef Py_ssize_t place
    """Its place in `ReservationBook.due`, while it is held."""

    def __init__(self):
        self.owner()

    def __enter__(self):
        self.begin()
        try:
            self.book.hold(self, self.book.bucket.take(self.key, self.estimate, self.floor))
        except AcquireRequired as error:
            raise AcquireRequired(
                error.bucket, "with", "async with bucket.reserve(key, estimate)"
            ) from None
        return self

    async def __aenter__(self):
        self.begin()
        self.book.hold(self, await self.book.bucket.acquire(self.key, self.estimate, self.floor))
        return self

    def __exit__(self, kind, error, trace):
        self.owner().leave(self)

    async def __aexit__(self, kind, error, trace):
        self.owner().leave(self)

    def commit(self, actual):
        """Charges `actual` tokens (0 to 2^62) instead of the estimate; the bucket may go into debt.

        The same number again changes nothing, another raises `ReservationError`. After the ttl or
        the block the estimate is back already: then `actual` is charged in full, counted as a late
        commit and logged, so that no use is lost."""
        self.owner().commit(self, checked_actual(actual))

    cdef ReservationBook owner(self):
        """The book of this reservation. Raises TypeError for one that no bucket has made."""
        if self.book is None:
            raise TypeError("reservations come from a bucket: bucket.reserve(key, estimate)")
        return self.book

    cdef int begin(self) except -1:
        if self.state is not _NEW or self.decision is not None:
            raise ReservationError("a reservation is entered once: make another with reserve()")
        return 0

    def __repr__(self):
        return (f"Reservation(key={self.key!r}, estimate={self.estimate}, state={self.state.name}, "
                f"actual={self.actual})")


cdef class ReservationBook:
    """All reservations of one bucket, and how they end.

    No timer runs: the book looks for reservations that are past their time whenever one of the
    bucket is used, and whenever somebody calls `expire`. A state is changed before the core is
    called, and under the GIL: of two threads only one ends a reservation.

    reserved: tokens of the reservations that are held."""

    cdef readonly BucketCore bucket
    cdef object tokens
    cdef uint16_t forks
    """How many forks there had been when `due` was begun."""
    cdef readonly int64_t expired, late_commits
    cdef list due
    """The reservations that are held, as a heap: each is due no later than those at 2 * place + 1
    and 2 * place + 2."""

    def __cinit__(self, BucketCore bucket not None):
        self.bucket = bucket
        self.forks, self.due, self.tokens = _forks, [], 0

    @property
    def held(self):
        self.leave_to_the_parent()
        return len(self.due)

    @property
    def reserved(self):
        self.leave_to_the_parent()
        return self.tokens

    def late(self, Reservation one, actual):
        """Is called when a reservation was committed after its estimate had gone back; for
        subclasses."""

    def expire(self):
        """Gives back the reservations that are past their time, of very many only a part. Returns
        the local ns at which the next is due, None when there is none."""
        self.give_back_due(clock_ns(self.bucket.t))
        return (<Reservation>self.due[0]).deadline_ns if self.due else None

    cdef int hold(self, Reservation one, Decision decision) except -1:
        """Begins to hold a reservation, whose estimate was decided on. Raises ReservationDenied."""
        if decision is None:
            raise TypeError("a take returned None in place of a Decision")
        one.decision = decision
        if not decision.allowed:
            raise ReservationDenied(
                f"an estimate of {one.estimate} of {decision.bucket.spec.name!r} cannot be set "
                f"aside now; retry after {decision.retry_after:.3f} s",
                decision,
            )
        cdef int64_t now = clock_ns(self.bucket.t)
        self.give_back_due(now)
        one.state = _HELD
        one.deadline_ns = now + one.ttl_ns
        self.tokens += decision.cost
        self.due.append(one)
        self.rise(len(self.due) - 1, one)
        return 0

    cdef int leave(self, Reservation one) except -1:
        """Is called when the block ends: an estimate that was not committed goes back."""
        if one.state is not _COMMITTED:
            self.give_back_due(clock_ns(self.bucket.t), one)
            if one.state is _HELD and one.decision.forks == _forks:
                self.give_back(one)
        return 0

    cdef int commit(self, Reservation one, int64_t actual) except -1:
        """Charges the true cost."""
        cdef int64_t taken = 0
        self.give_back_due(clock_ns(self.bucket.t), one)
        if one.state is _NEW:
            raise ReservationError(
                "commit before the reservation was entered or granted: "
                "commit within its `with` block"
            )
        if one.state is _COMMITTED:
            if one.actual != actual:
                raise ReservationError(
                    f"committed with {one.actual} tokens already, not with {actual}: "
                    "commit the total once"
                )
            return 0
        if one.decision.forks != _forks:
            raise ReservationError(
                "entered before this process was forked: commit it in the process that entered it"
            )
        check_open(self.bucket.table)                   # before the state: it is not done
        late = one.state is _RETURNED
        if not late:
            taken = one.decision.cost
            self.remove(one)
        else:
            self.late_commits += 1
        one.state, one.actual = _COMMITTED, actual
        if one.decision.shadowed:
            pass                                        # the limit would have turned the work away
        elif actual > taken:
            # the key may have another limit than when it was entered
            (self.bucket.named or self.bucket).settle(one.key, actual - taken)
        elif actual < taken:
            (<BucketCore>one.decision._bucket).put_back(one.decision, taken - actual)
        if late:
            self.late(one, actual)
        return 0

    cdef int leave_to_the_parent(self) except -1:
        """In the child of a fork, forgets what is held: it is the parent's."""
        if self.forks != _forks:
            self.forks, self.due, self.tokens = _forks, [], 0
        return 0

    cdef int give_back_due(self, int64_t now, Reservation asked=None) except -1:
        """Gives back the reservations that are past their time at `now`, and `asked` first if it
        is. Where very many are due at once, the others wait for the next call."""
        cdef Reservation one
        cdef int most = EXPIRED_AT_ONCE
        self.leave_to_the_parent()
        if (
            asked is not None
            and asked.state is _HELD
            and asked.deadline_ns <= now
            and asked.decision.forks == _forks
        ):
            self.expired += 1
            self.give_back(asked)
        while self.due and most:
            one = <Reservation>self.due[0]
            if one.deadline_ns > now:
                break
            most -= 1
            self.expired += 1
            self.give_back(one)
        return 0

    cdef int give_back(self, Reservation one) except -1:
        one.state = _RETURNED
        self.remove(one)
        (<BucketCore>one.decision._bucket).put_back(
            one.decision, one.decision.cost - one.decision.given_back
        )
        return 0

    cdef int remove(self, Reservation one) except -1:
        """Takes a reservation that is held out of the heap."""
        cdef Reservation last = <Reservation>self.due.pop()
        self.tokens -= one.decision.cost
        if last is not one:
            self.sink(one.place, last)
            self.rise(last.place, last)
        return 0

    cdef void put(self, Py_ssize_t place, Reservation one):
        self.due[place] = one
        one.place = place

    cdef void rise(self, Py_ssize_t place, Reservation one):
        """Puts a reservation into the free place, or further up, above those that are due later."""
        cdef Reservation above
        while place:
            above = <Reservation>self.due[(place - 1) >> 1]
            if above.deadline_ns <= one.deadline_ns:
                break
            self.put(place, above)
            place = (place - 1) >> 1
        self.put(place, one)

    cdef void sink(self, Py_ssize_t place, Reservation one):
        """Puts a reservation into the free place, or further down, below those that are due
        earlier."""
        cdef Reservation below
        cdef Py_ssize_t other
        while True:
            other = 2 * place + 1
            if other >= len(self.due):
                break
            below = <Reservation>self.due[other]
            if (
                other + 1 < len(self.due)
                and (<Reservation>self.due[other + 1]).deadline_ns < below.deadline_ns
            ):
                other += 1
                below = <Reservation>self.due[other]
            if one.deadline_ns <= below.deadline_ns:
                break
            self.put(place, below)
            place = other
        self.put(place, one)
