"""Merges the entries that peers send into the table, and counts and reports what became of them."""

from __future__ import annotations

import logging
from array import array
from functools import partial

from crdtbucket._core import Merged, Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.mismatches import Mismatches
from crdtbucket.mesh.protocol.own_epoch import OwnEpoch
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import ResolvedTables, Roster

LOG = logging.getLogger("crdtbucket.mesh")

OWES_NS = 3_000_000_000
"""When a newcomer has sent takes of a silent peer, it owes for this time (ns) at least the debt
that is held here."""
BEGINS_NS = 10_000_000_000
"""Time (ns) after the start of a process in which a peer that advertises lower debts is not counted
as beyond its bound: the table or snapshot may still owe what has refilled since, and not all peers
that could confirm this are linked yet."""
REMEMBERED_TABLES = 4
"""How many versions of the tables that a peer has announced are remembered."""
PART = 2048
"""Most entries of a frame that are merged in one go, since no frame may hold up the event loop."""
PART_ROOM = 256
"""About how many of them may look for room in a full table: each takes a sample of it, which costs
some us."""
MERGE_COUNTERS = (
    "merged",
    "ignored",
    "unknown_bucket",
    "refused_columns",
    "capped_columns",
    "dropped",
    "gained",
)

NO_ENTRIES = Merged(
    0, 0, 0, 0, 0, 0, 0, False, 0, 0, 0, 0, 0, 0, 0, array("I"), array("I"), (), 0, -1
)
"""The result before any part of a frame was merged."""
LOWERED = (
    "advertises debts that are far lower than what is owed here, and nobody else does; debts fall "
    "here only as far as lag and clocks explain"
)
CROWDED_OUT = (
    "advertises takes from more keys than its part of this full table has room for; new ones "
    "replace its own. If it serves so many keys, raise max_keys here"
)
AHEAD = (
    "advertises counts under a generation that their node cannot have reached by evictions; they "
    "are ignored"
)
RELAYED = (
    "relays counts of other nodes that no limit known here allows; the part that is plausible is "
    "counted. If this goes on, look for a node with a larger limit for these buckets, or for one "
    "that is no node of this mesh and has its secret"
)
BEYOND_LIMITS = (
    "took more than any limit known here allows; the counts are kept, and charged as far as these "
    "limits go. If this goes on, compare the configuration of both nodes: crdtbucket config show"
)


