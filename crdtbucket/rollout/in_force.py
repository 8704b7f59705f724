"""The buckets and the configuration in force, and how other definitions take their place."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from crdtbucket.base.counted import counted
from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import UnknownBucket
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.factory import Factory
from crdtbucket.limiter.outside_limits import OutsideLimits
from crdtbucket.limiter.tables import Tables
from crdtbucket.rollout.staged import Counts
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import canonical_name
from crdtbucket.spec.mode import Mode
from crdtbucket.spec.overrides import shadowed, with_overrides

if TYPE_CHECKING:
    from crdtbucket.config import Config
    from crdtbucket.strong.strong_side import StrongSide

LOG = logging.getLogger("crdtbucket")


@dataclasses.dataclass
class RaisedCeiling:
    """A bucket that for a while keeps a higher ceiling of debt than its definition has."""

    bucket: Bucket
    until: int
    """When the debt from before the change is paid (local ns)."""


class InForce:
    """The buckets of one limiter and their definitions. It knows nothing of stages and versions."""

    def __init__(
        self,
        tables: Tables,
        factory: Factory,
        strong: StrongSide | None,
        buckets: dict[str, Bucket],
        *,
        has_redis: bool,
    ) -> None:
        """`buckets`: those of a new limiter, by key. `has_redis`: whether it was given a Redis."""
        self.buckets = buckets
        """The buckets in force, by key; replaced as a whole."""
        self.config: Config | None = None
        """The configuration in force; None until the limiter has had one."""
        self.lock = ForkLock()
        """Held during each change."""
        self.made = factory.made
        """All buckets that were ever made, in order."""
        self.tables = tables
        self.strong = strong
        self._factory = factory
        self._has_redis = has_redis
        self._removed: dict[str, Bucket] = {}
        self._overriding: dict[str, Bucket] = {}
        """The buckets of limits from outside."""
        self._raised: dict[str, RaisedCeiling] = {}
        self.outside = OutsideLimits(self)
        """The limits of keys that come from outside the definitions."""
        for bucket in buckets.values():
            self._note_ceiling(bucket)  # another process may have raised it
        specs = [bucket.spec for bucket in buckets.values()]
        overrides = {override.key for spec in specs for _, override in spec.overrides}
        self.outside.connect((spec for spec in specs if spec.key not in overrides), buckets)

    # ---- looking ----

    @property
    def by_name(self) -> Mapping[str, Bucket]:
        """All buckets by their names as given, in the order of their definition; overrides, too."""
        every = [*self.buckets.values(), *self.outside.buckets.values()]
        return MappingProxyType({one.spec.name: one for one in every})

    def bucket(self, name: str) -> Bucket:
        """The bucket with this name, whatever its spelling. Raises `UnknownBucket`."""
        key = canonical_name(name) if isinstance(name, str) else ""
        found = self.buckets.get(key) or self.outside.buckets.get(key)
        if found is None:
            every = [one.spec for one in self.buckets.values()]
            made = {override.key for one in every for _, override in one.overrides}
            raise UnknownBucket(name, (one.name for one in every if one.key not in made))
        return found

    def group(self, name: str) -> Sequence[Bucket]:
        """The bucket with this name, or else `name:1`, `name:2` and so on. Raises as `bucket`."""
        buckets = self.buckets
        group: list[Bucket] = []
        key = canonical_name(name) if isinstance(name, str) else ""
        while key not in buckets and (one := buckets.get(f"{key}:{len(group) + 1}")) is not None:
            group.append(one)
        return group or (self.bucket(name),)

    def known(self, key: str) -> Bucket | None:
        """The bucket with this key, even if it was removed or belongs to a limit from outside."""
        return self.buckets.get(key) or self._removed.get(key) or self._overriding.get(key)

    def named(self, name: str) -> BucketSpec | None:
        """The definition of a bucket in force, None where there is none of this name."""
        found = self.buckets.get(canonical_name(name))
        return None if found is None else found.spec

    def runnable(self, config: Config) -> tuple[tuple[BucketSpec, ...], Mode]:
        """The buckets of a configuration as they run here, and their consistency."""
        return runnable(config, has_redis=self.would_ask_redis(config))

    def would_ask_redis(self, config: Config) -> bool:
        """Whether strong buckets of a configuration have a Redis to ask here."""
        return self._has_redis or config.redis is not None

    def held_keys(self, bucket: Bucket) -> Iterator[str | bytes]:
        """Keys of a bucket, and of its overrides, that are held here."""
        overrides = (self.known(override.key) for _, override in bucket.spec.overrides)
        every = (bucket, *overrides, *self.outside.of(bucket.spec.key).deciding())
        by_name = {one.spec.name: one for one in every if one is not None}
        for name, key in list(bucket.table.names.values()):  # a copy: other threads go on taking
            one = by_name.get(name)
            # Another process of a shared table may have evicted it.
            if one is not None and not (bucket.table.shared and one.debt(key) is None):
                yield key

    def decided(self) -> Counts:
        """How many calls each bucket has admitted and denied, under either definition."""
        return {one.spec.name: one.decided() for one in self.buckets.values()}

    def ceiling(self, spec: BucketSpec) -> int:
        """Tokens that a key of the bucket may owe. A lower ceiling would forgive present debt, and
        a later change back would give these tokens out again."""
        need = spec.capacity + max(spec.max_debt, self._factory.least_debt(spec))
        known = self.known(spec.key)
        if known is None or known.spec == spec:
            return need
        held = known.spec.capacity + known.max_debt
        if self.strong is not None and not known.immediate:
            held = self.strong.most(held)
        return max(need, held)

    # ---- changing; the lock is held ----

    def begin(self, config: Config) -> None:
        """Records the configuration that the limiter was made from."""
        self.config = config

    def force(self, config: Config) -> None:
        """Brings a configuration into force that has been checked before."""
        specs, _ = self.runnable(config)
        if self.strong is not None:
            self.strong.rule_maker.outages(config.degradation)
        were = {key: one.spec for key, one in self.buckets.items()}
        buckets = {one.key: self._defined(one, owner) for one, owner in with_overrides(specs)}
        gone = {key: one for key, one in self.buckets.items() if key not in buckets}
        self._removed = {
            key: one for key, one in (self._removed | gone).items() if key not in buckets
        }
        before = self.config
        self.buckets, self.config = buckets, config
        self.outside.remove(gone)
        self.outside.connect(specs, buckets)
        self.wake_waiters()
        LOG.info(
            "configuration version %d (hash %s) is in force%s: %s%s%s%s%s",
            config.version,
            config.hash,
            "" if before is None else f" after version {before.version} (hash {before.hash})",
            counted(len(specs), "bucket"),
            "" if before is None else "".join(_differences(were, buckets)),
            "".join(f", {one.spec.name} removed" for one in gone.values()),
            "" if before is None else _changed_settings(before, config),
            "" if config.enabled else "; rating.enabled is false, so that nothing is denied",
        )

    def stage(self, before: Config, target: Config, share: float) -> None:
        """Puts a share of the keys of each bucket that changes under its new definition. New
        buckets come at once; all other differences come at the end."""
        specs, _ = self.runnable(target)
        kept = {one.key for one in before.buckets}
        buckets = dict(self.buckets)
        for spec, owner in with_overrides(specs):
            bucket = buckets.get(spec.key)
            if bucket is None:
                if share and owner.key not in kept:
                    buckets[spec.key] = self._defined(spec, owner)
            elif differs(bucket.spec, spec) and (share or bucket.candidate is not None):
                self._stage(bucket, spec, share)
        new, self.buckets = buckets.keys() - self.buckets.keys(), buckets
        added = buckets.keys() - kept
        self.outside.connect((one for one in specs if one.key in added), buckets)
        if new:
            self.outside.look_again()
        self.wake_waiters()

    def make_override(self, spec: BucketSpec, owner: BucketSpec) -> Bucket:
        """The bucket of an override of `owner`, with this definition from now on. Raises
        `InvalidSpec` for a definition that strong mode does not support."""
        owning = self.known(owner.key)  # a caller may still hold one that was removed
        if self.strong is not None and owning is not None and not owning.immediate:
            self.strong.rule_maker.check(spec, self.ceiling(spec) - spec.capacity)
        bucket = self._overriding[spec.key] = self._defined(spec, owner)
        return bucket

    def relax(self) -> None:
        """Lowers ceilings that were raised for a time to those of the definitions. To be called
        every second or so, without the lock."""
        now = self.tables.main.now()
        if not any(now >= one.until for one in list(self._raised.values())):
            return
        with self.lock:
            for key, one in list(self._raised.items()):
                if now >= one.until:
                    del self._raised[key]
                    spec = one.bucket.spec
                    one.bucket.define(spec, min_debt=self._factory.least_debt(spec))
                    self._follow(one.bucket)

    def wake_waiters(self) -> None:
        """Every caller that waits for tokens looks again."""
        for bucket in self.made:
            bucket.waiters.kick_all()

    def _defined(self, spec: BucketSpec, owner: BucketSpec) -> Bucket:
        bucket = self.known(spec.key)
        if bucket is not None and bucket.candidate is not None:
            bucket.unstage(keep=bucket.candidate == spec)
            self._note_ceiling(bucket)
        if bucket is None:
            bucket = self._factory.make(spec, owner)
            self._note_ceiling(bucket)
        elif bucket.spec != spec:
            ceiling = self.ceiling(spec)
            bucket.define(spec, min_debt=ceiling - spec.capacity)
            self._note_ceiling(bucket)
        self._follow(bucket)
        return bucket

    def _stage(self, bucket: Bucket, spec: BucketSpec, share: float) -> None:
        # Keys go back and forth between the two definitions, so both get the higher ceiling.
        ceiling = self.ceiling(spec)
        if bucket.candidate is not None:
            ceiling = max(ceiling, bucket.candidate.capacity + bucket.candidate_max_debt)
        bucket.define(bucket.spec, min_debt=ceiling - bucket.spec.capacity)
        bucket.stage(spec, share, min_debt=ceiling - spec.capacity)
        self._raised.pop(spec.key, None)
        self._follow(bucket)

    def _note_ceiling(self, bucket: Bucket) -> None:
        """Remembers a ceiling that is higher than that of the definition, until the debt is
        paid."""
        spec, ceiling = bucket.spec, bucket.spec.capacity + bucket.max_debt
        self._raised.pop(spec.key, None)
        if ceiling > spec.capacity + max(spec.max_debt, self._factory.least_debt(spec)):
            q, p = spec.emission
            until = self.tables.main.now() + -(-q * ceiling // p)
            self._raised[spec.key] = RaisedCeiling(bucket, until)

    def _follow(self, bucket: Bucket) -> None:
        if self.strong is not None:
            self.strong.follow(bucket)


def runnable(config: Config, *, has_redis: bool) -> tuple[tuple[BucketSpec, ...], Mode]:
    """The buckets that run, and their consistency: all are eventual without a Redis to ask, and all
    are shadows if `rating.enabled` is false."""
    specs, consistency = config.buckets, config.consistency
    if not has_redis:
        specs = tuple(dataclasses.replace(one, consistency=None) for one in specs)
        consistency = Mode.EVENTUAL
    return (specs if config.enabled else shadowed(specs)), consistency


def differs(old: BucketSpec, new: BucketSpec) -> bool:
    """Whether keys of a bucket get other limits, apart from its overrides."""
    return dataclasses.replace(old, overrides=()) != dataclasses.replace(new, overrides=())


def _differences(were: Mapping[str, BucketSpec], are: Mapping[str, Bucket]) -> Iterator[str]:
    """The buckets that changed or are new, each as the log names it."""
    for key, one in are.items():
        if key not in were:
            yield f", {one.spec.name} added"
        elif differs(were[key], one.spec):
            yield f", {one.spec.name} changed"


def _changed_settings(before: Config, config: Config) -> str:
    from crdtbucket.config.compare import changed_settings

    changed = changed_settings(before, config)
    return f"; changed: {', '.join(changed)}" if changed else ""
