"""The verdict of the rules on a request, and the HTTP answer when they deny it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crdtbucket._core import Decision
from crdtbucket.errors import (
    CostExceedsCapacity,
    Denied,
    LimitExceeded,
    ReservationDenied,
    SlotDenied,
)
from crdtbucket.http.client_address import InvalidAddress
from crdtbucket.http.fields import (
    PROBLEM_TYPE,
    DeferredFields,
    FieldOptions,
    problem,
    rate_limit_fields,
)
from crdtbucket.http.request_rules import Rule
from crdtbucket.limiter.held_slot import Slot

SOON = {"Retry-After": "1"}
"""The wait (s) in a denial because all slots are held: it is not known when one will be
released."""
LISTS = ("RateLimit-Policy", "RateLimit")


@dataclass
class Answer:
    """The HTTP answer to a denied request, for any framework to send."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Verdict:
    """The verdict of all rules on a request. It is truthy when the request may pass."""

    allowed: bool
    by: Rule | tuple[tuple[Rule, Decision], ...] = ()
    """The rules with their decisions, as in `taken`; or one rule alone, whose decision is
    `binding`."""
    binding: Decision | None = None
    """The decisive one: of a denied request the decision with the longest wait, of an allowed one
    that with the least left."""
    deferred: DeferredFields = field(default_factory=dict)
    """The parts from which `fields` is made when it is asked for; falsy when there are none."""
    slots: tuple[Slot, ...] = ()
    """The slots that are held while the request is in flight."""
    too_large: CostExceedsCapacity | None = None
    """Set if the request could never pass, because it costs more than its bucket can hold. Nothing
    was decided then: there is no `binding`."""
    invalid: InvalidAddress | None = None
    """Set if the server gives the client an address that is none. Nothing was decided then."""

    @property
    def taken(self) -> tuple[tuple[Rule, Decision], ...]:
        """The rules that apply, in order, with their decisions. When the request is denied nothing
        was taken, and each says what it would get alone."""
        by = self.by
        if isinstance(by, Rule):
            assert self.binding is not None, "a rule alone has decided"
            by = ((by, self.binding),)
        return by

    @property
    def fields(self) -> Mapping[str, str]:
        """Header fields for the answer."""
        if isinstance(self.deferred, tuple):
            policy, left, t = self.deferred
            self.deferred = policy.fields(left, t)
        return self.deferred

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions alone."""
        return tuple(decision for _, decision in self.taken)

    def ended(self, status: int) -> None:
        """The request was answered with `status`: gives tokens back where a rule's `refund_if` asks
        for it."""
        for rule, decision in self.taken:
            if self.allowed and rule.refund_if is not None and rule.refund_if(status):
                decision.bucket.refund(decision)

    def refund(self) -> None:
        """Gives back all tokens that were taken and have not been given back."""
        for decision in self.decisions if self.allowed else ():
            decision.bucket.refund(decision)

    def release(self) -> None:
        """The request is no longer in flight: its slots are free again."""
        for slot in self.slots:
            slot.release()

    def __bool__(self) -> bool:
        return self.allowed


def fields_of(decisions: Sequence[Decision], options: FieldOptions) -> dict[str, str]:
    """The fields of every bucket that is not a shadow; the binding one comes last."""
    merged: dict[str, str] = {}
    buckets: dict[str, dict[str, str]] = {}
    for decision in sorted(decisions, key=_pressure) if len(decisions) > 1 else decisions:
        spec = decision.spec
        if not spec.shadow:
            buckets[spec.key] = fields = rate_limit_fields(
                decision, spec, legacy=options.legacy, jitter_s=options.jitter_s
            )
            merged |= fields
    # Each policy is listed once; the other fields can describe only one bucket.
    for name in LISTS if len(buckets) > 1 else ():
        merged[name] = ", ".join(fields[name] for fields in buckets.values())
    return merged


def _pressure(decision: Decision) -> tuple[int, float]:
    return decision.retry_after_ns, -decision.remaining / decision.limit


ANSWERED = (LimitExceeded, ReservationDenied, SlotDenied, CostExceedsCapacity)
"""Errors of a route that `install` of a framework answers. `WaitTimeout` is not among them: usually
it concerns the limit of another service, about which the client can do nothing."""


def denial(decision: Decision) -> Answer:
    """The answer to a single denied decision, such as that of a `LimitExceeded`."""
    spec = decision.spec
    # It is not known when a slot will be released.
    headers = rate_limit_fields(decision, spec) if spec.slots is None else dict(SOON)
    return problem_answer(decision, headers, [spec.key], reduced_capacity=False)


def answer_of(error: Denied | CostExceedsCapacity) -> Answer:
    """The answer to a denial that was raised, or to a cost that no full bucket has. Raises the
    denial where it came from another process: a decision out of a pickle does not know its
    bucket."""
    if isinstance(error, CostExceedsCapacity):
        return too_large(error)
    try:
        error.decision.bucket  # noqa: B018
    except TypeError:
        raise error from None
    return denial(error.decision)


def problem_answer(
    denied: Decision, fields: Mapping[str, str], violated: Iterable[str], reduced_capacity: bool
) -> Answer:
    """A problem document about this decision, with the names of all policies that are violated."""
    document = problem(denied, denied.bucket.spec, reduced_capacity=reduced_capacity)
    document["violated-policies"] = [*dict.fromkeys(violated)]
    return _document_answer(document, fields)


def too_large(error: CostExceedsCapacity) -> Answer:
    """The answer to a request that costs more than its bucket can hold. It has no `Retry-After`:
    the same request could never pass."""
    costs = f"the request costs {error.cost} {error.unit} of {error.bucket!r}"
    detail = f"{costs}, and at most {error.capacity} can pass at once"
    document = {"type": "about:blank", "title": "Content Too Large", "status": 413}
    return _document_answer(document | {"detail": detail}, {})


def invalid_address(error: InvalidAddress) -> Answer:
    """The answer to a request that counts for no address, since its client has sent another
    text."""
    document = {"type": "about:blank", "title": "Bad Request", "status": 400}
    return _document_answer(document | {"detail": str(error)}, {})


def _document_answer(document: Mapping[str, Any], fields: Mapping[str, str]) -> Answer:
    body = json.dumps(document).encode()
    headers = {**fields, "Content-Type": PROBLEM_TYPE, "Content-Length": str(len(body))}
    return Answer(document["status"], headers, body)
