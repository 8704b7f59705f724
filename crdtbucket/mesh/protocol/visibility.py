"""Keeps which members each peer sees, as it advertises, and so whose counts this node must
relay."""

from __future__ import annotations

from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_directory import MemberDirectory, may_see
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import MAX_NODES, Roster

Names = tuple[str, ...]


class Visibility:
    """Says which members each peer does not see. Every merge asks this, so the answers are kept
    until something changes."""

    def __init__(self, directory: MemberDirectory, roster: Roster) -> None:
        self._links, self._roster = directory.links, roster
        self._mask: bytes | None = None
        """The answer of `relay_mask`; None when it may have changed."""
        self._numbered = -1
        """The state of the roster for which the mask holds."""
        self._unseen_by: dict[str, tuple[dict[str, int] | None, Names, Names]] = {}
        """By peer: what it advertised, whom of these it did not see, and what `unseen_by` returns
        for that."""

    def changed(self) -> None:
        """A link is up or down, or leads to another process or epoch."""
        self._mask = None
        self._unseen_by = {}  # a thread that is in `unseen_by` writes into the old one

    def update(self, link: PeerState, frame: wire.Frame) -> None:
        """Takes from a frame which members the peer advertises, and which of them it does not
        see."""
        if frame.unseen is not None and frame.unseen != link.unseen:
            link.unseen, self._mask = frame.unseen, None
        if frame.members is not None:
            advertised = {name: epoch for name, _, epoch, _ in frame.members}
            if advertised != link.advertised:
                link.advertised, self._mask = advertised, None

    def unseen_by(self, link: PeerState) -> Names:
        """Members with a link here that this peer does not see: it says so, or the members that it
        advertised do not include them, or include another process of that name. It may have no link
        to them, and so learn of their takes late. Safe from any thread."""
        kept, advertised, unseen = self._unseen_by, link.advertised, link.unseen
        known = kept.get(link.info.name)
        if known is None or known[0] is not advertised or known[1] is not unseen:
            missing = {name for name in list(self._links) if not self._may_see(link, name)}
            names = (*unseen, *sorted(missing - {link.info.name, *unseen}))
            known = kept[link.info.name] = advertised, unseen, names
        return known[2]

    def relay_mask(self) -> bytes:
        """A byte for each node id, not 0 when some connected peer does not see that node, as in
        `unseen_by`."""
        if self._mask is None or self._numbered != self._roster.changes:
            self._numbered = self._roster.changes
            mask = bytearray(b"\1") * MAX_NODES  # an id without a name is a node that no peer sees
            links = [link for link in self._links.values() if link.connected]
            for number, name in self._roster.names().items():
                mask[number] = not all(
                    name == link.info.name or self._may_see(link, name) for link in links
                )
            self._mask = bytes(mask)
        return self._mask

    def _may_see(self, link: PeerState, name: str) -> bool:
        """Whether a peer may see the member, and not another process that has its name: that one
        has no link here."""
        here, epoch = self._links.get(name), (link.advertised or {}).get(name)
        if here is not None and here.connected and epoch not in (None, here.info.epoch):
            return False
        return may_see(link.advertised, link.unseen, name)
