"""An observer's calls over WebSockets."""

from __future__ import annotations

import aiohttp

from crdtbucket.base.address import is_loopback, split_address
from crdtbucket.mesh.links.channel import Channel, ChannelLost
from crdtbucket.mesh.links.mesh_tls import dialer_context, followed
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.sockets.web_socket import connect, http_session


class SocketCaller:
    """Calls nodes by their addresses, with the certificate of a configuration."""

    def __init__(self, config: MeshConfig) -> None:
        """Raises `MeshError` for files of TLS that cannot be used."""
        self._tls = followed(config, dialer_context)
        self._authenticated = bool(config.secrets) or (
            config.tls_cert is not None and config.tls_verify_peer
        )
        self._http: aiohttp.ClientSession | None = None

    async def connect(self, address: str) -> Channel:
        """A channel to the node at this address. Raises `ChannelLost`."""
        if not self._authenticated and not is_loopback(split_address(address)[0]):
            text = "nothing would prove who answers: set mesh.secret, or mutual TLS"
            raise ChannelLost(text, by_peer=False)
        if self._http is None:
            self._http = http_session()
        return await connect(self._http, address, self._tls.now())

    async def close(self) -> None:
        """Ends what is left."""
        if self._http is not None:
            await self._http.close()
