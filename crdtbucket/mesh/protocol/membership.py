"""The members of the mesh as one node sees them: its links, and what their silence means."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from crdtbucket._core import Table
from crdtbucket.errors import NodeConflict
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.clock_watch import OwnClock
from crdtbucket.mesh.protocol.failure_detector import FailureDetector
from crdtbucket.mesh.protocol.introductions import Introductions
from crdtbucket.mesh.protocol.member_directory import MemberDirectory, member_row
from crdtbucket.mesh.protocol.member_updates import FleetRow, MemberUpdates
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.peer_warnings import BoundedPeers
from crdtbucket.mesh.protocol.pruning import Pruner
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.mesh.protocol.unlinked import UnlinkedMembers
from crdtbucket.mesh.protocol.visibility import Visibility

LOG = logging.getLogger("crdtbucket.mesh")

DEAD_NS = 15_000_000_000
"""A peer that was not seen for this long is shown as dead; it is still a member until
`forget_after`."""
HOLD_NS = 60_000_000_000
"""The log of versions is kept this long for a peer that is silent, or that does not see this node;
after that the peer gets a full sync."""
REACHED_NS = 2_000_000_000
"""A peer that has acknowledged a frame not older than this (or than three rounds) plus the round
trip is reached again."""
GONE = 128
"""How many peers that left or are forgotten are remembered: names that come and go take numbers."""


class Membership:
    """The members that one node knows, and its links to them. Times are local ns."""

    def __init__(
        self, table: Table, config: MeshConfig, roster: Roster, name: str, clock: OwnClock, now: int
    ) -> None:
        """`name`, `clock`: of this node."""
        self._table, self._roster, self._name = table, roster, name
        self._clock, self._began = clock, now
        self.interval_ns = config.gossip_interval_ns
        self._first_digest_ns = 2 * config.gossip_interval_ns
        self._forget_after_ns = config.forget_after_ns
        self.pruner = Pruner(table, now, config.gossip_interval_ns)
        self.directory = MemberDirectory(config, name)
        self.links = self.directory.links
        self.visibility = Visibility(self.directory, roster)
        self.unlinked = UnlinkedMembers(table, self.directory, roster, config)
        self.bounded = BoundedPeers(name)
        self.introductions = Introductions(table, self.directory, self.bounded, self.pruner)
        self.detector = FailureDetector(config, self.directory, roster, name)
        self.updates = MemberUpdates(
            table, self.directory, roster, self.pruner, self.introductions, self.bounded, now
        )
        self._least = config.expected_nodes
        """Members that there are at least, with this node, as the configuration says."""
        self._expected = max(1 + config.expected_peers, self._least)
        """The number of members that this node assumes; it is higher until the node has an update
        from the mesh."""

    # ---- links ----

    def take_over(self, links: Iterable[PeerState], now: int) -> None:
        """Goes on with the members of another process; nobody is connected yet."""
        for link in links:
            self.links[link.info.name] = link
            self._table.nodes.set_node(link.node, link.info.epoch, False)
            self.detector.disconnected(link, now, ended=False)
            self.directory.learn(member_row(link.info), now)

    def connected(self, peer: NodeInfo, now: int) -> None:
        """A link to this peer is up. Raises NodeConflict when two running processes share its
        name, WireError when there is no room for another process; nothing has changed then."""
        link = self.links.get(peer.name)
        restarted = link is not None and link.info.epoch != peer.epoch
        if link is not None and restarted and self.status(link, now) == "alive":
            where = f", one of them at {link.info.address}" if link.info.address else ""
            raise NodeConflict(
                f"two running processes are called {peer.name!r}{where}: give each node its own "
                "name"
            )
        node = self._roster.node(peer.name)
        self.introductions.claimed(node, peer.epoch)
        self._table.epochs.origin(node, peer.epoch)
        was = link is not None and link.connected
        fresh = link is None or restarted
        if link is None:
            link = self.links[peer.name] = PeerState(peer, node, now)
        elif restarted:
            link.restarted(peer)
        else:
            link.renumber()
        syncs = fresh or not link.log_kept  # otherwise all that the peer lacks is in the log
        link.connected_again(peer, now, now + self._first_digest_ns)
        began = link.started, self._began
        if syncs:
            silent = self._table.nodes.silent_before(link.started, link.node)
            apart = link.started < self._began or now - max(began) > self.directory.alive_ns
            full = not fresh or bool(silent) or apart
            link.start_sync(self._table.outbox.version, full=full)
        self.detector.connected(peer, now, was=was)
        self.pruner.returned(peer.epoch)
        self.directory.running_elsewhere.pop(peer.epoch, None)  # from here on the link says so
        self.visibility.changed()
        self._table.nodes.set_node(link.node, peer.epoch, True, began)
        self.directory.learn(member_row(peer), now)
        self.count(now)

    def returned(self, link: PeerState, epoch: int) -> None:
        """A frame of this epoch comes on the link of a peer that was given up. The peer's columns
        count from this frame on, since it need not send them again, and what was refilled since is
        not owed."""
        self.pruner.returned(epoch)
        began = link.started, self._began
        self._table.nodes.set_node(link.node, link.info.epoch, link.connected, began)

    def follow_epoch(self, link: PeerState, frame: wire.Frame) -> None:
        """The peer may go on under a new epoch in the same process; older frames do not undo it."""
        if frame.epoch == link.info.epoch or frame.seq <= link.received.highest:
            return
        self._table.nodes.set_node(link.node, frame.epoch, link.connected)
        link.info = replace(link.info, epoch=frame.epoch)
        link.last_word = 0
        self.visibility.changed()

    def disconnected(self, link: PeerState, now: int, *, ended: bool = False) -> None:
        """The link is down. `ended`: the peer's side closed or reset it."""
        link.connected = False
        self.visibility.changed()
        self.detector.disconnected(link, now, ended=ended)
        self._table.nodes.set_disconnected(link.node)
        self.count(now)

    # ---- updates ----

    def receive(self, link: PeerState, frame: wire.Frame, now: int) -> None:
        """Takes the statements of a frame about members, configurations and dead epochs, and a
        goodbye."""
        self.visibility.update(link, frame)
        self.updates.receive(link, frame, now)
        if frame.flags & wire.LEAVING and not link.left:
            link.left = True
            LOG.info("%s: %s left", self._name, link.info.name)
            self._drop(link)
            self.count(now)

    def prepare_updates(self, me: Callable[[], NodeInfo], now: int) -> None:
        """Collects once a second what is to be advertised to the peers."""
        if self.updates.are_due(now):
            self.updates.prepare(self.advertised(me(), now), now)

    # ---- who is there ----

    def status(self, link: PeerState, now: int) -> str:
        """The status of a member: alive, suspect, dead or left."""
        silent = now - link.last_seen
        if link.left:
            return "left"
        if link.connected and silent < self.directory.alive_ns:
            return "alive"
        return "suspect" if silent < DEAD_NS and not link.forgotten else "dead"

    def lags(self, now: int) -> dict[str, tuple[int, int]]:
        """How old (ns) the newest complete round of each peer is, and the most that it was in the
        last one to two minutes. A peer that left or is forgotten has none. Safe from any thread."""
        out = {}
        for name, link in list(self.links.items()):
            if not link.gone:
                lag = max(0, now - link.round_time)
                out[name] = (lag, max(lag, link.round_gaps.highest(now)))
        return out

    def reachable(self, names: Iterable[str] | None = None) -> list[PeerState]:
        """Links that frames can be sent on: all of them, or those to these names."""
        found = self.links.values() if names is None else map(self.links.get, names)
        return [link for link in found if link is not None and link.connected and not link.left]

    def fleet(self, me: NodeInfo, now: int) -> list[FleetRow]:
        """This node and all peers, by name. Safe from any thread."""
        own = self.updates.config, self.updates.rollout
        rows = [FleetRow(me.name, me.region, "alive", *own, mode=self.updates.mode)]
        for name, link in list(self.links.items()):
            state = self.status(link, now)
            # The last statement of a silent peer does not show which members see each other now.
            unseen = self.visibility.unseen_by(link) if state == "alive" else ()
            region, config = link.info.region, link.config
            rows.append(FleetRow(name, region, state, config, link.rollout, unseen, link.mode))
        return sorted(rows, key=lambda row: row.name)

    def advertised(self, me: NodeInfo, now: int) -> dict[str, Any]:
        """The members, and those that are silent here, as fields of a frame."""
        alive = {n for n, link in self.links.items() if self.status(link, now) == "alive"}
        rows = self.directory.rows(alive) + self.unlinked.rows()
        rows = rows[: wire.MAX_MEMBERS - 1]
        unseen = tuple(name for name, *_ in rows if name not in alive)
        return {"members": (member_row(me), *rows), "unseen": unseen}

    def known(self) -> int:
        """Members that share the limits, this node and silent ones included. Safe from any
        thread."""
        there = sum(not link.gone for link in list(self.links.values()))
        return max(1 + there, self._expected)

    def count(self, now: int) -> None:
        """Sets in the table how many members share the limits."""
        states = [self.status(link, now) for link in self.links.values()]
        live = 1 + states.count("alive") + states.count("suspect")
        self._table.nodes.configure(members=max(live, self._expected))

    def expect(self, members: int, now: int) -> None:
        """The mesh has at least this many members, linked or not, this node included."""
        self._expected = max(members, self._least)
        self.count(now)

    # ---- silence ----

    def age(self, now: int) -> None:
        """Draws the consequences of silence; `count` is due afterwards."""
        for link in list(self.links.values()):
            link.seq += not link.connected  # by which it learns how long this node has run
            silent, unseen = now - link.last_seen, now - max(link.last_seen, link.relayed_at)
            if unseen > 2 * self._forget_after_ns and not link.connected and link.to_forget < 0:
                del self.links[link.info.name]  # else names that come and go use up all numbers
                continue
            if link.connected and silent >= self.directory.alive_ns:
                self._table.nodes.set_disconnected(link.node)
            self._keep_log(link, silent, now)
            if link.gone:
                continue
            if unseen - self._clock.gaps(now - unseen) > self._forget_after_ns:
                self.forget(link, f"was silent for {unseen / 1e9:.0f} s and is forgotten")
            elif why := self.detector.why_gone(link, now):
                self.forget(link, why)
        for link in [one for one in self.links.values() if one.to_forget >= 0][:1]:
            link.forget_some(self._table)
        self.unlinked.step(now)
        self.pruner.prune_some()
        self._make_room(now)

    def _keep_log(self, link: PeerState, silent: int, now: int) -> None:
        """Gives up the log of versions for a peer that is not reached for long. A full sync begins,
        since frames may arrive there all the same; and another one when it is reached again."""
        alive_ns = self.directory.alive_ns
        unreached = 0 if link.reached is None else now - link.reached
        if link.log_kept and max(silent, unreached) > HOLD_NS:
            link.log_kept = False
            link.start_sync(self._table.outbox.version)
        elif (
            not link.log_kept
            and link.connected
            and silent < alive_ns
            and unreached < max(REACHED_NS, alive_ns) + link.round_trip
        ):
            link.log_kept, link.forgotten = True, False
            link.to_forget = link.to_forget if link.left else -1
            self.pruner.returned(link.info.epoch)
            link.start_sync(self._table.outbox.version)

    def _make_room(self, now: int) -> None:
        """Of the peers that are gone, only the last ones are remembered. When the epochs run out,
        the peer that has been silent for longest is forgotten, if nobody sees it."""
        gone = [one for one in self.links.values() if one.gone]
        gone = [one for one in gone if not one.connected and one.to_forget < 0]
        gone.sort(key=lambda link: link.last_seen)
        for link in gone[:-GONE]:
            del self.links[link.info.name]
        if not self.pruner.crowded:
            return
        there = (link for link in self.links.values() if not link.gone)
        silent = [link for link in there if now - link.last_seen >= DEAD_NS]
        for link in sorted(silent, key=lambda link: link.last_seen):
            if not self.detector.seen_by_any(link, now, DEAD_NS):
                silent_s = (now - link.last_seen) / 1e9
                why = "and is forgotten: other nodes need its place"
                self.forget(link, f"was silent for {silent_s:.0f} s {why}")
                return

    def forget(self, link: PeerState, why: str) -> None:
        """The peer is gone for good; `why` is logged."""
        link.forgotten = True
        self._drop(link)
        LOG.warning("%s: %s %s", self._name, link.info.name, why)

    def _drop(self, link: PeerState) -> None:
        link.log_kept = False
        link.give_up(self._table)
        self.directory.forget(link.info.name)
