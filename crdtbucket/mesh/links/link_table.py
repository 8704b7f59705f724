"""Decides which of several connections to a peer is its link; both ends come to the same result."""

from __future__ import annotations

import enum
from collections import Counter
from operator import itemgetter

from crdtbucket.base.address import source_of
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.peer_identity import PeerIdentity
from crdtbucket.mesh.links.reserved_places import ReservedPlaces
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.node_info import NodeInfo


class LinkVerdict(enum.Enum):
    """The decision on a new connection to a peer."""

    NEW = "there is no other"
    REPLACE = "the older one is gone at the peer or loses"
    DUPLICATE = "the older one stays"
    OTHER_PROCESS = "the older one belongs to another process with the same name"


class LinkTable:
    """The authenticated links of a node, one a peer.

    Both nodes of a pair may call at the same time; then the call of the node whose name sorts first
    stays. In every other case a second connection means that the node that made it has lost the
    first, which this end may not have noticed yet. `serial` tells the cases apart: a dialer that
    had a link when it saw the listener's hello would not have gone on, and it had every link that
    this end already had before it sent that hello.
    """

    def __init__(self, own_name: str) -> None:
        self.own_name = own_name
        self._links: dict[str, tuple[int, Link]] = {}
        self._serial = 0
        self.places = ReservedPlaces()

    def __len__(self) -> int:
        return len(self._links)

    def get(self, name: str) -> Link | None:
        """The link to this peer, if there is one."""
        entry = self._links.get(name)
        return None if entry is None else entry[1]

    def all(self) -> list[Link]:
        """All links, in no particular order. Safe from any thread."""
        return [link for _, link in list(self._links.values())]

    def identities(self) -> list[PeerIdentity]:
        """The peers of all links."""
        return [link.identity for link in self.all()]

    @property
    def crowded(self) -> bool:
        """Whether some address has more than one link without a reserved place."""
        return any(count > 1 for count in self._by_source().values())

    def yields_to(self, address: str) -> bool:
        """Whether a dial of this address would get a place even if there is no room."""
        return address in self.places.free() and self._newest("") is not None

    def make_room(self, peer: NodeInfo, host: str, place: str, most: int) -> Link | None:
        """The link that gives way to a new one to this peer; None if fewer than `most` are up, or
        the peer has one already. Raises `HandshakeError` if none gives way."""
        if len(self) < most or peer.name in self._links:
            return None
        if (link := self.giving_way(host, place)) is None:
            raise HandshakeError(Reason.BUSY, f"there are {most} peers already", peer)
        return link

    def giving_way(self, host: str, place: str) -> Link | None:
        """The link that gives way, when there is no room, to one of this host, which may have the
        reserved place of the address `place`. With a reserved place: the link that had this place,
        or the newest link without a place. Otherwise: the newest link of the host that has most
        links without a place, if the caller's host has fewer by at least two."""
        holder = self.places.holder(place)
        crowding = self._crowding(host) if holder is None else holder
        return self._newest("") if crowding is None and place else crowding

    def _crowding(self, host: str) -> Link | None:
        held, source = self._by_source(), source_of(host)
        most = max(held, key=lambda one: held[one], default="")
        if not source or held[most] < held[source] + 2:
            return None
        return self._newest(most)

    def _newest(self, source: str) -> Link | None:
        """The newest link without a place, of this source if one is given."""
        made = [link for _, link in sorted(self._links.values(), key=itemgetter(0), reverse=True)]
        yielding = self.places.without(made)
        return next((one for one in yielding if source in ("", one.source)), None)

    def _by_source(self) -> Counter[str]:
        return Counter(link.source for link in self.places.without(self.all()))

    def serial(self) -> int:
        """The number of the newest link: a listener takes it before it sends its hello."""
        return self._serial

    def judge(self, peer: NodeInfo, instance: int, *, dialed: bool, serial: int) -> LinkVerdict:
        """What to do with a connection to `peer` that is about to become a link."""
        entry = self._links.get(peer.name)
        if entry is None:
            return LinkVerdict.NEW
        made, old = entry
        if old.instance != instance:
            return LinkVerdict.OTHER_PROCESS
        # A dialer makes one attempt at a time, so if it makes a second, it has lost the first.
        has_lost = old.dialed == dialed or (not dialed and made <= serial)
        goes_first = dialed == (self.own_name < peer.name)
        return LinkVerdict.REPLACE if has_lost or goes_first else LinkVerdict.DUPLICATE

    def put(self, link: Link, place: str = "") -> None:
        """Make `link` the one to its peer, and give it the place of this address."""
        self._serial += 1
        if (old := self.get(link.peer.name)) is not None:
            self.places.leave(old)
        self._links[link.peer.name] = (self._serial, link)
        self.places.take(place, link)

    def remove(self, link: Link) -> bool:
        """Forgets `link`; False when another one has already taken its place."""
        entry = self._links.get(link.peer.name)
        if entry is None or entry[1] is not link:
            return False
        del self._links[link.peer.name]
        self.places.leave(link)
        return True
