"""Takes in a frame of a peer: its age, entries, acknowledgements and members."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from crdtbucket._core import Merged, Table
from crdtbucket.errors import MeshError
from crdtbucket.mesh.protocol import anti_entropy, wire
from crdtbucket.mesh.protocol.entry_merger import NO_ENTRIES, EntryMerger
from crdtbucket.mesh.protocol.gossip import FLUSH_GAP_NS
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.node_memory import NodeMemory
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.relays import Relays
from crdtbucket.mesh.protocol.rounds import UNREACHED_NS, Frames, Outbox


class FrameIntake:
    """Takes in the frames that one node receives. Times are local ns."""

    def __init__(
        self,
        table: Table,
        members: Membership,
        merger: EntryMerger,
        relays: Relays,
        memory: NodeMemory,
        out: Outbox,
    ) -> None:
        self._table, self._members, self._merger = table, members, merger
        self._relays, self._memory, self._out = relays, memory, out
        self._on_rollout: Callable[[wire.Rollout], None] | None = None
        self._on_entries_without_store: Callable[[array[int]], None] | None = None
        self._region_without_store: Callable[[str], bool] = lambda region: False

    def subscribe(
        self,
        rollout: Callable[[wire.Rollout], None] | None,
        entries_without_store: Callable[[array[int]], None] | None,
        region_without_store: Callable[[str], bool] | None,
    ) -> None:
        """From now on these are called; those that are None stay as they are. See
        `MeshNode.subscribe`."""
        self._on_rollout = rollout or self._on_rollout
        self._on_entries_without_store = entries_without_store or self._on_entries_without_store
        self._region_without_store = region_without_store or self._region_without_store

    def parts(self, name: str, data: bytes, now: int) -> Iterator[tuple[Frames, bool]]:
        """Takes in a frame of the peer `name`, one part at each step; see `MeshNode.parts` for
        what a step yields."""
        link = self._members.links.get(name)
        if link is None:
            raise MeshError(f"no link to {name!r}")
        frame = wire.decode(data)
        self._merger.counters["frames"] += 1
        if frame.epoch != link.info.epoch:
            self._members.introductions.check_epoch(link, frame.epoch)
        addressed = frame.to_epoch == self._table.epochs.running
        self._note_gap(link, frame, now)
        if not link.measure(frame, now, addressed=addressed):
            self._merger.counters["stale"] += 1
            self._merger.merge_late(link, frame, now)
            return
        if link.received.seen(frame.seq):
            self._merger.counters["duplicates"] += 1
            return
        if link.forgotten:
            self._members.returned(link, frame.epoch)
        if frame.tables is not None:
            self._merger.note_tables(link, frame.tables)
        out: list[bytes] = []
        if frame.payload and frame.payload_kind == wire.ENTRIES:
            memory = self._memory.peer_has_memory(link)
            merged = NO_ENTRIES
            while True:
                # Resolved again for each part: between two parts a number may have been given to
                # another epoch.
                resolved = self._merger.known_tables(link, frame.tables_version)
                if resolved is None:
                    return  # its tables have not come yet: not acknowledged, so they will
                self._members.pruner.shown(link, resolved.tables.origins, now)
                merged = self._merger.merge(link, frame, resolved, now, memory=memory, after=merged)
                out = self._merged(link, frame, merged, now)
                if merged.following < 0:
                    break
                yield [(name, answer) for answer in out], True
        self._arrived(link, frame, addressed, now)
        left_out = anti_entropy.left_out(self._table, frame)
        self._members.bounded.count(name, "digests", left_out, now)
        out += anti_entropy.respond(self._table, self._out, link, frame, now)
        yield [(name, answer) for answer in out], False

    def _note_gap(self, link: PeerState, frame: wire.Frame, now: int) -> None:
        """Notes that a peer stood still since its frame before, which may have come on an earlier
        link. It uses up a number or more in each interval in which it runs, with and without a
        link, so it ran for that time at most and stood still for the rest. If it ran for long, what
        it brings need not be from just before or after the pause."""
        seq, sent = link.newest
        ran = (frame.seq - seq) * self._members.interval_ns
        alive_ns = self._members.directory.alive_ns
        if 0 < ran <= alive_ns and frame.sent - sent - ran > self._table.nodes.near_ns:
            link.woke_until = now + alive_ns
        if frame.seq > link.received.highest:
            link.newest = frame.seq, frame.sent

    def _arrived(self, link: PeerState, frame: wire.Frame, addressed: bool, now: int) -> None:
        """Takes everything except the payload from a frame that has been merged."""
        self._members.follow_epoch(link, frame)
        link.received.add(frame.seq)
        link.last_word = max(link.last_word, frame.seq)
        if now - link.last_seen > UNREACHED_NS:
            link.tried = (-1, 0)  # it is there again: the next round has all that it lacks
        reached = now if link.reached is None else link.reached + link.round_trip
        if now - min(link.last_seen, reached) > self._members.directory.alive_ns:
            link.steady_since = now
        link.last_seen = max(link.last_seen, now)
        self._table.nodes.set_node(link.node, link.info.epoch, link.connected)
        if addressed:
            link.acknowledge(frame)
        self._complete_round(link, frame, addressed, now)
        tells_who_is_seen = frame.members is not None or frame.unseen is not None
        before = self._members.visibility.unseen_by(link) if tells_who_is_seen else ()
        self._members.receive(link, frame, now)
        if frame.rollout is not None and self._on_rollout is not None:
            self._on_rollout(frame.rollout)
        if tells_who_is_seen:
            unseen = self._members.visibility.unseen_by(link)
            self._relays.begin(sorted({*unseen} - {*before}), now)

    def _merged(self, link: PeerState, frame: wire.Frame, merged: Merged, now: int) -> list[bytes]:
        """Passes on the result of a part of a frame, and returns frames to send at once."""
        self._relays.merged(link, merged.touched, now)
        if self._on_entries_without_store is not None and (
            frame.flags & wire.STORE_UNREACHABLE or self._region_without_store(link.info.region)
        ):
            self._on_entries_without_store(merged.touched)
        link.answers.update(dict.fromkeys(merged.answers))
        if link.answers and now - link.answered_at >= FLUSH_GAP_NS:
            return self._out.answer(link, now)
        return []

    def _complete_round(
        self, link: PeerState, frame: wire.Frame, addressed: bool, now: int
    ) -> None:
        round_time = link.complete(frame, now - link.age)
        if round_time is None:
            return
        link.round_gaps.add(now - link.round_time, now)
        link.round_time = max(link.round_time, round_time)
        self._table.nodes.set_last_seen(link.node, round_time)
        self._relays.round_completed(link, round_time, now)
        if addressed:
            self._memory.round_completed(link, now)
