"""Lowers the level of a bucket to what the service that it stands for says is left.

All nodes learn nearly the same, each from the answers to its own requests, and what two nodes
charge counts twice. So a node charges no fixed amount but a part of the difference between its own
level and the service's: the difference divided by the nodes, once a round, in which the nodes learn
of each other's charges. What is missing then is charged in the next round. A level is never raised.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.forks import ForkLock
from crdtbucket.upstream.upstream_fields import UpstreamState

if TYPE_CHECKING:
    from crdtbucket.limiter.bucket import Bucket

MAX_FOLLOWED = 10_000
"""Keys of which a follower remembers what the service said; the oldest answers are forgotten."""


@dataclass(slots=True)
class Standing:
    """The limit of one key as its service has last described it. Times in ns."""

    level: int | None = None
    """Tokens that the service had `at` a time, and it has refilled since as the bucket does; below
    zero while it takes no requests. None when nothing is left to charge."""
    at: int = 0
    paused_until: int = 0
    next_round: int = 0
    """Nothing is charged before this time."""


class Follower:
    """Charges the keys of one bucket with what their service says is gone. Safe from any thread."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        follows: str,
        longest_pause_ns: int,
        round_ns: int,
        sharers: Callable[[], int],
    ) -> None:
        """`follows`: the unit, or the name, of the quota that the bucket stands for. `round_ns`:
        in this time nodes learn what the others have charged. `sharers`: how many processes ask
        the service, this one included."""
        self._bucket = bucket
        self._follows = follows
        self._longest_pause_ns = longest_pause_ns
        self._round_ns = round_ns
        self._sharers = sharers
        self._standings: OrderedDict[str | bytes, Standing] = OrderedDict()
        self._lock = ForkLock()

    def update(self, key: str | bytes, state: UpstreamState, sent: int, now: int) -> int:
        """Takes what an answer says, whose request was sent at `sent`; returns the tokens that this
        node has charged for it by now. Times in ns."""
        left = state.left(self._follows)
        if not state.denied and left is None:
            return 0
        with self._lock:
            standing = self._standing(key)
            if state.denied:
                pause_ns = round(state.pause_s(self._follows) * NS_PER_SECOND)
                pause_ns = min(pause_ns, self._longest_pause_ns)
                if now + pause_ns >= standing.paused_until:
                    standing.paused_until = now + pause_ns
                    standing.level, standing.at = -self._refill(key, pause_ns, up=True), now
            elif left is not None and now >= standing.paused_until:
                # The service counted at some time after `sent`, and may have refilled until now.
                standing.level, standing.at = left.remaining, sent
            return self._charge(key, standing, now)

    def pause_ns(self, key: str | bytes, now: int) -> int:
        """How long (ns) the service of this key takes no requests, by the last answers."""
        standing = self._standings.get(key)
        return 0 if standing is None else max(standing.paused_until - now, 0)

    def charge(self, key: str | bytes, now: int) -> int:
        """Charges the part of what the service lacks that is due now; returns the tokens."""
        standing = self._standings.get(key)
        if standing is None or standing.level is None:
            return 0
        with self._lock:
            return self._charge(key, standing, now)

    def _standing(self, key: str | bytes) -> Standing:
        standing = self._standings.setdefault(key, Standing())
        self._standings.move_to_end(key)
        if len(self._standings) > MAX_FOLLOWED:
            self._standings.popitem(last=False)
        return standing

    def _charge(self, key: str | bytes, standing: Standing, now: int) -> int:
        if standing.level is None or now < standing.next_round:
            return 0
        theirs = standing.level + self._refill(key, now - standing.at)
        missing = self._level(key) - theirs
        if missing <= 0:  # the service has refilled by now
            standing.level = None
            return 0
        part = missing // max(self._sharers(), 1)
        if part == 0:
            return 0
        standing.next_round = now + self._round_ns
        return self._bucket.settle(key, part)

    def _level(self, key: str | bytes) -> int:
        """The level in whole tokens, below zero in debt. What is held back for other nodes counts
        as left, because it is a guess."""
        decision = self._bucket.peek(key)
        return decision.limit - self._refill(key, decision.debt, up=True)

    def _refill(self, key: str | bytes, ns: int, *, up: bool = False) -> int:
        """The tokens that come in a time, rounded down or up."""
        q, p = self._bucket.spec_of(key).emission
        return -(-ns * p // q) if up else ns * p // q
