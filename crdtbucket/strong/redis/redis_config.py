"""Settings of strong mode: the Redis that it uses, and how long it waits for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Annotated

from crdtbucket.base.address import REDIS_PORT, SENTINEL_PORT, Address, read_address
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.setting_checks import (
    SecondsRange,
    WholeRange,
    check_kinds,
    field_problems,
    fields_of,
    key_pair_problem,
    section_problem,
)
from crdtbucket.errors import ConfigError, Problem
from crdtbucket.strong.redis.regions import regions_problems
from crdtbucket.strong.redis.url import MAX_SEEDS, RedisTarget, parse_url

_problem = partial(section_problem, "redis")


CREDENTIALS = (
    "rating.bucket_backend.connection.username",
    "rating.bucket_backend.connection.password",
    "rating.bucket_backend.connection.sentinel.password",
)
"""Settings that may change while a limiter works."""


@dataclass(frozen=True)
class RedisConfig:
    """Settings of the shared Redis; checked when made. Its repr shows no secret.

    Where it is stands in `url`, or in `host` and `port`, or in `sentinels` and `sentinel_master`,
    or in `nodes` with `cluster=True`. Spans are seconds. Raises `ConfigError` with every field of
    a wrong type, or else every wrong field.
    """

    url: str | None = field(default=None, repr=False)
    """Address of Redis, [instead of host, port and database](configuration.md#where-redis-is):
    `redis://user:password@host:port/db`, `rediss://` (TLS), `unix:///path?db=0`,
    `redis+sentinel://h1:p1,h2:p2/master/db` or `redis+cluster://h1:p1,h2:p2` (`rediss+...` with
    TLS). In a user or password `/`, `?`, `#` and `@` are percent-encoded."""
    host: str | None = None
    """Name or address of the server, or of a cluster's node."""
    port: Annotated[int, WholeRange(1, 65_535)] = REDIS_PORT
    """Its port."""
    username: str | None = None
    """ACL user; without one the default user."""
    password: str | None = field(default=None, repr=False)
    """The password of that user."""
    db: Annotated[int, WholeRange(0, 99_999)] = 0
    """Database number; a cluster has only 0."""
    tls: bool = False
    """Whether connections are encrypted, and the server proves its identity by a certificate."""
    tls_ca: str | None = None
    """File (PEM) of the authorities that sign the server's certificate; without one the
    system's."""
    tls_cert: str | None = None
    """Certificate file (PEM) that is shown to the server."""
    tls_key: str | None = None
    """Private key file (PEM) of `tls_cert`."""
    sentinel_master: str | None = None
    """The name under which the sentinels know the primary."""
    sentinels: Sequence[str] = ()
    """Sentinels to ask, `host:port`."""
    sentinel_password: str | None = field(default=None, repr=False)
    """The password that the sentinels themselves ask for; `password` is for the servers."""
    cluster: bool = False
    """Whether the servers are a Redis Cluster."""
    nodes: Sequence[str] = ()
    """Nodes of the cluster to ask for the others, `host:port`."""
    hash_secret: str | bytes | None = field(default=None, repr=False)
    """The secret with which bucket keys are hashed; the same for all processes that use this Redis.
    If left out, the `hash_secret` of the mesh is used, and without either [a hash that needs no
    secret](security.md#keys-in-redis)."""
    prefix: str = "crdtbucket:"
    """What the name of every Redis key begins with; the same on all nodes, up to 64 bytes."""
    deadline: Annotated[float, SecondsRange(0.001, 10.0)] = 0.05
    """How long a decision waits for Redis, 0.001 to 10 seconds; after that this node decides, and
    settles with Redis later."""
    connect_timeout: Annotated[float, SecondsRange(0.01, 60.0)] = 1.0
    """How long connecting and logging in may take, 0.01 to 60 seconds."""
    retention: Annotated[float, SecondsRange(60.0, 31_622_400.0)] = 3600.0
    """How long a full key's records stay in Redis, 60 seconds to 366 days; set it longer than the
    longest outage."""
    active_active: bool = False
    """Whether each region has [a Redis of its own](modes.md#a-redis-in-each-region): nodes write
    to that of their region, and it replicates to those of the others (Active-Active). It needs
    `region` and `regions`, and the address is that of the node's own region."""
    regions: Sequence[str] = ()
    """The names of all regions with `active_active`, this node's own among them; the same on all
    nodes, 1 to 16."""

    def __post_init__(self) -> None:
        check_kinds("redis", self)
        problems = [
            *self._text_problems(),
            *self._place_problems(),
            *self._tls_problems(),
            *field_problems("redis", self),
            *regions_problems(self.active_active, self.regions),
        ]
        if problems:
            raise ConfigError(problems)

    @cached_property
    def target(self) -> RedisTarget:
        """The servers and the user, from the URL or from the fields."""
        if self.url is not None:
            found = parse_url(self.url)
            return replace(
                found,
                username=found.username or self.username,
                password=found.password or self.password,
                tls=found.tls or self.tls,
            )
        if self.sentinels:
            addresses = [read_address(one, SENTINEL_PORT) for one in self.sentinels]
        else:
            addresses = [] if self.host is None else [Address(self.host, self.port)]
            addresses += [read_address(one) for one in self.nodes]
        return RedisTarget(
            tuple(addresses), self.username, self.password, self.db, self.tls,
            self.sentinel_master, self.cluster,
        )  # fmt: skip

    @property
    def deadline_ns(self) -> int:
        """`deadline` in nanoseconds."""
        return round(self.deadline * NS_PER_SECOND)

    @property
    def retention_ms(self) -> int:
        """`retention` in milliseconds."""
        return round(self.retention * 1000)

    def _text_problems(self) -> Iterator[Problem]:
        # Values are not repeated where they may be secret: messages end up in logs.
        for name in fields_of(self, str | None):
            value = getattr(self, name)
            if value is not None and not value.strip():
                yield _problem(name, "is empty", "write text, or leave the field out")
        secret = self.hash_secret
        if secret is not None and not secret.strip():
            yield _problem("hash_secret", "is empty", "give one, or leave the field out")
        prefix = self.prefix
        if not prefix.isprintable() or len(prefix.encode()) > 64:
            yield _problem("prefix", f"is {prefix!r}", "write up to 64 bytes of printable text")
        elif "{" in prefix or "}" in prefix:
            fix = "leave braces out: those of the key keep it on one node of a cluster"
            yield _problem("prefix", f"is {prefix!r}", fix)

    def _place_problems(self) -> Iterator[Problem]:
        sentinel, cluster = bool(self.sentinels or self.sentinel_master), self.cluster is True
        if isinstance(self.url, str) and self.url.strip():
            yield from self._url_problems(self.url)
            return
        rules = (
            (self.host is not None and sentinel, "host", "is given beside sentinels",
             "they name the server: leave it out"),
            (sentinel and cluster, "cluster", "is given beside sentinels", "use one of them"),
            (self.sentinels and self.sentinel_master is None, "sentinel_master", "is missing",
             "give the primary's name, as they know it"),
            (self.sentinel_master is not None and not self.sentinels, "sentinels", "are missing",
             'give their addresses, such as "10.0.0.5:26379"'),
            (self.nodes and not cluster, "nodes", "are given, and cluster is False",
             "set cluster=True, or use host"),
            (cluster and self.db, "db", f"is {self.db!r}", "a cluster has only database 0"),
            (self.host is None and not (sentinel or self.nodes), "host", "is missing",
             "give url, host, sentinels or a cluster's nodes"),
        )  # fmt: skip
        yield from (_problem(*problem) for broken, *problem in rules if broken)
        for name in ("sentinels", "nodes"):
            yield from _address_problems(name, getattr(self, name))
        if isinstance(self.host, str) and self.host.count(":") == 1:
            yield _problem("host", "has a port", "give it as port")
        elif isinstance(self.host, str) and self.host.strip():
            try:
                read_address(f"[{self.host}]" if ":" in self.host else self.host)
            except ValueError as error:
                yield _problem("host", str(error), 'write a name or address, "10.0.0.5"')

    def _url_problems(self, url: str) -> Iterator[Problem]:
        defaults = {name: one.default for name, one in type(self).__dataclass_fields__.items()}
        for name in ("host", "port", "db", "sentinel_master", "sentinels", "cluster", "nodes"):
            if getattr(self, name) != defaults[name]:
                yield _problem(name, "is given beside url", "write it in the url, or use no url")
        try:
            found = parse_url(url)
        except ValueError as error:
            yield _problem("url", str(error), "such as redis://10.0.0.5:6379/0")
            return
        for name in ("username", "password"):
            if getattr(found, name) is not None and getattr(self, name) is not None:
                yield _problem(name, "stands in the url too", "give it once")

    def _tls_problems(self) -> Iterator[Problem]:
        yield from key_pair_problem("redis", self.tls_cert, self.tls_key)
        scheme = self.url.partition("://")[0].lower() if isinstance(self.url, str) else ""
        if (self.tls_ca or self.tls_cert) and not (self.tls or scheme.startswith("rediss")):
            fix = "set tls=True, or rediss:// in the url"
            yield _problem("tls", "is off, and certificates are given", fix)
        if self.tls is True and scheme == "unix":
            yield _problem("tls", "is asked for on a unix socket", "leave it out")


def _address_problems(name: str, addresses: Sequence[object]) -> Iterator[Problem]:
    if len(addresses) > MAX_SEEDS:
        yield _problem(name, f"are {len(addresses)}", f"give at most {MAX_SEEDS}")
    for number, one in enumerate(addresses):
        fix = 'write "host:port", such as "10.0.0.5:6379"'
        if not isinstance(one, str):
            yield _problem(f"{name}[{number}]", f"is {one!r}, not text", fix)
            continue
        try:
            read_address(one)
        except ValueError as error:
            yield _problem(f"{name}[{number}]", str(error), fix)  # it may hold a password
