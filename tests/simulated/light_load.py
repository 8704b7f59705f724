"""Whether demand is within the limit, so that no call has to be denied."""

from __future__ import annotations

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.truth import IdealBucket, LateBucket

SECOND = 10**9
ROOMY = (4, 5)
"""Demand is within the limit when a bucket of half the capacity and this fraction of the rate
denies no call."""
RESTED_NS = 40 * SECOND
"""Demand beyond the limit has faded after so long within it (ns)."""
SPARE = 4
"""A bucket is roomy again when at most one part in so many of it is owed."""


class LightLoad:
    """Is given all demand and all that is admitted, and says whether demand is within the limit."""

    def __init__(self, spec: BucketSpec, ceiling: int, late: int, slowest: int) -> None:
        """`ceiling`: tokens that may be owed beyond an empty bucket. `late` (ns): the time in which
        a take is known to all. `slowest`: ppm of the slowest clock."""
        half = IdealBucket(spec, ppm=slowest, part=ROOMY)
        half.capacity = max(1, spec.capacity // 2)
        self._half = LateBucket(half, late)
        self.within = True
        """Whether all demand so far was within the limit, and nothing made that unclear; or demand
        has been within it for long, and what was owed before has refilled."""
        self._owed = IdealBucket(spec, ceiling, ppm=slowest, part=ROOMY)
        """Once that was unclear: the most that may be owed, if no more is admitted than was."""
        self._owed.capacity, self._all = spec.capacity, spec.capacity + ceiling
        self._beyond = 0
        """When demand was last beyond the limit, ns."""

    def charge(self, tokens: int, now: int) -> None:
        """So many tokens count as taken."""
        self._half.charge(tokens, now)

    def offered(self, calls: int, cost: int, now: int) -> None:
        """So many calls are asked for."""
        if self._half.admits(calls, cost, now) < calls:
            self.unclear(now)

    def given(self, tokens: int, now: int) -> None:
        """So many tokens of these calls are admitted."""
        self._owed.charge(tokens, now)

    def unclear(self, now: int) -> None:
        """Demand is beyond the limit, or may be: nodes may owe as much as they can."""
        if self.within:
            self._owed.charge(self._all, now)
        self.within, self._beyond = False, now

    def may_be_clear(self, now: int, settled: int) -> None:
        """Nothing has happened since `settled` (ns). It is clear again when all demand has been
        within the limit for long, and what was owed before then has refilled."""
        if now > max(self._beyond, settled) + RESTED_NS:
            owed = self._owed.capacity - self._owed.level(now)
            self.within = self.within or SPARE * owed <= self._owed.capacity
