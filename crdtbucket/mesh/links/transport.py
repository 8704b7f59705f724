"""The interface of a carrier: it finds the peers of a node, and makes links with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Transport(Protocol):
    """Finds peers and makes links with them, which it gives to a `MeshEndpoint`."""

    @property
    def address(self) -> str:
        """Where others find this node, once started; ":port" when only they can see the host."""
        ...

    async def start(self) -> None:
        """Begins to take calls, and to dial. Raises `MeshError` when it cannot."""
        ...

    def aim(self, known: Sequence[str]) -> None:
        """Dials these addresses from now on, which members gave, and those that it finds itself."""
        ...

    def lost(self, name: str) -> None:
        """The link to this node has ended: it is dialled again."""
        ...

    async def refuse_new(self) -> None:
        """Accepts no more calls, and begins no more dials."""
        ...

    async def cease(self) -> None:
        """Dials nobody any more. A peer that has our proof gets a second to answer it."""
        ...

    async def stop(self) -> None:
        """Ends all that is left at once; links were closed before."""
        ...
