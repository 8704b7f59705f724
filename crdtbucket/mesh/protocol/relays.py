"""Relays the counts of members that some peer does not see, and states how old they are.

A and C do not see each other, and B sees both. B makes the entries of C dirty, so that they reach
A, and states with every complete round to A the age of its newest counts of C. A then knows C as
well as B does, and keeps no credit for it as for a peer that may be taking unseen.

Ages go on from relay to relay, so that in a chain of any length a node is known to be running where
only its columns arrive. Nobody gets a newer age of a dead one: ages are never made younger.

What B states must have reached A. So it states an age only while it relays, and begins to relay
with what C sent in the last seconds, before A had advertised that it does not see C. Counts of C
that B has from another relay R are stated to A only if A does not see R either: otherwise R itself
states them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from crdtbucket._core import Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_directory import CAUGHT_UP
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.peer_state import NEVER, PeerState
from crdtbucket.mesh.protocol.roster import Roster

MS = 1_000_000
CAUGHT_UP_ENTRIES = 65_536
"""The most recent entries that begin to be relayed in one round: some three milliseconds."""


class Relays:
    """Relays counts and ages for peers that do not see each other, and takes in what other relays
    send. Times are local ns."""

    def __init__(self, table: Table, members: Membership, roster: Roster) -> None:
        self._table, self._members, self._roster = table, members, roster
        self._links, self._visibility = members.links, members.visibility
        self._directory = members.directory
        self._caught_up_ns = CAUGHT_UP * self._directory.alive_ns
        self._relayed: set[int] = set()
        self._behind: dict[str, int] = {}
        """Members that a peer does not see and whose recent entries are not all relayed yet; and
        since when."""
        for node in roster.names():  # another process may have led before
            table.nodes.relay(node, False)

    def step(self) -> None:
        """Sets in the table whose rates are relayed from now on; before anything is encoded."""
        self._catch_up()
        connected = [link for link in self._links.values() if link.connected]
        unseen = {name for link in connected for name in self._visibility.unseen_by(link)}
        relayed = {self._links[name].node for name in unseen if name in self._links}
        for epoch, (_, relay) in self._directory.running_elsewhere.items():
            owner = self._roster.owner(epoch) if relay in unseen else None
            if owner is not None:
                relayed.add(self._roster.node(owner))
        relayed.discard(0)
        for node in relayed ^ self._relayed:
            self._table.nodes.relay(node, node in relayed)
        self._relayed = relayed

    def merged(self, link: PeerState, touched: array[int], now: int) -> None:
        """Entries of this peer were merged. Raised columns are relayed already if some peer is
        known not to see this one; otherwise that may become known soon, so the entries are
        remembered."""
        if touched and not self._visibility.relay_mask()[link.node]:
            link.recent_entries.append((now, touched))

    def begin(self, names: Iterable[str], now: int) -> None:
        """A peer says that it no longer sees these members: what they sent recently, before it was
        relayed, is relayed as well. If there are many entries, some wait for the next rounds."""
        self._behind |= {name: now for name in names if name in self._links}
        self._catch_up()

    def _catch_up(self) -> None:
        most = CAUGHT_UP_ENTRIES
        for name, since in list(self._behind.items()):
            link = self._links.get(name)
            while link is not None and link.recent_entries and most > 0:
                at, touched = link.recent_entries.popleft()
                if since - at <= self._caught_up_ns:
                    self._table.outbox.touch(touched)
                    most -= len(touched)
            if link is None or not link.recent_entries:
                del self._behind[name]

    def _unseen_by(self, link: PeerState) -> tuple[str, ...]:
        """The members that this peer does not see, and of which everything that it lacks is
        relayed."""
        return tuple(n for n in self._visibility.unseen_by(link) if n not in self._behind)

    def ages(self, link: PeerState, now: int) -> tuple[tuple[int, int], ...]:
        """(epoch, age in ms) of the members that this peer does not see, for a complete round.
        Where they do not all fit they take turns."""
        unseen = self._unseen_by(link)
        if not unseen:
            return ()
        rows = (*self._linked(link, unseen, now), *self._far(link, unseen, now))
        if len(rows) <= wire.MAX_AGES:
            return rows
        first = link.ages_from % len(rows)
        link.ages_from = first + wire.MAX_AGES
        return (*rows[first:], *rows[:first])[: wire.MAX_AGES]

    def _linked(
        self, link: PeerState, unseen: tuple[str, ...], now: int
    ) -> Iterator[tuple[int, int]]:
        """The members with a link here."""
        for name in unseen:
            other = self._links.get(name)
            if other is None or other is link or other.gone:
                continue
            newest = other.round_time if other.connected and other.completed else NEVER
            if other.relay in unseen:
                newest = max(newest, other.relayed_at)
            age = now - newest
            if 0 <= age < self._table.nodes.near_ns:
                yield other.info.epoch, -(-age // MS)

    def _far(self, link: PeerState, unseen: tuple[str, ...], now: int) -> Iterator[tuple[int, int]]:
        """The same of processes without a link here, as far as this peer sees no other relay that
        states them."""
        limit = min(self._caught_up_ns, wire.MAX_AGE_MS * MS)
        for epoch, (newest, relay) in self._directory.running_elsewhere.items():
            if relay in unseen and epoch != link.info.epoch and now - newest < limit:
                yield epoch, -(-max(0, now - newest) // MS)

    def round_completed(self, link: PeerState, round_time: int, now: int) -> None:
        """A complete round of this peer covers all up to `round_time`. The ages that came with
        it are believed of members that are silent here, and never make any of them older."""
        self._introduce(link)
        for epoch, age in link.round_ages:
            at = round_time - age * MS
            self._members.pruner.seen_running(epoch, at)
            owner = self._roster.owner(epoch)
            if owner is None or epoch == self._table.epochs.running:
                continue
            other = self._links.get(owner)
            if other is None or not _knows_better(other, epoch, at):
                self._directory.relayed(epoch, at, link.info.name)
                if other is None or other.gone:
                    self._members.unlinked.seen(owner, epoch, at)
            if other is None or other is link or other.gone:
                continue
            directly = other.connected and now - other.last_seen < self._directory.alive_ns
            if not directly and at > other.relayed_at:
                other.relayed_at, other.relay = at, link.info.name
                self._table.nodes.set_last_seen(other.node, at)
        link.round_ages = ()

    def _introduce(self, link: PeerState) -> None:
        """A process that has taken nothing since it began is in no entry. If this peer states its
        age, it is known as the member that the peer says runs under that epoch, even if only others
        see that member for it."""
        unknown = {epoch for epoch, _ in link.round_ages if self._roster.owner(epoch) is None}
        if unknown:
            admits = self._members.introductions.by(link.info.name)
            for name, epoch in (link.advertised or {}).items():
                if epoch in unknown:
                    self._roster.introduce(name, epoch, admits)


def _knows_better(link: PeerState, epoch: int, at: int) -> bool:
    """Whether this link itself shows that a process of its peer runs, or that it does not. It shows
    nothing about a later process to which no connection was made, nor, if the peer is forgotten,
    about the time after it was last seen."""
    return epoch == link.info.epoch and (link.left or not link.forgotten or at <= link.last_seen)
