"""Sets the age at which a peer counts as silent: some rounds and the longest round trip."""

from __future__ import annotations

from collections.abc import Iterable

from crdtbucket._core import TableNodes

NEAR_NS = 500_000_000
"""A peer that was seen within this time never counts as silent, however quick the mesh is."""
ROUNDS = 3
"""How many rounds of a peer, plus a round trip, may be missing before it counts as silent."""
STEP_NS = 50_000_000
"""The horizon moves in steps of this size, since each move makes the table look at all of its
keys."""
MOVED_PLACES = 131_072
"""The number of places of the table that are looked at in a round."""
WINDOW_NS = 10_000_000_000
"""The longest round trip of the last one to two windows counts."""


class NearHorizon:
    """Keeps a table's near horizon. Times are local ns."""

    def __init__(self, nodes: TableNodes, interval_ns: int, now: int) -> None:
        """`interval_ns`: between two rounds of a peer."""
        self._nodes, self._interval_ns = nodes, interval_ns
        self._begun, self._longest, self._before = now, 0, 0
        self._moving, self._place = nodes.near_ns, -1
        """The horizon to which it moves, and the place of the table from which the move goes on; -1
        when it has been reached."""
        self.follow((), now)

    def follow(self, round_trips: Iterable[int], now: int) -> None:
        """Takes the round trips (ns) to the peers that are connected now."""
        if now - self._begun >= WINDOW_NS:
            self._begun, self._longest, self._before = now, 0, self._longest
        self._longest = max(self._longest, *round_trips, 0)
        longest = max(self._longest, self._before)
        least = max(NEAR_NS, ROUNDS * self._interval_ns + longest)
        horizon = -(-least // STEP_NS) * STEP_NS
        if horizon != self._moving:
            self._moving, self._place = horizon, 0
        if self._place >= 0:
            self._place = self._nodes.move_near(horizon, self._place, MOVED_PLACES)
