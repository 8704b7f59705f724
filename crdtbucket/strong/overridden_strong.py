"""A strong bucket some of whose keys have plans."""

from __future__ import annotations

from crdtbucket.limiter.overridden_bucket import PlannedBucket
from crdtbucket.strong.strong_bucket import StrongBucket


class PlannedStrongBucket(PlannedBucket, StrongBucket):  # type: ignore[misc]  # `take` never returns
    """As `PlannedBucket`, of strong buckets."""

    __slots__ = ()


__all__ = ["PlannedStrongBucket"]
