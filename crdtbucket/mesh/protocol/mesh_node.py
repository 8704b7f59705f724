"""The protocol of one node as a pure machine: frames and times go in, frames come out.

It has no clock, no socket and no thread of its own.
"""

from __future__ import annotations

import logging
import random
import time
from array import array
from collections.abc import Callable, Iterator

from crdtbucket._core import Table
from crdtbucket.errors import NodeConflict
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.clock_jumps import undo_jump
from crdtbucket.mesh.protocol.clock_watch import OwnClock
from crdtbucket.mesh.protocol.entry_merger import EntryMerger
from crdtbucket.mesh.protocol.frame_intake import FrameIntake
from crdtbucket.mesh.protocol.gossip import GossipSchedule
from crdtbucket.mesh.protocol.horizon import NearHorizon
from crdtbucket.mesh.protocol.member_updates import FleetRow
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.node_memory import NodeMemory
from crdtbucket.mesh.protocol.observers import Observers
from crdtbucket.mesh.protocol.own_name import OwnName
from crdtbucket.mesh.protocol.relays import Relays
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.mesh.protocol.rounds import Frames, Outbox
from crdtbucket.mesh.protocol.wall_clocks import wall_moved

LOG = logging.getLogger("crdtbucket.mesh")


class MeshNode:
    """One node of the mesh over one table. Times are ns of the table's clock.

    Calls must not overlap; takes on the table may come from any thread meanwhile.
    """

    def __init__(
        self,
        table: Table,
        config: MeshConfig,
        *,
        name: str,
        region: str = "",
        address: str = "",
        seed: int | None = None,
        shared: bool = False,
    ) -> None:
        """`shared`: other processes use the table; if an earlier leader has left a record in it,
        this node goes on from there. Raises MeshError for a table of another node."""
        self.table = table
        self.name, self.region, self.address = name, region, address
        self.wall_moved_ns = 0
        """By how much (ns) the wall clock had to be moved at the last comparison."""
        self._waker: Callable[[], None] | None = None
        rng, now, interval_ns = random.Random(seed), table.now(), config.gossip_interval_ns
        self.roster = Roster(table, name)
        self._clock = OwnClock(interval_ns)
        self.members = Membership(table, config, self.roster, name, self._clock, now)
        self.links = self.members.links
        self.updates = self.members.updates
        """What this node advertises of itself."""
        self._own_name = OwnName(table, self.members, name)
        self._out = Outbox(table, self.roster, self.links)
        self._relays = Relays(table, self.members, self.roster)
        self._merger = EntryMerger(table, self.roster, self.members, name)
        out, relays = self._out, self._relays
        self._gossip = GossipSchedule(table, self.members, relays, out, interval_ns, rng)
        self.memory = NodeMemory(table, self.roster, self.members, self._out, shared=shared)
        self._began = max(0, time.time_ns() - (table.now() - self.memory.started))
        self._intake = FrameIntake(table, self.members, self._merger, relays, self.memory, out)
        self._observers = Observers(table, self.roster, self.members, self._merger)
        trust = config.partition_trust_ns
        table.nodes.configure(
            trust_ns=2**63 - 1 if trust is None else trust,
            shared_bursts=config.partition_burst == "share",
        )
        self._horizon = NearHorizon(table.nodes, interval_ns, now)
        table.on_wake = self._wake
        table.epochs.spare(rng.getrandbits(64) | 1)
        self.memory.begin(config.expected_peers, now)

    # ---- links ----

    @property
    def info(self) -> NodeInfo:
        """The record of this node, as of now."""
        age_ns = self.table.now() - self.memory.started
        established = self._own_name.established(self.table.now())
        return NodeInfo(
            self.name,
            self.region,
            self.table.epochs.running,
            self.address,
            age_ns,
            established,
            self._began,
        )

    def connected(self, peer: NodeInfo, now: int) -> None:
        """An authenticated link is up. Raises NodeConflict when two running processes share a name
        (if it is this node's name, one of the two refuses to serve, see `OwnName`), and WireError
        when there is no room for another process."""
        if peer.name == self.name:
            raise self.duplicate_name(peer, self.info)
        self.members.connected(peer, now)
        self._gossip.add_first_round(peer.name)
        self._wake()
        LOG.debug("%s: link to %s (%s) is up", self.name, peer.name, peer.region or "no region")

    def duplicate_name(self, peer: NodeInfo, me: NodeInfo) -> NodeConflict:
        """Another process runs under this node's name: see `OwnName`. `me`: how this node
        introduced itself to it."""
        return self._own_name.met(me, peer, self.table.now())

    def name_reported(self, conflict: NodeConflict, by: str) -> None:
        """The peer `by`, "" for an unknown one, says that another process has this node's name."""
        self._own_name.reported(conflict, by, self.table.now(), memory=self.memory.complete)

    def disconnected(self, name: str, now: int, *, ended: bool = False) -> None:
        """The link to this peer is gone; takes since then are kept for it. `ended`: the peer's side
        closed or reset the connection; False when it fell silent, or broke a rule, and this side
        closed it."""
        link = self.links.get(name)
        if link is None or not link.connected:
            return
        self.members.disconnected(link, now, ended=ended)
        LOG.debug("%s: link to %s is down", self.name, name)

    def dial_failed(self, name: str, address: str, now: int, *, refused: bool) -> None:
        """A dial made no link. `name`: of the node last met at this address, "" for none.
        `refused`: the host refused it or closed it at once, or another node answers there; False
        when nobody answered in time, or the answer does not say that this node is gone."""
        self.members.detector.dial_failed(name, address, now, refused=refused)

    # ---- what is known ----

    def region_of(self, name: str) -> str:
        """The region of a node, as stated by the node itself or by a peer; "" if nobody states
        it."""
        link, member = self.links.get(name), self.members.directory.known.get(name)
        if link is not None:
            return link.info.region
        return "" if member is None else member[1]

    def known_addresses(self) -> list[str]:
        """The addresses at which members can be dialed now."""
        return self.members.directory.addresses(self.table.now())

    def fleet(self, now: int) -> list[FleetRow]:
        """This node and all peers, by name, each with the configuration that it runs."""
        return self.members.fleet(self.info, now)

    @property
    def entries_sent(self) -> int:
        """Entries sent so far, each counted once per peer that it went to."""
        return self._out.entries_sent

    @property
    def counters(self) -> dict[str, int]:
        """Counters of what was done with frames and entries so far."""
        return self._merger.counters

    # ---- what peers get to know ----

    def listens(self, address: str) -> None:
        """From now on peers learn that this node listens at an address."""
        self.address = address

    def follow_wall(self, machine_ns: int, now: int) -> int:
        """From now on peers learn what the machine's wall clock shows (ns since 1970). Returns by
        how much (ns) it has to be moved to the middle of all clocks."""
        self.updates.follow_wall(machine_ns - now)
        alive = [link for link in list(self.links.values()) if link.connected]
        shown = [link.wall_ahead for link in alive if link.wall_ahead is not None]
        moved = wall_moved(shown)
        if moved and not self.wall_moved_ns:
            side = "behind" if moved > 0 else "ahead of"
            is_so = f"{abs(moved) / 1e9:.1f} s {side} most peers'; calendar quotas go by the peers'"
            LOG.warning("%s: the wall clock is %s", self.name, is_so)
        elif self.wall_moved_ns and not moved:
            alone = "no longer compared with two peers': calendar quotas go by it"
            is_so = "as the peers' again" if len(shown) > 1 else alone
            LOG.warning("%s: the wall clock is %s", self.name, is_so)
        self.wall_moved_ns = moved
        return moved

    def advertise_store(self, *, reachable: bool) -> None:
        """From now on this node advertises whether it reaches the common store."""
        self._out.flag(wire.STORE_UNREACHABLE, on=not reachable)

    def subscribe(
        self,
        *,
        refusal: Callable[[NodeConflict], None] | None = None,
        rollout: Callable[[wire.Rollout], None] | None = None,
        entries_without_store: Callable[[array[int]], None] | None = None,
        region_without_store: Callable[[str], bool] | None = None,
    ) -> None:
        """From now on these are called; those that are None stay as they are. `refusal`: this node
        refuses to serve. `rollout`: the state of a newer version that a peer advertises.
        `entries_without_store`: the entries that came from a peer which cannot reach the common
        store. `region_without_store`: returns whether the takes of a region's peers do not reach
        the common store, as if none of these peers reached it."""
        if refusal is not None:
            self._own_name.subscribe(refusal)
        self._intake.subscribe(rollout, entries_without_store, region_without_store)

    # ---- in ----

    def receive(self, name: str, data: bytes, now: int) -> Frames:
        """Takes in all `parts` of a frame in one call. Returns the frames to send at once."""
        return [one for frames, _ in self.parts(name, data, now) for one in frames]

    def parts(self, name: str, data: bytes, now: int) -> Iterator[tuple[Frames, bool]]:
        """A frame came from the authenticated peer `name`. Each step takes in a part of it and
        gives (frames to send, whether more of it follows). Between two steps no other frame of this
        peer may be taken in. A frame whose parts are given up is not acknowledged, so the peer
        sends its entries again. Raises `WireError` on a bad one, which has changed nothing but the
        time at which the peer was last seen."""
        return self._intake.parts(name, data, now)

    def observe(self, data: bytes, now: int, *, writes: bool = True) -> bytes:
        """The answer to a frame of an authenticated observer. An observer is not a member, and
        the node keeps no state about it. Raises WireError on a bad one, which then has changed
        nothing."""
        return self._observers.answer(data, self.info, now, writes=writes)

    # ---- out ----

    def next_tick(self, now: int) -> int:
        """The time at which `tick` has something to do (ns)."""
        return self._gossip.next_tick(now)

    def set_waker(self, wake: Callable[[], None] | None) -> None:
        """From now on `wake` is called, from any thread, when `next_tick` has moved earlier; None:
        no function is called."""
        self._waker = wake

    def tick(self, now: int) -> Frames:
        """Returns the frames of a round when one is due, or of an early flush when one is asked
        for."""
        return self._gossip.tick(lambda: self.info, now, self._before_round)

    def _before_round(self, now: int) -> None:
        self._clock.read(now)
        self.memory.settle_when_due(now)
        self.members.age(now)
        self._own_name.look(now)
        undo_jump(self.table, self.members, self.name, self._clock, now)
        trips = (link.round_trip for link in self.links.values() if link.connected)
        self._horizon.follow(trips, now)
        self.members.count(now)
        self.memory.note()  # before the log loses what a member has acknowledged

    def leave(self, now: int) -> Iterator[Frames]:
        """Yields the last frames to send, in parts: all that is not acknowledged, and a goodbye."""
        return self._gossip.leave(now)

    def _wake(self) -> None:
        if self._waker is not None:
            self._waker()