class EntryMerger:
    """Merges entries for the node `name`. Times are local ns."""

    def __init__(self, table: Table, roster: Roster, members: Membership, name: str) -> None:
        self._table, self._roster, self._name = table, roster, name
        self._began = table.now()
        self._visibility, self._introductions = members.visibility, members.introductions
        self._directory = members.directory
        self._peers, self._bounded = members.links, members.bounded
        self._updates = members.updates
        self._own_epoch = OwnEpoch(members.links, members.bounded)
        self._mismatches = Mismatches(table.definitions, name)
        self.counters = dict.fromkeys(("frames", "duplicates", "stale", *MERGE_COUNTERS), 0)

    def tables_of(self, link: PeerState, frame: wire.Frame) -> ResolvedTables | None:
        """The tables by which the entries of this frame are to be read, with local numbers; None
        while they have not come. Remembers those that the frame brings."""
        if frame.tables is not None:
            self.note_tables(link, frame.tables)
        return self.known_tables(link, frame.tables_version)

    def note_tables(self, link: PeerState, tables: wire.AnnouncedTables) -> None:
        """Remembers tables that a frame brings."""
        link.peer_tables[tables.version] = self._resolve(link, tables)
        while len(link.peer_tables) > REMEMBERED_TABLES:
            link.peer_tables.popitem(last=False)

    def known_tables(self, link: PeerState, version: int) -> ResolvedTables | None:
        """The tables of this version, with local numbers; None while they have not come."""
        known = link.peer_tables.get(version)
        if known is not None and known.key != self._roster.key:
            known = self._resolve(link, known.tables)
            link.peer_tables[version] = known
        return known

    def _resolve(self, link: PeerState, tables: wire.AnnouncedTables) -> ResolvedTables:
        return self._roster.resolve(tables, self._introductions.by(link.info.name))

    def merge(
        self,
        link: PeerState,
        frame: wire.Frame,
        resolved: ResolvedTables,
        now: int,
        *,
        memory: bool,
        after: Merged = NO_ENTRIES,
    ) -> Merged:
        """Merges the next `PART` entries of a frame that came at `now`. `memory`: the peer knows
        the debts of the mesh, so suspect debts that it does not state are dropped. `after`: the
        result of the part of the frame before. In the answer, `crowded` and `room` are the sums
        over the parts so far."""
        # The first merge leaves this node's own epoch as it is. If it shows that the peer has
        # larger counts of that epoch, and this is believed, everything is merged once more, and a
        # new epoch begins.
        epoch = self._table.epochs.running
        merge = partial(
            self._table.inbox.merge,
            frame.payload,
            resolved.definitions,
            resolved.origins,
            node=link.node,
            epoch=frame.epoch,
            at=now - link.age,
            newer=frame.seq > link.received.highest,
            answers_since=self._answers_since(link, frame, now),
            joining=bool(frame.flags & wire.JOINING),
            woke=now < link.woke_until,
            relays=self._visibility.relay_mask(),
            memory=memory,
            keeps_credit=bool(frame.flags & wire.KEEPS_CREDIT) and self._lacks_one(frame, now),
            silent=self._silent(frame.silent) if frame.silent else None,
            newcomer=bool(self._table.nodes.silent_before(link.started, link.node)),
            start=max(0, after.following),
            most=PART,
            crowded=after.crowded,
            room=after.room,
            most_room=PART_ROOM,
        )
        merged = merge(reopen=False)
        if merged.of_silent:
            link.owes_until = now + OWES_NS
        self.count(merged, link.info.name, now)
        if merged.own_behind and self._own_epoch.believed(link.info.name, now):
            full = merged.answers  # full no more where the first merge has counted a debt
            merged = merge()
            merged = merged._replace(answers=full + merged.answers)
            self.count(merged, link.info.name, now)
            if merged.duplicate_epoch:
                LOG.warning(
                    "%s: a peer has larger counts of epoch %x than this process; it goes on under "
                    "the new epoch %x",
                    self._name,
                    epoch,
                    self._table.epochs.running,
                )
        is_large = after.following < 0 <= merged.following
        self._bounded.count(link.info.name, "frames", int(is_large), now)
        if not self._updates.staged:
            self._mismatches.stated(link.info.name, resolved, merged.mixed, now)
        if after is NO_ENTRIES:
            return merged
        crowded, room = after.crowded + merged.crowded, after.room + merged.room
        return merged._replace(crowded=crowded, room=room)

    def _answers_since(self, link: PeerState, frame: wire.Frame, now: int) -> int | None:
        """Since when a peer, which was met or seen again after a silence, has answered frames that
        were sent to it after that; None where this frame may have been made before. Relays may have
        brought what was taken after it. The age of a frame does not say so: on a link that is
        slower in one direction it is off by seconds."""
        silent = now - link.last_seen >= self._directory.alive_ns
        before = silent or frame.seq <= link.last_word or link.answers_since <= link.steady_since
        return None if before else link.answers_since

    def _lacks_one(self, frame: wire.Frame, now: int) -> bool:
        """Whether a process for which the peer keeps credit is silent here, too, or the peer names
        none. A node that sees all of them itself knows what they take."""
        seen = {
            link.info.epoch
            for link in self._peers.values()
            if link.connected and now - link.last_seen < self._table.nodes.near_ns
        }
        return not frame.silent or not seen.issuperset(epoch for epoch, _ in frame.silent)

    def _silent(self, stated: tuple[tuple[int, int], ...]) -> array[int]:
        """The time (ns), by origin, for which a peer states credit for a silent process."""
        kept = dict(stated)
        out = array("q", bytes(8 * wire.MAX_ORIGINS))
        for origin, _, epoch, _ in self._table.epochs.origins():
            out[origin] = kept.get(epoch, 0) * 1_000_000
        return out

    def merge_late(self, link: PeerState, frame: wire.Frame, now: int) -> None:
        """Takes only the counts of a frame that was under way for too long: the takes happened,
        whenever that was, and a link that is always so slow would otherwise bring none. Its
        statements about keys and columns that are not held here are ignored, since those takes may
        have refilled long ago."""
        if not frame.payload or frame.payload_kind != wire.ENTRIES:
            return
        resolved = self.tables_of(link, frame)
        if resolved is None:
            return
        merged = self._table.inbox.merge(
            frame.payload,
            resolved.definitions,
            resolved.origins,
            node=link.node,
            epoch=frame.epoch,
            at=now,
            newer=False,
            late=True,
            reopen=False,
            relays=self._visibility.relay_mask(),
        )
        self.count(merged, link.info.name, now)

    def count(self, merged: Merged, who: str, now: int) -> None:
        """Counts what a merge has done with the entries of `who`, and warns about statements that
        were not believed."""
        for what in MERGE_COUNTERS:
            self.counters[what] += getattr(merged, what)
        begins = now - self._began < BEGINS_NS
        for bound, times, text in (
            ("debt", 0 if begins else merged.lowered, LOWERED),
            ("entries", merged.crowded, CROWDED_OUT),
            ("generations", merged.ahead, AHEAD),
            ("refused_columns", merged.refused_columns, RELAYED),
            ("capped_columns", merged.capped_columns, BEYOND_LIMITS),
            ("rates", merged.rates_cut, ""),
        ):
            if times:
                self._bounded.count(who, bound, times, now, text)
        self._bounded.count_adopted(who, merged.adopted)
