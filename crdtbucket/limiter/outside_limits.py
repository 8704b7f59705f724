"""Limits from outside: which keys have one, and the buckets that decide on these keys.

All keys of a bucket with the same limit are decided on by one bucket, `name[=limit]`: many keys
need no more definitions than there are different limits. A limit that operators give to a key takes
precedence over one from a function, and both over the globs of the definition.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import CrdtbucketError, InvalidSpec
from crdtbucket.limiter.asked_limits import AskedLimits
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.spec.asked_overrides import Limit
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.globs import MAX_KEY_LENGTH, Choice, key_text
from crdtbucket.spec.overrides import limit_from_outside

LOG = logging.getLogger("crdtbucket")
MAX_LIMITS = 500
"""Different limits from outside that keys of all buckets have at a time."""
MAX_MADE = 2_000
"""Different limits from outside in the life of a limiter: the definition that is made for each is
never removed."""


class Definitions(Protocol):
    """The definitions in force; see `InForce`."""

    lock: ForkLock

    def named(self, name: str) -> BucketSpec | None: ...
    def make_override(self, spec: BucketSpec, owner: BucketSpec) -> Bucket: ...


class OutsideLimits:
    """The limits from outside of all buckets of one limiter."""

    def __init__(self, in_force: Definitions) -> None:
        """No bucket is connected yet. `in_force` makes the buckets that decide by these limits."""
        self._in_force = in_force
        self._of: dict[str, BucketOverrides] = {}
        self._made: dict[str, Bucket] = {}
        """The buckets that were ever made, by key."""

    @property
    def buckets(self) -> dict[str, Bucket]:
        """The buckets of the limits that can be used, by key."""
        return {bucket.spec.key: bucket for bucket in self._in_use()}

    def stats(self) -> dict[str, int]:
        """`given`: the number of keys to which operators have given a limit; `limits`: the number
        of different limits from outside; `failed`: how often a function did not return a limit for
        a key."""
        every = list(self._of.values())
        return {
            "given": sum(len(one.given) for one in every),
            "limits": len(self._in_use()),
            "failed": sum(one.asked.failed for one in every if one.asked is not None),
        }

    def of(self, bucket: str) -> BucketOverrides:
        """The object that finds the deciding bucket for keys of one bucket, which is named as in
        `BucketSpec.key`."""
        found = self._of.get(bucket)
        if found is None:
            found = self._of.setdefault(bucket, BucketOverrides(self.define, self._in_force.lock))
        return found

    def connect(self, specs: Iterable[BucketSpec], buckets: Mapping[str, Bucket]) -> None:
        """Connects each bucket with those of its overrides; `buckets` has all of them by key."""
        for spec in specs:
            pairs = [(glob, buckets[override.key]) for glob, override in spec.overrides]
            self.of(spec.key).connect(spec, buckets[spec.key], pairs)

    def look_again(self) -> None:
        """Called when there are new buckets, which limits of keys may name; the lock is held."""
        for one in [one for one in list(self._of.values()) if one.in_force]:
            one.look_again()

    def remove(self, buckets: Iterable[str]) -> None:
        """The buckets of these keys are no longer in force."""
        for key in buckets:
            if key in self._of:
                self._of[key].in_force = False

    def define(self, owner: BucketSpec, limit: Limit) -> Bucket:
        """The bucket of a limit; the lock is held. Raises `InvalidSpec`."""
        spec = limit_from_outside(owner, limit, self._in_force.named)
        if self._in_force.named(spec.name) is not None:
            fix = "rename the bucket, or the glob, or spell the limit otherwise"
            raise InvalidSpec(f"there is a bucket {spec.name!r} already", fix, "limit")
        if self._is_full(spec):
            forgot = [one.forget_unused() for one in list(self._of.values())]
            if not any(forgot) or self._is_full(spec):
                fix = f"let keys share one of the {MAX_LIMITS} that keys have"
                raise InvalidSpec(f"{limit!r} is one limit more", fix, "limit")
        if spec.key not in self._made and len(self._made) >= MAX_MADE:
            fix = f"restart this process, which has had {MAX_MADE} different ones"
            raise InvalidSpec(f"{limit!r} is one limit more", fix, "limit")
        bucket = self._in_force.make_override(spec, owner)
        self._made[spec.key] = bucket
        return bucket

    def _is_full(self, spec: BucketSpec) -> bool:
        if sum(len(one.limits) for one in list(self._of.values())) < MAX_LIMITS:
            return False
        known = self._in_use()
        return len(known) >= MAX_LIMITS and self._made.get(spec.key) not in known

    def _in_use(self) -> dict[Bucket, None]:
        """The buckets of the limits that can be used, each once."""
        every = (one.deciding() for one in list(self._of.values()) if one.in_force)
        return dict.fromkeys(chain.from_iterable(every))


@dataclass(slots=True, eq=False)
class OutsideLimit:
    """One limit that keys of a bucket have."""

    limit: Limit
    bucket: Bucket | None = None
    """The bucket that decides on these keys; None while the limit cannot be used."""
    keys: int = 0
    """The number of keys to which operators have given this limit."""


class BucketOverrides:
    """Finds the bucket that decides on a key of one bucket whose keys have limits from outside."""

    def __init__(self, define: Callable[[BucketSpec, Limit], Bucket], lock: Any) -> None:
        """`define`, called under `lock`, returns the bucket of a limit (made if need be)."""
        self.asked: AskedLimits | None = None
        """The limits that a function states, None where there is none."""
        self.without_order: Callable[[str], Bucket]
        """The bucket of a key to which no operator gives a limit; set by `connect`."""
        self.in_force = False
        """Whether the bucket is in force, and is not itself the override of another one."""
        self._define = define
        self._lock = lock
        self.given: dict[str, OutsideLimit] = {}
        """The keys to which operators have given a limit."""
        self.limits: dict[Limit, OutsideLimit] = {}
        """All limits, those that cannot be used included."""
        self._looked = -NS_PER_SECOND
        """When `forget_unused` last looked for limits that no key has (local ns)."""
        self._bucket: Bucket | None = None
        """None while it is not defined."""
        self._globs: list[tuple[str, Bucket]] = []
        self._choice: Choice[Bucket] | None = None

    def deciding(self) -> Iterator[Bucket]:
        """The buckets of the limits, each of which decides on some keys."""
        return (one.bucket for one in list(self.limits.values()) if one.bucket is not None)

    def connect(self, spec: BucketSpec, bucket: Bucket, globs: list[tuple[str, Bucket]]) -> None:
        """The bucket has this definition now, and these overrides by glob."""
        self._bucket, self._globs, self.in_force = bucket, globs, True
        self._choice = Choice(globs, bucket)
        for one in list(self.limits.values()):
            self._resolve(one)
        source = spec.overrides_from
        bucket.waiters.expect_changes(source is not None)
        if source is None:
            self.asked = None
        elif self.asked is None or self.asked.source != source:
            self.asked = AskedLimits(source, bucket, self.bucket_of)
        else:
            self.asked.forget_all_but(set(self.deciding()))
        self.without_order = self._choice.of if self.asked is None else self.asked.of
        self._install()

    def look_again(self) -> None:
        """Uses limits that could not be used until now, where they can; the lock is held."""
        for one in [one for one in self.limits.values() if one.bucket is None]:
            self._resolve(one)
        self._install()

    def changing(self, owner: BucketSpec, named: Callable[[str], BucketSpec | None]) -> int:
        """How many limits get another definition when the bucket gets that of `owner`."""
        count = 0
        for one in list(self.limits.values()):
            with contextlib.suppress(InvalidSpec):  # it gets none
                spec = limit_from_outside(owner, one.limit, named)
                count += one.bucket is None or one.bucket.spec != spec
        return count

    def give(self, limits: Iterable[tuple[str, str | None]]) -> None:
        """Operators have given these limits to keys; None: they have removed the key's limit."""
        with self._lock:
            self._give(dict(limits))

    def _give(self, wanted: dict[str, str | None]) -> None:
        new = []
        before = bool(self.given)
        for key, limit in wanted.items():
            if (replaced := self.given.get(key)) is not None:
                replaced.keys -= 1
            if limit is None:
                continue
            if limit not in self.limits:
                self.limits[limit] = OutsideLimit(limit)
                new.append(self.limits[limit])
            self.limits[limit].keys += 1
        for one in new:
            self._resolve(one)
        if new:
            self._install()  # before a key is sent there
        for key, limit in wanted.items():
            if limit is None:
                self.given.pop(key, None)
            else:
                self.given[key] = self.limits[limit]
        if before != bool(self.given):
            self._install()
        for bucket in (self._bucket, *self.deciding()):
            if bucket is not None:
                bucket.waiters.kick_all()

    def bucket_of(self, limit: Limit) -> Bucket:
        """The bucket of a limit. From any thread. Raises `InvalidSpec` for one that cannot be."""
        known = self.limits.get(limit)
        if known is not None and known.bucket is not None:
            return known.bucket
        with self._lock:
            if self._bucket is None:
                raise InvalidSpec("the bucket is not defined", "define it", "bucket")
            bucket = self._define(self._bucket.spec, limit)
            self.limits.setdefault(limit, OutsideLimit(limit)).bucket = bucket
            self._install()
            return bucket

    def choose(self, key: str | bytes) -> Bucket:
        """The bucket that decides on a key."""
        if not isinstance(key, (str, bytes)) or len(key) > MAX_KEY_LENGTH:
            assert self._bucket is not None
            return self._bucket  # which refuses
        text = key if isinstance(key, str) else key_text(key)
        given = self.given.get(text)
        if given is not None and given.bucket is not None:
            return given.bucket
        return self.without_order(text)

    def given_to(self, key: str) -> Bucket | None:
        """The bucket of the limit that an operator has given to a key."""
        given = self.given.get(key)
        return None if given is None else given.bucket

    def forget_unused(self) -> bool:
        """Forgets limits that no key has, at most once a second; the lock is held. A key still owes
        what it owed under an earlier limit, and that counts when the limit comes back. Returns
        whether any were forgotten."""
        if self._bucket is None or (now := self._bucket.table.now()) < self._looked + NS_PER_SECOND:
            return False
        self._looked = now
        before = len(self.limits)
        said = set() if self.asked is None else self.asked.buckets()
        self.limits = {
            limit: one for limit, one in self.limits.items() if one.keys or one.bucket in said
        }
        return len(self.limits) < before

    def _resolve(self, one: OutsideLimit) -> None:
        """Finds the bucket that a limit means by the present definitions, and uses it."""
        if self._bucket is None:
            return
        try:
            one.bucket = self._define(self._bucket.spec, one.limit)
        except CrdtbucketError as error:
            one.bucket = None
            LOG.error(
                "bucket %r: the limit %r, which was given to keys from outside, cannot be used; "
                "these keys have the limit that they would have without it: %s",
                self._bucket.spec.name,
                one.limit,
                error,
            )

    def _install(self) -> None:
        if self._bucket is None or self._choice is None:
            return
        others = [*(bucket for _, bucket in self._globs), *self.deciding()]
        if self.given or self.asked is not None:
            self._bucket.choose_by(self.choose, others)
        else:
            self._bucket.choose_by(self._choice.of if self._globs else None, others)
