"""The bound of a run of real processes: what they may admit over the limit, from what each knew.

The argument is that of `crdtbucket.simulator.bound`, on facts instead of a grid. At an admission
its node held every take that its columns showed, so a bucket that sees everything was lower by at
most the takes of the others that it had not heard of, the room that a full bucket may keep for
silent peers, and debt that was forgiven. A node that admitted within the last gossip interval
speaks for the moment too, with all that was admitted since counted as unheard: the least of them
holds. Where one bucket that sees everything would be full, all before it is history.
"""

from __future__ import annotations

from crdtbucket.demo.ledger import Decided


class Unheard:
    """Follows the admissions of a run in the order of time; amounts are tokens."""

    def __init__(self, regions: int, memory_ns: int) -> None:
        """`memory_ns`: for how long a node speaks after its admission, the gossip interval."""
        self._totals = [0] * regions
        self._history = [0] * regions
        self._spoke: list[tuple[int, int] | None] = [None] * regions
        self._memory_ns = memory_ns

    def full(self) -> None:
        """One bucket that sees everything is full at this moment."""
        self._history = list(self._totals)

    def admitted(self, call: Decided) -> int:
        """Count an admission; tokens that the best informed of the nodes had not heard of."""
        others = (
            min(total - heard, total - before)
            for place, (total, heard, before) in enumerate(
                zip(self._totals, call.known, self._history, strict=True)
            )
            if place != call.region
        )
        unheard = sum(max(0, one) for one in others)
        self._totals[call.region] += call.cost
        self._spoke = [
            None if spoke is None else (spoke[0], spoke[1] + call.cost) for spoke in self._spoke
        ]
        self._spoke[call.region] = (call.at_ns, unheard)
        return min(
            amount
            for spoke in self._spoke
            if spoke is not None
            for at, amount in [spoke]
            if call.at_ns - at <= self._memory_ns
        )


__all__ = ["Unheard"]
