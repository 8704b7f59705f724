# One answer.


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Decision:
    """One answer: truthy when allowed.

    allowed; limit: the capacity in tokens; remaining: whole tokens left; retry_after: seconds until the same cost would pass
    if nothing else happened, 0 when it passed; reset_after: seconds until the bucket is full; mode: how it was decided;
    shadowed: the limit denies it and took nothing, but its bucket is a shadow, so it is allowed.
    """

    cdef readonly bint allowed, shadowed
    cdef readonly int64_t cost
    cdef _Decider _bucket
    cdef object _key
    cdef int64_t debt_ns, rest, wait_ns, given_back
    cdef uint32_t full_count, birth, slot
    cdef uint16_t origin
    cdef readonly object mode

    def __init__(self):
        raise TypeError("decisions come from a bucket")

    cdef _Decider owner(self):
        """The bucket that decided. Raises TypeError for what `__new__` alone has made."""
        if self._bucket is None:
            raise TypeError("decisions come from a bucket, and this one does not")
        return self._bucket

    def __bool__(self):
        return self.allowed

    @property
    def key(self):
        return self._key

    @property
    def bucket(self):
        return self._bucket

    @property
    def limit(self):
        return self.owner().t.definitions[self.slot].capacity

    @property
    def remaining(self):
        cdef int64_t left = tokens_left_ns(&self.owner().t.definitions[self.slot], self.debt_ns, self.rest)
        return left if left > 0 else 0

    @property
    def retry_after(self):
        return self.wait_ns / 1e9

    @property
    def reset_after(self):
        return self.debt_ns / 1e9

    @property
    def retry_after_ns(self):
        return self.wait_ns

    @property
    def debt(self):
        """The confirmed debt in ns: the time until the bucket is full."""
        return self.debt_ns + (self.rest > 0)

    def __repr__(self):
        return (f"Decision(allowed={self.allowed}, limit={self.limit}, remaining={self.remaining}, "
                f"retry_after={self.retry_after:.6g}, reset_after={self.reset_after:.6g}, mode={str(self.mode)!r}"
                f"{', shadowed=True' if self.shadowed else ''})")
