"""The protocol of one node as a pure machine: frames and times in, frames out.

It has no clock, no socket and no thread of its own.
"""

from __future__ import annotations

import logging
import random
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from crdtbucket._core import Merged, Table
from crdtbucket.errors import MeshError, NodeConflict, WireError
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import anti_entropy, clock_watch, observers, wire
from crdtbucket.mesh.protocol.horizon import NearHorizon
from crdtbucket.mesh.protocol.link import Link
from crdtbucket.mesh.protocol.membership import FleetRow, Membership
from crdtbucket.mesh.protocol.mismatches import Mismatches
from crdtbucket.mesh.protocol.peer_warnings import PeerWarnings
from crdtbucket.mesh.protocol.relays import Relays
from crdtbucket.mesh.protocol.roster import Resolved, Roster
from crdtbucket.mesh.protocol.rounds import Outbox
from crdtbucket.shared.handoff import Handoff, HandoffRecord, dump, load, member_rows

log = logging.getLogger("crdtbucket.mesh")

Frames = list[tuple[str, bytes]]

FLUSH_GAP_NS = 10_000_000
"""Least time between two early flushes."""
CAUTION_NS = 2_000_000_000
"""A node without memory serves its share of a key for at most so long."""
SETTLED_NS = 1_000_000_000
"""So long after that time, what a peer that has heard of no memory has restored stands."""
SWEEP = 4096
TICK_BYTES = 1 << 20
"""After so many bytes a tick ends, and the round goes on in the next."""
NEVER = -(2**63)
REMEMBERED_TABLES = 4
MERGE_COUNTERS = (
    "merged",
    "ignored",
    "unknown_bucket",
    "refused_columns",
    "capped_columns",
    "dropped",
    "gained",
)


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
        born: int | None = None,
        notes: Handoff | None = None,
    ) -> None:
        """`notes`: of the processes that share the table; where one has written them, this node
        goes on from there. Raises MeshError for a table of another node."""
        noted = load(notes.read()) if notes is not None else None
        self._notes, self._noted = notes, noted
        self.table = table
        self.config = config
        self.name, self.region, self.address = name, region, address
        self.counters = dict.fromkeys(("frames", "duplicates", "stale", *MERGE_COUNTERS), 0)
        self.on_wake: Callable[[], None] | None = None
        self.on_conflict: Callable[[NodeConflict], None] | None = None
        self.on_away: Callable[[array[int]], None] | None = None
        """Told the entries that a peer without the common store has brought."""
        self._random = random.Random(seed)
        self._warnings = PeerWarnings()
        self._mismatches = Mismatches(table, name, self._warnings)
        self._roster = Roster(table, name)
        self._out = Outbox(table, self._roster)
        now = table.now()
        self.members = Membership(table, config, self._roster, name, now)
        self.links: dict[str, Link] = self.members.links
        self._relays = Relays(table, self.members, self._roster)
        begun = now if noted is None else noted.born
        self._born = begun if born is None else born
        self._interval = config.gossip_interval_ns
        self._collecting = -1
        """Where the round under way goes on to collect, -1 when all is collected."""
        self._unsent: list[Link] = []
        """Links that the round under way has still to go to, the next one last."""
        self._next_round = now + self._random.randrange(self._interval)
        self._last_send = now - FLUSH_GAP_NS
        self._greet: dict[str, None] = {}
        self.memory = False
        """Whether a complete round for this process has come, so that levels are the mesh's."""
        self._restored = b""
        """The snapshot that this node began with, while some of it is suspect."""
        self._suspect, self._suspect_since = table.suspects > 0, now
        """Whether something is: it stands after a while, unless a peer with memory has spoken."""
        trust = config.partition_trust_ns
        table.configure(
            trust_ns=2**63 - 1 if trust is None else trust,
            shared_bursts=config.partition_burst == "share",
        )
        self._horizon = NearHorizon(table, self._interval, now)
        table.on_wake = self._wake
        table.spare_epoch(self._random.getrandbits(64) | 1)
        if noted is not None:
            self.members.take_over(noted.links(now, self._roster.node), now)
        if config.peers and not (noted is not None and noted.memory):
            self._out.flags |= wire.JOINING
            table.configure(warming_up_until=now + CAUTION_NS, members=self.members.expected)
        else:
            self.remember(now)

    # ---- links ----

    @property
    def info(self) -> NodeInfo:
        """This node, as of now."""
        return NodeInfo(
            self.name, self.region, self.table.epoch, self.address, self.table.now() - self._born
        )

    def connected(self, peer: NodeInfo, now: int) -> None:
        """An authenticated link is up. Raises NodeConflict when two running processes share a
        name, and the younger of two that are called like this node refuses to serve; WireError
        when there is no room for another process."""
        if peer.name == self.name:
            raise self.twin(peer)
        self.members.connected(peer, now)
        self._greet[peer.name] = None
        self._wake()
        log.info("%s: link to %s (%s) is up", self.name, peer.name, peer.region or "no region")

    def twin(self, peer: NodeInfo) -> NodeConflict:
        """Another process runs under this node's name. The younger of the two refuses to serve."""
        conflict = NodeConflict(
            f"another running process is called {self.name!r} (region {peer.region!r}, "
            f"address {peer.address!r}): give each node its own name"
        )
        mine = self.info
        if (mine.age_ns, mine.epoch) < (peer.age_ns, peer.epoch):
            self.refuse(conflict)
        return conflict

    def refuse(self, conflict: NodeConflict) -> None:
        """Stops serving: every decision raises `conflict` from now on."""
        self.table.refusal = conflict
        self.table.refused = True  # other processes that share the table must hear it, too
        log.error("%s", conflict)
        if self.on_conflict is not None:
            self.on_conflict(conflict)

    def disconnected(self, name: str, now: int, *, ended: bool = False) -> None:
        """The link to this peer is gone; what was taken since is kept for it. `ended`: the peer's
        side closed or reset it, this side has not given up waiting."""
        link = self.links.get(name)
        if link is None or not link.connected:
            return
        self.members.disconnected(link, now, ended=ended)
        log.info("%s: link to %s is down", self.name, name)

    def call_failed(self, name: str, address: str, now: int, *, refused: bool) -> None:
        """A call made no link. `name`: of the node last met at this address, "" for none.
        `refused`: at once, by the host or by what runs there now; else nobody answered in time, or
        the answer does not say that this node is gone."""
        self.members.call_failed(name, address, now, refused=refused)

    def names(self) -> dict[int, str]:
        """Names of the nodes that this one knows of, by their ids in the table."""
        return self._roster.names()

    def known_addresses(self) -> list[str]:
        """Where the members that were heard of can be dialled."""
        return self.members.addresses()

    @property
    def entries_sent(self) -> int:
        """Entries sent so far, each counted once a peer that it went to."""
        return self._out.entries_sent

    def status(self, name: str, now: int) -> str:
        """alive, suspect, dead or left."""
        return self.members.status(name, now)

    @property
    def runs(self) -> wire.Config | None:
        """Version, hash and stage of the configuration that this node runs; peers are told."""
        return self.members.config

    @runs.setter
    def runs(self, config: wire.Config | None) -> None:
        self.members.config = config

    @property
    def rollout(self) -> wire.Rollout | None:
        """How far the newest version is that this node has; peers are told."""
        return self.members.rollout

    @rollout.setter
    def rollout(self, rollout: wire.Rollout | None) -> None:
        self.members.rollout = rollout

    def fleet(self, now: int) -> list[FleetRow]:
        """Who runs what: this node and all peers, by name."""
        return self.members.fleet(self.info, now)

    @property
    def roster(self) -> Roster:
        """Names and numbers of the nodes and epochs in the table."""
        return self._roster

    def known(self) -> int:
        """Members that share the limits, this node and silent ones included."""
        gone = sum(link.left or link.forgotten for link in self.links.values())
        return max(1 + len(self.links) - gone, self.members.expected)

    @property
    def away(self) -> bool:
        """Whether this node is cut off from the common store, which peers are told."""
        return bool(self._out.flags & wire.AWAY)

    @away.setter
    def away(self, away: bool) -> None:
        self._out.flags = self._out.flags & ~wire.AWAY | (wire.AWAY if away else 0)

    # ---- in ----

    def receive(self, name: str, data: bytes, now: int) -> Frames:
        """Takes a frame of the authenticated peer `name`; returns frames to send at once.

        Raises WireError on a bad one, which then has changed nothing but the link's time of last
        hearing.
        """
        link = self.links.get(name)
        if link is None:
            raise MeshError(f"no link to {name!r}")
        frame = wire.decode(data)
        self.counters["frames"] += 1
        addressed = frame.to_epoch == self.table.epoch
        if addressed and not link.measure(frame, now):
            self.counters["stale"] += 1
            self._merge_late(link, frame, now)
            return []
        if link.received.seen(frame.seq):
            self.counters["duplicates"] += 1
            return []
        newer = frame.seq > link.received.highest
        if link.forgotten:
            self.members.speaks(frame.epoch)
        at = now - link.round_trip // 2
        out: Frames = []
        if frame.payload and frame.payload_kind == wire.ENTRIES:
            resolved = self._tables(link, frame)
            if resolved is None:
                return []  # its tables have not come yet: not acknowledged, so they will
            out += self._merge(link, frame, resolved, at, newer, now)
        elif frame.tables is not None:
            self._tables(link, frame)
        self._follow_epoch(link, frame)
        link.received.add(frame.seq)
        link.heard = max(link.heard, now)
        self.table.set_node(link.node, link.info.epoch, link.connected)
        if addressed:
            link.acknowledge(frame)
        self._completed(link, frame, at, addressed, now)
        unheard = self.members.not_hearing(link)
        self.members.hear(link, frame, now)
        self._relays.begin(sorted({*self.members.not_hearing(link)} - {*unheard}), now)
        return out + self._anti_entropy(link, frame, now)

    def _follow_epoch(self, link: Link, frame: wire.Frame) -> None:
        """The peer may go on under a new epoch in the same process; older frames do not undo it."""
        if frame.epoch == link.info.epoch or frame.seq <= link.received.highest:
            return
        self.table.set_node(link.node, frame.epoch, link.connected)
        link.info = replace(link.info, epoch=frame.epoch)

    def _tables(self, link: Link, frame: wire.Frame) -> Resolved | None:
        if frame.tables is not None:
            link.peer_tables[frame.tables.version] = self._roster.resolve(frame.tables)
            while len(link.peer_tables) > REMEMBERED_TABLES:
                link.peer_tables.popitem(last=False)
        known = link.peer_tables.get(frame.tables_version)
        if known is not None and known.key != self._roster.key:
            known = link.peer_tables[frame.tables_version] = self._roster.resolve(known.tables)
        return known

    def _merge_late(self, link: Link, frame: wire.Frame, now: int) -> None:
        """Takes the counts of a frame that was too long under way, and nothing else of it: they
        happened, whenever that was, and a link that is always so slow would bring none. What it
        says of keys and columns that are not held here may be long refilled."""
        if not frame.payload or frame.payload_kind != wire.ENTRIES:
            return
        resolved = self._tables(link, frame)
        if resolved is None:
            return
        epoch = self.table.epoch
        merged = self.table.merge(
            frame.payload,
            resolved.definitions,
            resolved.origins,
            node=link.node,
            epoch=frame.epoch,
            at=now,
            newer=False,
            late=True,
            relays=self.members.relays(),
        )
        self._count(merged, link.info.name, epoch, now)

    def _merge(
        self, link: Link, frame: wire.Frame, resolved: Resolved, at: int, newer: bool, now: int
    ) -> Frames:
        epoch = self.table.epoch
        merged = self.table.merge(
            frame.payload,
            resolved.definitions,
            resolved.origins,
            node=link.node,
            epoch=frame.epoch,
            at=at,
            newer=newer,
            joining=bool(frame.flags & wire.JOINING),
            relays=self.members.relays(),
            memory=self._suspect and self._has_memory(link),
        )
        self._count(merged, link.info.name, epoch, now)
        self._mismatches.stated(link.info.name, resolved, merged.mixed, now)
        self._relays.merged(link, merged.touched, now)
        if frame.flags & wire.AWAY and self.on_away is not None:
            self.on_away(merged.touched)
        link.answers.update(dict.fromkeys(merged.answers))
        if link.answers and now - link.answered_at >= FLUSH_GAP_NS:
            return self._answer(link, now)
        return []

    def _count(self, merged: Merged, who: str, epoch: int, now: int) -> None:
        for what in MERGE_COUNTERS:
            self.counters[what] += getattr(merged, what)
        if merged.refused_columns:
            self._warnings.repeated(
                who,
                "relayed",
                now,
                merged.refused_columns,
                f"{self.name}: {who} relays counts of other nodes that no limit known here allows "
                f"(on {merged.refused_columns} keys); the part that is plausible is counted. If "
                "this goes on, look for a node with a larger limit for these buckets, or for one "
                "that is no node of this mesh and has its secret",
            )
        if merged.capped_columns:
            self._warnings.repeated(
                who,
                "own",
                now,
                merged.capped_columns,
                f"{self.name}: {who} took more than any limit known here allows (on "
                f"{merged.capped_columns} keys); the counts are kept, and charged as far as these "
                "limits go. If this goes on, compare the configuration of both nodes: crdtbucket "
                "config show",
            )
        if merged.duplicate_epoch:
            log.warning(
                "%s: larger counts of epoch %x were heard, epoch %x is opened",
                self.name,
                epoch,
                self.table.epoch,
            )

    def observe(self, data: bytes, now: int) -> bytes:
        """The answer to a frame of an authenticated observer, who is no member and of whom nothing
        is kept. Raises WireError on a bad one, which then has changed nothing."""
        frame = wire.decode(data)
        if frame.payload_kind == wire.ENTRIES:
            epoch = self.table.epoch
            merged = observers.tell(self.table, self._roster, frame)
            self._count(merged, "an observer", epoch, now)
            values: dict[str, Any] = {
                "told": (merged.merged, merged.refused_columns, merged.dropped)
            }
        else:
            values = observers.look(self.table, self._roster, frame)
            values["members"] = self.members.members(self.info, now)["members"]
            values["config"] = self.members.config
        return wire.encode(
            wire.Frame(
                epoch=self.table.epoch,
                to_epoch=frame.epoch,
                seq=frame.seq,
                sent=now,
                ack=frame.seq,
                **values,
            )
        )

    def _answer(self, link: Link, now: int) -> Frames:
        self._out.start()
        link.answered_at = now
        frames = self._out.entries(link, link.answers, now)
        link.answers = {}
        return [(link.info.name, frame) for frame in frames]

    def _completed(self, link: Link, frame: wire.Frame, at: int, addressed: bool, now: int) -> None:
        stood = link.complete(frame, at)
        if stood is None:
            return
        link.gaps.add(now - link.stood, now)
        link.stood = max(link.stood, stood)
        self.table.set_last_seen(link.node, stood)
        if addressed and self._suspect and self._has_memory(link):
            self._settle(cancelled=True)
        self._relays.hear(link, stood, now)
        if addressed and not self.memory:
            self.remember(now)

    def remember(self, now: int) -> None:
        """The levels held are the mesh's: no caution is needed any more."""
        self.memory = True
        self._out.flags &= ~wire.JOINING
        self.table.configure(warming_up_until=NEVER)
        self.members.expected = 1
        self.members.count(now)
        self._note()

    def _note(self) -> None:
        if self._notes is None:
            return
        noted = HandoffRecord(self._born, self.memory, member_rows(self.links.values()))
        if noted != self._noted:
            self._noted = noted
            self._notes.write(dump(noted))

    def _anti_entropy(self, link: Link, frame: wire.Frame, now: int) -> Frames:
        frames: list[bytes] = []
        if frame.digest is not None and anti_entropy.differs(self.table, frame.digest):
            first, last = frame.digest[:2]
            found = anti_entropy.items(self.table, first, last)
            frames.append(
                self._out.frame(
                    link, now, payload=found, payload_kind=wire.ITEMS, items=(first, last)
                )
            )
        if frame.payload_kind == wire.ITEMS and frame.items is not None:
            send, want = anti_entropy.compare(self.table, *frame.items, frame.payload)
            frames += self._out.entries(link, send, now)
            if want:
                frames.append(self._out.frame(link, now, payload=want, payload_kind=wire.WANT))
        elif frame.payload_kind == wire.WANT:
            frames += self._out.entries(link, anti_entropy.wanted(self.table, frame.payload), now)
        return [(link.info.name, data) for data in frames]

    # ---- out ----

    def next_tick(self, now: int) -> int:
        """When `tick` has something to do, absolute ns."""
        if self._greet or self._collecting >= 0 or self._unsent:
            return now
        if self.table.flush_wanted:
            return min(self._next_round, max(now, self._last_send + FLUSH_GAP_NS))
        return self._next_round

    def tick(self, now: int) -> Frames:
        """A round when one is due, an early flush when one is asked for."""
        if now >= self._next_round and self._collecting < 0 and not self._unsent:
            self._begin_round(now)
        if self._collecting >= 0 or self._unsent:
            return self._go_on(now)
        if self._greet:
            return self._greeting(now)
        if self.table.flush_wanted and now - self._last_send >= FLUSH_GAP_NS:
            return self._flush(now)
        return []

    # A round of many keys takes several ticks, so that none of them holds up the loop for long.

    def _begin_round(self, now: int) -> None:
        self._next_round += self._interval * (1 + (now - self._next_round) // self._interval)
        if self._suspect and now - self._suspect_since >= CAUTION_NS:
            self._settle(cancelled=False)
        self.members.age(now)
        self._undo_jump()
        trips = (link.round_trip for link in self.links.values() if link.connected)
        self._horizon.follow(trips, now)
        self.members.count(now)
        self._note()  # before the log loses what a member has acknowledged
        self._collecting = 0

    def _go_on(self, now: int) -> Frames:
        if self._collecting >= 0:
            _, self._collecting = self.table.collect_some(self._collecting)
            if self._collecting >= 0:
                return []
            self._last_send = now
            self._relays.step()
            self._out.start()
            self.members.gather(self.info, now)
            self._unsent = self.members.reachable()
            self._unsent.reverse()
        out: Frames = []
        size = 0
        while self._unsent and size < TICK_BYTES:
            link = self._unsent.pop()
            if not link.connected:
                continue
            news = self.members.news(link, now)
            extra = {**news, **anti_entropy.next_digest(self.table, link, now)}
            frames = self._out.round(link, now, extra, self._relays.ages(link, now))
            if link.answers:
                frames += [data for _, data in self._answer(link, now)]
            out += [(link.info.name, data) for data in frames]
            size += sum(map(len, frames))
        if not self._unsent:
            self.table.trim(self._acknowledged())
            self.table.sweep(SWEEP)
        return out

    def _greeting(self, now: int) -> Frames:
        """A first round for new links, at once: a joiner serves with caution until it comes."""
        names, self._greet = self._greet, {}
        self.table.collect()
        self._out.start()
        return [
            (link.info.name, data)
            for link in self.members.reachable(names)
            for data in self._out.round(link, now, self.members.members(self.info, now))
        ]

    def _flush(self, now: int) -> Frames:
        before = self.table.version
        self.table.collect(True)
        self._last_send = now
        self._out.start()
        return [
            (link.info.name, data)
            for link in self.members.reachable()
            for data in self._out.flush(link, before, now)
        ]

    def leave(self, now: int) -> Frames:
        """The last frames: all that is not acknowledged, and goodbye."""
        self._out.flags |= wire.LEAVING
        self.table.collect()
        self._out.start()
        return [
            (link.info.name, data)
            for link in self.members.reachable()
            for data in self._out.round(link, now, {})
        ]

    # ---- memory ----

    def snapshot(self) -> bytes:
        """What is counted and owed here, to start from after a restart. As long as something of
        the snapshot before is suspect, that one: it would be of this boot else, and be believed."""
        return self._restored or snapshot.dump(self.table, self._roster)

    def restore(self, data: bytes, boot: bytes | None = None) -> int:
        """Takes a snapshot of an earlier life; how many keys came back. `boot`: what names the boot
        of this machine, if not the machine. Raises OtherFormat for one of another version of the
        library, MeshError when it is none."""
        restored = snapshot.load(self.table, self._roster, data, boot)
        if self.table.suspects:
            self._restored = data
            self._suspect, self._suspect_since = True, self.table.now()
        return restored

    def _settle(self, *, cancelled: bool) -> None:
        settled = self.table.settle_suspects(cancelled)
        self._restored, self._suspect = b"", False
        log.info(
            "%s: %d keys of a snapshot whose age is not known %s",
            self.name,
            settled,
            "are full or unknown to the peers, and full here"
            if cancelled
            else "owe what it says: no peer has answered that knew better",
        )

    def _has_memory(self, link: Link) -> bool:
        """Whether a peer knows what the mesh owes: when this node began, it ran for longer than
        anything could have been suspect there. Of those that start together none does."""
        return self._suspect_since - link.born >= CAUTION_NS + SETTLED_NS

    # ---- members ----

    def _undo_jump(self) -> None:
        offsets = [link.clock for link in self.links.values() if link.connected]
        by = clock_watch.jump(offsets)
        if by:
            log.warning(
                "%s: the clock jumped by %.3f s against the peers'; levels stay where they were",
                self.name,
                by / 1e9,
            )
            self.table.shift(by)
            for offset in offsets:
                offset.settle(-by)

    def forget(self, name: str) -> None:
        """Discovery says that this node is gone for good."""
        link = self.links.get(name)
        if link is not None:
            self.members.remove(link)

    def _acknowledged(self) -> int:
        held = [link.acked.prefix for link in self.links.values() if link.held and not link.left]
        return min(held, default=self.table.version)

    def _wake(self) -> None:
        if self.on_wake is not None:
            self.on_wake()


__all__ = ["MeshNode", "MeshError", "WireError"]
