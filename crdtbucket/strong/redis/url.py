"""Reads the URL of a Redis: `redis://`, `rediss://`, `unix://`, `+sentinel`, `+cluster`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from crdtbucket.base.address import REDIS_PORT, SENTINEL_PORT, Address, read_address

MAX_SEEDS = 64
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster",
            "rediss+cluster")  # fmt: skip


@dataclass(frozen=True)
class RedisTarget:
    """The servers to ask, and the user to log in as. Its repr shows no secret."""

    addresses: tuple[Address, ...]
    """The server itself; the sentinels where `master` is set; nodes to ask where `cluster` is."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: bool = False
    master: str | None = None
    cluster: bool = False


def parse_url(url: str) -> RedisTarget:
    """What a URL says. `ValueError` says what is wrong, without a word of the URL but its scheme.

    Forms: redis://user:password@host:port/db, unix://user:password@/path?db=0,
    redis+sentinel://user:password@h1:p1,h2:p2/master/db, redis+cluster://h1:p1,h2:p2;
    "rediss" in place of "redis" asks for TLS.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ValueError(f"has no scheme that is known here ({known})")
    # Several hosts are no host to newer Pythons, which refuse an IPv6 address among them.
    after = url.partition("://")[2]
    netloc = re.split("[/?#]", after, maxsplit=1)[0]
    parts = urlsplit(f"{scheme}://{after[len(netloc) :]}")
    if parts.fragment or "@" in parts.path + parts.query:
        raise ValueError("has a user or password with one of / ? # @: write %2F %3F %23 %40")
    username, password, hosts = _credentials(netloc)
    path = unquote(parts.path)
    if scheme == "unix":
        if hosts or not path:
            raise ValueError("names no socket: write unix:///run/redis.sock")
        return RedisTarget((Address(path=path),), username, password, _db(parts, ""))
    kind = scheme.partition("+")[2]
    addresses = _addresses(hosts, SENTINEL_PORT if kind == "sentinel" else REDIS_PORT)
    if not kind and len(addresses) > 1:
        raise ValueError("names several hosts: write redis+cluster:// or redis+sentinel://")
    master, number = None, path.strip("/")
    if kind == "sentinel":
        master, _, number = number.partition("/")
        if not master:
            raise ValueError("names no master: write redis+sentinel://host:port/master/db")
    db = _db(parts, number)
    if kind == "cluster" and db:
        raise ValueError("names a database, and a cluster has but 0")
    tls = scheme.startswith("rediss")
    return RedisTarget(addresses, username, password, db, tls, master, kind == "cluster")


def _credentials(netloc: str) -> tuple[str | None, str | None, str]:
    who, at, hosts = netloc.rpartition("@")
    if "@" in who:
        raise ValueError("has a user or password with one of / ? # @: write %2F %3F %23 %40")
    username, colon, password = who.partition(":")
    if at and username and not colon:
        raise ValueError("has a user and no password: write user:password@, or :password@")
    return unquote(username) or None, unquote(password) or None, hosts


def _addresses(hosts: str, default_port: int) -> tuple[Address, ...]:
    if not hosts:
        raise ValueError("has no host name")
    texts = hosts.split(",")
    if len(texts) > MAX_SEEDS:
        raise ValueError(f"has more than {MAX_SEEDS} hosts")
    return tuple(read_address(text, default_port) for text in texts)


def _db(parts: SplitResult, number: str) -> int:
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name != "db" or number:
            raise ValueError("has options after ?, which are fields here: deadline, tls_ca ...")
        number = value
    if not number:
        return 0
    if not (number.isascii() and number.isdigit() and len(number) < 6):
        raise ValueError("ends in no database number: write redis://host:port/0")
    return int(number)
