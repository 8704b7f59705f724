"""Envoy's rate limit quota service: a node hands out tokens to the Envoys beside it, which admit
requests by themselves and report afterwards.

Each bucket id of an Envoy stands for a bucket and key by the same rules as a descriptor. The node
takes tokens for it like any caller, so a mesh shares them as usual, and assigns them to the Envoy.
What the Envoy admits without an assignment is charged when it is reported.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from crdtbucket._core import MAX_SETTLE
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.http.request_rules import shortened
from crdtbucket.http.server.descriptor_limits import (
    NO_BUCKET,
    OK,
    OVER_LIMIT,
    DescriptorLimits,
    Weigh,
    text_of,
)
from crdtbucket.http.server.quota_group import QuotaGroup, QuotaPlace
from crdtbucket.http.server.quota_schedule import QuotaSchedule
from crdtbucket.http.server.quota_subscription import (
    ASSIGNED_S,
    AT_ONCE,
    BucketId,
    QuotaAction,
    QuotaStream,
    QuotaSubscription,
    QuotaUsage,
    bytes_of,
)
from crdtbucket.http.server.refusal import Refusal
from crdtbucket.limiter.facade import Limiter

EXTEND_NS = ASSIGNED_S * NS_PER_SECOND // 3
"""After that an assignment is sent again."""
MAX_STREAMS = 1_000
MAX_BUCKET_IDS, MAX_ID_BYTES = 10_000, 2**23
"""Most bucket ids of one stream, and most bytes of the names and values of one; further ones are
denied."""


class QuotaServer:
    """Assigns tokens to the Envoys whose streams are open. `report` and `tick` take the time from
    the clock that it was given; `run` calls `tick` whenever it is due."""

    def __init__(
        self,
        limiter: Limiter,
        descriptors: DescriptorLimits,
        weigh: Weigh,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        """`descriptors`: also logs bucket ids that no rule covers, as it does for descriptors."""
        self.requests: Counter[tuple[str, str]] = Counter()
        """Requests reported, by bucket ("" without a rule) and code."""
        self.streams: set[QuotaStream] = set()
        self._limiter = limiter
        self._descriptors = descriptors
        self._weigh = weigh
        self._clock = clock
        self._config = limiter.config
        self._version = 0
        """Counts changes of the configuration."""
        self._groups: dict[QuotaPlace, QuotaGroup] = {}
        self._group_of: OrderedDict[QuotaSubscription, QuotaGroup] = OrderedDict()
        """The group of each subscription; those that a change of the configuration has not reached
        yet come first."""
        self.schedule = QuotaSchedule(clock, self._assign)

    @property
    def subscriptions(self) -> int:
        """Bucket ids of all streams."""
        return len(self._group_of)

    def open(self) -> QuotaStream:
        """A stream for one Envoy. Raises `Refusal` when there are too many."""
        if len(self.streams) >= MAX_STREAMS:
            raise Refusal(429, f"there are {MAX_STREAMS} streams already")
        stream = QuotaStream()
        self.streams.add(stream)
        return stream

    async def run(self) -> None:
        """Ticks for ever."""
        await self.schedule.run(self.tick)

    def tick(self) -> int | None:
        """Starts the assignments that are due. Returns when to call it again (ns); None: when
        `schedule.sooner` is set."""
        now = self._clock()
        unfollowed = self._follow_rules(now)
        due = self.schedule.start_due(now)
        return now if unfollowed else due

    def close(self, stream: QuotaStream) -> None:
        """The Envoy of this stream is gone. Tokens that it was assigned and has not reported stay
        charged: they may have been used, or may still be used."""
        self.streams.discard(stream)
        for one in list(stream.ids.values()):
            self._forget(one)

    def report(self, stream: QuotaStream, domain: str, usages: Sequence[QuotaUsage]) -> None:
        """Charges what the Envoy has admitted without an assignment, gives back what it cannot use
        any more, and notes what it will want. Raises `Refusal` for a stream without a domain."""
        stream.domain = stream.domain or domain
        if not stream.domain:
            raise Refusal.of_field("domain", "is empty")
        self._note_rules()
        now = self._clock()
        for usage in usages:
            if usage.bucket_id:
                self._booked(stream, usage, now)

    def _booked(self, stream: QuotaStream, usage: QuotaUsage, now: int) -> None:
        one = stream.ids.get(usage.bucket_id)
        if one is not None:
            self._follow(one, now)
        if one is None:
            unpaid, place = usage.allowed, self._place(stream, usage.bucket_id)
            one = self._admitted(stream, usage, place, now)
        else:
            unpaid, place = one.report(usage, now), self._group_of[one].place
        name, key, _ = place
        if name:
            bucket = self._limiter.bucket(name)
            if unpaid:
                bucket.settle(key, min(unpaid, MAX_SETTLE))
            for requests, allowed in ((usage.allowed, True), (usage.denied, False)):
                if requests:
                    self._weigh(bucket, key, requests, allowed)
        self.requests[name, OK] += usage.allowed
        self.requests[name, OVER_LIMIT] += usage.denied
        if one is not None and (name or one.action is None):
            group = self._group_of[one]
            # Not as soon as one of them reports: Envoys in need get their shares at one pace.
            self.schedule.put(
                group, now if one.action is None else max(now, group.begun + group.pace)
            )

    def _admitted(
        self, stream: QuotaStream, usage: QuotaUsage, place: QuotaPlace, now: int
    ) -> QuotaSubscription | None:
        bucket_id = usage.bucket_id
        size = bytes_of(bucket_id)
        if len(stream.ids) >= MAX_BUCKET_IDS or stream.id_bytes + size > MAX_ID_BYTES:
            if len(stream.unsent) < MAX_BUCKET_IDS:
                idle = not usage.allowed + usage.denied
                stream.put(QuotaAction(bucket_id, 0, abandon=idle))
            return None
        stream.id_bytes += size
        one = stream.ids[bucket_id] = QuotaSubscription(stream, bucket_id, now, now)
        self._join(one, place)
        return one

    def _place(self, stream: QuotaStream, bucket_id: BucketId) -> QuotaPlace:
        names = {text_of(name): text_of(value) for name, value in bucket_id}
        for rule in () if self._config is None else self._config.descriptors:
            key = rule.key_of(stream.domain, names)
            if key is not None:
                name = self._limiter.bucket(rule.bucket).spec.name
                return QuotaPlace(name, str(shortened(key)), rule.floor)
        self._descriptors.report(stream.domain, names)
        # They share nothing, so no look at them is long.
        return QuotaPlace(NO_BUCKET, str(hash(bucket_id)))

    def _note_rules(self) -> None:
        if self._limiter.config is not self._config:
            self._config = self._limiter.config
            self._version += 1
            self.schedule.sooner.set()

    def _follow_rules(self, now: int) -> bool:
        """After a change of the configuration every bucket id moves to the bucket and key that the
        new rules give it, some at a time. Returns whether there may be more."""
        self._note_rules()
        first = list(islice(self._group_of, AT_ONCE))
        return all(self._follow(one, now) for one in first) and len(first) == AT_ONCE

    def _follow(self, one: QuotaSubscription, now: int) -> bool:
        """Moves a bucket id to the bucket and key that the present rules give it. What was assigned
        stays charged where it was taken. Returns False if that was done before."""
        if one.version == self._version:
            return False
        group = self._group_of[one]
        place = self._place(one.stream, one.bucket_id)
        if place != group.place:
            self._leave(one)
            one.start_again()
            self._join(one, place)
        one.version = self._version
        self._group_of.move_to_end(one)
        self.schedule.put(self._group_of[one], now)
        return True

    def _join(self, one: QuotaSubscription, place: QuotaPlace) -> None:
        group = self._groups.get(place)
        if group is None:
            group = self._groups[place] = QuotaGroup(place)
        group.members[one] = None
        one.version = self._version
        self._group_of[one] = group

    def _leave(self, one: QuotaSubscription) -> None:
        group = self._group_of.pop(one)
        del group.members[one]
        if not group.members:
            group.due = None
            del self._groups[group.place]

    def _forget(self, one: QuotaSubscription) -> None:
        self._leave(one)
        del one.stream.ids[one.bucket_id]
        one.stream.id_bytes -= bytes_of(one.bucket_id)

    async def _assign(self, group: QuotaGroup, now: int) -> int:
        """Assigns tokens to the Envoys of a group. Returns when to look again."""
        for one in list(group.members):
            self._follow(one, now)
        for one in [one for one in group.members if one.ended(now)]:
            # Its Envoy never reports what it uses until it reads this, so that stays charged.
            one.stream.put(QuotaAction(one.bucket_id, abandon=True))
            self._forget(one)
        if not group.members:
            return now
        name, key, _ = group.place
        bucket = self._limiter.bucket(name) if name else None
        at = now + EXTEND_NS
        if bucket is None or bucket.of(key).spec_of(key).shadow:
            group.admit_all(now)
        else:
            at = min(at, await group.share(bucket, self._clock))
        for one in group.members:
            if one.sent_at + EXTEND_NS <= now and not one.silent(now):
                one.extend(now)
        return at
