"""A request as rules see it, the same in every framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from crdtbucket.http.client_address import Network, client_address, key_of_peer


class Request(ABC):
    """A request as the callables of a rule see it. Each framework has its own subclass.

    Its values are read from the framework's own request only when they are asked for, because most
    rules need only the address.
    """

    __slots__ = ("_trusted", "native")

    def __init__(self, native: Any, trusted: tuple[str | Network, ...] = ()) -> None:
        """`native`: the framework's own. `trusted`: the proxies, checked by `check_trusted`."""
        self.native = native
        """The framework's own: an ASGI scope, a WSGI environ or an aiohttp request."""
        self._trusted = trusted

    @property
    @abstractmethod
    def method(self) -> str:
        """The method of the request, in capitals; "GET" for a WebSocket."""

    @property
    @abstractmethod
    def path(self) -> str:
        """The decoded path of the request, from the server's root."""

    @property
    @abstractmethod
    def peer(self) -> str | None:
        """The other end's address as the server gives it, None or "" when it has none."""

    @property
    def websocket(self) -> bool:
        """Whether the request opens a WebSocket."""
        return False

    @abstractmethod
    def _values(self, name: str) -> Sequence[str]:
        """All values of a header field by its lower-case name."""

    @property
    def address(self) -> str:
        """The client's address, as `client_address` finds it with the trusted proxies."""
        peer, trusted = self.peer, self._trusted
        if not trusted:
            key = key_of_peer(peer)
            return client_address(peer, None, ()) if key is None else key
        return client_address(peer, self._values("x-forwarded-for"), trusted)

    def header(self, name: str) -> str | None:
        """The value of a header field in any case, None without one; of several, joined by ", ".
        Bytes that are not UTF-8 may be written as "\\xff".

        The client can write anything into it: a key made from it limits nobody unless it was
        verified.
        """
        values = self._values(name.lower())
        if not values:
            return None
        text = ", ".join(values)
        if text.isascii():
            return text
        # aiohttp keeps bytes that are not UTF-8 in a form that no key may have.
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method} {self.path!r} from {self.peer!r})"


def by_address(request: Request) -> str:
    """A rule's key unless another is given: the client's address, IPv6 by its /64."""
    return request.address
