"""Rules over a limiter: the verdict on a request, and how it is told. Shared by all middleware."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crdtbucket._core import Decision
from crdtbucket.http.fields import (
    PROBLEM_TYPE,
    Network,
    check_trusted,
    problem,
    rate_limit_fields,
)
from crdtbucket.http.request import Request
from crdtbucket.http.request_rules import Ask, Rule
from crdtbucket.limiter.facade import Limiter
from crdtbucket.strong.strong_bucket import StrongBucket

LISTS = ("RateLimit-Policy", "RateLimit")


@dataclass
class Answer:
    """What a denied request is answered, in no framework's terms."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Verdict:
    """What the rules say about a request: truthy when it may pass."""

    allowed: bool
    taken: tuple[tuple[Rule, Decision], ...] = ()
    """The rules that apply, in order, with their decisions. When the request is denied nothing was
    taken, and each says what it would get alone."""
    binding: Decision | None = None
    """The decision to look at: denied, it takes longest; allowed, it has the least left."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Header fields for the answer."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions alone."""
        return tuple(decision for _, decision in self.taken)

    def ended(self, status: int) -> None:
        """The request was answered with `status`: gives back what a rule's `refund_if` wants."""
        for rule, decision in self.taken:
            if self.allowed and rule.refund_if is not None and rule.refund_if(status):
                decision.bucket.refund(decision)

    def refund(self) -> None:
        """Gives back all that was taken and is not back yet."""
        for decision in self.decisions if self.allowed else ():
            decision.bucket.refund(decision)

    def __bool__(self) -> bool:
        return self.allowed


class Limits:
    """Rules over a limiter and how their verdicts are told; one for all middleware of an app."""

    def __init__(
        self,
        limiter: Limiter,
        rules: Rule | Iterable[Rule],
        *,
        trusted: Iterable[str | Network] = (),
        on_denied: Callable[[Request, Verdict], Answer | None] | None = None,
        tell_allowed: bool = True,
        legacy: bool = False,
        jitter_s: float = 0.0,
        reduced_capacity: bool = False,
    ) -> None:
        """A request must pass every rule, or takes nothing of any.

        trusted: proxies (addresses or networks, or "unix") whose `X-Forwarded-For` is believed;
        none by default. on_denied: hears of every denial; an `Answer` that it returns replaces
        the usual problem document. tell_allowed: header fields on allowed answers too. legacy:
        `X-RateLimit-*` too. jitter_s: seconds that are drawn on top of `Retry-After`.
        reduced_capacity: 503 instead of 429 for denials in fallback mode. Raises `UnknownBucket`,
        `InvalidSpec`.
        """
        self.limiter = limiter
        self.rules = (rules,) if isinstance(rules, Rule) else tuple(rules)
        self.trusted = check_trusted(trusted)
        self._on_denied = on_denied
        self._tell_allowed = tell_allowed
        self._legacy = legacy
        self._jitter_s = jitter_s
        self._reduced_capacity = reduced_capacity
        for rule in self.rules:
            limiter.bucket(rule.bucket)  # a name that is not there is told now

    @property
    def may_refund(self) -> bool:
        """Whether a rule is to hear of the answers' status."""
        return any(rule.refund_if is not None for rule in self.rules)

    async def acquire(self, request: Request) -> Verdict:
        """Takes what the rules ask for. Raises what their callables and the buckets raise."""
        return await self._take(self._asks(request))

    def acquire_sync(self, request: Request) -> Verdict:
        """`acquire` for threads without an event loop; blocks where a bucket asks Redis."""
        asks = self._asks(request)
        buckets = (self.limiter.bucket(name).of(key) for _, (name, key, _) in asks)
        store = next((b.store for b in buckets if isinstance(b, StrongBucket)), None)
        work = self._take(asks)
        if store is not None:
            return store.block_on(work, Verdict.refund)
        try:
            work.send(None)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        raise AssertionError("a decision in this process waits for nothing")

    def answer(self, request: Request, verdict: Verdict) -> Answer:
        """What a denied request is answered."""
        replaced = None if self._on_denied is None else self._on_denied(request, verdict)
        if replaced is not None:
            return replaced
        denied = verdict.binding
        assert denied is not None, "an allowed request is answered by the application"
        document = problem(denied, denied.bucket.spec, reduced_capacity=self._reduced_capacity)
        violated = (d.bucket.spec.key for d in verdict.decisions if not d.allowed)
        document["violated-policies"] = [*dict.fromkeys(violated)]
        body = json.dumps(document).encode()
        headers = {**verdict.fields, "Content-Type": PROBLEM_TYPE}
        if request.method == "HEAD":
            return Answer(document["status"], headers, b"")
        headers["Content-Length"] = str(len(body))
        return Answer(document["status"], headers, body)

    def _asks(self, request: Request) -> list[tuple[Rule, Ask]]:
        asks = ((rule, rule.ask(request)) for rule in self.rules)
        return [(rule, ask) for rule, ask in asks if ask is not None]

    async def _take(self, asks: Sequence[tuple[Rule, Ask]]) -> Verdict:
        if not asks:
            return Verdict(True)
        answer = await self.limiter.acquire_all(ask for _, ask in asks)
        rules = (rule for rule, _ in asks)
        taken = tuple(zip(rules, answer.decisions, strict=True))
        told = self._tell_allowed or not answer.allowed
        fields = self._fields(answer.decisions) if told else {}
        return Verdict(answer.allowed, taken, answer.binding, fields)

    def _fields(self, decisions: Sequence[Decision]) -> dict[str, str]:
        """The fields of every bucket that is no shadow, the one that binds last."""
        told: dict[str, str] = {}
        buckets: dict[str, dict[str, str]] = {}
        for decision in sorted(decisions, key=_pressure):
            spec = decision.bucket.spec_of(decision.key)
            if not spec.shadow:
                buckets[spec.key] = fields = rate_limit_fields(
                    decision, spec, legacy=self._legacy, jitter_s=self._jitter_s
                )
                told |= fields
        # A policy stands once in the lists; the other fields can speak of one bucket only.
        for name in LISTS if buckets else ():
            told[name] = ", ".join(fields[name] for fields in buckets.values())
        return told


def _pressure(decision: Decision) -> tuple[int, float]:
    return decision.retry_after_ns, -decision.remaining / decision.limit


__all__ = ["Answer", "Limits", "Verdict"]
