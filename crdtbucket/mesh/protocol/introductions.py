"""Bounds the epochs that each peer may introduce: a peer can fill its own part of the places for
epochs, and no more.

There are places for 511 epochs. The running epoch of this node and those of linked peers always
have a place. The rest of the places is shared by the epochs that peers advertise of other nodes,
dead or alive, and those that this node remembers of earlier times. Where a part is nearly used up,
the oldest dead epochs of that part give way, as those of all do when the table is nearly full: so
members may come and go for ever behind a peer, and one that invents epochs only makes room for more
of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from crdtbucket._core import Table
from crdtbucket.errors import WireError
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_directory import MemberDirectory
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.peer_warnings import BoundedPeers
from crdtbucket.mesh.protocol.pruning import Pruner
from crdtbucket.mesh.protocol.roster import Admits

PLACES = 384
"""How many epochs all peers together may introduce; each connected peer has an equal part."""
MEMBER_PLACES = 448
"""Introduced epochs may fill this many places when the new one belongs to a member that some peer
sees."""
NEARLY_FULL = 3 / 4
"""When a part, or all parts together, are filled beyond this share, dead epochs give way."""
OBSERVERS = "an observer"
MEMORY = "this node's memory"
"""The introducer of epochs that no peer introduced: they came with a snapshot or from an earlier
process, or their process was linked before."""


class Introductions:
    """The epochs that peers introduced to the node with this table. Times are local ns."""

    def __init__(
        self, table: Table, directory: MemberDirectory, bounded: BoundedPeers, pruner: Pruner
    ) -> None:
        self._table, self._directory, self._bounded = table, directory, bounded
        self._pruner = pruner
        self._by: dict[int, str] = {}
        """The peer that introduced an epoch, the oldest epoch first."""
        self._ran: set[int] = set()
        """The epochs under which the peer ran itself."""
        self._held: Counter[str] = Counter()
        self._wanted = False
        """Whether a peer that has not used up its part found no place."""
        self._refused: Counter[str] = Counter()
        """The number of epochs for which a peer found no place since the last `step`."""

    def by(self, peer: str) -> Admits:
        """Which epochs the peer, or `OBSERVERS`, may introduce now."""
        self._remember()
        share, part = self._share(), self._part(peer)
        return lambda name, epoch: self._admit(peer, name, epoch, part, share)

    def again(self, peer: str, name: str, epoch: int) -> bool:
        """Whether the peer may introduce an epoch of the node `name` again, which has a
        tombstone."""
        return epoch in self._by or self.by(peer)(name, epoch)

    def check_epoch(self, link: PeerState, epoch: int) -> None:
        """Checks a frame whose epoch is not the known running one: it is an older frame, or the
        peer goes on under a new epoch. Raises WireError, and changes nothing, when the peer has
        used up its places with new epochs."""
        origins = self._table.epochs.origins()
        if any((node, known) == (link.node, epoch) for _, node, known, _ in origins):
            return
        if not self.follow(link.info.name, link.info.epoch):
            raise WireError("it has gone on under more epochs than there are places for")
        self.claimed(link.node, epoch)

    def follow(self, peer: str, before: int) -> bool:
        """A linked peer goes on under another epoch. Its reserved place passes to that epoch, and
        the epoch `before` now counts as one that the peer has introduced. If its part is used up,
        the newest epoch that it only advertised gives way; False when it ran under all of them
        itself."""
        self._remember()
        fits = len(self._part(peer)) < self._share() and len(self._by) < MEMBER_PLACES
        if not fits and not self._drop_newest_advertised(peer):
            self._refused[peer] += 1
            return False
        if before not in self._by:
            self._add(before, peer)
            self._ran.add(before)
        return True

    def claimed(self, node: int, epoch: int) -> None:
        """The linked peer with this id runs under this epoch, which has a reserved place, whatever
        others advertise about it. When the table is full, an introduced epoch gives way at once:
        otherwise a peer that advertises more would take the place first."""
        self._remember()
        owners = {known: owner for _, owner, known, _ in self._table.epochs.origins()}
        if epoch in self._by and owners.get(epoch, node) != node:
            self._drop(epoch, at_once=True)
        elif epoch in self._by:
            self._remove(epoch)
        elif epoch not in owners and len(owners) >= wire.MAX_ORIGINS - 1:
            self._remove_gone()
            self._drop_newest((), at_once=True)

    def _remove_gone(self) -> None:
        held = {epoch for _, _, epoch, _ in self._table.epochs.origins()} if self._by else set()
        for epoch in self._by.keys() - held:
            self._remove(epoch)

    def _remember(self) -> None:
        """Counts the epochs that nobody introduced, except those with a reserved place, and those
        whose columns are being removed."""
        links = self._directory.links.values()
        connected = {link.info.epoch for link in links if link.connected}
        reserved = connected | {self._table.epochs.running}
        for _, _, epoch, gone in self._table.epochs.origins():
            if not gone and epoch not in self._by and epoch not in reserved:
                self._add(epoch, MEMORY)

    def step(self, running: Collection[int], now: int) -> bool:
        """Called once a second: epochs that are gone give their places back. When a peer that has
        not used up its part found no place, the newest epoch of the peer that has most goes.
        Returns whether any peer found no place since the last call, and may find one now."""
        self._remove_gone()
        self._make_room(now)
        if self._wanted:
            self._drop_newest(running)
        refused, self._refused, self._wanted = self._refused, Counter(), False
        for peer, times in refused.items():
            self._bounded.count(
                peer,
                "epochs",
                times,
                now,
                f"advertises more epochs than its part of the places, {self._share()} of {PLACES}; "
                "what was counted under those beyond is left out until there is room",
            )
        return bool(refused)

    def _make_room(self, now: int) -> None:
        """The oldest dead epochs of a part that is nearly used up give way."""
        share = self._share()
        parts = [(share, part) for peer, part in self._parts().items() if peer != MEMORY]
        for places, epochs in [*parts, (PLACES, {*self._by})]:
            self._pruner.release_early(epochs, len(epochs) - int(places * NEARLY_FULL), now)
        self._remove_gone()

    def _drop_newest(self, running: Collection[int], *, at_once: bool = False) -> None:
        """The newest epoch of the peer that has introduced most gives its place up, if nobody is
        known to run under it."""
        most = max(self._held, key=lambda peer: self._held[peer], default="")
        found = [epoch for epoch in self._introduced_by(most) if epoch not in running]
        if found:
            self._drop(found[-1], at_once=at_once)

    def _drop_newest_advertised(self, peer: str) -> bool:
        """The same for what this peer only advertised: an honest one passes on what it got.
        Returns whether there is a place now."""
        advertised = [epoch for epoch in self._introduced_by(peer) if epoch not in self._ran]
        running = self._directory.running(self._table.epochs.running) if advertised else ()
        for epoch in reversed(advertised):
            if epoch not in running:
                self._drop(epoch)
                return True
        return False

    def _introduced_by(self, peer: str) -> list[int]:
        return [epoch for epoch, by in self._by.items() if by == peer]

    def _drop(self, epoch: int, *, at_once: bool = False) -> None:
        self._remove(epoch)
        self._pruner.give_up(epoch, at_once=at_once)

    def _admit(self, peer: str, name: str, epoch: int, part: set[int], share: int) -> bool:
        member = self._directory.known.get(name)
        used = len(self._by)
        if member is not None and member[2] == epoch:
            fits = used < MEMBER_PLACES
        elif fits := used < PLACES and len(part) < share:
            part.add(epoch)
        if fits:
            self._add(epoch, peer)
        else:
            self._refused[peer] += 1
            self._wanted |= len(part) < share
        return fits

    def _part(self, peer: str) -> set[int]:
        return self._parts().get(peer, set())

    def _parts(self) -> dict[str, set[int]]:
        """The number of epochs that count towards the part of each peer: its own earlier ones, and
        those of other nodes under which no member runs. Epochs of members do not count, since the
        number of members has its own bound, and a hub introduces many."""
        members = {epoch for _, _, epoch, _ in self._directory.known.values()}
        parts: dict[str, set[int]] = {}
        for epoch, peer in self._by.items():
            if epoch in self._ran or epoch not in members:
                parts.setdefault(peer, set()).add(epoch)
        return parts

    def _add(self, epoch: int, peer: str) -> None:
        self._by[epoch] = peer
        self._held[peer] += 1

    def _share(self) -> int:
        links = sum(link.connected for link in self._directory.links.values())
        return PLACES // max(1, links)

    def _remove(self, epoch: int) -> None:
        peer = self._by.pop(epoch)
        self._ran.discard(epoch)
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]
