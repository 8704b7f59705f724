"""The bound of a run of real processes: what they may admit over the limit, from what each knew.

For the mesh the argument is that of `crdtbucket.simulator.bound`, on facts instead of a grid. At
an admission its node held every take that its columns showed, so a bucket that sees everything was
lower by at most the takes that it did not know of, the room that a full bucket may keep for silent
peers, and debt that was forgiven. A node that admitted within the last gossip interval
speaks for the moment too, with all that was admitted since counted as unknown: the least of them
holds. Where one bucket that sees everything would be full, all before it is history.

A node in strong mode looks at Redis' level, too, which is lower than the true one by what was
admitted without Redis and not told to it since. Every call to Redis tells it all that its caller
has taken until then.
"""

from __future__ import annotations

from collections import deque

from crdtbucket.demo.accounts import DecidedCall
from crdtbucket.spec.mode import Mode


class UnknownTakes:
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

    def admitted(self, call: DecidedCall) -> int:
        """Count an admission; tokens that the best informed of the nodes did not know of."""
        # The own calls that were decided while this one waited for its answer count as well.
        gaps = (
            min(total - known, total - before)
            for total, known, before in zip(self._totals, call.known, self._history, strict=True)
        )
        unknown = sum(max(0, one) for one in gaps)
        self._totals[call.region] += call.cost
        self._spoke = [
            None if spoke is None else (spoke[0], spoke[1] + call.cost) for spoke in self._spoke
        ]
        self._spoke[call.region] = (call.at_ns, unknown)
        return min(
            amount
            for spoke in self._spoke
            if spoke is not None
            for at, amount in [spoke]
            if call.at_ns - at <= self._memory_ns
        )


class UnsentTakes:
    """Follows, in the order of time, the admissions that Redis has not been told of; tokens."""

    def __init__(self, regions: int) -> None:
        self._pending: list[deque[DecidedCall]] = [deque() for _ in range(regions)]
        self._strangers: set[int] = set()

    def lost(self) -> None:
        """Redis is empty at this moment, and must learn of everybody anew."""
        self._strangers = set(range(len(self._pending)))

    def full(self) -> None:
        """One bucket that sees everything is full at this moment."""
        self._strangers.clear()
        for pending in self._pending:
            pending.clear()

    def admitted(self, call: DecidedCall) -> int | None:
        """Count an admission; tokens that Redis had not been told of when it decided on it. None
        when Redis did not decide, or cannot know that much."""
        pending = self._pending[call.region]
        if call.mode != Mode.STRONG.value:
            pending.append(call)
            return None
        self._strangers.discard(call.region)
        while pending and pending[0].at_ns <= call.at_ns - call.error_ns:
            pending.popleft()
        if self._strangers:
            return None
        return sum(one.cost for some in self._pending for one in some)
