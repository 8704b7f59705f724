"""A service that this program calls, and the bucket in which its requests wait for their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from crdtbucket._core import Decision
from crdtbucket.base.across import check_no_loop
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import duration_ns, patience_ns
from crdtbucket.errors import InvalidSpec, LimiterClosed, WaitTimeout
from crdtbucket.limiter.bucket import Bucket, check_bucket
from crdtbucket.limiter.facade import Limiter
from crdtbucket.limiter.key_and_cost import check_key, check_tokens
from crdtbucket.limiter.multi import check_limiter
from crdtbucket.limiter.waiting import Waiters
from crdtbucket.upstream.follower import Follower
from crdtbucket.upstream.upstream_fields import REQUESTS, UpstreamState, read_upstream

ROUNDS = 5
"""Gossip intervals in which all nodes have learned of a charge, the way of the frames included."""


@dataclass(frozen=True)
class UpstreamCall:
    """A request that has its tokens. It must be given the answer."""

    upstream: Upstream
    key: str | bytes
    decision: Decision
    sent_ns: int
    """When it was sent, by the clock of the bucket (ns)."""

    def answered(self, status: int, fields: Iterable[tuple[str, str]]) -> UpstreamState:
        """Reads from the answer what is left of the service's limit. The bucket follows it."""
        state = read_upstream(status, fields)
        self.upstream.follow(self.key, state, self.sent_ns)
        return state


