"""The sections about Redis, and the `RedisConfig` that they describe; each fault at its place."""

from __future__ import annotations

from typing import Literal

from crdtbucket.config.check import as_keys, report_problem
from crdtbucket.config.section import Section
from crdtbucket.config.settings_section import file_keys, given, keys_of
from crdtbucket.config.source import Source, YamlNode
from crdtbucket.errors import ConfigError, Problem
from crdtbucket.strong.redis.redis_config import RedisConfig


@keys_of(RedisConfig, enabled="tls", ca="tls_ca", cert="tls_cert", key="tls_key")
class TlsSection(Section):
    """Encryption towards Redis; `tls: true` alone where the system knows the authority."""

    alone = "enabled"

    enabled: bool = True
    """whether the connection is encrypted. Without a section `tls` it is not; `tls: true` alone
    switches it on"""


@keys_of(RedisConfig, master="sentinel_master", nodes="sentinels", password="sentinel_password")
class SentinelSection(Section):
    """The sentinels that know the primary."""


@keys_of(RedisConfig, "url", "host", "port", "username", "password", "db", "cluster", "nodes")
class ConnectionSection(Section):
    """The address of Redis and the way to it; see `RedisConfig`, which checks what goes
    together."""

    tls: TlsSection | None = None
    sentinel: SentinelSection | None = None


@keys_of(RedisConfig)
class BackendSection(Section):
    """The common store of strong consistency; see `RedisConfig`."""

    type: Literal["redis"] = "redis"
    """the common store of strong consistency; there is one kind"""
    connection: ConnectionSection = ConnectionSection()


REDIS_KEYS = file_keys(BackendSection)
"""What a file calls the fields of `RedisConfig`, below its `bucket_backend`."""
_KEYS = file_keys(ConnectionSection)


def redis_config(backend: BackendSection, node: YamlNode, source: Source) -> RedisConfig | None:
    """The settings that `node`, a `bucket_backend`, describes; None if it names no address, or if
    it has faults, which are then in `source`."""
    fields = given(backend)
    addressed = any(
        fields.get(key) for key in ("url", "host", "nodes", "sentinels", "sentinel_master")
    )
    try:
        # A blank address means that it is still to be filled in; the rest of the section is
        # checked.
        config = RedisConfig(**fields if addressed else {**fields, "host": "blank"})
    except ConfigError as error:
        for problem in error.problems:
            _report(problem, node, source)
        return None
    return config if addressed else None


def _report(problem: Problem, node: YamlNode, source: Source) -> None:
    field, bracket, rest = problem.path.removeprefix("redis.").partition("[")
    inner = node.find(("connection",))[0] if field in _KEYS else node
    report_problem(problem, _KEYS.get(field, field) + bracket + rest, inner, source, _as_keys)


def _as_keys(text: str) -> str:
    return as_keys(text, _KEYS).replace("=True", ": true")
