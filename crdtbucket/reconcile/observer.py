"""Calls nodes of the mesh as an observer: connects, proves the secret, and checks their keys."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from crdtbucket.base.deadline import within
from crdtbucket.base.hashing import shared_key
from crdtbucket.config import Config
from crdtbucket.errors import WireError
from crdtbucket.mesh.links.channel import Channel, ChannelLost
from crdtbucket.mesh.links.handshake import handshake_as_observer
from crdtbucket.mesh.links.hello import NONCE_BYTES, Role
from crdtbucket.mesh.links.keyring import Keyring
from crdtbucket.mesh.links.node_key import fingerprint_of
from crdtbucket.mesh.links.peer_keys import observer_keys
from crdtbucket.mesh.links.session import Handshake, HandshakeError
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.sockets.socket_caller import SocketCaller
from crdtbucket.reconcile.buckets import BucketIndex
from crdtbucket.reconcile.observed_node import ObservationFailed, ObservedNode, ObserverLink


class Caller(Protocol):
    """Makes channels to nodes, of one carrier."""

    async def connect(self, address: str) -> Channel:
        """A channel to the node at this address. Raises `ChannelLost`."""
        ...

    async def close(self) -> None:
        """Ends what is left; channels were closed before."""
        ...


class Observer:
    """Calls nodes as an observer; what it opened is closed with it."""

    def __init__(
        self,
        config: MeshConfig,
        buckets: BucketIndex,
        name: str,
        timeout: float,
        hash_key: bytes | None = None,
        caller: Caller | None = None,
    ) -> None:
        """`name`: what the nodes write into their logs. `timeout` (s): for each answer.
        `hash_key`: of the hash of bucket keys, where it is not that of the mesh alone. `caller`:
        where nodes are not called over sockets; it is closed with this."""
        self.buckets = buckets
        self._timeout = timeout
        self._keys = Keyring(config, hash_key)
        self._peer_keys = observer_keys(config)
        self._cluster = config.mesh_name
        self._caller = SocketCaller(config) if caller is None else caller
        self._me = NodeInfo(name, "", 1, "", 0)
        self._instance = int.from_bytes(os.urandom(8), "big")
        self._lines: list[ObserverLink] = []

    @classmethod
    def of(
        cls,
        config: Config,
        mesh: MeshConfig,
        name: str,
        timeout: float,
        caller: Caller | None = None,
    ) -> Observer:
        """One that hashes the keys of the file's buckets as its nodes do."""
        key = shared_key(mesh, config.redis)
        return cls(mesh, BucketIndex(config, mesh), name, timeout, key, caller)

    async def __aenter__(self) -> Observer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(line.close() for line in self._lines))
        await self._caller.close()

    async def call(self, address: str) -> ObservedNode:
        """The node at this address. Raises `ObservationFailed`."""
        try:
            return await within(self._timeout, self._call(address))
        except asyncio.TimeoutError as error:
            raise ObservationFailed(f"no answer within {self._timeout:g} s") from error
        except (ChannelLost, WireError, HandshakeError) as error:
            raise ObservationFailed(str(error)) from error

    async def _call(self, address: str) -> ObservedNode:
        channel = await self._caller.connect(address)
        try:
            shake = Handshake(
                self._keys,
                self._me,
                instance=self._instance,
                nonce=os.urandom(NONCE_BYTES),
                dialer=True,
                role=Role.OBSERVER,
                node_key=self._peer_keys.own,
                cluster=self._cluster,
                lossy=channel.lossy,
            )
            info = await handshake_as_observer(channel, shake)
            self._peer_keys.check(info, shake.peer_key, channel)
        except BaseException:
            await channel.close()
            raise
        line = ObserverLink(channel, shake, info.epoch)
        self._lines.append(line)
        peer = ObservedNode(
            address, info.name, shake.peer_instance, line, self.buckets, self._timeout
        )
        if shake.signed and shake.peer_key is not None:
            peer.fingerprint = fingerprint_of(shake.peer_key)
        await peer.meet()
        return peer
