"""The engine that a configuration names, with its credentials and its TLS."""

from __future__ import annotations

import random

from crdtbucket.base.loaded_files import LoadedFiles, TlsFiles
from crdtbucket.errors import MeshError
from crdtbucket.mesh.engines.engine import Engine
from crdtbucket.mesh.engines.subjects import Subjects
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.mesh_tls import engine_context, followed
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.strong.redis.redis_config import RedisConfig

INSTALL = "pip install 'crdtbucket[nats]'"


def subjects_of(config: MeshConfig, node: str) -> Subjects:
    """The subjects of a node of this mesh."""
    return Subjects(config.subject_prefix, config.mesh_name, node)


def load_engine(config: MeshConfig) -> None:
    """Imports the client of the engine. Raises `MeshError` when it is not installed."""
    if config.transport == "redis":
        import crdtbucket.mesh.engines.redis_engine

        return
    try:
        import crdtbucket.mesh.engines.nats_engine  # noqa: F401 - engine_of uses it
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("nats", "nkeys"):
            raise
        raise MeshError(f"mesh.transport: nats needs the package nats-py: {INSTALL}") from error


def engine_of(config: MeshConfig, node: str, rng: random.Random) -> Engine:
    """The engine for a node. Raises `MeshError` for what is not installed, and for files of TLS
    that cannot be used."""
    load_engine(config)
    subjects = subjects_of(config, node)
    if config.transport == "redis":
        from crdtbucket.mesh.engines.redis_engine import RedisEngine

        return RedisEngine(_redis(config), _client_tls(config, "rediss"), subjects, rng)
    from crdtbucket.mesh.engines.nats_engine import NatsEngine

    return NatsEngine(
        config.servers,
        subjects,
        rng,
        credentials=config.credentials,
        tls=_client_tls(config, "tls"),
    )


def _redis(config: MeshConfig) -> RedisConfig:
    user, colon, password = (config.credentials or "").strip().rpartition(":")
    return RedisConfig(
        url=config.servers[0], username=user if colon else None, password=password or None
    )


def _client_tls(config: MeshConfig, scheme: str) -> TlsFiles:
    """The TLS settings for calling the engine. Raises `MeshError`."""
    if not any(server.startswith(f"{scheme}://") for server in config.servers):
        return LoadedFiles((), lambda: None, LOG)
    return followed(config, engine_context)
