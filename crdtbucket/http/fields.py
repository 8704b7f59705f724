"""Writes the header fields and problem documents by which an HTTP answer describes a limit.

Header fields and problem types follow draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` and
`RateLimit` are structured fields (RFC 9651), problems are RFC 9457 documents.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable
from urllib.parse import quote

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.setting_checks import SecondsRange
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import check_fields
from crdtbucket.spec.mode import Mode

PROBLEM_TYPE = "application/problem+json"
"""The media type of a `problem`."""
TYPES = "https://iana.org/assignments/http-problem-types#"
MAX_INTEGER = 999_999_999_999_999  # of a structured field
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
POLICIES = 1_024
"""Definitions whose `Policy` is kept."""
FIELDS = 4_096
"""How many fields are kept as they were sent, since many answers are the same."""
RawFields: TypeAlias = "Sequence[tuple[bytes, bytes]]"
FieldPairs: TypeAlias = "Sequence[tuple[str, str]]"


@dataclass(frozen=True)
class FieldOptions:
    """Which header fields answers have."""

    on_allowed: bool = True
    """Whether allowed answers have them, too."""
    legacy: bool = False
    """`X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds until full), too."""
    jitter_s: Annotated[float, SecondsRange(0.0, 86_400.0)] = 0.0
    """A random time of up to this many seconds is added to `Retry-After`, so that clients do not
    come back all at once; 0 to a day."""

    def __post_init__(self) -> None:
        """Raises `InvalidSpec`."""
        check_fields(self)


@runtime_checkable
class HasQuota(Protocol):
    """A bucket that grants a quota while its store is unreachable, as a strong bucket does."""

    def fallback_policy(self, key: str | bytes) -> tuple[int, float] | None:
        """The tokens of the quota, and the seconds in which they come back; None without one."""


class Policy:
    """The parts of the header fields that follow from a bucket's definition, made once for all
    decisions."""

    __slots__ = ("name", "spec", "text")

    def __init__(self, spec: BucketSpec) -> None:
        full_ns = -(-spec.capacity * spec.interval_ns // spec.refill_rate)
        window = max(-(-full_ns // NS_PER_SECOND), 1)
        escaped = quote(spec.key, safe=PRINTABLE).replace("\\", "\\\\").replace('"', '\\"')
        self.spec = spec
        self.name = f'"{escaped}"'
        """The bucket's name as a quoted string of a structured field, which has ASCII only."""
        self.text = f"{self.name};q={min(spec.capacity, MAX_INTEGER)};w={min(window, MAX_INTEGER)}"

    def fields(self, left: int, t: int) -> dict[str, str]:
        """Both fields: `left` tokens of at most `MAX_INTEGER`, and `t` seconds to wait."""
        return {"RateLimit-Policy": self.text, "RateLimit": f"{self.name};r={left};t={t}"}

    def of_share(self, tokens: int, full_s: float) -> str:
        """The text for a smaller limit that applies for a while."""
        window = min(seconds(full_s, least=1), MAX_INTEGER)
        return f"{self.name};q={min(tokens, MAX_INTEGER)};w={window}"


_policies: dict[int, Policy] = {}


def policy_of(spec: BucketSpec) -> Policy:
    """The policy of a definition; made once, as it is asked for with each decision."""
    # Looked up by identity, because hashing a definition costs more than everything else here. A
    # policy keeps its definition alive, so no other definition can get the same id.
    try:
        return _policies[id(spec)]
    except KeyError:
        if len(_policies) >= POLICIES:
            _policies.clear()
        made = _policies[id(spec)] = Policy(spec)
        return made


def rate_limit_fields(
    decision: Decision, spec: BucketSpec, *, legacy: bool = False, jitter_s: float = 0.0
) -> dict[str, str]:
    """The header fields that tell a client its limit and what is left of it after a decision.

    `w` of the policy is the time in which an empty bucket fills; `t` is when the next token comes,
    or when the denied cost could pass. All times are whole seconds, rounded up. A denial has
    `Retry-After`, at least 1 and never before `t`. In fallback the policy is that of the quota,
    which is the limit that decides. `legacy` and `jitter_s` as of `FieldOptions`.
    """
    policy = policy_of(spec)
    remaining, allowed = decision.remaining, decision.allowed
    t = decision.next_token if allowed else seconds(decision.retry_after, least=1)
    share = fallback_share(decision)
    if share is not None and allowed and remaining < share[0]:
        t = max(t, seconds(share[1] / share[0]))  # a token of the quota comes later
    fields = policy.fields(min(remaining, MAX_INTEGER), t)
    if share is not None:
        fields["RateLimit-Policy"] = policy.of_share(*share)
    if not allowed:
        late = random.uniform(0, jitter_s) if jitter_s > 0 else 0.0
        fields["Retry-After"] = str(seconds(t + late))
    if legacy:
        fields["X-RateLimit-Limit"] = str(decision.limit if share is None else share[0])
        fields["X-RateLimit-Remaining"] = str(remaining)
        fields["X-RateLimit-Reset"] = str(seconds(decision.reset_after))
    return fields


DeferredFields: TypeAlias = "Mapping[str, str] | tuple[Policy, int, int]"
"""The fields of an answer; or the parts from which they are made once they are needed: the policy
of an allowed decision, the tokens that are left and the seconds until the next one."""


def deferred_fields(decision: Decision, options: FieldOptions) -> DeferredFields:
    """The fields of a single decision; the usual ones are not made yet."""
    allowed = decision.allowed
    if allowed and not options.on_allowed:
        return {}
    spec = decision.spec
    if spec.shadow:
        return {}
    if not allowed or options.legacy or decision.mode is Mode.FALLBACK:
        return rate_limit_fields(decision, spec, legacy=options.legacy, jitter_s=options.jitter_s)
    left = decision.remaining
    if left > MAX_INTEGER:
        left = MAX_INTEGER
    return _policies.get(id(spec)) or policy_of(spec), left, decision.next_token


def raw_fields(deferred: DeferredFields) -> RawFields:
    """The fields as ASGI has them."""
    if isinstance(deferred, tuple):
        return _kept_raw(*deferred)
    return _raw(deferred.items())


def field_pairs(deferred: DeferredFields) -> FieldPairs:
    """The fields as WSGI has them."""
    if isinstance(deferred, tuple):
        return _kept_pairs(*deferred)
    return tuple(deferred.items())


@functools.lru_cache(maxsize=FIELDS)
def _kept_raw(policy: Policy, left: int, t: int) -> RawFields:
    return _raw(policy.fields(left, t).items())


@functools.lru_cache(maxsize=FIELDS)
def _kept_pairs(policy: Policy, left: int, t: int) -> FieldPairs:
    return tuple(policy.fields(left, t).items())


def _raw(pairs: Iterable[tuple[str, str]]) -> RawFields:
    return tuple((_raw_name(name), value.encode("latin-1")) for name, value in pairs)


@functools.lru_cache(maxsize=64)
def _raw_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


def fallback_share(decision: Decision) -> tuple[int, float] | None:
    """The tokens, and the seconds in which they come back, of the quota that has decided in
    fallback; None for any other decision."""
    bucket = decision.bucket
    if decision.mode is not Mode.FALLBACK or not isinstance(bucket, HasQuota):
        return None
    return bucket.fallback_policy(decision.key)


def seconds(value: float, least: int = 0) -> int:
    """Whole seconds for a field: rounded up, not below `least`."""
    return min(max(math.ceil(value), least), MAX_INTEGER)


def problem(
    decision: Decision,
    spec: BucketSpec,
    *,
    instance: str | None = None,
    reduced_capacity: bool = True,
) -> dict[str, Any]:
    """The JSON document (`PROBLEM_TYPE`) that says why a request was denied.

    `status` is the HTTP status that goes with it: 429, of the type quota-exceeded; 503, of the
    type temporary-reduced-capacity, when the mode is fallback, unless `reduced_capacity` is
    False. instance: a URI of this occurrence.
    """
    reduced = reduced_capacity and decision.mode is Mode.FALLBACK
    wait = seconds(decision.retry_after, least=1)
    share = fallback_share(decision)
    left = f"{decision.remaining} of {decision.limit if share is None else share[0]} left"
    if share is not None:
        alone = f"this node alone grants {share[0]} in {seconds(share[1], least=1)} s"
        left = f"the store is unreachable, and {alone}: {left}"
    if decision.remaining >= decision.cost:
        left += ", part of it kept for other nodes or more important calls,"
    detail = f"{spec.key}: {left} and {decision.cost} asked for; retry in {wait} s"
    if spec.slots is not None:
        detail = f"{spec.key}: all slots ({spec.slots}) are in flight; one is free within {wait} s"
        if share is not None:
            detail = (
                f"{spec.key}: the store is unreachable, and the {share[0]} of {spec.slots} slots "
                f"that this node alone holds are in flight; one is free within {wait} s"
            )
    document: dict[str, Any] = {
        "type": TYPES + ("temporary-reduced-capacity" if reduced else "quota-exceeded"),
        "title": "Capacity is reduced for a while" if reduced else "Quota exceeded",
        "status": 503 if reduced else 429,
        "detail": detail,
        "violated-policies": [spec.key],
    }
    if instance is not None:
        document["instance"] = instance
    return document
