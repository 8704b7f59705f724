"""WebSockets between nodes: a node listens, and dials the addresses of the file and of gossip; an
observer only dials."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import aiohttp

from crdtbucket.base.address import Address, is_loopback, split_address
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.channel import Channel, ChannelLost
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.handshake import MeshEndpoint
from crdtbucket.mesh.links.mesh_tls import calling, dialer_context, followed, listener_context
from crdtbucket.mesh.links.unreached import PeerSource
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.sockets.discovery import Discovered
from crdtbucket.mesh.sockets.listener import Listener
from crdtbucket.mesh.sockets.web_socket import WebSocketChannel, connect, http_session


class SocketTransport:
    """WebSockets between nodes, one for a pair; see `Transport`."""

    def __init__(self, host: MeshEndpoint, config: MeshConfig, rng: random.Random) -> None:
        """Raises `MeshError` for certificates that cannot be used."""
        self.address = ""
        self._host = host
        self._config = config
        self._rng = rng
        self._listener = Listener(host, followed(config, listener_context))
        self._tls = calling(config)
        self._discovered = Discovered(config.peers)
        self._tasks = BackgroundTasks()

    async def start(self) -> None:
        """Listens, and asks the sources of addresses."""
        host, port = split_address(self._config.listen)
        port = await self._listener.start(host, port)  # the last step that can fail
        self.address = self._config.advertise or _advertised(host, port)
        self._http = http_session()
        for search in self._discovered.searches(self._rng, self._host.found):
            self._tasks.keep("asking for the names of mesh.peers", search)
        LOG.info("listening on %s", Address(host, port))

    def sources(self) -> list[PeerSource]:
        """The addresses of the file, and what its DNS names resolve to."""
        return [
            replace(source, addresses=tuple(one for one in source.addresses if one != self.address))
            for source in self._discovered.sources()
        ]

    def wanted(self, known: Sequence[str]) -> list[str]:
        """The addresses to dial: those that were configured, and then these, as gossip may name any
        number of places."""
        found = [*self._discovered.addresses, *known]
        return [one for one in dict.fromkeys(found) if one != self.address]

    async def refuse_new(self) -> None:
        """Closes the listening socket."""
        await self._listener.refuse_new()

    async def stop(self) -> None:
        """Ends connections and searches."""
        await self._http.close()
        await self._listener.stop()
        await self._tasks.end()

    def may_dial(self, address: str) -> bool:
        """Whether the address can be dialled, and its process proves its identity or is on this
        machine."""
        try:
            split_address(address)
        except ValueError as error:
            self._host.refusals.add("address", f"not dialling an address that {error}")
            return False
        if _proves_itself(address, self._config):
            return True
        self._host.refusals.add(
            "unauthenticated",
            f"not dialling {address}: nothing would prove who answers; set mesh.secret, or "
            "mesh.tls.cert, key and ca",
        )
        return False

    def first_pause(self, address: str) -> float:
        """The pause (s) before a new address is dialed: none, as the other side need not know where
        this node is."""
        return 0.0

    async def ready(self) -> None:
        """Dials may be tried at any time."""

    async def connect(self, address: str) -> WebSocketChannel:
        """Opens a WebSocket to this address."""
        return await connect(self._http, address, self._tls.now())


def _proves_itself(address: str, config: MeshConfig) -> bool:
    """Whether the process that answers there proves its identity, or is on this machine."""
    certified = config.tls_cert is not None and config.tls_verify_peer
    return bool(config.secrets) or certified or is_loopback(split_address(address)[0])


def _advertised(host: str, port: int) -> str:
    return f":{port}" if host in ("0.0.0.0", "::") else str(Address(host, port))


class SocketCaller:
    """Calls nodes by their addresses, with the certificate of a configuration."""

    def __init__(self, config: MeshConfig) -> None:
        """Raises `MeshError` for files of TLS that cannot be used."""
        self._config = config
        self._tls = followed(config, dialer_context)
        self._http: aiohttp.ClientSession | None = None

    async def connect(self, address: str) -> Channel:
        """A channel to the node at this address. Raises `ChannelLost`, and `WireError` where
        something answers that is no node."""
        if not _proves_itself(address, self._config):
            text = "nothing would prove who answers: set mesh.secret, or mutual TLS"
            raise ChannelLost(text, by_peer=False)
        if self._http is None:
            self._http = http_session()
        return await connect(self._http, address, self._tls.now())

    async def close(self) -> None:
        """Ends what is left."""
        if self._http is not None:
            await self._http.close()
