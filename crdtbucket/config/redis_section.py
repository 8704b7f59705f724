"""The sections about Redis, and the `RedisConfig` that they describe; each fault at its place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crdtbucket.config.check import as_keys, report_problem
from crdtbucket.config.section import Section
from crdtbucket.config.source import Source, YamlNode
from crdtbucket.config.values import Addresses, Seconds, SecretText, whole
from crdtbucket.errors import ConfigError, Problem
from crdtbucket.strong.redis.redis_config import RedisConfig


class TlsSection(Section):
    """Encryption towards Redis; `tls: true` alone where the system knows the authority."""

    alone = "enabled"

    enabled: bool = True
    """without `tls` there is no TLS; `tls: true` alone switches it on"""
    ca: str | None = None
    """file (PEM) of the authorities that sign its certificate; without one the system's"""
    cert: str | None = None
    """certificate file (PEM) that this node shows"""
    key: str | None = None
    """private key file (PEM) of `cert`"""


class SentinelSection(Section):
    """The sentinels that know the primary."""

    master: str | None = None
    """the name under which the sentinels know the primary"""
    nodes: Addresses | None = None
    """their addresses: a list, or text with commas"""
    password: SecretText | None = Field(default=None, repr=False)
    """what the sentinels themselves ask for"""


class ConnectionSection(Section):
    """The address of Redis and the way to it; see `RedisConfig`, which checks what goes
    together."""

    settings = RedisConfig

    url: SecretText | None = Field(default=None, repr=False)
    """in place of host, port and database: see [below](#where-redis-is)"""
    host: str | None = None
    """its host"""
    port: Annotated[int, whole("port", 1, 65_535)] | None = None
    """its port"""
    username: str | None = None
    """its user; without one the default user"""
    password: SecretText | None = Field(default=None, repr=False)
    """its password"""
    db: Annotated[int, whole("db", 0, 99_999)] | None = None
    """its database"""
    tls: TlsSection | None = None
    sentinel: SentinelSection | None = None
    cluster: bool | None = None
    """whether it is a Redis Cluster"""
    nodes: Addresses | None = None
    """addresses of some of its nodes: a list, or text with commas"""


class BackendSection(Section):
    """The common store of strong consistency; see `RedisConfig`."""

    settings = RedisConfig

    type: Literal["redis"] = "redis"
    """the common store of strong consistency; there is one kind"""
    connection: ConnectionSection = ConnectionSection()
    prefix: str | None = None
    """begins the name of every Redis key; the same on all nodes"""
    hash_secret: SecretText | None = Field(default=None, repr=False)
    """keys the hash of bucket keys, as `mesh.hash_secret`, which holds where this is left out"""
    deadline: Seconds | None = None
    """how long a decision waits for Redis; then it is made here and settled later"""
    connect_timeout: Seconds | None = None
    """how long connecting may take"""
    retention: Seconds | None = None
    """how long a full key stays in Redis: longer than the longest outage"""
    active_active: bool | None = None
    """whether each region has a Redis of its own, which replicates to the others: see
    [a Redis in each region](modes.md#a-redis-in-each-region). It needs `region` and `regions`, and
    the address of this region's Redis"""
    regions: Addresses | None = None
    """with `active_active`: the names of all regions, the own one among them: a list, or text with
    commas"""


# Fields of `RedisConfig` whose keys in a file are called otherwise, below `connection`.
_KEYS = {
    "tls_ca": "tls.ca",
    "tls_cert": "tls.cert",
    "tls_key": "tls.key",
    "sentinel_master": "sentinel.master",
    "sentinel_password": "sentinel.password",
    "sentinels": "sentinel.nodes",
}


def redis_key(field: str) -> str:
    """What a file calls a field of `RedisConfig`, below its `bucket_backend`."""
    return (
        field if field in BackendSection.model_fields else f"connection.{_KEYS.get(field, field)}"
    )


def redis_config(backend: BackendSection, node: YamlNode, source: Source) -> RedisConfig | None:
    """What `node`, a `bucket_backend`, describes; None without an address, and for faults."""
    connection = backend.connection
    tls, sentinel = connection.tls, connection.sentinel
    fields = {
        **backend.model_dump(exclude={"type", "connection"}, exclude_none=True),
        **connection.model_dump(exclude={"tls", "sentinel"}, exclude_none=True),
    }
    if tls is not None:
        fields |= {"tls": tls.enabled, "tls_ca": tls.ca, "tls_cert": tls.cert, "tls_key": tls.key}
    if sentinel is not None:
        fields |= {"sentinel_master": sentinel.master, "sentinels": sentinel.nodes or ()}
        fields |= {"sentinel_password": sentinel.password}
    addressed = any(
        fields.get(key) for key in ("url", "host", "nodes", "sentinels", "sentinel_master")
    )
    try:
        # A blank address is a file that still waits for its own; the rest of it is checked.
        config = RedisConfig(**fields if addressed else {**fields, "host": "blank"})
    except ConfigError as error:
        for problem in error.problems:
            _report(problem, node, source)
        return None
    return config if addressed else None


def _report(problem: Problem, node: YamlNode, source: Source) -> None:
    field, bracket, rest = problem.path.removeprefix("redis.").partition("[")
    key = _KEYS.get(field, field) + bracket + rest
    inner = node if field in BackendSection.model_fields else node.find(("connection",))[0]
    report_problem(problem, key, inner, source, _as_keys)


def _as_keys(text: str) -> str:
    return as_keys(text, _KEYS).replace("=True", ": true")
