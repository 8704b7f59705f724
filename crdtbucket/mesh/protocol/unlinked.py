"""Predicts the takes of members that are not linked with this node, and which only relays see.

In a star two leaves never see each other; the hub states the rates and ages of one to the other.
Without a prediction each leaf would take what it finds, and all of them together half of the limit
too much, or more. They are kept in the table, so whichever process leads next goes on with them.

Relays may invent members. These lower the proportional share of this node, but not its guaranteed
share: for that one, a member counts only if more than half of the peers, and at least two, see it
themselves. If no two peers see each other, as in a chain, or if there is a single peer, a few of
the others count as well, since nobody else could say how many there are. `mesh.expected_nodes` sets
the number for all cases.
"""

from __future__ import annotations

import logging
from collections import Counter

from crdtbucket._core import Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_directory import CAUGHT_UP, MemberDirectory
from crdtbucket.mesh.protocol.peer_state import FORGOTTEN_PLACES
from crdtbucket.mesh.protocol.roster import Roster

LOG = logging.getLogger("crdtbucket.mesh")

MEETS_NS = 15_000_000_000
"""A process that has run for this long (ns) has met all members that it will meet."""
COUNTED = 15
"""If no two peers of a node see each other, at most this many members that it is not linked with
count in its guaranteed share."""
UNSURE_NS = 60_000_000_000
"""Time (ns) after which a member that only one peer sees no longer counts as a newcomer that the
others have yet to meet."""


class UnlinkedMembers:
    """Keeps the members that only relays see, and predicts what they take. Times are local ns."""

    def __init__(
        self, table: Table, directory: MemberDirectory, roster: Roster, config: MeshConfig
    ) -> None:
        self._table, self._directory, self._roster = table, directory, roster
        self._forget_after_ns = config.forget_after_ns
        self._expected = config.expected_nodes
        """The configured least number of nodes; 0 once the warning that there seem to be more was
        logged."""
        self._first: dict[int, int] = {}
        """When each was seen first, by its epoch."""
        self._going: dict[int, int] = {}
        """Ids of those that are being given up, and the place of the table from which this goes
        on."""

    def seen(self, name: str, epoch: int, at: int) -> None:
        """A relay has passed on all that this member took up to the time `at`. Nothing is predicted
        of it before relays have done so for the near horizon: it may have just ended."""
        first, node = self._first.setdefault(epoch, at), self._roster.node(name)
        if at - first >= self._table.nodes.near_ns and node not in self._going:
            self._table.nodes.set_relayed(node, epoch, at)

    def step(self, now: int) -> None:
        """Gives up the members that are gone: what was predicted of them becomes debt, part by
        part."""
        running, names = self._directory.running_elsewhere, self._roster.names()
        self._first = {epoch: at for epoch, at in self._first.items() if epoch in running}
        going, self._going = self._going, {}
        members = self._table.nodes.relayed_members()
        if not running and not members:
            return
        self._end_silent(members, now)
        vouched, dense = self._seen_by_peers() if members else (set(), False)
        for index, (node, epoch, at) in enumerate(members):
            is_gone = self._is_gone(names.get(node, ""), epoch, at, now)
            place = going.get(node, 0 if is_gone else -1)
            if place < 0:
                counts = node in vouched or (not dense and index < COUNTED)
                self._table.nodes.count_relayed(node, counts)
                if not counts and now - self._first.get(epoch, now) > UNSURE_NS:
                    self._warn(len(members))
                continue
            running.pop(epoch, None)
            self._directory.give_up(names.get(node, ""))
            place = self._table.nodes.forget(node, place, FORGOTTEN_PLACES)
            if place >= 0:
                self._going[node] = place

    def rows(self) -> list[wire.Member]:
        """Members that no peer of this node sees, but only nodes behind the peers. They are
        advertised as unseen until they are given up here: nodes behind this one keep their part
        until then."""
        names, known = self._roster.names(), self._directory.known
        found = [(names.get(node), e, node) for node, e, _ in self._table.nodes.relayed_members()]
        return [
            (name, "", epoch, "")
            for name, epoch, node in found
            if name and epoch and name not in known and node not in self._going
        ]

    def _end_silent(self, members: list[tuple[int, int, int]], now: int) -> None:
        """Ends processes of which relays bring nothing new and nothing is predicted: there is a
        later process of that name, they are gone, or they have a tombstone. If two processes with
        one name both run, relays bring something new of both."""
        running, owner = self._directory.running_elsewhere, self._roster.owner
        predicted = {epoch for _, epoch, _ in members}
        newest: dict[str | None, int] = {}
        for epoch, (at, _) in running.items():
            newest[owner(epoch)] = max(at, newest.get(owner(epoch), at))
        for epoch, (at, _) in list(running.items()):
            if epoch in predicted or now - at <= CAUGHT_UP * self._directory.alive_ns:
                continue
            name = owner(epoch)
            if name is None or at < newest[name] or self._is_gone(name, epoch, at, now):
                del running[epoch]

    def _warn(self, unlinked: int) -> None:
        """Warns once that some members do not count in the guaranteed share, and what to do."""
        if 0 < self._expected <= unlinked + len(self._directory.links):
            self._expected = 0
            LOG.warning(
                "%s: some of %d members without a link here are seen by half of the peers at most, "
                "which may invent them. In heavy overload each node may be given more than its "
                "part: set mesh.expected_nodes to how many nodes there are",
                self._roster.names()[0],
                unlinked,
            )

    def _seen_by_peers(self) -> tuple[set[int], bool]:
        """Ids of the members that more than half of the peers, and at least two, see themselves:
        fewer may have invented them together. And whether any two peers see each other. For silent
        peers their last statement counts."""
        links = self._directory.links
        peers = {name for name in links if not self._directory.is_gone(name)}
        said = {name: links[name].advertised for name in peers}
        seen: Counter[str] = Counter()
        for name, advertised in said.items():
            seen.update({*(advertised or ())} - {name, *links[name].unseen})
        half = max(1.0, sum(advertised is not None for advertised in said.values()) / 2)
        vouched = {node for node, name in self._roster.names().items() if seen[name] > half}
        return vouched, any(seen[name] for name in peers)

    def _is_gone(self, name: str, epoch: int, at: int, now: int) -> bool:
        """Whether this member is gone: nothing came of it for so long that it is forgotten; or it
        is no longer a member for the relay that saw it last, if that relay's process still runs; or
        it is no member for all peers, once they have had time to meet it. If one of these is silent
        itself, the member may only be silent, too."""
        silent, directory = now - at, self._directory
        if not epoch or silent > self._forget_after_ns:
            return True
        if silent <= CAUGHT_UP * directory.alive_ns:
            return False
        _, relay = directory.running_elsewhere.get(epoch, (0, ""))
        links = [link for peer, link in directory.links.items() if not directory.is_gone(peer)]
        lacking = [
            link
            for link in links
            if link.connected
            and now - link.last_seen < directory.alive_ns
            and link.advertised is not None
            and name not in link.advertised
        ]
        if any(link.info.name == relay and link.started <= at for link in lacking):
            return True
        met = all(now - link.started >= MEETS_NS for link in lacking)
        return bool(links) and len(lacking) == len(links) and met
