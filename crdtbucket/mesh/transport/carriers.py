"""Chooses the transport that a configuration asks for; each is imported only where it is used."""

from __future__ import annotations

import random
from typing import Protocol

from crdtbucket.mesh.links.channel import Transport
from crdtbucket.mesh.links.handshake import MeshEndpoint
from crdtbucket.mesh.mesh_config import MeshConfig


class TransportFactory(Protocol):
    """Makes the transport of a node."""

    def __call__(self, host: MeshEndpoint, config: MeshConfig, rng: random.Random, /) -> Transport:
        """Raises `MeshError` for settings that cannot be used."""


def carrier_of(config: MeshConfig) -> TransportFactory:
    """The factory for the transports of this configuration. All modules that it needs are imported
    now, as a process that takes over from one that has ended should not lose time. Raises
    `MeshError` for a package that is not installed."""
    if config.transport == "sockets":
        from crdtbucket.mesh.sockets.socket_transport import SocketTransport

        return SocketTransport
    from crdtbucket.mesh.engines.engine_transport import EngineTransport
    from crdtbucket.mesh.engines.engines import engine_of, load_engine

    load_engine(config)

    def over_engine(host: MeshEndpoint, config: MeshConfig, rng: random.Random) -> Transport:
        return EngineTransport(host, config, engine_of(config, host.name, rng))

    return over_engine
