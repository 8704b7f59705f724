"""The interface of a message engine: what a mesh needs of it, and the events that it reports."""

from __future__ import annotations

from typing import Protocol

RIGHTS_FIX = "print the rules with `crdtbucket mesh permissions`"
"""The advice for an engine that does not let a node publish or subscribe."""


class EngineListener(Protocol):
    """Called on the event loop by an engine that runs."""

    def engine_up(self, server: str) -> None:
        """The engine is connected with this server (a text for people), and subscribed."""

    def engine_down(self, why: str) -> None:
        """The engine is not connected any more, or an attempt to connect has failed."""

    def arrived(self, sender: str, data: bytes) -> None:
        """A message to this node, in the subject of that sender."""

    def announced(self, sender: str, data: bytes) -> None:
        """An announcement, in the subject of that sender."""

    def nobody(self, name: str) -> None:
        """The engine says that no node of this name is subscribed, as far as it can see."""


class Engine(Protocol):
    """A client of a message engine that connects again for ever. It drops messages while it is not
    connected, and those that the server does not accept."""

    kind: str
    """The kind of the engine, as in `mesh.transport`."""

    @property
    def place(self) -> str:
        """The name of the server that it is connected with, which is the same for every client; ""
        without a connection."""

    def start(self, listener: EngineListener) -> None:
        """Begins to connect; `listener` is called when that succeeds, and when it fails."""

    async def publish(self, to: str, data: bytes, *, asks: bool) -> bool:
        """Sends `data` to a node. Returns whether it has left. `asks`: the engine is to report it
        when no node listens there (`nobody`). Raises nothing."""

    async def announce(self, data: bytes) -> None:
        """Sends `data` to all nodes, this one left out. Raises nothing."""

    async def verify(self) -> str:
        """The reason why the engine cannot be used: a right that this node lacks, or a message size
        that is too small; "" if nothing is wrong. To be called while it is connected."""

    async def stop(self) -> None:
        """Sends what was published before, and ends."""
