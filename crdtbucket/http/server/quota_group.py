"""Divides the tokens of one key among the Envoys of a node that have assignments of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.http.server.descriptor_limits import MAX_UINT32
from crdtbucket.http.server.quota_subscription import QuotaSubscription
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.priority import Floor, drawn, floor_tokens

SHORTEST_NS, LONGEST_NS = NS_PER_SECOND // 10, NS_PER_SECOND
"""The shortest and the longest pace (ns)."""


class QuotaPlace(NamedTuple):
    """The bucket and key that a bucket id of an Envoy takes from."""

    bucket: str
    """Empty if no rule covers the bucket id."""
    key: str
    floor: Floor = 0


@dataclass(eq=False)
class QuotaGroup:
    """All Envoys of this node that share the tokens of one key, by rules with the same floor."""

    place: QuotaPlace
    members: dict[QuotaSubscription, None] = field(default_factory=dict)
    """The Envoys of the group, in the order in which they came."""
    due: int | None = None
    """When the group is looked at next (ns)."""
    busy: bool = False
    """Whether the group is being looked at."""
    begun: int = 0
    """When the group was looked at last."""
    pace: int = LONGEST_NS
    """How long (ns) an assignment is to last while requests use it up."""
    _turn: int = 0
    """The number of the Envoy that gets the indivisible rest next."""

    def admit_all(self, now: int) -> None:
        """Assigns no limit."""
        for one in self.members:
            if one.action is None or one.action.tokens is not None:
                one.assign(None, None, now)

    async def share(self, bucket: Bucket, clock: Callable[[], int]) -> int:
        """Takes what the Envoys want and assigns it to them. Returns when to look again."""
        now, key = clock(), self.place.key
        spec = bucket.of(key).spec_of(key)
        floor = drawn(self.place.floor)
        kept = floor_tokens(floor, spec.capacity)
        capacity = spec.capacity - kept
        pace = self.pace = _pace(spec, capacity)
        spare = max(bucket.peek(key).remaining - kept, 0) // (4 * len(self.members))
        for one in self.members:
            if one.action is None and one.guessed:
                refill = spec.refill_rate * NS_PER_SECOND / spec.interval_ns
                one.rate = refill / (2 * len(self.members))
        half = min(max(capacity // 2, 1), MAX_UINT32)
        wants = self._wants(now, spare, half)
        room = half - self._held_without(wants)
        if 2 * room < min(half, 2 * sum(wants.values())):
            # The others hold so much that the refill could not be handed out.
            wants = self._wants(now, spare, half, anew=True)
            room = half - self._held_without(wants)
        total = min(sum(wants.values()), room, capacity)
        decision = await _taken(bucket, key, total, floor, kept) if total > 0 else None
        given = decision.cost if decision is not None and decision.allowed else 0
        now = clock()  # time has passed if a store was asked
        parts = self._parts({one: wants[one] for one in self.members if one in wants}, given)
        for one, tokens in parts.items():
            # Also none, in place of what it may have left: room was made of that.
            if (given and (tokens or one.size)) or one.action is None or one.action.tokens is None:
                one.assign(tokens, decision, now)
        if (rest := given - sum(parts.values())) > 0 and decision is not None:
            decision.bucket.refund(decision, rest)  # an Envoy has left while this was decided
        if given < sum(wants.values()):
            wait = decision.retry_after_ns if decision is not None and not decision.allowed else 0
            return now + max(pace, wait)
        lasts = [one.lasts_until(pace, spare) for one in self.members]
        return max(now + pace, min(lasts, default=0))

    def _wants(
        self, now: int, spare: int, half: int, *, anew: bool = False
    ) -> dict[QuotaSubscription, int]:
        """What each Envoy in need is to get; with `anew` each Envoy, in place of what it holds."""
        wants = {
            one: min(one.wanted(now, self.pace, spare, anew=anew), half)
            for one in self.members
            if not one.silent(now) and one.bucket_id not in one.stream.unsent
        }
        return {one: want for one, want in wants.items() if want}

    def _held_without(self, wants: Mapping[QuotaSubscription, int]) -> int:
        """The tokens that all other Envoys may have."""
        return sum(one.size for one in self.members if one not in wants)

    def _parts(
        self, wants: Mapping[QuotaSubscription, int], given: int
    ) -> dict[QuotaSubscription, int]:
        """Divides tokens in proportion to what each wants, and gives none more than that."""
        total = sum(wants.values())
        given = min(given, total)
        parts = {one: want * given // total for one, want in wants.items()}
        order = list(wants)
        self._turn += 1
        for place in range(given - sum(parts.values())):
            parts[order[(self._turn + place) % len(order)]] += 1
        return parts


def _pace(spec: BucketSpec, capacity: int) -> int:
    """The time (ns) in which a quarter of what may be assigned refills, within bounds."""
    quarter = capacity * spec.interval_ns // (4 * spec.refill_rate)
    return min(max(quarter, SHORTEST_NS), LONGEST_NS)


async def _taken(bucket: Bucket, key: str, tokens: int, floor: float, kept: int) -> Decision:
    """Takes all these tokens, or those that are left above the floor, which is `kept` tokens. A
    mesh sees a demand for all of them."""
    decision = await bucket.acquire(key, tokens, floor)
    if decision.allowed or tokens == 1:
        return decision
    return await bucket.acquire(key, min(max(decision.remaining - kept, 1), tokens - 1), floor)
