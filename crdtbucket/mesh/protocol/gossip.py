"""Schedules what a node sends: a round to every peer in each interval, early flushes, first rounds.

A round of many keys takes several ticks, so that none of them holds up the event loop for long.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from crdtbucket._core import Table
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import anti_entropy, wire
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.relays import Relays
from crdtbucket.mesh.protocol.rounds import Frames, Outbox

FLUSH_GAP_NS = 10_000_000
"""Least time between two early flushes, and between two answers to a peer."""
SWEEP = 4096
"""Places of the table that each round looks at for entries to evict."""
QUIET_NS = 3_100_000_000
"""A key that nobody has asked for during this time (and one round) is quiet, so that digests
include it."""
TRIMMED = 131_072
"""Most items that each round removes from the log of versions."""
TICK_BYTES = 1 << 20
"""After this many bytes a tick ends, and the round goes on in the next tick."""


class GossipSchedule:
    """The sending side of one node. Times are local ns."""

    def __init__(
        self,
        table: Table,
        members: Membership,
        relays: Relays,
        out: Outbox,
        interval_ns: int,
        rng: random.Random,
    ) -> None:
        self._table, self._members, self._relays, self._out = table, members, relays, out
        self._interval_ns = interval_ns
        now = table.now()
        self._next_round = now + rng.randrange(interval_ns)
        self._last_send = now - FLUSH_GAP_NS
        self._collecting = -1
        """The place of the table at which the round under way goes on collecting, -1 when
        everything is collected."""
        self._unsent: list[PeerState] = []
        """Links that the round under way has still to go to, the next one last."""
        self._made = table.definitions.made
        """Definitions that were made when all keys were compared with those of the peers."""
        self._compare_at: list[int] = []
        """When that comparison is to be repeated."""
        self._new_links: dict[str, None] = {}
        """The peers that have still to get their first round."""
        self._greeted: dict[str, None] = {}
        """The peers to which the round under way goes alone: it is their first one."""

    def add_first_round(self, name: str) -> None:
        """A link to this peer is up: it gets a round at once, since a joiner serves only its share
        until that comes."""
        self._new_links[name] = None

    def next_tick(self, now: int) -> int:
        """The time at which `tick` has something to do (ns)."""
        if self._new_links or self._under_way:
            return now
        if self._table.outbox.flush_wanted:
            return min(self._next_round, max(now, self._last_send + FLUSH_GAP_NS))
        return self._next_round

    def tick(self, me: Callable[[], NodeInfo], now: int, prepare: Callable[[int], None]) -> Frames:
        """Returns the frames of a round when one is due, or of an early flush when one is asked
        for. `me`: returns the record of this node; `prepare` is called before a round begins."""
        if now >= self._next_round and not self._under_way:
            passed = (now - self._next_round) // self._interval_ns
            self._next_round += self._interval_ns * (1 + passed)
            prepare(now)
            self._collecting = 0
        elif self._new_links and not self._under_way:
            self._greeted, self._new_links = self._new_links, {}
            self._collecting = 0
        if self._under_way:
            return self._go_on(me, now)
        if self._table.outbox.flush_wanted and now - self._last_send >= FLUSH_GAP_NS:
            return self._flush(now)
        return []

    def leave(self, now: int) -> Iterator[Frames]:
        """The last frames: all that is not acknowledged, and goodbye. Each step collects from a
        part of the table, or makes the frames for one peer."""
        place = 0
        while place >= 0:
            _, place = self._table.outbox.collect_some(place)
            yield []
        self._out.flag(wire.LEAVING, on=True)
        self._out.start()
        for link in self._members.reachable():
            yield [(link.info.name, data) for data in self._out.round(link, now, {})]

    def _compare_anew(self, now: int) -> None:
        """Entries that peers have sent of a bucket that is new here were ignored until now: digests
        ask for them again, at once, and once more when the keys that are in use at this moment have
        become quiet."""
        if (made := self._table.definitions.made) != self._made:
            self._made, self._compare_at = made, [now, now + QUIET_NS]
        while self._compare_at and self._compare_at[0] <= now:
            del self._compare_at[0]
            for link in self._members.reachable():
                link.digest_due = now

    @property
    def _under_way(self) -> bool:
        return self._collecting >= 0 or bool(self._unsent)

    def _go_on(self, me: Callable[[], NodeInfo], now: int) -> Frames:
        if self._collecting >= 0:
            _, self._collecting = self._table.outbox.collect_some(self._collecting)
            if self._collecting >= 0:
                return []
            if self._greeted:
                return self._first_rounds(me(), now)
            self._last_send = now
            self._relays.step()
            self._compare_anew(now)
            self._out.start()
            self._members.prepare_updates(me, now)
            self._unsent = self._members.reachable()
            self._unsent.reverse()
        out: list[tuple[str, bytes]] = []
        size = 0
        while self._unsent and size < TICK_BYTES:
            link = self._unsent.pop()
            if not link.connected:
                continue
            extra = self._members.updates.due_for(link, now)
            if digest := anti_entropy.next_digest(self._table, link, now):
                extra = {**extra, **digest}
            frames = self._out.round(link, now, extra, self._relays.ages(link, now))
            if link.answers:
                frames += self._out.answer(link, now)
            for data in frames:
                out.append((link.info.name, data))
                size += len(data)
        if not self._unsent:
            self._table.outbox.trim(self._acknowledged(), TRIMMED)
            self._table.sweep(SWEEP)
        return out

    def _first_rounds(self, me: NodeInfo, now: int) -> Frames:
        names, self._greeted = self._greeted, {}
        self._out.start()
        return [
            (link.info.name, data)
            for link in self._members.reachable(names)
            for data in self._out.round(link, now, self._members.advertised(me, now))
        ]

    def _flush(self, now: int) -> Frames:
        before = self._table.outbox.version
        self._table.outbox.collect(True)
        self._last_send = now
        self._out.start()
        return [
            (link.info.name, data)
            for link in self._members.reachable()
            for data in self._out.flush(link, before, now)
        ]

    def _acknowledged(self) -> int:
        """The version up to which every peer whose log is kept has acknowledged."""
        links = self._members.links.values()
        kept = [link.acked.prefix for link in links if link.log_kept and not link.left]
        return min(kept, default=self._table.outbox.version)
