"""Each address that the configuration names has one place among the links of a node."""

from __future__ import annotations

from collections.abc import Iterable

from crdtbucket.base.address import source_of
from crdtbucket.mesh.links.link import Link


class ReservedPlaces:
    """Assigns the place of each configured address to one link.

    A place belongs to the node that answers when this node dials the address. Until a dial
    succeeds, it belongs to a caller from the host that the last dial reached: otherwise two nodes
    without room could not admit each other. A peer's statements about itself give it no place.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}
        """By address, the host that the last dial reached; "" until there was one."""
        self._links: dict[str, Link] = {}

    def change(self, addresses: Iterable[str]) -> None:
        """These addresses have a place each, and no others."""
        self._hosts = {one: self._hosts.get(one, "") for one in addresses}
        self._links = {one: link for one, link in self._links.items() if one in self._hosts}

    def reached(self, address: str, host: str) -> None:
        """A dial of this address was answered by this host."""
        if address in self._hosts:
            self._hosts[address] = source_of(host)

    def of(self, dialed: str, host: str, old: Link | None) -> str:
        """The address whose place a new link, which replaces `old`, gets: `dialed`, or for a call
        from this host an address whose place no other link has; "" for none."""
        if dialed:
            return dialed if dialed in self._hosts else ""
        source = source_of(host)
        own = (one for one, met in self._hosts.items() if source and met == source)
        return next((one for one in own if self._links.get(one) in (None, old)), "")

    def free(self) -> list[str]:
        """The addresses whose place no link has."""
        return [one for one in self._hosts if one not in self._links]

    def holder(self, address: str) -> Link | None:
        """The link that has the place of this address."""
        return self._links.get(address)

    def without(self, links: Iterable[Link]) -> list[Link]:
        """Those of these links that have no place."""
        held = {id(one) for one in self._links.values()}
        return [one for one in links if id(one) not in held]

    def take(self, address: str, link: Link) -> None:
        """The link has the place of this address from now on; none where it is ""."""
        if address:
            self._links[address] = link

    def leave(self, link: Link) -> None:
        """The link has ended."""
        self._links = {one: held for one, held in self._links.items() if held is not link}
