"""Addresses: a host and a port, or the path of a Unix socket."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - else the first address would import it, perhaps in a loop
import ipaddress
import os
import ssl
from dataclasses import dataclass

REDIS_PORT = 6379
SENTINEL_PORT = 26379
MOST_CHARACTERS = 200
"""Most characters in the address of a node: frames take no longer one."""
_DATED = {
    9: "correct the clock of this host, or of the one that issued it",
    10: "renew it there, or correct the clock of this host",
}
"""What to do about a certificate that is not valid yet, or no longer, by the numbers of OpenSSL."""


@dataclass(frozen=True)
class Address:
    """A TCP port of a host, or a Unix socket where `path` is set. str() is what people read."""

    host: str = ""
    port: int = REDIS_PORT
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str, default_port: int = REDIS_PORT) -> Address:
    """The address "host", "host:port" or "[ipv6]:port". `ValueError` says what is wrong.

    Nothing of `text` stands in the message: it may be a part of a mistyped URL.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or not is_literal(host):
            raise ValueError("has something in brackets that is no IPv6 address")
    elif ":" in host:
        raise ValueError("has an IPv6 host without brackets")
    if not host or any(c.isspace() or not c.isprintable() or c in "/@[]?#" for c in host):
        raise ValueError("has no host name or address")
    try:
        host.encode("idna")
    except UnicodeError as error:  # which a connection would raise in place of an `OSError`
        raise ValueError("has a name with an empty part, or one of over 63 characters") from error
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise ValueError("has no port from 1 to 65535")
    return Address(host, int(port))


def why_unreachable(error: OSError) -> str:
    """Why an address could not be connected with, in the words of the system, not of asyncio."""
    if error.errno is not None and error.errno > 0:  # names that do not resolve have other numbers
        return os.strerror(error.errno)
    return error.strerror or str(error)


def why_distrusted(error: ssl.SSLCertVerificationError, fix: str) -> str:
    """Why a certificate was not accepted, in the words of OpenSSL, and what to do: `fix`, unless
    its dates are the reason."""
    return (
        f"(certificate verify failed: {error.verify_message}): {_DATED.get(error.verify_code, fix)}"
    )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[ipv6]:port"; `ValueError` says what is wrong."""
    if not isinstance(address, str):
        raise ValueError(f"is {address!r}, not text")
    if len(address) > MOST_CHARACTERS:
        raise ValueError(f"has {len(address)} characters, of which at most {MOST_CHARACTERS} fit")
    if "://" in address:
        raise ValueError(f"is {address!r}, which is a URL")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        missing = "host" if address.isdigit() else "port"
        raise ValueError(f"is {address!r}, which has no {missing}")
    if int(port) > 65_535:
        raise ValueError(f"is {address!r}, whose port is above 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"is {address!r}; an IPv6 host stands in brackets")
    if not host or any(c.isspace() or not c.isprintable() or c in "/@" for c in host):
        raise ValueError(f"is {address!r}, which has no host name or address")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only, judged without asking DNS."""
    found = ip_address_of(host)
    # Another name may resolve to anything.
    return host == "localhost" or (found is not None and found.is_loopback)


def is_literal(host: str) -> bool:
    """Whether `host` is an address itself, and no name that may lead to several."""
    return ip_address_of(host) is not None


def source_of(host: str) -> str:
    """The source that limits of connections count: an IPv4 address, or the /64 network of an IPv6
    address."""
    address = ip_address_of(host)
    return host if address is None else household(address)


def ip_address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is, None where it is a name. A socket of both families shows
    10.0.0.1 as ::ffff:10.0.0.1: that is the IPv4 address."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found


def household(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An IPv4 address, or the /64 network of an IPv6 address: a household gets one at least, and by
    single addresses it would count as 2^64."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False))
