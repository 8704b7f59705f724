"""Rules over a limiter, and the verdict on a request. Shared by all middleware."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from operator import index
from typing import Any, SupportsIndex

from crdtbucket._core import MAX_SLOT_KEY_BYTES, Decision
from crdtbucket.base.signatures import misfit
from crdtbucket.errors import CostExceedsCapacity, InvalidCost, InvalidSpec, SlotDenied
from crdtbucket.http.answers import (
    SOON,
    Answer,
    Verdict,
    fields_of,
    invalid_address,
    problem_answer,
    too_large,
)
from crdtbucket.http.client_address import InvalidAddress, Network, check_trusted, key_of_peer
from crdtbucket.http.fields import FieldOptions, deferred_fields
from crdtbucket.http.request import Request
from crdtbucket.http.request_rules import Charge, Rule, shortened
from crdtbucket.http.rule_fit import check_rule, checked_rules, has_slots, of_peer, rates_of
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.facade import Limiter
from crdtbucket.limiter.held_slot import Slot
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import check_flag
from crdtbucket.strong.strong_bucket import AskingBucket


class Limits:
    """Rules over a limiter and how their verdicts are answered; one for all middleware of an
    application."""

    def __init__(
        self,
        limiter: Limiter,
        rules: Rule | Iterable[Rule],
        *,
        trusted: Iterable[str | Network] = (),
        on_denied: Callable[[Request, Verdict], Answer | None] | None = None,
        fields: FieldOptions = FieldOptions(),  # noqa: B008 - it is immutable
        reduced_capacity: bool = False,
    ) -> None:
        """A request must pass every rule; otherwise it takes nothing under any of them.

        trusted: proxies (addresses or networks, or "unix") whose `X-Forwarded-For` is believed;
        none by default. on_denied: is called at every denial; an `Answer` that it returns replaces
        the usual problem document. fields: which header fields answers have. reduced_capacity: 503
        instead of 429 for denials in fallback mode. Raises `UnknownBucket`, `InvalidSpec`.
        """
        self.limiter = limiter
        self.rules = checked_rules(limiter, rules)
        """As they were given."""
        self.trusted = check_trusted(trusted)
        self.may_refund = any(rule.refund_if is not None for rule in self.rules)
        """Whether a rule needs the status of each answer."""
        parts = rates_of(limiter, self.rules)
        for rule in parts:
            check_rule(limiter, rule)
        self._holding = tuple(rule for rule in parts if has_slots(limiter, rule))
        self.may_hold = bool(self._holding)
        """Whether requests hold slots, which are to be released at their end."""
        self._given = tuple(rule for rule in self.rules if rule not in self._holding)
        self._follow(limiter.in_force.buckets)
        _check_options(on_denied, fields)
        check_flag("reduced_capacity", reduced_capacity)
        self._on_denied = on_denied
        self._options = fields
        self._reduced_capacity = reduced_capacity

    def _follow(self, buckets: object) -> None:
        """Reads which rates the buckets in force have."""
        self._taking = rates_of(self.limiter, self._given)
        self._only = self._taking[0] if len(self._taking) == 1 else None
        alone = None if self.may_hold else self._only
        self._of_peer = None if self.trusted else of_peer(self.limiter, alone)
        self._buckets = buckets  # at last, as other threads decide meanwhile

    def take_of_peer(self, peer: str | None) -> Verdict | None:
        """`acquire` for the case that needs only the peer's address and is decided in this process:
        a single rule about all requests, with the default key and cost. None in all other cases."""
        if (buckets := self.limiter.in_force.buckets) is not self._buckets:
            self._follow(buckets)
        if self._of_peer is None or (key := key_of_peer(peer)) is None:
            return None
        rule, bucket = self._of_peer
        return self._verdict(rule, bucket.take(key))

    def acquire(self, request: Request) -> Coroutine[Any, Any, Verdict]:
        """Takes the tokens and slots of all rules. Raises what their callables and the buckets
        raise, except for a cost that no full bucket has: then the verdict is `too_large`; and for a
        client's address that is none: then it is `invalid`."""
        if (buckets := self.limiter.in_force.buckets) is not self._buckets:
            self._follow(buckets)
        work = self._hold_and_acquire(request) if self.may_hold else self._acquire(request)
        return _fitting(work)

    async def _hold_and_acquire(self, request: Request) -> Verdict:
        held = await self._hold(request)
        try:
            return _together(held, await self._acquire(request) if held else held)
        except BaseException:
            held.release()
            raise

    def acquire_sync(self, request: Request) -> Verdict:
        """`acquire` for threads without an event loop; blocks where a bucket asks Redis."""
        if (buckets := self.limiter.in_force.buckets) is not self._buckets:
            self._follow(buckets)
        try:
            return self._acquire_blocking(request)
        except CostExceedsCapacity as error:
            return Verdict(False, too_large=error)
        except InvalidAddress as error:
            return Verdict(False, invalid=error)

    def _acquire_blocking(self, request: Request) -> Verdict:
        if not self.may_hold:
            return self._acquire_sync(request)
        buckets = [self.limiter.bucket(rule.bucket) for rule in self._holding]
        held = _blocking(buckets, self._hold(request), Verdict.release)
        try:
            return _together(held, self._acquire_sync(request) if held else held)
        except BaseException:
            held.release()
            raise

    async def _hold(self, request: Request) -> Verdict:
        """Holds the slots that the rules ask for: all of them, or none."""
        slots: list[Slot] = []
        for rule in self._holding:
            charge = rule.charge(request)
            name, key, cost = charge[:3] if charge else (rule.bucket, "", 0)
            bucket, key = self.limiter.bucket(name), shortened(key, MAX_SLOT_KEY_BYTES)
            try:
                for _ in range(_slots_of(cost, bucket.spec_of(key)) if charge else 0):
                    slot = bucket.slot(key)
                    slots.append(await slot.__aenter__())
            except BaseException as error:
                Verdict(True, slots=tuple(slots)).release()
                if not isinstance(error, SlotDenied):
                    raise
                return Verdict(False, ((rule, error.decision),), error.decision, dict(SOON))
        return Verdict(True, slots=tuple(slots))

    async def _acquire(self, request: Request) -> Verdict:
        rule = self._only
        if rule is None:
            return await self._acquire_all(self._charges(request))
        charge = rule.charge(request)
        if charge is None:
            return Verdict(True)
        bucket = self.limiter.bucket(charge[0]).of(charge[1])
        if bucket.immediate:
            return self._verdict(rule, bucket.take(*charge[1:]))
        return self._verdict(rule, await bucket.acquire(*charge[1:]))

    def _acquire_sync(self, request: Request) -> Verdict:
        rule = self._only
        if rule is None:
            return self._acquire_all_sync(self._charges(request))
        charge = rule.charge(request)
        if charge is None:
            return Verdict(True)
        return self._verdict(rule, self.limiter.bucket(charge[0]).acquire_sync(*charge[1:]))

    def answer(self, request: Request, verdict: Verdict) -> Answer:
        """The answer to a request that is denied, too large, or of no address."""
        if verdict.too_large is not None:
            answer = too_large(verdict.too_large)
        elif verdict.invalid is not None:
            answer = invalid_address(verdict.invalid)
        else:
            replaced = None if self._on_denied is None else self._on_denied(request, verdict)
            if replaced is not None:
                return replaced
            denied = verdict.binding
            assert denied is not None, "an allowed request is answered by the application"
            violated = [d.bucket.spec.key for d in verdict.decisions if not d.allowed]
            answer = problem_answer(denied, verdict.fields, violated, self._reduced_capacity)
        if request.method == "HEAD":
            del answer.headers["Content-Length"]
            answer.body = b""
        return answer

    def _verdict(self, rule: Rule, decision: Decision) -> Verdict:
        """The verdict of the only rule."""
        return Verdict(decision.allowed, rule, decision, deferred_fields(decision, self._options))

    def _charges(self, request: Request) -> list[tuple[Rule, Charge]]:
        charges = ((rule, rule.charge(request)) for rule in self._taking)
        return [(rule, charge) for rule, charge in charges if charge is not None]

    async def _acquire_all(self, charges: Sequence[tuple[Rule, Charge]]) -> Verdict:
        if not charges:
            return Verdict(True)
        answer = await self.limiter.acquire_all(charge for _, charge in charges)
        rules = (rule for rule, _ in charges)
        taken = tuple(zip(rules, answer.decisions, strict=True))
        silent = answer.allowed and not self._options.on_allowed
        fields = {} if silent else fields_of(answer.decisions, self._options)
        return Verdict(answer.allowed, taken, answer.binding, fields)

    def _acquire_all_sync(self, charges: Sequence[tuple[Rule, Charge]]) -> Verdict:
        buckets = [self.limiter.bucket(name).of(key) for _, (name, key, *_) in charges]
        return _blocking(buckets, self._acquire_all(charges), Verdict.refund)


