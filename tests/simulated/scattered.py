"""Operations on the keys of the side bucket, at any time and of any size: takes, refunds of earlier
ones, and settlements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crdtbucket._core import Decision
from tests.simulated.truth import Place

if TYPE_CHECKING:
    from tests.simulated.run import Run


class ScatteredOperations:
    """The operations of one run, which are drawn while it is played."""

    def __init__(self, run: Run) -> None:
        self._run, self._plan, self._random = run, run.plan, run.random
        self._decisions: list[tuple[str, int, Place, Decision]] = []
        """Takes that were allowed, each with its node, and the number of the process that it had
        then."""

    def times(self) -> list[float]:
        """The times of the operations in order (s)."""
        seconds = self._plan.seconds
        count = int(self._plan.scattered * seconds)
        return sorted(self._random.uniform(0, seconds) for _ in range(count))

    def operate(self) -> None:
        """Makes a take of any size, a refund of an earlier one, or a settlement."""
        run = self._run
        name = self._random.choice(list(run.mesh.nodes))
        place = ("side", f"key-{self._random.randrange(self._plan.keys)}")
        capacity = self._plan.side.capacity
        cost = self._random.choice([1, 1, 1, 2, 5, max(1, capacity // 5), capacity])
        kind, which = self._random.random(), self._random.randrange(8)
        if not self._plan.returns or kind < 0.82:
            self.take(name, place, min(cost, capacity))
        elif kind < 0.93:
            self._refund(which, None if kind < 0.87 else 1)
        elif (node := run.ready(name)) is not None and place[0] in node.buckets:
            charged = node.settle(*place, cost if kind < 0.97 else 3 * cost)
            run.oracle.charged(node, place, charged)

    def take(self, name: str, place: Place, cost: int) -> None:
        """Makes a take that may be refunded later, if the node runs and has the bucket."""
        node = self._run.ready(name)
        if node is None or place[0] not in node.buckets:
            return
        cost = min(cost, node.bucket(place[0]).spec.capacity)
        decision = node.take(*place, cost)
        self._run.oracle.took(node, place, 1, cost, int(decision.allowed))
        if decision.allowed:
            self._decisions.append((name, node.epochs, place, decision))

    def _refund(self, which: int, tokens: int | None) -> None:
        if not self._decisions:
            return
        name, epochs, place, decision = self._decisions.pop(-1 - which % len(self._decisions))
        node = self._run.ready(name)
        if node is not None and node.epochs == epochs:
            owner = (name, node.table.epochs.running)
            self._run.oracle.refunded(node, owner, place, node.refund(decision, tokens))

    def forget(self) -> None:
        """Drops all decisions when the run is over. The garbage collector does not see through a
        decision, so nodes would stay for longer."""
        self._decisions.clear()
