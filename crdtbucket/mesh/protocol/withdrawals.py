"""Decides which tombstones are withdrawn, because a peer goes on counting the epoch, and which
tombstones of peers are believed.

A side of a partition gives up a member that may run on behind it, and adds a tombstone to its
epoch. A peer from behind the partition has counts of that epoch that nobody here has. It sends
entries with that epoch in its tables, although all who got the tombstone have had the time to add
it: so the tombstone is withdrawn, and the columns count again. From then on this peer decides when
they count no more. A node to which this one sends them does the same, and so on through any graph
of links.

Until then nobody behind the partition may believe that tombstone. A peer's tombstone is believed
once the peer has been linked for a while, both ways and without a break; or at once if the epoch
was already dead when this node got to know it, and the peer was linked by then. So a newcomer
believes its peers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.peer_state import PeerState

TOLD_PART = 3
"""Within a third of the time for which a dead epoch settles, peers have received a tombstone and
added it."""
DOUBTED_PART = 2
"""Within half of that time a peer has withdrawn its own tombstone, if it is going to."""


class Withdrawals:
    """The epochs of which one node has withdrawn the tombstone. Times are local ns."""

    def __init__(self, settled_ns: int) -> None:
        """`settled_ns`: for how long an epoch is dead before it gets a tombstone."""
        self._told_ns, self._doubted_ns = settled_ns // TOLD_PART, settled_ns // DOUBTED_PART
        self._live: Mapping[int, PeerState] = {}
        """The live peers, by their epochs."""
        self._shown: dict[int, tuple[wire.Origins, int]] = {}
        """By the epoch of a peer: the owners and epochs in the tables of its newest entries, and
        when those came."""
        self._counted_by: dict[int, int] = {}
        """By epoch: the epoch of the peer that goes on counting it."""
        self._witnessed: set[int] = set()
        """Epochs that ran while this node did, or that it knew before a peer was linked."""

    def follow(
        self, live: Mapping[int, PeerState], running: Collection[int], known: Collection[int]
    ) -> None:
        """Sets which peers are live, which epochs run, and which epochs have a number here."""
        self._live = live
        self._shown = {peer: shown for peer, shown in self._shown.items() if peer in live}
        self._counted_by = {e: by for e, by in self._counted_by.items() if self._counts(by, e)}
        self._witnessed = self._witnessed.union(running).intersection(known)

    def remember(self, epochs: Iterable[int]) -> None:
        """No peer is linked yet, and these epochs are known."""
        self._witnessed.update(epochs)

    def shown(self, link: PeerState, origins: wire.Origins, now: int) -> None:
        """Entries of this peer came, with tables that list these owners and epochs."""
        self._shown[link.info.epoch] = origins, now

    def is_counted(self, epoch: int) -> bool:
        """Whether a live peer decides on this epoch: its tombstone was withdrawn."""
        return epoch in self._counted_by

    def due(self, tombstones: Mapping[int, int], now: int) -> Iterator[tuple[PeerState, str, int]]:
        """The tombstones to withdraw, as (the peer that counts it, the owner's name, the epoch).
        `tombstones`: since when an epoch has one."""
        first = min(tombstones.values(), default=now) + self._told_ns
        for peer, (origins, at) in self._shown.items():
            if at < first:
                continue  # peers had not even been told of the oldest tombstone then
            for name, epoch in origins:
                if at - tombstones.get(epoch, at) >= self._told_ns:
                    yield self._live[peer], name, epoch

    def withdrawn(self, epoch: int, by: PeerState) -> None:
        """The tombstone of this epoch is withdrawn because the peer `by` goes on counting it."""
        self._counted_by[epoch] = by.info.epoch

    def believed(self, epoch: int, since: int | None, link: PeerState, now: int) -> bool:
        """Whether this node believes a peer that this epoch has a tombstone. `since`: when the
        epoch was found dead here, None for just now."""
        if epoch in self._counted_by:
            return self._counted_by[epoch] == link.info.epoch
        if now - link.steady_since >= self._doubted_ns:
            return True
        return epoch not in self._witnessed and (since is None or link.steady_since <= since)

    def _counts(self, peer: int, epoch: int) -> bool:
        """Whether this live peer goes on counting that epoch, as far as it has shown."""
        origins, _ = self._shown.get(peer, ((), 0))
        return any(epoch == one for _, one in origins)
