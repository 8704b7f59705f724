"""Whether demand is within the limit, so that no call has to be denied."""

from __future__ import annotations

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.truth import IdealBucket, LateBucket

SECOND = 10**9
ROOMY = (4, 5)
"""Demand is within the limit when a bucket of half the size and so much of the rate denies none."""
RESTED_NS = 40 * SECOND
"""A demand that was beyond the limit is as good as forgotten after so long within it."""
SPARE = 4
"""A bucket is roomy again when one part in so many of it is owed at most."""


class LightLoad:
    """Told of all demand, and of all that is given."""

    def __init__(self, spec: BucketSpec, ceiling: int, late: int, slowest: int) -> None:
        """`ceiling`: tokens that may be owed beyond an empty bucket; `late` (ns): within it, all
        know of a take; `slowest`: ppm of a clock."""
        half = IdealBucket(spec, ppm=slowest, part=ROOMY)
        half.capacity = max(1, spec.capacity // 2)
        self._half = LateBucket(half, late)
        self.within = True
        """Whether all demand so far was within the limit, and nothing made that unclear; or has
        been for long, and what was owed before has refilled."""
        self._owed = IdealBucket(spec, ceiling, ppm=slowest, part=ROOMY)
        """Once that was unclear: what is owed at most, where no more is given than was."""
        self._owed.capacity, self._all = spec.capacity, spec.capacity + ceiling
        self._beyond = 0
        """When demand was last beyond the limit, ns."""

    def charge(self, tokens: int, now: int) -> None:
        """So many count as taken."""
        self._half.charge(tokens, now)

    def offered(self, calls: int, cost: int, now: int) -> None:
        """So much is asked for."""
        if self._half.admits(calls, cost, now) < calls:
            self.unclear(now)

    def given(self, tokens: int, now: int) -> None:
        """And so much of it is given."""
        self._owed.charge(tokens, now)

    def unclear(self, now: int) -> None:
        """Demand is beyond the limit, or may be: nodes may owe all that they can."""
        if self.within:
            self._owed.charge(self._all, now)
        self.within, self._beyond = False, now

    def may_be_clear(self, now: int, settled: int) -> None:
        """Nothing happens, and since `settled` (ns) nothing has. When all demand has been within
        the limit for long, and what was owed before then has refilled, it is clear again."""
        if now > max(self._beyond, settled) + RESTED_NS:
            owed = self._owed.capacity - self._owed.level(now)
            self.within = self.within or SPARE * owed <= self._owed.capacity
