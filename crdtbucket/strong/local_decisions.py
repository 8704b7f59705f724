"""Decisions that a strong bucket makes without the store, while that is slow or unreachable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crdtbucket._core import BucketCore, BucketReplica, Decision, show_debt
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.forks import ForkLock
from crdtbucket.spec.bucket_spec import OnOutage
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.shares import ALONE, Division
from crdtbucket.strong.store_rules import RuleBook, Rules

NODES_NS = 100_000_000
"""Time (ns) for which charges use the last known number of nodes. A decision asks for the number
again; tokens that were charged before nodes came or went are counted in parts of the older price
anyway."""


class LocalDecisions:
    """Decides under the rule of a mode, and charges the quotas for what every mode admits."""

    def __init__(
        self,
        rules: RuleBook,
        division: Callable[[], Division],
        now: Callable[[], int],
        lock: ForkLock,
    ) -> None:
        """`division`: among how many nodes the limits are divided, as far as is known here; `now`:
        the time of the table (ns); `lock`: that of the ledger."""
        self._rules = rules
        self._division = division
        self._now = now
        self._lock = lock
        self._counted = ALONE
        self._counted_at = -NODES_NS

    def decide(self, bucket: BucketCore, key: str | bytes, cost: int, mode: Mode) -> Decision:
        """The decision under `mode`: eventual, or fallback, in which the bucket's own `on_outage`
        applies. Raises as `take`. Call it under the lock."""
        rules = self._rules.of_key(bucket, key)
        rule: OnOutage = "eventual" if mode is Mode.EVENTUAL else rules.on_outage
        if rule == "quota":
            return self._from_quota(bucket, rules.quota, key, cost)
        if rule == "eventual":
            decision = bucket.take_as(key, cost, Mode.EVENTUAL)
        else:
            BucketReplica(bucket).open_call(key, cost)  # checks both arguments, and makes the entry
            if rule == "deny":
                # Denies, whatever the bucket holds; nobody knows when Redis is back.
                denial = deny(bucket, key, cost, Mode.FALLBACK, NS_PER_SECOND)
                q, p = denial.spec.emission
                return show_debt(denial, -(-denial.limit * q // p))
            decision = BucketReplica(bucket).close_call(
                key, cost, allowed=True, taken=cost, refunded=0, mode=Mode.FALLBACK
            )
        if took(decision):
            self.charge(rules, key, cost)
        return decision

    def policy(self, bucket: BucketCore, key: str | bytes) -> tuple[int, int] | None:
        """The most that the quota of a key grants, as in `Quota.policy`; None if the bucket's rule
        in an outage is not a quota."""
        with self._lock:
            rules = self._rules.of_key(bucket, key)
            return rules.quota.policy(self._division()) if rules.on_outage == "quota" else None

    def outage(self, bucket: BucketCore) -> dict[str, Any]:
        """What callers of a bucket get while the store is unreachable: its `rule`; of the rule
        "quota" the `tokens` that a key has here, and the `seconds` in which they come back."""
        with self._lock:
            rules = self._rules.of(bucket, (0, 0))
            if rules.on_outage != "quota":
                return {"rule": rules.on_outage}
            tokens, filled_ns = rules.quota.policy(self._division())
        return {"rule": "quota", "tokens": tokens, "seconds": filled_ns / NS_PER_SECOND}

    def charge(self, rules: Rules, key: str | bytes, cost: int) -> None:
        """Counts in the quota tokens that another rule admitted. Call it under the lock."""
        rules.quota.charge(key, cost, self._divided_lately())

    def charged(self, bucket: BucketCore, key: str | bytes, tokens: int) -> None:
        """Tokens of a key were charged without a decision: they count in its quota."""
        with self._lock:
            self.charge(self._rules.of_key(bucket, key), key, tokens)

    def give_back(self, bucket: BucketCore, key: str | bytes, tokens: int) -> None:
        """Takes tokens out of the quota that came back, whatever admitted them."""
        with self._lock:
            self._rules.of_key(bucket, key).quota.give_back(key, tokens, self._divided_lately())

    def _divided_lately(self) -> Division:
        now = self._now()
        if now - self._counted_at >= NODES_NS:
            self._counted, self._counted_at = self._division(), now
        return self._counted

    def _from_quota(
        self, bucket: BucketCore, quota: Quota, key: str | bytes, cost: int
    ) -> Decision:
        """The decision on which the quota and the bucket must agree. The caller sees the rest of
        the one that has less, since the next calls get no more."""
        opened = BucketReplica(bucket).open_call(key, cost)
        if opened is None:
            return bucket.take_as(key, cost, Mode.FALLBACK)
        among = self._division()
        share = quota.take(key, cost, among)
        if share is None:  # the share never holds so many, and nobody knows when Redis is back
            denial = deny(bucket, key, cost, Mode.FALLBACK, NS_PER_SECOND)
            return show_debt(denial, quota.debt_ns(key, among))
        if not share.allowed:
            debt = max(opened[5], quota.debt_ns(key, among))
            return deny(bucket, key, cost, Mode.FALLBACK, share.retry_after_ns, debt)
        decision = bucket.take_as(key, cost, Mode.FALLBACK)
        if not took(decision):
            quota.refund(share, key, cost, among)
        return show_debt(decision, quota.debt_ns(key, among))


def deny(
    bucket: BucketCore,
    key: str | bytes,
    cost: int,
    mode: Mode,
    wait: int = 0,
    debt: int | None = None,
) -> Decision:
    """A denial. `wait`: ns that the caller waits at least. `debt`: ns that the decision shows as
    taken; None for what the bucket itself has taken."""
    return BucketReplica(bucket).close_call(
        key, cost, allowed=False, taken=0, refunded=0, mode=mode, debt=debt, wait=wait
    )


def took(decision: Decision) -> bool:
    """Whether tokens were taken: a shadow admits what its limit denies."""
    return decision.allowed and not decision.shadowed
