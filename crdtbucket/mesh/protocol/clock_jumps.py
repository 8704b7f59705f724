"""Undoes a jump of the own clock, so that no level moves with it."""

from __future__ import annotations

import logging

from crdtbucket._core import Table
from crdtbucket.mesh.protocol.clock_watch import OwnClock, jump
from crdtbucket.mesh.protocol.membership import Membership

LOG = logging.getLogger("crdtbucket.mesh")


def undo_jump(table: Table, members: Membership, name: str, clock: OwnClock, now: int) -> None:
    """Moves the table with its clock, if that has jumped since the last round (at `now`, local ns).
    `name`: of this node."""
    near = table.nodes.near_ns
    there = [link for link in members.links.values() if link.connected]
    # A silent peer, such as one behind a cut, has not compared its clock with this one since, so it
    # does not count.
    links = [link for link in there if 0 <= now - link.last_seen < near]
    by = jump(link.clock for link in links)
    if not by:
        return
    since = clock.jumped()
    if not clock.explains(by):
        for link in links:
            if link.clock.moved:
                text = (
                    f"and most peers claim that the clock jumped by {by / 1e9:.3f} s, and it shows "
                    "no such jump: levels stay as they are"
                )
                members.bounded.count(link.info.name, "clock", 1, now, text)
        return
    LOG.warning(
        "%s: the clock jumped by %.3f s against the peers'; levels stay where they were",
        name,
        by / 1e9,
    )
    table.shift(by, since)
    for link in links:
        link.clock.settle(-by)
