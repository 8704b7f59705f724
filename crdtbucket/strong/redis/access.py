"""Makes the credentials and the TLS context for connections to Redis and its sentinels from the
settings."""

from __future__ import annotations

import logging
import re
import ssl
from dataclasses import dataclass, field
from functools import partial

from crdtbucket.base.loaded_files import (
    LoadedFiles,
    TlsFiles,
    load_authorities,
    load_key_pair,
)
from crdtbucket.errors import ConfigError, Problem
from crdtbucket.strong.redis.redis_config import RedisConfig

LOG = logging.getLogger("crdtbucket.strong")
CLIENT_NAME = "crdtbucket"


@dataclass(frozen=True)
class Access:
    """Credentials and TLS settings for one server. Its repr shows no secret."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    client_name: str = CLIENT_NAME


def tls_context(config: RedisConfig) -> ssl.SSLContext | None:
    """The TLS context of connections, None without TLS. It reads files.

    The server's certificate must be signed by `tls_ca`, without it by the system's authorities,
    and be of the host called. Raises `ConfigError` for a file that fails.
    """
    if not config.target.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.tls_ca is None:
        context.load_default_certs()
    else:
        authorities = repr(config.tls_ca)
        signed = "the server's certificate"
        load_authorities(context, config.tls_ca, authorities, signed, partial(_wrong, "tls_ca"))
    cert, key = config.tls_cert, config.tls_key
    if cert is not None and key is not None:
        pair = f"{cert!r} with tls_key {key!r}"
        load_key_pair(context, cert, key, pair, partial(_wrong, "tls_cert"))
    return context


def followed_tls(config: RedisConfig) -> TlsFiles:
    """The same, followed as the files change. Raises `ConfigError` for a file that fails."""
    files = [one for one in (config.tls_ca, config.tls_cert, config.tls_key) if one is not None]
    return LoadedFiles(files, partial(tls_context, config), LOG)


def server_access(
    config: RedisConfig, tls: ssl.SSLContext | None, client_name: str = CLIENT_NAME
) -> Access:
    """The credentials for the servers that hold the data. `tls`: from `tls_context`."""
    target = config.target
    # Redis takes printable ASCII only, and no spaces.
    name = re.sub("[^!-~]", "-", client_name)
    return Access(target.username, target.password, target.db, tls, name)


def sentinel_access(config: RedisConfig, tls: ssl.SSLContext | None) -> Access:
    """The credentials for the sentinels, which have a password of their own, or none."""
    return Access(password=config.sentinel_password, tls=tls)


def _wrong(name: str, message: str) -> ConfigError:
    return ConfigError([Problem(message, path=f"redis.{name}")])
