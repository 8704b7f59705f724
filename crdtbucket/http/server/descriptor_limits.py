"""Decides what Envoy's rate limit service answers, over gRPC or as JSON.

A request names a domain and descriptors; the configuration says by its rules which bucket and key
each descriptor takes from. The proxy passes a request on unless the overall answer is OVER_LIMIT.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crdtbucket._core import MAX_SETTLE, Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.config.descriptors import MAX_ENTRIES
from crdtbucket.errors import CostExceedsCapacity, InvalidCost
from crdtbucket.http.answers import denial, fields_of
from crdtbucket.http.fields import POLICIES, PROBLEM_TYPE, FieldOptions
from crdtbucket.http.request_rules import shortened
from crdtbucket.http.server.refusal import Refusal
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.facade import Limiter
from crdtbucket.spec.descriptor_rule import DescriptorRule, Entry

LOG = logging.getLogger("crdtbucket.http")
MAX_DESCRIPTORS = 64
MAX_REPORTED = 64
"""Kinds of descriptors without a rule that are logged, once each."""
OK, OVER_LIMIT, UNLIMITED = "OK", "OVER_LIMIT", "UNLIMITED"
NO_BUCKET = ""
Weigh = Callable[[Bucket, str, int, bool], None]


UNITS = (
    *(("SECOND", 1), ("MINUTE", 60), ("HOUR", 3_600), ("DAY", 86_400)),
    *(("MONTH", 30 * 86_400), ("YEAR", 365 * 86_400)),
)
"""The units of a limit as Envoy knows them, with their seconds; in the order of their numbers, from
1."""
MAX_UINT32 = 2**32 - 1


@dataclass(frozen=True)
class Descriptor:
    """One descriptor of a request: names with values, and what they cost."""

    entries: tuple[Entry, ...]
    cost: int
    """Tokens; 0 only asks whether any are left."""


@dataclass(frozen=True)
class DescriptorStatus:
    """The answer about one descriptor."""

    code: str = OK
    decision: Decision | None = None
    """None where the answer states no limit: without a rule, and for a shadow."""


@dataclass(frozen=True)
class RateLimitAnswer:
    """The answer to a request."""

    code: str
    """The code for the whole request."""
    statuses: tuple[DescriptorStatus, ...]
    """The statuses of the descriptors, in their order."""
    fields: dict[str, str]
    """Header fields for the client's answer."""
    body: bytes
    """The problem document of a denial."""


@dataclass(frozen=True)
class UnitLimit:
    """A limit as tokens in a unit of time: what refills, whatever the bucket holds."""

    tokens: int
    unit: str
    name: str


class Charged:
    """One descriptor of a request: the tokens that it asks for, and the decision on them."""

    def __init__(self, rule: DescriptorRule, bucket: Bucket, key: str, cost: int) -> None:
        self.bucket = bucket
        self.key = key
        self.cost = cost
        self.floor = rule.floor
        self.shadow = bucket.of(key).spec_of(key).shadow
        self.settles = rule.settle and cost > 0
        self.takes = cost > 0 and not self.settles
        """Whether its cost is taken if there are enough tokens for all others."""
        try:
            self.decision = bucket.peek(key, cost if self.takes else 1, self.floor)
            self.over = not self.decision.allowed
        except (CostExceedsCapacity, InvalidCost):  # a proxy may ask for any number
            self.decision = bucket.peek(key)
            self.takes, self.over = False, not self.shadow

    @property
    def code(self) -> str:
        """The code for this descriptor."""
        return OVER_LIMIT if self.over else OK

    def settle(self) -> None:
        """Charges the cost, whatever the level."""
        self.bucket.settle(self.key, min(self.cost, MAX_SETTLE))
        self.decision = self.bucket.peek(self.key)

    def decided(self, decision: Decision) -> None:
        """The decision: whether the cost was taken."""
        self.decision, self.over = decision, not decision.allowed


