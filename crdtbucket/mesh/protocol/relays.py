"""Members that some other member does not hear: their news go on from here, and how old these are.

A and C do not hear each other, and B hears both. B makes the entries of C dirty, so that they reach
A, and states with every complete round to A how old its news of C are. A then knows C as well as B
does, and keeps no credit for it as for a peer that may be taking unseen.

Ages go on from relay to relay, so that in a chain of any length a node is known to be running where
only its columns come. A dead one has no newer age for anybody: ages are never made younger.

What B states must have reached A. So it states an age only while it relays, and begins to relay
with what C said in the last seconds, before A had told that it does not hear C. News of C that B
has from another relay R count for A only where A does not hear R either: else R itself tells them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from crdtbucket._core import Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.link import NEVER, Link
from crdtbucket.mesh.protocol.membership import CAUGHT_UP, Membership
from crdtbucket.mesh.protocol.roster import Roster

MS = 1_000_000


class Relays:
    """What one node relays, and what it learns from relays. Times are local ns."""

    def __init__(self, table: Table, members: Membership, roster: Roster) -> None:
        self._table, self._members, self._roster = table, members, roster
        self._relayed: set[int] = set()
        for node in roster.names():  # another process may have led before
            table.relay(node, False)

    def step(self) -> None:
        """Says to the table whose rates go on from here; before anything is encoded."""
        links = self._members.links
        connected = [link for link in links.values() if link.connected]
        unheard = {name for link in connected for name in self._members.not_hearing(link)}
        relayed = {links[name].node for name in unheard if name in links}
        for node in relayed ^ self._relayed:
            self._table.relay(node, node in relayed)
        self._relayed = relayed

    def merged(self, link: Link, touched: array[int], now: int) -> None:
        """Entries of this peer were merged. What has risen in them has gone on already to whoever
        is known not to hear it; the others may turn out not to."""
        if touched and not self._members.relays()[link.node]:
            link.lately.append((now, touched))

    def begin(self, names: Iterable[str], now: int) -> None:
        """A peer says that it does not hear these members any more: what they said lately, while
        nobody relayed it, goes on as well."""
        for name in names:
            link = self._members.links.get(name)
            while link is not None and link.lately:
                at, touched = link.lately.popleft()
                if now - at <= CAUGHT_UP * self._members.heard_ns:
                    self._table.touch(touched)

    def ages(self, link: Link, now: int) -> tuple[tuple[int, int], ...]:
        """(epoch, age in ms) of the members that this peer does not hear, for a complete round."""
        unheard = names = self._members.not_hearing(link)
        if not names:
            return ()
        first = link.ages_from % len(names)
        names = (*names[first:], *names[:first])[: wire.MAX_AGES]
        link.ages_from = first + len(names)
        rows = []
        for name in names:
            other = self._members.links.get(name)
            if other is None or other is link or other.left or other.forgotten:
                continue
            newest = other.stood if other.connected and other.completed else NEVER
            if other.relay in unheard:
                newest = max(newest, other.relayed_at)
            age = now - newest
            if 0 <= age < self._table.near_ns:
                rows.append((other.info.epoch, -(-age // MS)))
        return (*rows, *self._far(link, now))[: wire.MAX_AGES]

    def _far(self, link: Link, now: int) -> Iterator[tuple[int, int]]:
        """The same of those that have no link here, and that this peer has from no other relay."""
        unheard = self._members.not_hearing(link)
        limit = min(CAUGHT_UP * self._members.heard_ns, wire.MAX_AGE_MS * MS)
        for epoch, (newest, relay) in self._members.alive.items():
            if relay in unheard and epoch != link.info.epoch and now - newest < limit:
                yield epoch, -(-max(0, now - newest) // MS)

    def hear(self, link: Link, stood: int, now: int) -> None:
        """A complete round of this peer stood for the time `stood`. The ages that came with it are
        believed of members that are not heard here, and never make any of them older."""
        for epoch, age in link.round_ages:
            at, owner = stood - age * MS, self._roster.owner(epoch)
            self._members.told_alive(epoch, at)
            if owner is None or epoch == self._table.epoch:
                continue
            other = self._members.links.get(owner)
            if other is None or not _knows_better(other, epoch, at):
                self._members.is_alive(epoch, at, link.info.name)
            if other is None or other is link or other.left or other.forgotten:
                continue
            directly = other.connected and now - other.heard < self._members.heard_ns
            if not directly and at > other.relayed_at:
                other.relayed_at, other.relay = at, link.info.name
                self._table.set_last_seen(other.node, at)
        link.round_ages = ()


def _knows_better(link: Link, epoch: int, at: int) -> bool:
    """Whether this link says by itself that a process of its peer runs, or that it does not. It
    knows nothing of a later life that no connection was made to, nor, where the peer is forgotten,
    of what came after it was heard last."""
    return epoch == link.info.epoch and (link.left or not link.forgotten or at <= link.heard)


__all__ = ["Relays"]
