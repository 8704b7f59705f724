"""The ways of a simulated network, each in one direction: which are cut, reset or held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from crdtbucket.testing.simulated_mesh import SimulatedMesh

Way = tuple[str, str]
"""(source, target) of frames."""


class Ways(SimulatedMesh):
    """A mesh whose ways may be cut one by one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._cut: Counter[Way] = Counter()
        self._resetting: Counter[frozenset[str]] = Counter()
        super().__init__(*args, **options)

    def mend(self, ways: Iterable[Way], *, resets: bool) -> None:
        """Opens ways that were cut, or pairs whose connections a device resets."""
        if resets:
            self._resetting -= Counter(dict.fromkeys(map(frozenset, ways), 1))
        else:
            self._cut -= Counter(ways)

    def mend_all(self) -> None:
        """Opens every way."""
        self._cut.clear()
        self._resetting.clear()
        self.heal()

    def passes(self, source: str, target: str) -> bool:
        """Whether frames would pass this way on a connection."""
        if (source, target) in self._cut or self.cut(source, target):
            return False
        return not self._resetting or frozenset((source, target)) not in self._resetting

    @property
    def undisturbed(self) -> bool:
        """Whether frames pass all ways, and in time."""
        late = any(stall.until > self.now_ns for stall in self._stalls)
        return not (self._cut or self._groups or self._resetting or late)

    def held_until(self, name: str) -> int:
        """The time (ns) until which frames from or to this node are held; now where none are."""
        now = self.now_ns
        ways = [(name, other) for other in self.nodes] + [(other, name) for other in self.nodes]
        return max([s.until for s in self._stalls if any(s.holds(w, now) for w in ways)] + [now])

    def flows(self, source: str, target: str) -> bool:
        """Whether frames pass this way, and in time."""
        way, now = (source, target), self.now_ns
        return self.passes(*way) and not any(stall.holds(way, now) for stall in self._stalls)
