"""The static quota of an outage: a small share of a bucket that this node alone grants."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from fractions import Fraction

from crdtbucket._core import BucketCore, BucketReplica, Decision, Table
from crdtbucket.errors import CrdtbucketError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import MAX_SPAN_NS, MAX_TOKENS
from crdtbucket.strong.kept_quotas import KeptQuotas
from crdtbucket.strong.redis.shares import Division

FINEST = 1000
"""Parts of a token that the quota counts in, so that odd ratios stay exact enough."""


class Quota:
    """One bucket's share on one node, per key: charged in every mode, given out in an outage.

    The share is `share_among` the nodes, of capacity and rate. It is kept as a bucket of the whole
    limit in which a token costs 1 / share, so only that price is rounded, upwards: all nodes
    together never give out more than the limit. A share of the capacity that is under one token
    still gives single tokens, at the share's rate, if the capacity has one token for each node:
    otherwise a small bucket would be closed for as long as Redis is gone. A call that costs more
    than the share ever holds, or more than an equal part of the capacity, is denied until Redis is
    back: whole tokens cannot be split, and the limit must hold.

    The quota is also charged for what the other modes admit, so a switch of modes grants nothing
    twice, and for costs that are settled. Tokens of these that come back may be granted again: they
    were not used, so what all nodes use together stays within the limit.

    While other processes may still grant the share of this one, it is smaller, and a token costs
    more parts. That price must not outlast the doubt: where the share is nothing, one token costs
    all parts. So the doubt has a second bucket, which is asked only then; the first one is always
    charged the usual price, and alone counts after the doubt. Processes that share the table have
    both in common.
    """

    def __init__(
        self,
        table: Table,
        spec: BucketSpec,
        ratio: Fraction,
        *,
        fleet: bool,
        kept: KeptQuotas | None = None,
        name: str = "",
    ) -> None:
        """`table`: a table for quotas only, whose counts no peer gets; a later quota of the same
        bucket in it goes on from what this one has charged. `ratio`: above 0, at most 1; `fleet`:
        the ratio is that of all nodes together, not of each. `kept`: what is known of earlier
        processes of this node. `name`: of another quota of the same bucket."""
        # Fewer parts where the core could not count so many, in all or in a second.
        most = MAX_TOKENS // max(spec.capacity, spec.refill_rate)
        self._parts = min(FINEST, most, spec.interval_ns // spec.refill_rate)
        rate = spec.refill_rate * self._parts
        # At least the parts that one token costs, if the core can count that far.
        longest = MAX_SPAN_NS * rate // spec.interval_ns - 1
        one = min(math.ceil(self._parts / ratio), longest, MAX_TOKENS)
        self._core = BucketCore(
            table,
            BucketSpec(
                # If tokens now have a different number of parts, a debt in the old parts is
                # meaningless.
                _odd_name(spec.key, f"{name}{self._parts}")
                if name or self._parts != FINEST
                else spec.name,
                max(spec.capacity * self._parts, one),
                rate,
                f"{spec.interval_ns}ns",
                max_debt=0,
                max_keys=spec.max_keys,
            ),
        )
        self._table = table
        self._kept = KeptQuotas(table, "") if kept is None else kept
        self._doubted: BucketCore | None = None
        self._spec = spec
        self._ratio = ratio
        self._fleet = fleet
        self._nodes = 0
        self._price_ratio = (0, 1)

    def take(self, key: str | bytes, cost: int, among: Division) -> Decision | None:
        """The decision on `cost` tokens; None when the share never holds so many. Its `remaining`
        is in parts of a token, times 1 / share."""
        price = self._price(cost, among.nodes)
        if price > self._core.spec.capacity or cost * among.nodes > self._spec.capacity:
            return None
        if not among.doubted:
            return self._opened(key).take(key, price)
        doubted = self._in_doubt(key)
        small = doubted.take(key, price)
        if not small.allowed:
            return small
        share = self._core.take(key, self._price(cost, among.usual))
        if not share.allowed:  # a process that is in no doubt was quicker
            doubted.refund(small)
        return share

    def refund(self, decision: Decision, key: str | bytes, cost: int, among: Division) -> bool:
        """Takes back what another rule denied. Returns whether that was not done before."""
        returned = self._core.refund(decision) > 0
        if returned and among.doubted:
            self._return(self._in_doubt(key), key, cost, among.nodes)
        return returned

    def debt_ns(self, key: str | bytes, among: Division) -> int:
        """The debt (ns) that leaves as many whole tokens in the whole bucket as are left in the
        share of a key."""
        q, p = self._spec.emission
        return (self._spec.capacity - self._left(key, among)) * q // p

    def _left(self, key: str | bytes, among: Division) -> int:
        """The whole tokens that are left in the share of a key."""
        capacity, nodes = self._spec.capacity, among.nodes
        core = self._in_doubt(key) if among.doubted else self._opened(key)
        left = core.peek(key, 1).remaining // self._token_price(nodes)
        return min(left, capacity) if nodes <= capacity else 0

    def policy(self, among: Division) -> tuple[int, int]:
        """The whole tokens that the share of one node holds at most, and the time (ns) in which it
        fills."""
        spec, nodes = self._spec, among.nodes
        shares = self._token_price(nodes) / self._parts
        tokens = self._core.spec.capacity // self._token_price(nodes)
        tokens = tokens if nodes <= spec.capacity else 0
        return tokens, math.ceil(tokens * shares * spec.interval_ns / spec.refill_rate)

    def charge(self, key: str | bytes, cost: int, among: Division) -> None:
        """Counts tokens that another mode admitted; an empty share stays empty."""
        most = self._core.spec.capacity
        if among.doubted:
            self._in_doubt(key).settle(key, min(self._price(cost, among.nodes), most))
        self._opened(key).settle(key, min(self._price(cost, among.usual), most))

    def give_back(self, key: str | bytes, tokens: int, among: Division) -> None:
        """Gives tokens back at the price among the usual number of nodes, since they may have been
        charged before the doubt; a share is never more than full."""
        if among.doubted:
            self._return(self._in_doubt(key), key, tokens, among.usual)
        self._return(self._opened(key), key, tokens, among.usual)

    def _return(self, core: BucketCore, key: str | bytes, tokens: int, nodes: int) -> None:
        more, each = self._price_ratio_among(nodes)
        BucketReplica(core).give_back(key, min(tokens * more // each, MAX_TOKENS))

    def _opened(self, key: str | bytes) -> BucketCore:
        """The bucket of what is usual, in which the key owes what earlier processes may have
        granted."""
        self._kept.open_key(self._core, key)
        return self._core

    def _in_doubt(self, key: str | bytes) -> BucketCore:
        """The bucket of the doubt, in which the key owes at least what it owes without one."""
        if self._doubted is None:
            name = _odd_name(self._core.spec.key, "in doubt")
            try:
                self._doubted = BucketCore(self._table, replace(self._core.spec, name=name))
            except CrdtbucketError:  # the table has no room for it, and is not asked at every call
                self._doubted = self._core  # calls in doubt cost more for as long as that refills
        usual = self._opened(key).peek(key, 1)
        lacking = self._doubted.peek(key, 1).remaining - usual.remaining
        if lacking > 0:
            self._doubted.settle(key, lacking)
        return self._doubted

    def _price(self, cost: int, nodes: int) -> int:
        parts, tokens = self._price_ratio_among(nodes)
        return -(-cost * parts // tokens)  # in integers: every answer of the store is charged

    def _token_price(self, nodes: int) -> Fraction:
        """Parts that one token costs among so many nodes."""
        return Fraction(*self._price_ratio_among(nodes))

    def _price_ratio_among(self, nodes: int) -> tuple[int, int]:
        """`_token_price` as two whole numbers, which are divided without a call."""
        if nodes != self._nodes:
            share = share_among(nodes, self._ratio, fleet=self._fleet)
            self._nodes, self._price_ratio = nodes, (self._parts / share).as_integer_ratio()
        return self._price_ratio


class CandidateQuota(Quota):
    """The quota of the keys that a roll-out has moved to a new definition, which may hold less.

    It grants what the quota of the definition in force grants as well, and charges both. So what
    a key was granted before it was moved counts, and so does what it is granted now if the roll-out
    is taken back, or ends.
    """

    def __init__(
        self,
        table: Table,
        spec: BucketSpec,
        ratio: Fraction,
        *,
        fleet: bool,
        kept: KeptQuotas | None,
        in_force: Quota,
    ) -> None:
        """`in_force`: the quota of the definition in force, with the same settings."""
        super().__init__(table, spec, ratio, fleet=fleet, kept=kept, name="candidate ")
        self._in_force = in_force

    def take(self, key: str | bytes, cost: int, among: Division) -> Decision | None:
        share = super().take(key, cost, among)
        if share is None or not share.allowed:
            return share
        other = self._in_force.take(key, cost, among)
        if other is not None and other.allowed:
            return share
        super().refund(share, key, cost, among)
        return other

    def refund(self, decision: Decision, key: str | bytes, cost: int, among: Division) -> bool:
        returned = super().refund(decision, key, cost, among)
        if returned:
            self._in_force.give_back(key, cost, among)
        return returned

    def policy(self, among: Division) -> tuple[int, int]:
        return min(super().policy(among), self._in_force.policy(among))

    def charge(self, key: str | bytes, cost: int, among: Division) -> None:
        super().charge(key, cost, among)
        self._in_force.charge(key, cost, among)

    def give_back(self, key: str | bytes, tokens: int, among: Division) -> None:
        super().give_back(key, tokens, among)
        self._in_force.give_back(key, tokens, among)

    def _left(self, key: str | bytes, among: Division) -> int:
        return min(super()._left(key, among), self._in_force._left(key, among))


def share_among(nodes: int, ratio: Fraction, *, fleet: bool) -> Fraction:
    """The part of a limit that one of so many nodes grants alone: at most `ratio`, and at most an
    equal part; with `fleet`, an equal part of `ratio`."""
    return ratio / nodes if fleet else min(ratio, Fraction(1, nodes))


def _odd_name(bucket: str, what: str) -> str:
    return f"{what} {hashlib.blake2b(bucket.encode(), digest_size=16).hexdigest()}"
