"""A new configuration for a limiter that works: all of it, or nothing and every reason why not."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from crdtbucket._core import Table
from crdtbucket.errors import ConfigError, InvalidSpec, Problem
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.overridden_bucket import PlannedBucket, set_plans, with_plans
from crdtbucket.limiter.tables import Tables
from crdtbucket.rollout.live_rollout import LiveRollout, differs
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.spec.overrides import FEWER, MAX_BUCKETS

if TYPE_CHECKING:
    from crdtbucket.config import Config
    from crdtbucket.strong.assembly import StrongSide

LOG = logging.getLogger("crdtbucket")
FIXED = {
    "node": "node",
    "region": "region",
    "mesh": "mesh",
    "redis": "rating.bucket_backend",
    "modes": "rating.modes",
    "webhook": "rating.webhook",
}
"""Fields of a configuration that hold for the life of a limiter, and what a file calls them."""


@dataclasses.dataclass
class Grown:
    """A bucket whose ceiling of debt holds more than its definition says."""

    bucket: Bucket
    until: int
    """When what was owed before the change is paid (local ns)."""


class Reload:
    """What is in force, and how another configuration comes into force. From any thread."""

    def __init__(
        self,
        tables: Tables,
        strong: StrongSide | None,
        *,
        make: Callable[[BucketSpec, BucketSpec], Bucket],
        kind: Callable[..., type[Bucket]],
        least_debt: Callable[[BucketSpec], int],
        started: dict[str, Any],
        buckets: dict[str, Bucket],
    ) -> None:
        """`make` defines a new bucket, or a plan of the one given second. `kind`: the class of a
        bucket, `planned` or not. `least_debt`: tokens of debt that a bucket needs room for.
        `started`: the fixed fields of the limiter, for one that began without a file."""
        self.buckets = buckets
        """Those in force, by key; replaced as a whole."""
        self.config: Config | None = None
        """The configuration in force, None until there was one."""
        self.counters = {"reloads": 0, "refused": 0}
        self._tables = tables
        self._table = tables.main
        self._strong = strong
        self._make = make
        self._kind = kind
        self._least_debt = least_debt
        self._started = started
        self._removed: dict[str, Bucket] = {}
        self._grown: dict[str, Grown] = {}
        self.lock = threading.RLock()
        self.rolling = LiveRollout(self, tables, started.get("region") or "")

    def change(self, config: Config) -> None:
        """Brings `config` into force, or begins to, where it has stages. Raises `ConfigError` with
        all that forbids it, and has then changed nothing."""
        with self.lock:
            specs, consistency = self._runnable(config)
            problems = [*self._fixed(config), *self._unfit(config, specs, consistency)]
            problems += self.rolling.refused(config)
            if problems:
                self.counters["refused"] += 1
                raise ConfigError(problems)
            self.counters["reloads"] += 1
            if self.rolling.takes(config):
                return
            self.rolling.end()
            before = self.config
            if config.rollout is None or before is None or before.hash == config.hash:
                self._apply(config, specs, consistency)
                self.rolling.counted()
            else:
                self.rolling.begin(before, config)

    def start(self, config: Config) -> None:
        """What the limiter was made of."""
        self.config = config
        self.rolling.counted()

    def force(self, config: Config) -> None:
        """Brings a configuration into force that was found fit before."""
        self._apply(config, *self._runnable(config))

    def stage(self, before: Config, target: Config, share: float) -> None:
        """Of the keys of each bucket that changes from one to the other a share is under the new
        definition. Buckets that are new come with it; what else differs comes at the end."""
        specs, _ = self._runnable(target)
        kept = {one.key for one in before.buckets}
        buckets = dict(self.buckets)
        for spec, owner in with_plans(specs):
            bucket = buckets.get(spec.key)
            if bucket is None:
                if share and owner.key not in kept:
                    buckets[spec.key] = self._defined(spec, owner)
            elif differs(bucket.spec, spec) and (share or bucket.candidate is not None):
                self._stage(bucket, spec, share)
        set_plans((one for one in specs if one.key in buckets.keys() - kept), buckets)
        self.buckets = buckets
        for bucket in buckets.values():
            bucket.waiters.kick_all()

    def beat(self) -> None:
        """To be called every second or so: what is due by time."""
        self.relax()
        self.rolling.beat()

    def relax(self) -> None:
        """Ceilings that were raised for a time go back to what the definitions say."""
        now = self._table.now()
        if not any(now >= one.until for one in list(self._grown.values())):
            return
        with self.lock:
            for key, one in list(self._grown.items()):
                if now >= one.until:
                    del self._grown[key]
                    one.bucket.define(one.bucket.spec, min_debt=self._least_debt(one.bucket.spec))
                    self._tell_strong(one.bucket)

    @property
    def running(self) -> tuple[int, int, int] | None:
        """Version, hash and stage of what is in force, as peers are told; None without a file."""
        position, config = self.rolling.position, self.config
        if position is not None and self.rolling.active:
            return (*position.of, position.stage + 1)
        return None if config is None else (config.version, int(config.hash, 16), 0)

    def stats(self) -> dict[str, Any]:
        """Which configuration is in force, or on its way and at which stage, and how many were
        taken and refused."""
        version, content, stage = self.running or (0, None, 0)
        return {
            "version": version,
            "hash": "" if content is None else f"{content:016x}",
            "stage": str(stage or ""),
            **self.counters,
        }

    # ---- what is refused ----

    def _fixed(self, config: Config) -> Iterator[Problem]:
        for field, path in FIXED.items():
            new = getattr(config, field)
            if self.config is not None:
                old = getattr(self.config, field)
            else:
                old = self._started.get(field, new)
                new = old if new is None else new
            for where in _differences(path, old, new):
                yield Problem(
                    "cannot change while the limiter works",
                    "put it back, or restart this process",
                    where,
                    config.path,
                )
        if not config.enabled:
            yield Problem(
                "is false, and a limiter that works cannot stop limiting",
                "set it to true, or restart this process without a limiter",
                "rating.enabled",
                config.path,
            )

    def _unfit(
        self, config: Config, specs: tuple[BucketSpec, ...], consistency: Mode
    ) -> Iterator[Problem]:
        changed, seen = Counter[Table](), set[str]()
        for spec, owner in with_plans(specs):
            path = f"services.{owner.name}"
            strong = (owner.consistency or consistency) is Mode.STRONG
            known = self._known(spec.key)
            if spec.key in seen:
                fix = "rename one; all kinds of hyphens count as the same"
                yield Problem(f"two buckets are called {spec.name!r}", fix, path, config.path)
            seen.add(spec.key)
            if known is not None and self._is_strong(known) is not strong:
                yield Problem(
                    f"cannot become {'strong' if strong else 'eventual'} while the limiter works",
                    "leave its consistency, give the bucket another name, or restart this process",
                    f"{path}.consistency",
                    config.path,
                )
            elif strong and self._strong is None:
                yield Problem(
                    "is strong, and this limiter began without any strong bucket",
                    "restart this process, or set consistency: eventual",
                    f"{path}.consistency",
                    config.path,
                )
            elif self._strong is not None and strong:
                try:
                    self._strong.arguments(spec, self._ceiling(spec) - spec.capacity)
                except InvalidSpec as error:
                    yield Problem(error.message, error.fix, f"{path}.{error.field}", config.path)
            changed[self._tables.of(strong)] += known is None or known.spec != spec
        if len(seen) > MAX_BUCKETS:
            yield Problem(f"has {len(seen)} buckets and plans", FEWER, "services", config.path)
        # A ceiling that is raised for a time takes a second one later; stages raise it of the old
        # definition as well.
        each = 2 if config.rollout is None else 3
        for table, count in changed.items():
            if each * count > table.free_definitions:
                yield Problem(
                    f"changes {count} buckets, and there is room for "
                    f"{table.free_definitions // each} changes now",
                    "try again in a minute; with so many buckets, change fewer at a time",
                    "services",
                    config.path,
                )

    # ---- what is done ----

    def _apply(self, config: Config, specs: tuple[BucketSpec, ...], consistency: Mode) -> None:
        if self._strong is not None:
            self._strong.outages(
                config.on_outage,
                config.fallback_ratio,
                config.fallback_scope,
                config.expected_nodes,
            )
        buckets = {one.key: self._defined(one, owner) for one, owner in with_plans(specs)}
        set_plans(specs, buckets)
        gone = {key: one for key, one in self.buckets.items() if key not in buckets}
        self._removed = {
            key: one for key, one in (self._removed | gone).items() if key not in buckets
        }
        self.buckets = buckets
        for bucket in [*buckets.values(), *gone.values()]:
            bucket.waiters.kick_all()
        before, self.config = self.config, config
        LOG.info(
            "configuration %d (%s) is in force%s: %d buckets%s",
            config.version,
            config.hash,
            "" if before is None else f" after {before.version} ({before.hash})",
            len(buckets),
            "".join(f", {one.spec.name} removed" for one in gone.values()),
        )

    def _known(self, key: str) -> Bucket | None:
        return self.buckets.get(key) or self._removed.get(key)

    def _defined(self, spec: BucketSpec, owner: BucketSpec) -> Bucket:
        bucket = self._known(spec.key)
        if bucket is not None and bucket.candidate is not None:
            bucket.unstage(keep=bucket.candidate == spec)
            self._note_grown(bucket)
        if bucket is None:
            bucket = self._make(spec, owner)
        elif bucket.spec != spec:
            ceiling = self._ceiling(spec)
            bucket.define(spec, min_debt=ceiling - spec.capacity)
            if spec.plans and not isinstance(bucket, PlannedBucket):
                # Whoever holds it shall have its plans, too; the classes differ in methods alone.
                kind = self._kind(owner, planned=True)
                assert issubclass(kind, PlannedBucket)
                kind.plan(bucket)
            self._note_grown(bucket)
        self._tell_strong(bucket)
        return bucket

    def _stage(self, bucket: Bucket, spec: BucketSpec, share: float) -> None:
        # Keys go back and forth between the two, so that both have the ceiling of either.
        ceiling = self._ceiling(spec)
        if bucket.candidate is not None:
            ceiling = max(ceiling, bucket.candidate.capacity + bucket.candidate_max_debt)
        bucket.define(bucket.spec, min_debt=ceiling - bucket.spec.capacity)
        bucket.stage(spec, share, min_debt=ceiling - spec.capacity)
        self._grown.pop(spec.key, None)
        self._tell_strong(bucket)

    def _note_grown(self, bucket: Bucket) -> None:
        """Remembers a ceiling that is higher than the definition says, until all is paid."""
        spec, ceiling = bucket.spec, bucket.spec.capacity + bucket.max_debt
        self._grown.pop(spec.key, None)
        if ceiling > spec.capacity + max(spec.max_debt, self._least_debt(spec)):
            q, p = spec.emission
            self._grown[spec.key] = Grown(bucket, self._table.now() + -(-q * ceiling // p))

    def _runnable(self, config: Config) -> tuple[tuple[BucketSpec, ...], Mode]:
        has_redis = self._started["redis"] is not None or config.redis is not None
        return runnable(config, has_redis=has_redis)

    def _ceiling(self, spec: BucketSpec) -> int:
        """Tokens that a key of the bucket may owe. A lower ceiling would forgive what is owed now,
        and a later change back would give that out again."""
        need = spec.capacity + max(spec.max_debt, self._least_debt(spec))
        known = self._known(spec.key)
        if known is None or known.spec == spec:
            return need
        held = known.spec.capacity + known.max_debt
        strong = self._strong
        return max(need, held if strong is None or known not in strong else strong.most(held))

    def _is_strong(self, bucket: Bucket) -> bool:
        return self._strong is not None and bucket in self._strong

    def _tell_strong(self, bucket: Bucket) -> None:
        if self._strong is not None:
            self._strong.follow(bucket)


def runnable(config: Config, *, has_redis: bool) -> tuple[tuple[BucketSpec, ...], Mode]:
    """The buckets that run, and their consistency: all are eventual without a Redis to ask."""
    if has_redis:
        return config.buckets, config.consistency
    return tuple(dataclasses.replace(b, consistency=None) for b in config.buckets), Mode.EVENTUAL


def _differences(path: str, old: object, new: object) -> Iterator[str]:
    """Paths at which two settings differ; never the values, which may be secret."""
    if old == new:
        return
    if not dataclasses.is_dataclass(old) or type(old) is not type(new):
        yield path
        return
    for field in dataclasses.fields(old):
        if getattr(old, field.name) != getattr(new, field.name):
            yield f"{path}.{field.name}"


__all__ = ["Reload", "runnable"]
