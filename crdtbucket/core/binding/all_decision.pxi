# The answer of a take of several buckets at once.

@cython.freelist(16)
cdef class AllDecision:
    """The answer of `take_all` and `acquire_all`: truthy when everything was taken.

    decisions: one of each bucket that was asked, in order; what names the same key shares one. When
    the whole is denied nothing was taken: then each says what it would get alone.
    """

    cdef readonly tuple decisions
    cdef readonly bint allowed
    """Whether everything was taken."""

    def __init__(self, tuple decisions not None):
        self.decisions = decisions
        self.allowed = all(decisions)

    @property
    def binding(self):
        """The one to look at: denied, it takes longest; allowed, it has the least of its limit
        left. A shadow binds only where all are shadows."""
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
