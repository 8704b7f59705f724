"""Credentials, TLS and client name for connections to Redis."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field

from crdtbucket.errors import ConfigError, Problem
from crdtbucket.strong.redis.redis_config import RedisConfig

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
    """The TLS context of connections, None without TLS. It reads files, so it is made only once.

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
        try:
            context.load_verify_locations(cafile=config.tls_ca)
        except (OSError, ssl.SSLError) as error:
            raise _cannot_load("tls_ca", error, "a PEM file of the server's authority") from error
    if config.tls_cert is not None and config.tls_key is not None:
        try:
            # A password given here, even an empty one, keeps OpenSSL from asking on the terminal.
            context.load_cert_chain(config.tls_cert, config.tls_key, password="")
        except (OSError, ssl.SSLError) as error:
            fix = "a PEM certificate and, as tls_key, its unencrypted private key"
            raise _cannot_load("tls_cert", error, fix) from error
    return context


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


def _cannot_load(name: str, error: Exception, fix: str) -> ConfigError:
    problem = Problem(f"cannot be loaded ({error})", f"give {fix}", path=f"redis.{name}")
    return ConfigError([problem])
