"""A request as rules see it, the same in every framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crdtbucket.http.fields import Network, client_address


class Request:
    """What the callables of a rule are given.

    method: in capitals; "GET" for a WebSocket. path: decoded, from the server's root. peer: the
    other end's address as the server tells it, None or "" when it has none. websocket: whether it
    opens one. native: the framework's own, an ASGI scope, a WSGI environ or an aiohttp request.
    """

    __slots__ = ("_headers", "_trusted", "method", "native", "path", "peer", "websocket")

    def __init__(
        self,
        native: Any,
        *,
        method: str,
        path: str,
        peer: str | None,
        headers: Callable[[str], Sequence[str]],
        trusted: tuple[str | Network, ...] = (),
        websocket: bool = False,
    ) -> None:
        """`headers`: all values of a field by its lower-case name."""
        self.native = native
        self.method = method
        self.path = path
        self.peer = peer
        self.websocket = websocket
        self._headers = headers
        self._trusted = trusted

    @property
    def address(self) -> str:
        """The client's address, as `client_address` finds it with the trusted proxies."""
        forwarded = self._headers("x-forwarded-for") if self._trusted else None
        return client_address(self.peer, forwarded, self._trusted)

    def header(self, name: str) -> str | None:
        """The value of a header field in any case, None without one; of several, joined by ", ".

        It is what the client wrote: a key made of it limits nobody unless it was verified.
        """
        values = self._headers(name.lower())
        return ", ".join(values) if values else None

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path!r} from {self.peer!r})"


def by_address(request: Request) -> str:
    """A rule's key unless it says another: the client's address, IPv6 by its /64."""
    return request.address


__all__ = ["Request", "by_address"]
