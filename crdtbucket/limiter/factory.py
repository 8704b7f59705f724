"""The factory: it makes the buckets of one limiter from their definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND, WallClock
from crdtbucket.errors import InvalidSpec
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.calendar_bucket import CalendarBucket
from crdtbucket.limiter.slots import SlotBucket
from crdtbucket.limiter.tables import Tables
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import check_consistency
from crdtbucket.spec.mode import Consistency, Mode
from crdtbucket.spec.overrides import FEWER, MAX_BUCKETS, with_overrides
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.redis_config import RedisConfig

if TYPE_CHECKING:
    from crdtbucket.strong.strong_side import StrongSide

TRAVEL_NS = NS_PER_SECOND // 5
"""How long an update may be on its way to a peer; a bucket has room for the debt of that time."""


class Factory:
    """Makes the buckets of one limiter: of the right class, in the right table."""

    def __init__(
        self,
        tables: Tables,
        mesh: MeshConfig | None,
        consistency: Mode | Consistency,
        wall: WallClock,
    ) -> None:
        """`consistency`: of buckets that do not say it themselves. `wall`: of calendar buckets."""
        self.made: list[Bucket] = []
        """All buckets that were ever made, in order."""
        self._tables = tables
        self._mesh = mesh
        self._consistency = check_consistency(consistency)
        self._wall = wall

    def define(self, specs: Iterable[BucketSpec]) -> dict[str, Bucket]:
        """The buckets of a new limiter and their overrides, by key. Raises `InvalidSpec`."""
        defined: dict[str, Bucket] = {}
        count = 0
        for spec in checked_specs(specs):
            for one, owner in with_overrides([spec]):
                if one.key in defined:
                    fix = "rename one; all kinds of hyphens count as the same"
                    raise InvalidSpec(f"two buckets are called {one.name!r}", fix, "name")
                count += 1 + one.parts
                if count > MAX_BUCKETS:
                    raise InvalidSpec(f"buckets has {one.name!r} as one more", FEWER, "buckets")
                defined[one.key] = self.make(one, owner)
        return defined

    def make(self, spec: BucketSpec, owner: BucketSpec) -> Bucket:
        """Makes a bucket, or the bucket of an override of `owner`."""
        strong = (owner.consistency or self._consistency) is Mode.STRONG
        kind: Callable[..., Bucket] = Bucket
        if strong:  # imports what Redis needs only where there is one
            from crdtbucket.strong.strong_bucket import StrongBucket
            from crdtbucket.strong.strong_slots import StrongSlotBucket

            kind = StrongBucket if spec.slots is None else StrongSlotBucket
        elif spec.slots is not None:
            kind = SlotBucket
        elif spec.period is not None:
            kind = partial(CalendarBucket, wall=self._wall)
        bucket = kind(
            self._tables.of(strong),
            spec,
            min_debt=self.least_debt(spec),
            update_interval_ns=None if self._mesh is None else self._mesh.gossip_interval_ns,
        )
        self.made += bucket, *bucket.parts
        return bucket

    def least_debt(self, spec: BucketSpec) -> int:
        """Tokens of debt that a bucket of this definition needs room for at least."""
        return 0 if self._mesh is None else least_debt(spec, self._mesh)

    def strong_side(
        self,
        config: RedisConfig | None,
        degradation: Degradation | None,
        *,
        node: str | None,
        region: str,
    ) -> StrongSide | None:
        """The part that asks Redis for the strong buckets made so far; None where there are none.

        Raises `InvalidSpec`.
        """
        if degradation is not None and not isinstance(degradation, Degradation):
            fix = 'pass Degradation(on_outage="quota")'
            raise InvalidSpec(f"degradation is {clipped(degradation)}", fix, "degradation")
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
        from crdtbucket.strong.strong_side import StrongSide

        return StrongSide(
            config,
            degradation or Degradation(),
            self._tables,
            buckets,
            node=node,
            region=region,
            forget_after_ms=None if self._mesh is None else self._mesh.forget_after_ns // 1_000_000,
        )


def checked_specs(specs: Iterable[BucketSpec]) -> Iterable[BucketSpec]:
    """The definitions as they were passed, as a list. Raises `InvalidSpec` for anything else."""
    fix = 'pass a list, such as Limiter([BucketSpec.parse("api", "100/minute")])'
    if isinstance(specs, BucketSpec):
        raise InvalidSpec("buckets is one BucketSpec and no list", fix, "buckets")
    if isinstance(specs, (str, bytes)) or not isinstance(specs, Iterable):
        raise InvalidSpec(f"buckets is {clipped(specs)}", fix, "buckets")
    for spec in specs:
        if not isinstance(spec, BucketSpec):
            fix = 'make one with BucketSpec(...) or BucketSpec.parse("name", "100/minute")'
            raise InvalidSpec(
                f"buckets contains {clipped(spec)}, which is no BucketSpec", fix, "buckets"
            )
        yield spec


def least_debt(spec: BucketSpec, mesh: MeshConfig) -> int:
    """Tokens of debt that late updates may need room for: four times what refills while they are on
    their way."""
    return -(-4 * spec.refill_rate * (TRAVEL_NS + mesh.gossip_interval_ns) // spec.interval_ns)
