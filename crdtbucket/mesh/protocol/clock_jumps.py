"""Undoes a jump of the own clock, so that no level moves with it."""

from __future__ import annotations

import logging

from crdtbucket._core import Table
from crdtbucket.mesh.protocol.clock_watch import OwnClock, jump
from crdtbucket.mesh.protocol.membership import Membership

LOG = logging.getLogger("crdtbucket.mesh")


class ClockJumps:
    """Follows the clock of the node `name` and those of its peers. Times are local ns."""

    def __init__(self, table: Table, members: Membership, name: str, clock: OwnClock) -> None:
        """`clock` is read at each round, and `undo` called."""
        self._table, self._members, self._name = table, members, name
        self._clock = clock

    def undo(self, now: int) -> None:
        """Moves the table with its clock, if that has jumped since the last round."""
        near = self._table.nodes.near_ns
        there = [link for link in self._members.links.values() if link.connected]
        # Who is silent, as behind a cut, has not looked at this clock since, and has no say.
        links = [link for link in there if 0 <= now - link.last_seen < near]
        by = jump(link.clock for link in links)
        if not by:
            return
        since = self._clock.jumped()
        if not self._clock.explains(by):
            for link in links:
                if link.clock.moved:
                    self._members.bounded.count(
                        link.info.name,
                        "clock",
                        1,
                        now,
                        f"and most peers claim that the clock jumped by {by / 1e9:.3f} s, and it "
                        "shows no such jump: levels stay as they are",
                    )
            return
        LOG.warning(
            "%s: the clock jumped by %.3f s against the peers'; levels stay where they were",
            self._name,
            by / 1e9,
        )
        self._table.shift(by, since)
        for link in links:
            link.clock.settle(-by)
