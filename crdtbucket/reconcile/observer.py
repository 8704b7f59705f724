"""Calls nodes of the mesh as an observer: connects, proves the secret, and checks their keys."""

from __future__ import annotations

import asyncio
import os

from crdtbucket.base.hashing import shared_key
from crdtbucket.config import Config
from crdtbucket.mesh.engines.engine_caller import EngineCaller
from crdtbucket.mesh.links.channel import Channel
from crdtbucket.mesh.links.handshake import handshake_as_observer
from crdtbucket.mesh.links.hello import NONCE_BYTES, Introduction, Role
from crdtbucket.mesh.links.keyring import Keyring
from crdtbucket.mesh.links.peer_keys import observer_keys
from crdtbucket.mesh.links.session import Handshake
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.sockets.socket_transport import SocketCaller
from crdtbucket.reconcile.buckets import BucketIndex
from crdtbucket.reconcile.observed_node import ObservedNode, answered


class Observer:
    """Calls nodes as an observer; what it opened is closed with it."""

    def __init__(
        self,
        config: Config,
        mesh: MeshConfig,
        name: str,
        timeout: float,
        caller: EngineCaller | None = None,
    ) -> None:
        """`config`: has the buckets, whose keys are hashed as its nodes do. `name`: what the nodes
        write into their logs. `timeout` (s): for each answer. `caller`: where nodes are not called
        over sockets; it is closed with this."""
        self.buckets = BucketIndex(config, mesh)
        self._timeout = timeout
        self._keys = Keyring(mesh, shared_key(mesh, config.redis))
        self._peer_keys = observer_keys(mesh)
        self._caller = SocketCaller(mesh) if caller is None else caller
        self._me = Introduction(
            NodeInfo(name, "", 1, "", 0),
            int.from_bytes(os.urandom(8), "big"),
            Role.OBSERVER,
            self._peer_keys.own,
            mesh.mesh_name,
        )
        self._channels: list[Channel] = []

    async def __aenter__(self) -> Observer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))
        await self._caller.close()

    async def call(self, address: str) -> ObservedNode:
        """The node at this address. Raises `ObservationFailed`."""
        return await answered(self._timeout, self._call(address))

    async def _call(self, address: str) -> ObservedNode:
        channel = await self._caller.connect(address)
        try:
            shake = Handshake(
                self._keys,
                self._me,
                nonce=os.urandom(NONCE_BYTES),
                dialer=True,
                lossy=channel.lossy,
            )
            info = await handshake_as_observer(channel, shake)
            self._peer_keys.check(info, shake.peer_key, channel)
        except BaseException:
            await channel.close()
            raise
        self._channels.append(channel)
        peer = ObservedNode(
            address, info.name, info.epoch, channel, shake, self.buckets, self._timeout
        )
        await peer.meet()
        return peer
