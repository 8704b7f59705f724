"""One bucket of a limiter: the compiled decisions, and what is built on them."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, SupportsIndex

from crdtbucket._core import (
    BucketCore,
    Decision,
    Decisions,
    Reservation,
    ReservationBook,
    Table,
)
from crdtbucket.base.across import check_no_loop
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import patience_ns
from crdtbucket.base.repeated_lines import RepeatedLines
from crdtbucket.errors import InvalidCost, InvalidSpec, WrongKind
from crdtbucket.limiter.held_slot import Slot
from crdtbucket.limiter.waiting import Lines, Waiters
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.priority import Floor

Choose = Callable[[str | bytes], "Bucket"]
"""Returns the bucket that decides on a key."""
NOT_COPIED = (
    "cannot be pickled or copied: make one in each process, from the same definitions or file, "
    "with shared= so that all have one table"
)
"""The end of the message when a program tries to copy a limiter or bucket to another process."""
LOG = logging.getLogger("crdtbucket")
# Late commits come in bursts, when the service behind the calls was slow: one log line is enough.
REPEAT_NS = 60 * NS_PER_SECOND


class Bucket(BucketCore):
    """Decisions on the keys of one bucket; made by `Limiter`, safe to call from any thread.

    `take`, `peek`, `settle` and `take_many` are the compiled core's own methods. Each call goes to
    the bucket that decides on its key: this one, or that of the first override whose glob matches
    the key. Methods without a key, such as `counters` and `mode`, and `hash`, `columns`, `debt` and
    `credit` concern this bucket alone; for an overridden key, ask the bucket that `of(key)`
    returns.
    """

    __slots__ = ("waiters",)

    named: Bucket
    """The bucket that callers name: this one, or the one that it overrides for some keys."""

    def __init__(
        self,
        table: Table,
        spec: BucketSpec,
        *,
        min_debt: int = 0,
        update_interval_ns: int | None = None,
    ) -> None:
        """`update_interval_ns`: the time between updates of other nodes; None when there are no
        other nodes."""
        super().__init__(table, spec, min_debt=min_debt)
        self.named = self
        self.waiters = self._make_lines(update_interval_ns)
        self.reservations = Reservations(self)

    def _make_lines(self, update_interval_ns: int | None) -> Lines:
        """The lines of callers that wait; called once, while the bucket is made."""
        return Waiters(self, update_interval_ns=update_interval_ns)

    @property
    def parts(self) -> Sequence[Bucket]:
        """The buckets that keep the counts of this one; empty if it keeps them itself."""
        return ()

    def beat(self) -> None:
        """Does the periodic work; to be called about every second."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a bucket {NOT_COPIED}")

    if TYPE_CHECKING:

        def of(self, key: str | bytes) -> Bucket:
            """The core's: the bucket that decides on a key, this one or that of its override."""
            raise NotImplementedError

    def choose_by(self, choose: Choose | None, others: Iterable[Bucket]) -> None:
        """From now on `choose` says which bucket decides on a key: this one, or one of `others`."""
        overrides = tuple(others)
        self.redirect(choose, overrides)
        self._name_for(overrides)

    def _name_for(self, overrides: Iterable[Bucket]) -> None:
        """Makes this bucket the one that callers name for the given buckets, which override it for
        some keys."""
        for one in overrides:
            one.named = self

    async def acquire(self, key: str | bytes, cost: int = 1, floor: Floor = 0) -> Decision:
        """A `take` that works in every mode of the bucket. It does not wait for tokens. In eventual
        mode it awaits nothing: no other task runs in between. Raises as `take`.
        """
        return self.take(key, cost, floor)

    def acquire_sync(self, key: str | bytes, cost: int = 1, floor: Floor = 0) -> Decision:
        """`acquire` for threads without an event loop. Raises as `take`."""
        return self.take(key, cost, floor)

    async def acquire_many(
        self, keys: Iterable[str | bytes], costs: SupportsIndex | Iterable[SupportsIndex] = 1
    ) -> Decisions:
        """A `take_many` that works in every mode of the bucket; all keys are asked at once. `costs`
        is one cost for all keys or a sequence with one for each. All arguments are checked before
        anything is taken. Raises as `take_many`.
        """
        return self.take_many(keys, costs)

    def take_apart(
        self, keys: Iterable[str | bytes], costs: SupportsIndex | Iterable[SupportsIndex]
    ) -> Decisions:
        """`take_many` of a bucket with overrides: takes from the deciding buckets one after the
        other."""
        if isinstance(keys, (str, bytes)):
            return self.take_here(keys, costs)  # raises: one key is no list of keys
        names = tuple(keys)
        each = cost_of_each(names, costs)
        places: dict[Bucket, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(self.of(name), []).append(place)
        if len(places) > 1:
            for name, cost in zip(names, each, strict=True):
                self.peek(name, cost)  # refuses what is wrong before anything is taken
        size = len(names)
        out = Decisions(array("b", bytes(size)), array("q", [0]) * size, array("d", [0]) * size)
        for bucket, mine in places.items():
            answers = bucket.take_here(
                [names[place] for place in mine], [each[place] for place in mine]
            )
            for n, place in enumerate(mine):
                out.allowed[place] = answers.allowed[n]
                out.remaining[place] = answers.remaining[n]
                out.retry_after[place] = answers.retry_after[n]
        return out

    async def wait(self, key: str | bytes, cost: int = 1, timeout: float | None = None) -> Decision:
        """The allowed decision, as soon as there are tokens: first come first served per key.

        A later caller never passes an earlier one, however small its cost; `take` and `acquire` do
        not stand in line. Wakes when enough tokens are refilled or refunded. Cancelling frees the
        place. The order holds among the callers of one event loop. At most 10,000 callers wait for
        a key. Each try uses the limit that the key has at that moment.

        timeout: seconds, None for ever, 0 or less for a single try. Raises `WaitTimeout`, which
        carries the last denial: at the timeout, and at once when refill alone, for this caller
        and those before it, is known to take longer. Raises as `take` does.
        """
        return await self.waiters.wait(key, cost, timeout)

    def wait_sync(self, key: str | bytes, cost: int = 1, timeout: float | None = None) -> Decision:
        """`wait` for threads without an event loop: blocks until there are tokens.

        Threads compete with each other for the tokens of a key; a refund wakes all of them. Raises
        as `wait`, and `CrdtbucketError` in a thread whose event loop it would block.
        """
        check_no_loop("wait_sync", "`await bucket.wait(...)`")
        patience_ns(timeout)  # refuses what is none
        # If there are enough tokens, no event loop is needed; making one is the expensive part.
        if self.immediate and self.peek(key, cost) and (decision := self.take(key, cost)):
            return decision
        return asyncio.run(self.waiters.wait(key, cost, timeout))

    def slot(
        self,
        key: str | bytes,
        ttl: str | int | float | timedelta | None = None,
        timeout: float | None = 0.0,
    ) -> Slot:
        """A slot of `key`, for a bucket of kind `concurrency`. Others raise `WrongKind`."""
        raise WrongKind(
            f"bucket {self.spec.name!r} has tokens and no slots: BucketSpec.concurrency(...) "
            "defines one that limits what is in flight"
        )

    def returned(self, key: str | bytes, tokens: int) -> None:
        """Tokens of a key came back: wakes the callers that wait for the key, also those that wait
        for it in the bucket that this one overrides."""
        if self.waiters.lines:
            self.waiters.kick(key)
        if self.named is not self and self.named.waiters.lines:
            self.named.waiters.kick(key)

    def reset_all(self) -> list[tuple[int, int]]:
        """`reset` of every key that is held, for tests and operators; those of overrides are left.

        Returns the hashes of the keys to which tokens came back. Looks at every key of the table,
        in slices between which other threads go on: `asyncio.to_thread` keeps an event loop free.
        """
        found = super().reset_all()
        self.waiters.kick_all()
        self.named.waiters.kick_all()
        return found

    def __repr__(self) -> str:
        spec = self.spec
        return f"Bucket({spec.name!r}, capacity={spec.capacity}, mode={str(self.mode)!r})"


def cost_of_each(
    names: tuple[str | bytes, ...], costs: SupportsIndex | Iterable[SupportsIndex]
) -> tuple[SupportsIndex, ...]:
    """The cost of each key, where `costs` is one or as many. Raises `InvalidCost`."""
    each = tuple(costs) if isinstance(costs, Iterable) else (costs,) * len(names)
    if len(each) != len(names):
        raise InvalidCost(f"{len(each)} costs for {len(names)} keys")
    return each


def check_bucket(bucket: object, taker: str) -> None:
    """Raises `InvalidSpec` if this is not a bucket but, for example, the name of one, and
    `WrongKind` for a bucket of slots. `taker`: a phrase for the message, naming what would take the
    tokens."""
    if not isinstance(bucket, Bucket):
        fix = 'pass a bucket, such as limiter.bucket("api")'
        raise InvalidSpec(f"the bucket of {taker} is {bucket!r}", fix, "bucket")
    if bucket.spec.slots is not None:
        raise WrongKind.of_slots(bucket.spec.name, taker)


class Reservations(ReservationBook):
    """All reservations of one bucket; late commits are logged."""

    def __init__(self, bucket: Bucket) -> None:  # the core has taken the bucket when it was made
        self._lines = RepeatedLines(REPEAT_NS)

    def late(self, one: Reservation, actual: int) -> None:
        now = self.bucket.table.now()
        if (more := self._lines.add("late", now)) is None:
            return
        # The estimate came back before its ttl: for example, an answer was streamed after its
        # function had returned.
        cause, advice = "at the end of its block", "Commit before the block ends"
        if now >= one.deadline_ns:
            cause, advice = f"after a ttl of {one.ttl_ns / NS_PER_SECOND:g} s", "Give a longer ttl"
        LOG.warning(
            "bucket %s: a reservation was committed after its estimate had gone back %s; the cost "
            "of %d is charged in full. %s%s",
            self.bucket.spec.name,
            cause,
            actual,
            advice,
            more,
        )
