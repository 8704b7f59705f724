"""Says from when on the oracle may judge by a definition that has replaced another one."""

from __future__ import annotations

from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.network import Network
from tests.simulated.plan import Plan

SECOND = 10**9
SETTLES = 2.0
"""Seconds, beside ten times those that an update travels, until a change has settled."""
STAGED_FROM = 0.5206
"""A candidate with a larger share of the keys than this has the key of the demand."""


def ceiling(spec: BucketSpec, lag: float) -> float:
    """The most that is owed of a bucket, in tokens."""
    return spec.capacity + max(spec.max_debt, 4 * spec.rate_per_second * lag)


class Reloads:
    def __init__(self, plan: Plan, mesh: Network) -> None:
        self._mesh, self._first = mesh, plan.main
        self._staged = False
        """Whether a candidate has the key of the demand."""
        self._lag = len(plan.nodes) * (plan.one_way + plan.gossip_interval)
        self._most = ceiling(plan.main, self._lag)
        """The most tokens that may be owed under any definition so far."""
        self._on_all = 0
        """When all nodes have the newest definition, ns."""
        self.newest = plan.main
        self._waits: BucketSpec | None = None
        self.refilled = 0
        """When all that was owed under other definitions has refilled, ns."""

    def begins(self, spec: BucketSpec, step: float, keeps: bool, order: int, last: float) -> None:
        """The nodes get this definition one after the other, and the last one `last` seconds later.
        With `keeps` all that is owed stays owed; else what is above its ceiling is forgiven."""
        now, most = self._mesh.now_ns, ceiling(spec, self._lag)
        self._most = max(self._most, most) if keeps else most
        self._on_all = max(
            self._on_all, now + round((len(self._mesh.nodes) * step + last) * SECOND)
        )
        self.newest = spec
        self._wait()

    def staged(self, what: str, args: tuple[Any, ...]) -> BucketSpec | None:
        """The definition that a step of a roll-out gives the key of the demand; None where the key
        keeps the one that it has."""
        before, self._staged = self._staged, what == "stage" and args[1] > STAGED_FROM
        if self._staged or (what == "unstage" and args[1]):
            spec: BucketSpec = args[0]
            return spec
        return self._first if before else None

    def anew(self, lasts: float) -> None:
        """What is owed is unknown after an event that goes on for so many seconds."""
        self._on_all = max(self._on_all, self._mesh.now_ns + round(lasts * SECOND))
        self._wait()

    def _wait(self) -> None:
        seconds = SETTLES + 10 * self._lag + self._most / self.newest.rate_per_second
        self._waits, self.refilled = self.newest, self._on_all + round(seconds * SECOND)

    def in_force(self) -> BucketSpec | None:
        """The definition by which to judge from now on, if it is another one than before."""
        if self._waits is None or self._mesh.now_ns < self.refilled:
            return None
        spec, self._waits = self._waits, None
        return spec
