"""The buckets of a configuration file as nodes and Redis call them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from crdtbucket._core import BucketCore, Table
from crdtbucket.config import Config
from crdtbucket.limiter.factory import least_debt
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.reconcile.merging import Columns
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.spec.overrides import with_overrides
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import arguments_of
from crdtbucket.strong.redis.script import Arguments

Place = tuple[int, int]
"""The two halves of a key's hash, low and high; it names the bucket too."""


@dataclass(frozen=True)
class ReconciledBucket:
    """One bucket of the file."""

    spec: BucketSpec
    position: int
    """The place of the bucket in the list of definitions that is sent to nodes."""
    ceiling: int
    """capacity + max_debt, in tokens."""
    arguments: Arguments | None
    """How Redis is asked; None for a bucket that it does not know."""

    def debt_ns(self, tokens: Fraction) -> int:
        """The time in which that many tokens come back, rounded up."""
        q, p = self.spec.emission
        return math.ceil(tokens * q / p)


KeyUpdate = tuple[ReconciledBucket, Columns, Fraction]
"""The update of a key that is sent to a holder: its bucket, the columns, and the tokens owed."""


class BucketIndex:
    """All buckets by the hash of their name, as nodes say it, and by the name, as Redis does."""

    def __init__(self, config: Config, mesh: MeshConfig) -> None:
        """Raises `InvalidSpec` for a replicated Redis and a file without a region."""
        table = Table(max_keys=16)
        redis = config.redis
        self.regions: Regions | None = None
        """The regions of a replicated Redis, seen from that of the file."""
        if redis is not None and redis.active_active:
            self.regions = Regions(config.region or "", redis.regions)
        self.by_hash: dict[int, ReconciledBucket] = {}
        self.by_key: dict[str, ReconciledBucket] = {}
        # An override is a bucket of its own, with the consistency of its owner.
        for position, (spec, owner) in enumerate(with_overrides(config.buckets)):
            strong = (owner.consistency or config.consistency) is Mode.STRONG
            core = BucketCore(table, spec, min_debt=least_debt(spec, mesh))
            arguments = None
            # Redis has records of slots that are of no counters: those are in the nodes alone.
            if strong and redis is not None and spec.slots is None:
                arguments = arguments_of(spec, core.max_debt, self.regions, redis.retention_ms)
            bucket = ReconciledBucket(spec, position, spec.capacity + core.max_debt, arguments)
            self.by_hash[core.name_hash] = self.by_key[spec.key] = bucket
        self.definitions = tuple(table.definitions.all())