class Upstream:
    """Requests to a service wait for tokens of a bucket, with a deadline, and the bucket follows
    what the service's answers say is left: in a mesh, for the whole fleet."""

    def __init__(
        self,
        limiter: Limiter,
        bucket: str,
        *,
        key: str | bytes | Callable[[Any], str | bytes] = "all",
        cost: int | Callable[[Any], int] = 1,
        timeout: float | None = 30.0,
        follows: str | None = REQUESTS,
        longest_pause: float = 60.0,
    ) -> None:
        """key, cost: values, or functions of the client's own request. timeout: seconds that a
        request waits at most, None for ever; then it raises `WaitTimeout`. follows: which of the
        service's quotas the bucket stands for, by its unit ("requests", "tokens", "input-tokens")
        or its policy's name; None follows nothing. longest_pause: seconds (0 or more) for which an
        answer may stop requests; one that says longer counts as this.

        Raises `UnknownBucket`, `InvalidSpec` for a strong or a calendar bucket that would follow
        and for an argument that can never be right, and `WrongKind` for a bucket of slots.
        """
        check_limiter(limiter, 'Upstream(limiter, "name of its bucket")')
        found = limiter.bucket(bucket)
        check_bucket(found, "an upstream")
        check_key(key, "the request")
        check_tokens(cost, "the request")
        if follows is not None and not isinstance(follows, str):
            fix = "pass the unit or the name of one of the service's quotas, or None"
            raise InvalidSpec(f"follows is {follows!r}", fix, "follows")
        self._bucket = found
        self._key = key
        self._cost = cost
        self._timeout = timeout
        patience_ns(timeout)
        pause_ns = duration_ns(longest_pause, "longest_pause")
        self._follower = None
        if follows is not None:
            if found.spec.period is not None:
                # One status 429 would empty it, and nothing comes back before the period ends.
                raise InvalidSpec(
                    f"bucket {found.spec.name!r} is a calendar quota and cannot follow a service",
                    "pass follows=None",
                    "follows",
                )
            self._follower = Follower(
                found,
                follows=follows,
                longest_pause_ns=pause_ns,
                round_ns=_round_ns(found),
                sharers=lambda: _sharers(limiter, found),
            )

    async def wait(self, request: Any) -> UpstreamCall:
        """The call, once it has its tokens and the service takes requests. Raises `WaitTimeout`,
        at once where it is known that the time does not suffice, and as `Bucket.wait` does."""
        key, cost, end = self._asked(request)
        while True:
            await self._pass_pause(key, end)
            decision = await self._bucket.wait(key, cost, self._left_s(end))
            call = self._call(key, decision)
            if call is not None:
                return call

    def wait_sync(self, request: Any) -> UpstreamCall:
        """Waits as `wait` does, in a thread without an event loop. Raises as `Bucket.wait_sync`
        does, too."""
        check_no_loop("wait_sync", "`await upstream.wait(...)`")
        key, cost, end = self._asked(request)
        while True:
            if self._pause_ns(key):
                asyncio.run(self._pass_pause(key, end))
            decision = self._bucket.wait_sync(key, cost, self._left_s(end))
            call = self._call(key, decision)
            if call is not None:
                return call

    def follow(self, key: str | bytes, state: UpstreamState, sent_ns: int) -> None:
        """Lowers the level of a key to what the service has left; `sent_ns` as of `UpstreamCall`.
        Of a limiter that was closed meanwhile nothing is left to lower."""
        if self._follower is not None:
            with contextlib.suppress(LimiterClosed):
                self._follower.update(key, state, sent_ns, self._bucket.table.now())

    def _asked(self, request: Any) -> tuple[str | bytes, int, int | None]:
        """The key, the cost, and until when the request waits (ns)."""
        key = self._key(request) if callable(self._key) else self._key
        cost = self._cost(request) if callable(self._cost) else self._cost
        patience = patience_ns(self._timeout)
        if self._follower is not None:
            self._follower.charge(key, self._bucket.table.now())
        return key, cost, None if patience is None else self._bucket.table.now() + patience

    def _left_s(self, end: int | None) -> float | None:
        return None if end is None else (end - self._bucket.table.now()) / NS_PER_SECOND

    def _pause_ns(self, key: str | bytes) -> int:
        follower = self._follower
        return 0 if follower is None else follower.pause_ns(key, self._bucket.table.now())

    async def _pass_pause(self, key: str | bytes, end: int | None) -> None:
        """Returns when the service takes requests again. Meanwhile the fleet learns of it."""
        while (pause_ns := self._pause_ns(key)) > 0:
            assert self._follower is not None, "who follows nothing learns of no pause"
            now = self._bucket.table.now()
            if end is not None and now + pause_ns > end:
                raise WaitTimeout(
                    f"the service takes no requests for {pause_ns / NS_PER_SECOND:.3f} s more, "
                    f"the caller waits {max(end - now, 0) / NS_PER_SECOND:g} s",
                    self._bucket.peek(key),
                )
            await asyncio.sleep(min(pause_ns, _round_ns(self._bucket) or pause_ns) / NS_PER_SECOND)
            # After the last one too: a debt cannot hold a long pause, and what has refilled in it
            # would be sent at once.
            self._follower.charge(key, self._bucket.table.now())

    def _call(self, key: str | bytes, decision: Decision) -> UpstreamCall | None:
        """The call. None if a pause began while it waited for tokens, which are then given back."""
        if self._pause_ns(key):
            self._bucket.refund(decision)  # the key may have another limit now
            return None
        return UpstreamCall(self, key, decision, self._bucket.table.now())


def check_upstream(upstream: object) -> None:
    """Raises `InvalidSpec` if this is no `Upstream`."""
    if not isinstance(upstream, Upstream):
        fix = 'pass Upstream(limiter, "name of its bucket")'
        raise InvalidSpec(f"upstream is {upstream!r}", fix, "upstream")


def _round_ns(bucket: Bucket) -> int:
    """The time in which all nodes have learned of a charge; 0 without others."""
    waiters = bucket.waiters
    if not isinstance(waiters, Waiters):
        fix = "pass follows=None, or make the bucket eventual"
        raise InvalidSpec(
            f"bucket {bucket.spec.name!r} is strong and cannot follow a service", fix, "follows"
        )
    return ROUNDS * (waiters.update_interval_ns or 0)


def _sharers(limiter: Limiter, bucket: Bucket) -> int:
    """How many processes ask the service: nodes that run, and on each the processes that share
    its table, as many as here."""
    nodes = sum(row["state"] in ("alive", "suspect") for row in limiter.fleet())
    table = bucket.table
    return max(nodes, 1) * (max(len(table.sharing.workers()), 1) if table.shared else 1)
