"""Remembers for a time which limits a function has given to keys."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import NamedTuple

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.forks import ForkLock
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.calendar_bucket import CalendarBucket
from crdtbucket.spec.asked_overrides import AskedOverrides, Limit
from crdtbucket.spec.globs import REMEMBERED_KEYS

LOG = logging.getLogger("crdtbucket")
RETRY_NS = NS_PER_SECOND
"""After this time at most a function that has raised is asked again."""


class RememberedLimit(NamedTuple):
    """The answer of the function for one key, and until when it is used."""

    bucket: Bucket
    until: int
    """When the function is asked about the key again (local ns)."""


class AskedLimits:
    """Finds the bucket that decides on a key of `owner` by asking a function for the limit of the
    key. Safe from any thread."""

    def __init__(
        self, source: AskedOverrides, owner: Bucket, bucket_of: Callable[[Limit], Bucket]
    ) -> None:
        """`bucket_of` returns the bucket of a limit, making it if necessary, and raises if the
        value is not a limit."""
        self.source = source
        self.failed = 0
        """How often the function raised, or returned something that is not a limit."""
        self._owner = owner
        self._now = owner.table.now
        self._bucket_of = bucket_of
        # An `OrderedDict`, since a plain dict must skip the places of all removed keys to find its
        # oldest one.
        self._answers: OrderedDict[str, RememberedLimit] = OrderedDict()
        self._lock = ForkLock()  # held while `_answers` changes, never while the function is asked
        self._failing = False

    def of(self, key: str) -> Bucket:
        """The bucket that decides on a key."""
        now = self._now()
        known = self._answers.get(key)
        if known is not None and now < known.until:
            return known.bucket
        return self._ask(key, known, now)

    def buckets(self) -> set[Bucket]:
        """The buckets in answers that are not too old."""
        now = self._now()
        with self._lock:
            return {answer.bucket for answer in self._answers.values() if now < answer.until}

    def forget_all_but(self, buckets: Collection[Bucket]) -> None:
        """Forgets all answers except those that name one of these buckets or the owner."""
        with self._lock:
            self._answers = OrderedDict(
                (key, answer)
                for key, answer in self._answers.items()
                if answer.bucket is self._owner or answer.bucket in buckets
            )

    def _ask(self, key: str, known: RememberedLimit | None, now: int) -> Bucket:
        ttl = self.source.ttl_ns
        try:
            limit = self.source.ask(key)
            bucket = self._owner if limit is None else self._bucket_of(limit)
        except Exception as error:  # noqa: BLE001 - logged and counted; the call is decided
            bucket, ttl = self._owner if known is None else known.bucket, min(ttl, RETRY_NS)
            self._fail(error)
        else:
            self._failing = False
        with self._lock:
            before = self._answers.pop(key, None)  # so that the order is that of their age
            self._answers[key] = RememberedLimit(bucket, now + ttl)
            if len(self._answers) > REMEMBERED_KEYS:
                self._answers.popitem(last=False)
        # Not `known`: another thread may have asked meanwhile, and the key moves only once.
        if before is not None and before.bucket is not bucket:
            carry_over(key, before.bucket, bucket)
        return bucket

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self.failed += 1
            first, self._failing = not self._failing, True
        if first:
            LOG.error(
                "the function for the overrides of bucket %r has failed (%s: %s): until it answers "
                "again, keys keep the limit that it returned last, and keys without one have the "
                "bucket's own",
                self._owner.spec.name,
                type(error).__name__,
                error,
            )


def carry_over(key: str, before: Bucket, after: Bucket) -> None:
    """A key moves from the bucket `before` to the bucket `after`: charges to the second bucket what
    the key owes in the first one beyond what it owes in the second. To be called once for each
    move; peers receive the charge like any other."""
    if isinstance(before, CalendarBucket) and isinstance(after, CalendarBucket):
        before, after = before.look(), after.look()
    if before is after or before.spec.slots is not None:
        return
    owed = owed_tokens(before, key) - max(owed_tokens(after, key), 0)
    if owed > 0:
        after.settle(key, owed)


def owed_tokens(bucket: Bucket, key: str) -> int:
    """The tokens that a key lacks until its bucket is full, rounded up; below 0 with a credit."""
    q, p = bucket.spec.emission
    return -(-(bucket.debt(key) or 0) * p // q)
