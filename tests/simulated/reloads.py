"""From when on the oracle may judge by a definition that has replaced another one."""

from __future__ import annotations

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.network import Network
from tests.simulated.plan import Plan

SECOND = 10**9
SETTLES = 2.0
"""And ten times as long as updates travel, in seconds."""


def ceiling(spec: BucketSpec, lag: float) -> float:
    """The most that is owed of a bucket, in tokens."""
    return spec.capacity + max(spec.max_debt, 4 * spec.rate_per_second * lag)


class Reloads:
    def __init__(self, plan: Plan, mesh: Network) -> None:
        self._mesh = mesh
        self._lag = len(plan.nodes) * (plan.one_way + plan.gossip_interval)
        self._most = ceiling(plan.main, self._lag)
        """Tokens that may be owed under any definition so far."""
        self._on_all = 0
        """When all nodes have the newest definition, ns."""
        self._newest = plan.main
        self._waits: BucketSpec | None = None
        self._refilled = 0

    def begins(self, spec: BucketSpec, step: float, keeps: bool, order: int, last: float) -> None:
        """One node after the other gets this definition, and one so much later. What is owed is
        forgiven above its ceiling, where `keeps` does not say that all stays owed."""
        now, most = self._mesh.now_ns, ceiling(spec, self._lag)
        self._most = max(self._most, most) if keeps else most
        self._on_all = max(
            self._on_all, now + round((len(self._mesh.nodes) * step + last) * SECOND)
        )
        self._newest = spec
        self._wait()

    def anew(self, lasts: float) -> None:
        """Nobody knows what is owed after this, which goes on for so many seconds."""
        self._on_all = max(self._on_all, self._mesh.now_ns + round(lasts * SECOND))
        self._wait()

    def _wait(self) -> None:
        seconds = SETTLES + 10 * self._lag + self._most / self._newest.rate_per_second
        self._waits, self._refilled = self._newest, self._on_all + round(seconds * SECOND)

    def in_force(self) -> BucketSpec | None:
        """The definition that is judged by from now on, where that is another one than before."""
        if self._waits is None or self._mesh.now_ns < self._refilled:
            return None
        spec, self._waits = self._waits, None
        return spec
