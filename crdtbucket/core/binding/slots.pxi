# The slots of a bucket that this process holds.


cdef class SlotBook:
    """The slots of one bucket that this process holds.

    expired: how many were not released here before their ttl was over."""

    cdef dict slots
    cdef readonly int64_t expired
    cdef uint16_t forks
    """How many forks there had been when `slots` was begun."""

    def __init__(self):
        self.slots, self.forks = {}, _forks

    def held(self, int64_t now):
        """How many slots are held at the local ns `now`. O(slots that are held)."""
        cdef SlotCore one
        self.leave_to_the_parent()
        for one in list(self.slots):                    # ends are in no order: each has its ttl
            self.forget_if_over(one, now)
        return len(self.slots)

    cdef int add(self, SlotCore slot, int64_t now) except -1:
        """Notes that a slot was acquired."""
        self.forget_expired(now)
        self.slots[slot] = None
        return 0

    cdef bint let_go(self, SlotCore slot, int64_t now) except -1:
        """Ends a slot that is held. False for one that has ended already, by a call or by its
        ttl."""
        self.leave_to_the_parent()
        if self.slots.pop(slot, slot) is not None:
            return False
        if slot.deadline_ns > now:
            return True
        self.expired += 1
        return False

    cdef int forget_expired(self, int64_t now) except -1:
        """Forgets slots whose ttl is over, since time has freed them: the ones that were acquired
        first, up to the first that is still held. `held` forgets the others."""
        self.leave_to_the_parent()
        while self.slots and self.forget_if_over(next(iter(self.slots)), now):
            pass
        return 0

    cdef bint forget_if_over(self, SlotCore one, int64_t now) except -1:
        """Forgets a slot if its ttl is over; returns whether it is."""
        if one.deadline_ns > now:
            return False
        del self.slots[one]
        self.expired += 1
        return True

    cdef int leave_to_the_parent(self) except -1:
        """In the child of a fork, forgets what is held: it is the parent's."""
        if self.forks != _forks:
            self.forks, self.slots = _forks, {}
        return 0


cdef class SlotCore:
    """A slot of a key, from when it is acquired until it is released or its ttl is over.

    decision: the decision on it, once it was entered; deadline_ns: the local ns at which it is free
    at the latest, once it is held."""

    cdef readonly BucketCore bucket
    cdef readonly object key, timeout
    cdef readonly Decision decision
    cdef readonly int64_t ttl_ns, deadline_ns
    cdef SlotSearch search
    cdef SlotBook book
    cdef int64_t interval_ns

    def __init__(self, BucketCore bucket not None, key, int64_t ttl_ns, timeout):
        """`bucket` has a `search` for slots, and a `book` of those that are held. `timeout`: that
        of `bucket.slot`."""
        self.bucket, self.key, self.ttl_ns, self.timeout = bucket, key, ttl_ns, timeout
        self.search, self.book, self.interval_ns = (
            bucket.search,
            bucket.book,
            bucket.spec.interval_ns,
        )

    def check_new(self):
        """Raises `CrdtbucketError` for a slot that was entered before."""
        if self.decision is not None:
            raise CrdtbucketError("a slot is entered once: make another with bucket.slot(key)")

    def hold(self, Decision decision not None, deadline_ns=None):
        """Begins to hold the slot by an allowed decision, and returns itself. `deadline_ns`: the
        local ns at which it ends, if that is not one ttl from now. Raises `SlotDenied`."""
        cdef BucketCore bucket = self.bucket
        if self.search is None or self.book is None:
            raise TypeError("slots come from a bucket: bucket.slot(key)")
        cdef int64_t now = clock_ns(bucket.t)
        self.decision = decision
        if not decision.allowed:
            raise SlotDenied(
                f"all slots ({bucket.spec.slots}) of bucket {bucket.spec.name!r} are held for this "
                f"key; one is free in {decision.retry_after:.3f} s at the latest",
                decision,
            )
        self.deadline_ns = now + self.ttl_ns if deadline_ns is None else deadline_ns
        self.book.add(self, now)
        self.give_back(slot_spare(decision.cost, self.ttl_ns, self.interval_ns))
        return self

    def __exit__(self, *error):
        """Releases the slot."""
        self.end()

    async def __aexit__(self, *error):
        """Releases the slot."""
        self.end()

    def release(self):
        """Makes the slot free again. False when it was free already, by an earlier call or by its
        ttl, and in a process that was forked since: there the slot is the parent's."""
        return self.end()

    cpdef released(self):
        """Is called when a slot that was held has ended; for subclasses."""

    cdef bint end(self) except -1:
        if self.decision is None:
            return False
        cdef int64_t now = clock_ns(self.bucket.t)
        if not self.book.let_go(self, now):
            return False
        self.released()
        # Only what this hold still owes: where another node holds the slot as well, the rest
        # belongs to that hold.
        self.give_back(slot_left(self.decision.cost, self.deadline_ns, now, self.interval_ns))
        return True

    cdef int give_back(self, int64_t tokens) except -1:
        if not self.decision.shadowed and tokens > 0:
            self.search.give_back(self.decision, tokens)
        return 0
