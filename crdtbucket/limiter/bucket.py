"""One bucket of a limiter: the compiled decisions, and what is built on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NoReturn, SupportsIndex

from crdtbucket._core import BucketCore, Decision, Decisions, Table
from crdtbucket.errors import InvalidCost
from crdtbucket.limiter.reservations import Reservation, Reservations
from crdtbucket.limiter.waiting import Lines, Waiters
from crdtbucket.spec.bucket_spec import BucketSpec

NOT_COPIED = (
    "cannot be pickled or copied: make one in each process, from the same definitions or file, "
    "with shared= so that all have one table"
)
"""What is told of a limiter or a bucket that would go to another process, as to a spawned one."""


class Bucket(BucketCore):
    """Decisions on the keys of one bucket; made by `Limiter`, safe to call from any thread.

    `take`, `peek`, `settle` and `take_many` are the compiled core's own methods.
    """

    # The first two are of PlannedBucket, in this place so that strong buckets can be planned, too.
    __slots__ = ("_choice", "_plans", "reservations", "waiters")

    immediate: ClassVar[bool] = True
    """Whether decisions need no I/O, so that there is `take`."""

    def __init__(
        self,
        table: Table,
        spec: BucketSpec,
        *,
        min_debt: int = 0,
        news_ns: int | None = None,
    ) -> None:
        """`news_ns`: how often other nodes are heard (ns), None when there are no others."""
        super().__init__(table, spec, min_debt=min_debt)
        self.waiters: Lines = Waiters(self, news_ns=news_ns)
        self.reservations = Reservations(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a bucket {NOT_COPIED}")

    def of(self, key: str | bytes) -> Bucket:
        """The bucket that decides on a key: this one, or that of the key's plan."""
        return self

    async def acquire(self, key: str | bytes, cost: int = 1) -> Decision:
        """The decision of a `take`, in whatever mode the bucket is. Does not wait for tokens.

        Nothing is awaited in eventual mode: no other task runs in between. Raises as `take`.
        """
        return self.take(key, cost)

    def acquire_sync(self, key: str | bytes, cost: int = 1) -> Decision:
        """`acquire` for threads without an event loop. Raises as `take`."""
        return self.take(key, cost)

    async def acquire_many(
        self, keys: Iterable[str | bytes], costs: SupportsIndex | Iterable[SupportsIndex] = 1
    ) -> Decisions:
        """The decisions of a `take_many`, in whatever mode the bucket is; all are asked at once.

        `costs` is one cost or a sequence of as many. All arguments are checked before anything is
        taken. Raises as `take_many`.
        """
        return self.take_many(keys, costs)

    async def wait(self, key: str | bytes, cost: int = 1, timeout: float | None = None) -> Decision:
        """The allowed decision, as soon as there are tokens: first come first served per key.

        A later caller never passes an earlier one, however small its cost; `take` and `acquire`
        do not stand in line. Wakes when the refill is there, or a refund. Cancelling frees the
        place. The order holds among the callers of one event loop. At most 10,000 callers wait
        for a key.

        timeout: seconds, None for ever, 0 or less for a single try. Raises `WaitTimeout`, which
        carries the last denial: at the timeout, and at once when refill alone, for this caller
        and those before it, is known to take longer. Raises as `take` does.
        """
        return await self.waiters.wait(key, cost, timeout)

    def reserve(self, key: str | bytes, estimate: int, ttl: float = 60.0) -> Reservation:
        """Sets `estimate` tokens aside while a `with` or `async with` block learns the true cost.

        Entering raises `ReservationDenied` when they are not there, and as `take`. `ttl`: seconds
        (above 0) after which the estimate goes back; at most a second late while the limiter is
        open, else when a reservation of this bucket is next used. See `Reservation`.
        """
        return self.reservations.reserve(key, estimate, ttl)

    def refund(self, decision: Decision, tokens: SupportsIndex | None = None) -> int:
        """Gives back `tokens` (default: all that is left) of an allowed decision of this bucket.

        Returns the tokens that came back: 0 when the bucket has been full since, or its key or
        this node's epoch is gone. Raises `InvalidCost` when more would come back than was taken.
        """
        given_back = super().refund(decision, tokens)
        if given_back and self.waiters:
            self.waiters.kick(decision.key)
        return given_back

    def reset(self, key: str | bytes) -> int:
        """Gives `key` back what it lacks, for operators. Returns the tokens that came back.

        At most what this process has taken of the key and not given back: other nodes hear of it
        as of any refund, and what only they have taken is theirs to give back.
        """
        given_back = super().reset(key)
        if given_back and self.waiters:
            self.waiters.kick(key)
        return given_back

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


__all__ = ["Bucket", "cost_of_each"]
