"""Checks the name by which a request addresses the server, so that no web page can read from it
through somebody's browser.

A page of a foreign site can make its own name resolve to 127.0.0.1 (DNS rebinding). The browser
then lets it read whatever this server answers, and sends the page's name in `Host`. And any page
may send requests elsewhere, with its own address in `Origin`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from aiohttp import web

from crdtbucket.base.address import ip_address_of, is_literal, split_address
from crdtbucket.errors import InvalidSpec
from crdtbucket.http.server.refusal import Refusal

ANY = "*"
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_EVERYWHERE = frozenset(("", "0.0.0.0", "::"))
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]*)?", re.ASCII)
_SHOWN = 100
KNOWN = 64


class Hosts:
    """The names by which a server may be asked."""

    def __init__(self, listen: Iterable[str], allowed: Iterable[str] = ()) -> None:
        """`listen`: its addresses, "host:port" or "unix:/path". `allowed`: further names, or "*"
        for any. Raises `InvalidSpec`."""
        bound = {_host_of(one) for one in listen if not one.startswith("unix:")}
        self._named = frozenset(_configured(name) for name in allowed)
        self._own = LOOPBACK | {_plain(host) for host in bound - _EVERYWHERE} | self._named
        self._known: set[str] = set()
        """Values of `Host` that have passed the check before."""
        self._addresses = not bound.isdisjoint(_EVERYWHERE)

    def check(self, request: web.BaseRequest, *, forwarded: bool = False) -> None:
        """Raises `Refusal` for a request that was made to another name, or by a foreign page.

        `forwarded`: a proxy describes the request of its client; so `Origin` is the client's.
        """
        headers = request.headers
        hosts = headers.getall("Host", [])
        if len(hosts) == 1 and hosts[0] in self._known and (forwarded or "Origin" not in headers):
            return
        if ANY in self._named or _by_unix_socket(request):
            return
        host = self._host(hosts)
        if host and len(self._known) < KNOWN:
            self._known.add(hosts[0])
        for origin in () if forwarded else headers.getall("Origin", []):
            self._check_origin(origin, hosts[0] if host else "")

    def _host(self, hosts: Sequence[str]) -> str:
        """The one name; "" without one, which no browser leaves out."""
        if not hosts:
            return ""
        found = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
        host = "" if found is None else _plain(found[1])
        # An address cannot be rebound to another host, as a name can.
        if host in self._own or (self._addresses and is_literal(host)):
            return host
        raise Refusal(
            403,
            f"this server is not asked by the name {', '.join(hosts)[:_SHOWN]!r}: if it is the "
            "server's, start it with --allow-host and that name",
        )

    def _check_origin(self, origin: str, authority: str) -> None:
        scheme, separator, asker = origin.partition("://")
        found = _AUTHORITY.fullmatch(asker)
        by_web = separator and scheme in ("http", "https")
        if (
            by_web
            and found is not None
            and (asker.lower() == authority.lower() or _plain(found[1]) in self._named)
        ):
            return
        raise Refusal(
            403,
            f"pages of {origin[:_SHOWN]!r} may not ask this server: if they should, start it with "
            "--allow-host and their host name",
        )


def _host_of(address: str) -> str:
    """The host of an address; a wrong address is reported by whoever listens on it."""
    try:
        return split_address(address)[0]
    except ValueError:
        return "localhost"


def _plain(host: str) -> str:
    """A host as it is compared: no brackets, in lower case, an address in its shortest form."""
    host = host.strip("[]").rstrip(".").lower()
    return str(ip_address_of(host) or host)


def _configured(name: str) -> str:
    if name == ANY:
        return name
    if not (is_literal(name.strip("[]")) or (":" not in name and _AUTHORITY.fullmatch(name))):
        fix = 'write a host name or an address without a port, or "*" for any'
        raise InvalidSpec(f"{name[:_SHOWN]!r} is no name of a host", fix, "allowed_hosts")
    return _plain(name)


def _by_unix_socket(request: web.BaseRequest) -> bool:
    """Whether a request came over a Unix socket, which no browser and so no page can use."""
    transport = request.transport
    return transport is not None and isinstance(transport.get_extra_info("sockname"), (str, bytes))