class DescriptorLimits:
    """Decides on descriptors by the rules of the configuration that is in force."""

    def __init__(self, limiter: Limiter, settings: ServeSettings, weigh: Weigh) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """Descriptors answered, by bucket ("" without a rule) and code."""
        self._limiter = limiter
        self._weigh = weigh
        self._options = FieldOptions(legacy=settings.legacy_fields, jitter_s=settings.retry_jitter)
        self._reported: set[tuple[str, ...]] = set()

    async def decide(self, domain: str, descriptors: Sequence[Descriptor]) -> RateLimitAnswer:
        """Takes the costs of all descriptors, or of none when one of them is over its limit; costs
        that a rule settles are charged in any case. Raises `Refusal` for a malformed request."""
        _check(domain, descriptors)
        charges = [self._charged(domain, one) for one in descriptors]
        limited = [one for one in charges if one is not None]
        if not any(one.over for one in limited if not one.takes):
            await self._take([one for one in limited if one.takes])
        for one in limited:
            if one.settles:
                one.settle()
        over = any(one.over for one in limited)
        for one in limited:
            if one.cost:
                self._weigh(one.bucket, one.key, one.cost, one.settles or not over)
        for charged in charges:
            name = NO_BUCKET if charged is None else charged.bucket.spec.name
            code = UNLIMITED if charged is None else charged.code
            self.counts[name, code] += 1
        return self._answer(charges)

    def _charged(self, domain: str, descriptor: Descriptor) -> Charged | None:
        config = self._limiter.config
        for rule in () if config is None else config.descriptors:
            key = rule.key(domain, descriptor.entries)
            if key is not None:
                # It is answered however long it is, since a proxy lets requests pass that get an
                # error.
                bucket = self._limiter.bucket(rule.bucket)
                return Charged(rule, bucket, str(shortened(key)), descriptor.cost)
        self.report(domain, [name for name, _ in descriptor.entries])
        return None

    async def _take(self, charges: list[Charged]) -> None:
        if len(charges) == 1:
            one = charges[0]
            one.decided(await one.bucket.acquire(one.key, one.cost, one.floor))
        elif charges:
            answer = await self._limiter.acquire_all(
                (one.bucket.spec.name, one.key, one.cost, one.floor) for one in charges
            )
            for one, decision in zip(charges, answer.decisions, strict=True):
                one.decided(decision)

    def _answer(self, charges: Sequence[Charged | None]) -> RateLimitAnswer:
        statuses = [
            DescriptorStatus()
            if one is None or one.shadow
            else DescriptorStatus(one.code, one.decision)
            for one in charges
        ]
        decisions = [one.decision for one in statuses if one.decision is not None]
        fields, body = fields_of(decisions, self._options), b""
        if OVER_LIMIT not in [one.code for one in statuses]:
            fields.pop("Retry-After", None)  # a charge that left no tokens is no denial
            return RateLimitAnswer(OK, tuple(statuses), fields, body)
        if denied := [one for one in decisions if not one.allowed]:
            slowest = max(denied, key=lambda decision: decision.retry_after_ns)
            body = denial(slowest).body
            fields["Content-Type"] = PROBLEM_TYPE
        return RateLimitAnswer(OVER_LIMIT, tuple(statuses), fields, body)

    def report(self, domain: str, names: Iterable[str]) -> None:
        """Logs a kind of descriptor that no rule covers, once."""
        kind = (domain, *names)
        if kind not in self._reported and len(self._reported) < MAX_REPORTED:
            self._reported.add(kind)
            LOG.warning(
                "no rule of envoy.descriptors covers [%s] of the domain %r with these values: "
                "such a descriptor is not limited",
                ", ".join(kind[1:]),
                domain,
            )


def limit_of(decision: Decision) -> UnitLimit:
    """The rate of a decision's bucket in the smallest unit in which it is a whole number."""
    spec = decision.spec
    return _unit_limit(spec.key, spec.refill_rate, spec.interval_ns)


@functools.lru_cache(maxsize=POLICIES)
def _unit_limit(name: str, refill_rate: int, interval_ns: int) -> UnitLimit:
    amounts = [
        (unit, *divmod(refill_rate * seconds * NS_PER_SECOND, interval_ns))
        for unit, seconds in UNITS
    ]
    unit, tokens, _ = next((one for one in amounts if not one[2]), amounts[-1])
    return UnitLimit(min(max(tokens, 1), MAX_UINT32), unit, name)


def text_of(raw: bytes) -> str:
    """Bytes that a client may have sent, as a part of a key, also where they are not UTF-8."""
    return raw.decode("utf-8", "backslashreplace")


def _check(domain: str, descriptors: Sequence[Descriptor]) -> None:
    if not domain:
        raise Refusal.of_field("domain", "is empty")
    if not 1 <= len(descriptors) <= MAX_DESCRIPTORS:
        text = f"there are {len(descriptors)}: send 1 to {MAX_DESCRIPTORS}"
        raise Refusal.of_field("descriptors", text)
    for number, one in enumerate(descriptors):
        place = f"descriptors.{number}.entries"
        if not 1 <= len(one.entries) <= MAX_ENTRIES:
            text = f"there are {len(one.entries)}: send 1 to {MAX_ENTRIES}"
            raise Refusal.of_field(place, text)
        if not all(name for name, _ in one.entries):
            raise Refusal.of_field(place, "a key is empty")