async def _fitting(work: Coroutine[Any, Any, Verdict]) -> Verdict:
    """The verdict of `work`, also if a cost is more than a full bucket has, or the client's address
    is none."""
    try:
        return await work
    except CostExceedsCapacity as error:
        return Verdict(False, too_large=error)
    except InvalidAddress as error:
        return Verdict(False, invalid=error)


def _blocking(
    buckets: Iterable[Bucket],
    work: Coroutine[Any, Any, Verdict],
    unwanted: Callable[[Verdict], None],
) -> Verdict:
    """The result of `work` on these buckets, for a thread without an event loop."""
    store = next((bucket.store for bucket in buckets if isinstance(bucket, AskingBucket)), None)
    if store is not None:
        return store.block_on(work, unwanted)
    try:
        work.send(None)
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    raise AssertionError("a decision in this process waits for nothing")


def _slots_of(cost: Any, spec: BucketSpec) -> int:
    """The slots that a request holds. Raises `InvalidCost`, `CostExceedsCapacity`."""
    if isinstance(cost, (bool, type)) or not isinstance(cost, SupportsIndex) or index(cost) < 1:
        raise InvalidCost(f"cost must be a whole number of slots, 1 or more, not {cost!r}")
    if index(cost) > (most := spec.slots or 0):
        raise CostExceedsCapacity(spec.name, index(cost), most, unit="slots")
    return index(cost)


