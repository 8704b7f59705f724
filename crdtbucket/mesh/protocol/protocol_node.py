"""The interface between the network and the protocol machine of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from crdtbucket.errors import NodeConflict
from crdtbucket.mesh.node_info import NodeInfo

Frames = list[tuple[str, bytes]]
"""Names of peers, and what to send to each."""
Waker = Callable[[], None]
"""A callback for the moment when `next_tick` of a node has moved earlier, from any thread."""


class ProtocolNode(Protocol):
    """The methods of a node that a transport calls. Times are absolute ns of the clock that both
    share."""

    def set_waker(self, wake: Waker | None) -> None:
        """From now on `wake` is called; None: nobody is."""

    @property
    def info(self) -> NodeInfo:
        """The record of this node, as of now."""

    def connected(self, peer: NodeInfo, now: int) -> None:
        """A link to `peer` is up; raises `NodeConflict`, or `WireError` for want of room, to refuse
        it."""

    def disconnected(self, name: str, now: int, *, ended: bool) -> None:
        """The link to this peer is gone. `ended`: the peer's side closed or reset the connection;
        False when it fell silent, or broke a rule, and this side closed it."""

    def dial_failed(self, name: str, address: str, now: int, *, refused: bool) -> None:
        """A dial of `address` made no link. `name`: of the node last met there, "" for none.
        `refused`: the host refused it or closed it at once, or another node answers there; False
        when nobody answered in time, or when the answer does not say that the node is gone."""

    def parts(self, name: str, frame: bytes, now: int) -> Iterator[tuple[Frames, bool]]:
        """A frame came from the authenticated peer `name`. Each step takes in a part of it and
        gives (frames to send, whether more of it follows). Between two steps no other frame of
        this peer may be taken in. A frame whose parts are given up is not acknowledged, so the
        peer sends its entries again. Raises `WireError`."""

    def observe(self, data: bytes, now: int, *, writes: bool) -> bytes:
        """A frame came from an observer; returns the one answer to it. Raises `WireError`."""

    def tick(self, now: int) -> Frames:
        """Frames to send at this time."""

    def next_tick(self, now: int) -> int:
        """When `tick` is to be called next."""

    def duplicate_name(self, peer: NodeInfo, me: NodeInfo) -> NodeConflict:
        """Another process runs under this node's name; one of the two refuses to serve. `me`: how
        this node introduced itself to it."""

    def name_reported(self, conflict: NodeConflict) -> None:
        """A peer says that another process has this node's name."""

    def leave(self, now: int) -> Iterator[Frames]:
        """The last frames to send, in parts: all that is not acknowledged, and goodbye."""

    def known_addresses(self) -> list[str]:
        """Addresses of members, as gossip has them."""
