"""Each address that the configuration names has one place among the links of a node."""

from __future__ import annotations

from collections.abc import Iterable

from crdtbucket.base.address import source_of
from crdtbucket.mesh.links.link import Link


class ReservedPlaces:
    """Assigns the place of each configured address to one link.

    A place belongs to the node that answers when this node dials the address. Until a dial
    succeeds, a call has it that comes from the host which the last dial reached: two nodes without
    room could not admit each other otherwise. What a peer states about itself gives it no place.
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
        """The address whose place a new link has, which replaces `old`: `dialed`, or, of a call
        from this host, one whose place no other link has; "" for none."""
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
        """The links without a place, of these."""
        held = {id(one) for one in self._links.values()}
        return [one for one in links if id(one) not in held]

    def take(self, address: str, link: Link) -> None:
        """The link has the place of this address from now on; none where it is ""."""
        if address:
            self._links[address] = link

    def leave(self, link: Link) -> None:
        """The link has ended."""
        self._links = {one: held for one, held in self._links.items() if held is not link}