def _together(held: Verdict, verdict: Verdict) -> Verdict:
    """The verdict on tokens, with the slots that are held if it allows the request."""
    if verdict.allowed:
        verdict.slots = held.slots
    else:
        held.release()
    return verdict


def check_limits(given: object, *, maker: bool = False) -> None:
    """Raises `InvalidSpec` if this is not a `Limits` or, with `maker`, a function that makes
    them."""
    makes = maker and callable(given) and misfit(given) is None
    if not (makes or isinstance(given, Limits)):
        fix = "pass Limits(limiter, Rule(...))" + (", or a function that makes them" * maker)
        raise InvalidSpec(f"limits is {given!r}", fix, "limits")


def check_application(app: object, method: str = "__call__") -> None:
    """Raises `InvalidSpec` if this is no application, such as when the limits came first. `method`:
    the method by which to tell."""
    # In WSGI a class may be an application: a call of it makes the answer.
    is_class = isinstance(app, type) and method != "__call__"
    if is_class or not callable(getattr(app, method, None)):
        raise InvalidSpec(f"app is {app!r}", "pass the application first", "app")


def check_route(name: str, route: object) -> None:
    """Raises `InvalidSpec` if this is no function of an application. `name`: of the parameter."""
    if isinstance(route, type) or not callable(route):
        raise InvalidSpec(f"{name} is {route!r}", "put the limit above a function", name)


def _check_options(on_denied: object, fields: object) -> None:
    if on_denied is not None and not callable(on_denied):
        fix = "pass a function of the request and the verdict"
        raise InvalidSpec(f"on_denied is {on_denied!r}", fix, "on_denied")
    if not isinstance(fields, FieldOptions):
        raise InvalidSpec(f"fields is {fields!r}", "pass FieldOptions(...)", "fields")
