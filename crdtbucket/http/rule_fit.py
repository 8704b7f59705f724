"""Rules beside a limiter: whether they fit its buckets, and the rates that they stand for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

from crdtbucket.errors import InvalidSpec
from crdtbucket.http.request_rules import Rule
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.facade import Limiter
from crdtbucket.limiter.multi import check_limiter
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.overrides import with_overrides


def checked_rules(limiter: Limiter, rules: Rule | Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules. Raises `InvalidSpec` for what is no rule, or no limiter."""
    check_limiter(limiter, "Limits(limiter, Rule(...))")
    if isinstance(rules, str) or not isinstance(rules, (Rule, Iterable)):
        word = rules if isinstance(rules, str) else "api"
        raise InvalidSpec(f"rules is {rules!r}", f"write Rule({word!r})", "rules")
    each = (rules,) if isinstance(rules, Rule) else tuple(rules)
    for rule in each:
        if not isinstance(rule, Rule):
            raise InvalidSpec(f"rules has {rule!r}", f"write Rule({rule!r})", "rules")
    return each


def has_slots(limiter: Limiter, rule: Rule) -> bool:
    """Whether the rule is about what is in flight."""
    return limiter.bucket(rule.bucket).spec.slots is not None


def check_rule(limiter: Limiter, rule: Rule) -> None:
    """Raises `InvalidSpec` for a rule that its bucket cannot keep."""
    slots, spec = has_slots(limiter, rule), limiter.bucket(rule.bucket).spec
    if spec.overrides_from is None:
        _check_cost(rule, spec)
    if rule.floor != 0 and (slots or not limiter.bucket(rule.bucket).immediate):
        fix = "leave it out: only eventual buckets of tokens have floors"
        raise InvalidSpec(f"floor in the rule for {rule.bucket!r}", fix, "floor")
    if slots and rule.refund_if is not None:
        fix = "leave it out: a slot is always released at the end of the request"
        raise InvalidSpec(f"refund_if in the rule for {rule.bucket!r}", fix, "refund_if")


def _check_cost(rule: Rule, spec: BucketSpec) -> None:
    """Raises `InvalidSpec` where no key has as many tokens or slots as the rule's fixed cost."""
    specs = (one for one, _ in with_overrides([spec]))
    most = max(one.capacity if one.slots is None else one.slots for one in specs)
    if isinstance(rule.cost, int) and rule.cost > most:
        more = "raise its capacity" if spec.slots is None else "give it more slots"
        fix = f"write {most} or less, or {more}: no request could ever pass"
        raise InvalidSpec(f"cost {rule.cost} in the rule for {rule.bucket!r}", fix, "cost")


def rates_of(limiter: Limiter, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules; in place of one about a name with several rates a rule about each of them."""
    buckets = limiter.buckets
    parts: list[Rule] = []
    for rule in rules:
        names = (f"{rule.bucket}:{n}" for n in itertools.count(1))
        several = () if rule.bucket in buckets else itertools.takewhile(buckets.__contains__, names)
        parts += [dataclasses.replace(rule, bucket=name) for name in several] or [rule]
    return tuple(parts)


def of_peer(limiter: Limiter, rule: Rule | None) -> tuple[Rule, Bucket] | None:
    """The rule and its bucket, where a decision needs the peer's address alone. A cost of 1 fits
    any bucket. Raises `UnknownBucket`."""
    if rule is None or rule.cost_by_address != 1:
        return None
    bucket = limiter.bucket(rule.bucket)
    return (rule, bucket) if bucket.immediate else None
