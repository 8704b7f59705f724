# The answer to a take from several buckets at once.

@cython.freelist(16)
cdef class AllDecision:
    """The answer to `take_all` and `acquire_all`: truthy when everything was taken.

    decisions: one for each bucket that was asked, in order; items that name the same key share one.
    When the whole is denied, nothing was taken, and each decision says what its item would get
    alone."""

    cdef readonly tuple decisions
    cdef readonly bint allowed
    """Whether everything was taken."""

    def __init__(self, tuple decisions not None):
        self.decisions = decisions
        self.allowed = all(decisions)

    @property
    def binding(self):
        """The decision to look at: when the whole is denied, the one that is denied for the
        longest; when it is allowed, the one with the least of its limit left. A shadow binds only
        where all are shadows."""
        denied = [decision for decision in self.decisions if not decision.allowed]
        if denied:
            return max(denied, key=lambda one: one.retry_after_ns)
        real = [one for one in self.decisions if not one.spec.shadow]
        return min(real or self.decisions, key=lambda one: one.remaining / one.limit)

    @property
    def retry_after(self):
        """Seconds until all could pass if nothing else happened, 0 when allowed."""
        return self.binding.retry_after

    def __bool__(self):
        return self.allowed

    def __repr__(self):
        return f"AllDecision(allowed={self.allowed}, binding={self.binding!r})"
