"""How definitions become the buckets of one limiter: their kind, room for debt, and store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import InvalidSpec
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.overridden_bucket import PlannedBucket, set_plans, with_plans
from crdtbucket.limiter.tables import Tables
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.spec.overrides import FEWER, MAX_BUCKETS
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.redis_config import RedisConfig

if TYPE_CHECKING:
    from crdtbucket.strong.assembly import StrongSide

# News is this old at most where the debt of a bucket is given room for it (ns).
LAG_NS = NS_PER_SECOND // 5


class Maker:
    """Makes the buckets of one limiter."""

    def __init__(self, tables: Tables, mesh: MeshConfig | None, consistency: Mode) -> None:
        """`consistency`: of buckets that do not say it themselves."""
        self.made: list[Bucket] = []
        """All buckets that were ever made, in order."""
        self._tables = tables
        self._mesh = mesh
        self._consistency = consistency

    def define(self, specs: Iterable[BucketSpec]) -> dict[str, Bucket]:
        """The buckets of a new limiter and their plans, by key. Raises `InvalidSpec`."""
        defined: dict[str, Bucket] = {}
        for spec in specs:
            self._define(spec, defined)
        return defined

    def make(self, spec: BucketSpec, owner: BucketSpec) -> Bucket:
        """Defines a bucket, or a plan of `owner`."""
        mesh = self._mesh
        bucket = self.kind(owner, planned=bool(spec.plans))(
            self._tables.of(self._is_strong(owner)),
            spec,
            min_debt=self.least_debt(spec),
            news_ns=None if mesh is None else mesh.gossip_interval_ns,
        )
        self.made.append(bucket)
        return bucket

    def least_debt(self, spec: BucketSpec) -> int:
        """Tokens of debt that it needs room for at least."""
        return 0 if self._mesh is None else least_debt(spec, self._mesh)

    def kind(self, spec: BucketSpec, *, planned: bool) -> type[Bucket]:
        """The class of a bucket."""
        if not self._is_strong(spec):
            return PlannedBucket if planned else Bucket
        # Redis only where it is used
        from crdtbucket.strong.overridden_strong import PlannedStrongBucket
        from crdtbucket.strong.strong_bucket import StrongBucket

        return PlannedStrongBucket if planned else StrongBucket

    def strong_side(
        self,
        config: RedisConfig | None,
        degradation: Degradation,
        *,
        node: str | None,
        region: str,
    ) -> StrongSide | None:
        """What asks Redis for the strong buckets made so far; None where there is none. Raises
        `InvalidSpec`."""
        buckets = [bucket for bucket in self.made if not bucket.immediate]
        if not buckets:
            return None
        names = ", ".join(bucket.spec.name for bucket in buckets)
        if config is None:
            fix = 'pass redis="redis://host:port" or RedisConfig(...), or consistency="eventual"'
            raise InvalidSpec(f"{names}: strong consistency without a Redis", fix, "redis")
        if node is None:
            fix = "pass node=, a name of this process's own, such as 'eu-1'"
            raise InvalidSpec(f"{names}: strong consistency without a node name", fix, "node")
        from crdtbucket.strong.assembly import StrongSide

        return StrongSide(
            config,
            degradation,
            self._tables,
            buckets,
            node=node,
            region=region,
        )

    def _define(self, spec: BucketSpec, defined: dict[str, Bucket]) -> None:
        if not isinstance(spec, BucketSpec):
            fix = 'make one with BucketSpec(...) or BucketSpec.parse("name", "100/minute")'
            raise InvalidSpec(f"buckets contains {spec!r}, which is no BucketSpec", fix, "buckets")
        for one, owner in with_plans([spec]):
            if one.key in defined:
                fix = "rename one; all kinds of hyphens count as the same"
                raise InvalidSpec(f"two buckets are called {one.name!r}", fix, "name")
            if len(defined) >= MAX_BUCKETS:
                raise InvalidSpec(f"buckets has {one.name!r} as one more", FEWER, "buckets")
            defined[one.key] = self.make(one, owner)
        set_plans([spec], defined)

    def _is_strong(self, spec: BucketSpec) -> bool:
        return (spec.consistency or self._consistency) is Mode.STRONG


def least_debt(spec: BucketSpec, mesh: MeshConfig) -> int:
    """Tokens of debt that late news may need room for: four times what refills while it travels."""
    return -(-4 * spec.refill_rate * (LAG_NS + mesh.gossip_interval_ns) // spec.interval_ns)


__all__ = ["Maker", "least_debt"]
