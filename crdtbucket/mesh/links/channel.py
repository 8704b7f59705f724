"""The interfaces of a carrier: its transport finds the peers of a node, and makes a channel to
each, which sends and receives messages, and says why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crdtbucket.mesh.links.unreached import PeerSource

CLOSE_S = 1.0
"""Seconds for which an end that closes waits for the other one."""


class ChannelLost(Exception):
    """The channel ended, broke, or was not made; the text says how."""

    def __init__(self, text: str, *, by_peer: bool = True) -> None:
        """`by_peer`: the peer's side ended or refused it; False when nothing came back from the
        peer, or when the error does not show that the peer is gone."""
        super().__init__(text)
        self.by_peer = by_peer


class Oversize(ChannelLost):
    """The peer sent a message above the limit."""

    def __init__(self, text: str) -> None:
        super().__init__(text, by_peer=False)


class Channel(Protocol):
    """Carries whole messages, in order. The carrier is not trusted: links seal what it carries."""

    lossy: bool
    """Whether messages may be lost on the way; links number them in that case."""
    peer_name: str
    """The name of the node that is at the other end according to the carrier, which the handshake
    must prove; "": the carrier does not know."""

    @property
    def remote(self) -> str:
        """The host at the other end, perhaps by the name that was called; "" where the carrier has
        none."""

    @property
    def source(self) -> str:
        """The address of that host, by which links are counted: see `source_of`."""

    @property
    def certified(self) -> bool:
        """Whether the carrier itself has proved that the other end belongs to the mesh."""

    @property
    def certified_names(self) -> tuple[str, ...]:
        """The names (DNS) in the certificate of the other end, if the carrier has checked one."""

    async def send(self, data: bytes) -> None:
        """Sends a message; waits while the other end takes nothing. Raises `ChannelLost`."""

    async def receive(self) -> bytes:
        """The next message. Raises `ChannelLost`, `Oversize`, and `WireError` for something else
        than a message."""

    async def close(self) -> None:
        """Closes the channel in an orderly way if the other end answers soon, else at once."""

    def abort(self) -> None:
        """Ends it at once; `receive` then raises."""


class Transport(Protocol):
    """Finds peers and makes channels to them. When a peer dials this node, the connection becomes a
    link, which the transport gives to its `MeshEndpoint`."""

    @property
    def address(self) -> str:
        """Where others find this node, once started; ":port" when only they can see the host."""

    async def start(self) -> None:
        """Begins to take calls, and to look for peers. Raises `MeshError` when it cannot."""

    def sources(self) -> list[PeerSource]:
        """Each entry of `mesh.peers`, with the addresses of other nodes that it stands for now.
        From any thread."""

    def wanted(self, known: Sequence[str]) -> list[str]:
        """The addresses to dial, each once and the own one left out: those that it has found, and
        those that members gave (`known`)."""

    def may_dial(self, address: str) -> bool:
        """Whether this address is to be dialled; if not, that is counted and logged here."""

    def first_pause(self, address: str) -> float:
        """Seconds before the first dial of a new address, as its node may dial this one
        meanwhile."""

    async def ready(self) -> None:
        """Returns as soon as a dial may succeed, as far as this node knows."""

    async def connect(self, address: str) -> Channel:
        """A channel to what is at this address. Raises `ChannelLost`, and `WireError` where
        something answers that is no node."""

    async def refuse_new(self) -> None:
        """Accepts no more calls."""

    async def stop(self) -> None:
        """Ends all that is left at once; links and dials were ended before."""
