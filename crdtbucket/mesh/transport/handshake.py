"""The handshake as it runs over a WebSocket, for either side.

dialer -> hello, listener -> hello, dialer -> PROVE, listener -> ACCEPT or BYE. An end that finds
a reason against the link, which its peer cannot find itself, states it in a sealed BYE.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from crdtbucket.errors import WireError
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.hello import Role
from crdtbucket.mesh.transport.link_table import LinkTable
from crdtbucket.mesh.transport.peer_connection import (
    PeerConnection,
    WebSocket,
    describe_bye,
    receive_bytes,
)
from crdtbucket.mesh.transport.session import Handshake, HandshakeError, Kind, Reason, Session

# What each reason means when a peer sends it in place of ACCEPT.
_FROM_PEER = {
    Reason.LEAVING: "it is shutting down",
    Reason.HANDOVER: "another process of it goes on",
    Reason.DUPLICATE: "it is linked already",
    Reason.CONFLICT: "another process with this node's name is in the mesh",
    Reason.BUSY: "it has as many peers as its mesh.max_peers allows, or its log says what is full",
}


class PendingDials:
    """The dials of this node that have sent their proof and have no answer yet: the peer may count
    such a dial as a link already."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._ended = False

    @contextmanager
    def begin(self, peer: NodeInfo) -> Iterator[None]:
        """Encloses the time from the proof to its answer. Raises `HandshakeError` when no proof may
        be sent."""
        if self._ended:
            raise HandshakeError(Reason.LEAVING, "this node is shutting down", peer)
        if peer.name in self._names:
            raise HandshakeError(Reason.DUPLICATE, "it is linked already", peer)
        self._names.add(peer.name)
        self._none.clear()
        try:
            yield
        finally:
            self._names.discard(peer.name)
            if not self._names:
                self._none.set()

    async def end(self) -> None:
        """No more proofs are sent from now on; returns when every answer has come."""
        self._ended = True
        await self._none.wait()


class MeshEndpoint(Protocol):
    """The node for which the handshake makes links."""

    links: LinkTable[PeerConnection]
    pending_dials: PendingDials
    max_peers: int

    def handshake(self, *, dialer: bool) -> Handshake:
        """A fresh handshake."""
        ...

    def conflict_reported(self, error: HandshakeError) -> None:
        """A peer says that another process uses this node's name."""
        ...

    def dial_failed(self, name: str, address: str, *, refused: bool) -> None:
        """A dial made no link: see `ProtocolNode.dial_failed`."""
        ...

    def admit(
        self,
        ws: WebSocket,
        session: Session,
        peer: NodeInfo,
        *,
        instance: int,
        dialed: bool,
        serial: int,
    ) -> PeerConnection:
        """Makes the connection a link, which is in the table and sends. Raises `HandshakeError`
        when there is to be none."""
        ...

    def admit_observer(self, ws: WebSocket, session: Session, peer: NodeInfo) -> PeerConnection:
        """Makes the connection a link that sends and is in no table; raises as `admit`."""
        ...


async def handshake_as_listener(ws: WebSocket, host: MeshEndpoint, remote: str) -> PeerConnection:
    """The link with the node that dialled from the host `remote`.

    Raises `HandshakeError`, `WireError` for a proof that fails, and `PeerConnectionLost`.
    """
    shake = host.handshake(dialer=False)
    heard = await receive_bytes(ws)
    try:
        peer = shake.read_hello(heard)
    except HandshakeError as error:
        if error.reason is not Reason.MALFORMED:
            await ws.send_bytes(shake.hello)  # from it the peer sees what is wrong
        raise
    serial = host.links.serial()
    await ws.send_bytes(shake.hello)
    kind, body = await _open(ws, shake.session)
    if kind == Kind.BYE:
        raise _refusal(body, peer)
    if kind != Kind.PROVE:
        raise HandshakeError(Reason.MALFORMED, f"it sent kind {kind} as its proof", peer)
    try:
        if shake.peer_role is Role.OBSERVER:
            return host.admit_observer(ws, shake.session, peer)
        return host.admit(
            ws,
            shake.session,
            reachable(peer, remote),
            instance=shake.peer_instance,
            dialed=False,
            serial=serial,
        )
    except HandshakeError as error:
        await _tell(ws, shake.session, error.reason)
        raise


