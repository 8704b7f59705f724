"""Which transport a configuration asks for; each is imported only where it is used."""

from __future__ import annotations

import random

from crdtbucket.mesh.links.handshake import MeshEndpoint
from crdtbucket.mesh.links.transport import Transport
from crdtbucket.mesh.mesh_config import MeshConfig


def transport_of(host: MeshEndpoint, config: MeshConfig, rng: random.Random) -> Transport:
    """The transport of a node. Raises `MeshError` for settings that cannot be used."""
    if config.transport == "sockets":
        from crdtbucket.mesh.sockets.socket_transport import SocketTransport

        return SocketTransport(host, config, rng)
    from crdtbucket.mesh.engines.engine_transport import EngineTransport
    from crdtbucket.mesh.engines.engines import engine_of

    return EngineTransport(host, config, rng, engine_of(config, host.name, rng))


__all__ = ["transport_of"]
