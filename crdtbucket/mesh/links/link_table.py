"""Decides which of several connections to a peer is its link; both ends come to the same result."""

from __future__ import annotations

import enum
from collections import Counter

from crdtbucket.base.address import source_of
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.node_info import NodeInfo


class LinkVerdict(enum.Enum):
    """The decision on a new connection to a peer."""

    NEW = "there is no other"
    REPLACE = "the older one is gone at the peer or loses"
    DUPLICATE = "the older one stays"
    OTHER_PROCESS = "the older one belongs to another process with the same name"


class LinkTable:
    """The authenticated links of a node, one a peer.

    Both nodes of a pair may call at the same time; then the call of the node whose name sorts
    first stays. In every other case a second connection means that its maker has lost the first,
    which this end may not have noticed yet. `serial` tells the cases apart: a dialer that had a
    link when it saw the listener's hello would not have gone on, and it had every link that this
    end already had before it sent that hello.
    """

    def __init__(self, own_name: str) -> None:
        self._own_name = own_name
        self._links: dict[str, tuple[int, Link]] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._links)

    def get(self, name: str) -> Link | None:
        """The link to this peer, if there is one."""
        entry = self._links.get(name)
        return None if entry is None else entry[1]

    def all(self) -> list[Link]:
        """All links, in no order that means anything."""
        return [link for _, link in self._links.values()]

    @property
    def crowded(self) -> bool:
        """Whether some address has more than one link."""
        return any(count > 1 for count in self._by_source().values())

    def crowding(self, host: str) -> Link | None:
        """Which link gives way to one of this host where there is no room: the newest one of the
        address that has most, if that of the host has fewer by two at least."""
        held, source = self._by_source(), source_of(host)
        most = max(held, key=lambda one: held[one], default="")
        if not source or held[most] < held[source] + 2:
            return None
        made = [entry for entry in self._links.values() if entry[1].source == most]
        return max(made, key=lambda entry: entry[0])[1]

    def _by_source(self) -> Counter[str]:
        return Counter(link.source for link in self.all())

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
        if old.dialed == dialed:
            return LinkVerdict.REPLACE  # a dialer makes one attempt at a time, so it lost the first
        if not dialed and made <= serial:
            return LinkVerdict.REPLACE
        return (
            LinkVerdict.REPLACE if dialed == (self._own_name < peer.name) else LinkVerdict.DUPLICATE
        )

    def put(self, link: Link) -> None:
        """Make `link` the one to its peer."""
        self._serial += 1
        self._links[link.peer.name] = (self._serial, link)

    def remove(self, link: Link) -> bool:
        """Forget `link`; False when another one has already taken its place."""
        entry = self._links.get(link.peer.name)
        if entry is None or entry[1] is not link:
            return False
        del self._links[link.peer.name]
        return True