async def handshake_as_dialer(ws: WebSocket, host: MeshEndpoint, remote: str) -> PeerConnection:
    """The link with the node that was dialled at host `remote`; raises as
    `handshake_as_listener`."""
    shake = host.handshake(dialer=True)
    await ws.send_bytes(shake.hello)
    peer = reachable(shake.read_hello(await receive_bytes(ws)), remote)
    try:
        linked = host.links.get(peer.name)
        if linked is not None and linked.instance == shake.peer_instance:
            raise HandshakeError(Reason.DUPLICATE, "it is linked already", peer)
        with host.pending_dials.begin(peer):
            await _prove(ws, shake.session, peer)
            return host.admit(
                ws,
                shake.session,
                peer,
                instance=shake.peer_instance,
                dialed=True,
                serial=0,
            )
    except HandshakeError as error:
        if not error.from_peer:
            await _tell(ws, shake.session, error.reason)
        raise


async def handshake_as_observer(ws: WebSocket, shake: Handshake) -> NodeInfo:
    """The node that was dialled, which from now on answers what `shake.session` seals.

    Raises `HandshakeError`, `WireError` and `PeerConnectionLost`.
    """
    await ws.send_bytes(shake.hello)
    peer = shake.read_hello(await receive_bytes(ws))
    if shake.peer_role is None:
        # It would count this observer as a member, and divide its limits by one more.
        await _tell(ws, shake.session, Reason.VERSION)
        text = "it runs a version that knows no observers: upgrade it"
        raise HandshakeError(Reason.VERSION, text, peer)
    await _prove(ws, shake.session, peer)
    return peer


async def _prove(ws: WebSocket, session: Session, peer: NodeInfo) -> None:
    """Proves to the dialled side that this one has the secret, and waits until it accepts."""
    await ws.send_bytes(session.seal(Kind.PROVE))
    kind, body = await _open(ws, session)
    if kind == Kind.BYE:
        raise _refusal(body, peer)
    if kind != Kind.ACCEPT:
        text = f"it sent kind {kind} as an answer to the proof"
        raise HandshakeError(Reason.MALFORMED, text, peer)


def reachable(peer: NodeInfo, remote: str) -> NodeInfo:
    """`peer` with the host that it was met at, where it could only name its port (":7946")."""
    if not peer.address.startswith(":"):
        return peer
    host = f"[{remote}]" if ":" in remote else remote
    return NodeInfo(peer.name, peer.region, peer.epoch, host + peer.address, peer.age_ns)


async def _open(ws: WebSocket, session: Session) -> tuple[int, bytes]:
    data = await receive_bytes(ws)
    try:
        return session.open(data)
    except WireError as error:
        raise HandshakeError(
            Reason.SECRET, "its proof of the shared secret is wrong: someone changes messages"
        ) from error


async def _tell(ws: WebSocket, session: Session, reason: Reason) -> None:
    try:
        await ws.send_bytes(session.seal(Kind.BYE, bytes((reason,))))
    except (ConnectionError, RuntimeError):
        return  # it hung up after its own BYE


def _refusal(body: bytes, peer: NodeInfo) -> HandshakeError:
    try:
        reason = Reason(body[0])
    except (IndexError, ValueError):
        reason = Reason.INTERNAL  # of a later version
    text = _FROM_PEER.get(reason, f"it refuses: {describe_bye(body)}")
    return HandshakeError(reason, text, peer, from_peer=True)


__all__ = [
    "MeshEndpoint",
    "PendingDials",
    "handshake_as_dialer",
    "handshake_as_listener",
    "handshake_as_observer",
    "reachable",
]
