"""A strong bucket some of whose keys have plans."""

from __future__ import annotations

from crdtbucket.planned import PlannedBucket
from crdtbucket.strong.bucket import StrongBucket


class PlannedStrongBucket(PlannedBucket, StrongBucket):  # type: ignore[misc]  # `take` never returns
    """As `PlannedBucket`, of strong buckets."""

    __slots__ = ()


__all__ = ["PlannedStrongBucket"]
