"""The handshake as it runs over a WebSocket, for either side.

dialer -> hello, listener -> hello, dialer -> PROVE, listener -> ACCEPT or BYE. Whoever finds a
reason against the link that its peer cannot find too says it in a sealed BYE.
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
from crdtbucket.mesh.transport.peer_connection import Link, WebSocket, describe_bye, receive_bytes
from crdtbucket.mesh.transport.session import Handshake, HandshakeError, Kind, Reason, Session

# What each reason tells a node that hears it from a peer in place of ACCEPT.
_HEARD = {
    Reason.LEAVING: "it is shutting down",
    Reason.HANDOVER: "another process of it goes on",
    Reason.DUPLICATE: "it is linked already",
    Reason.CONFLICT: "another process with this node's name is in the mesh",
    Reason.BUSY: "it has as many peers as its mesh.max_peers allows, or its log says what is full",
}


class Pursuits:
    """The calls of this node that are proving themselves: the peer may count such a call as a link
    already, though its verdict has not come."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._ended = False

    @contextmanager
    def begin(self, peer: NodeInfo) -> Iterator[None]:
        """From the proof to the verdict. Raises `HandshakeError` when no proof may be sent."""
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
        """No other call proves itself from now on; returns when every verdict has come."""
        self._ended = True
        await self._none.wait()


class Host(Protocol):
    """The node on whose behalf links are made."""

    links: LinkTable[Link]
    pursuits: Pursuits
    max_peers: int

    def handshake(self, *, dialer: bool) -> Handshake:
        """A fresh handshake."""
        ...

    def told_of_conflict(self, error: HandshakeError) -> None:
        """A peer says that this node's name is used by another process."""
        ...

    def call_failed(self, name: str, address: str, *, refused: bool) -> None:
        """A call made no link: see `Node.call_failed`."""
        ...

    def admit(
        self,
        ws: WebSocket,
        session: Session,
        peer: NodeInfo,
        *,
        instance: int,
        dialed: bool,
        mark: int,
    ) -> Link:
        """A link, in the table and sending; raises `HandshakeError` when there is to be none."""
        ...

    def admit_observer(self, ws: WebSocket, session: Session, peer: NodeInfo) -> Link:
        """A link that is sending, and in no table; raises as `admit`."""
        ...


async def greet_as_listener(ws: WebSocket, host: Host, remote: str) -> Link:
    """The link with whoever called from host `remote`.

    Raises `HandshakeError`, `WireError` for a proof that fails, and `ConnectionLost`.
    """
    shake = host.handshake(dialer=False)
    heard = await receive_bytes(ws)
    try:
        peer = shake.hear(heard)
    except HandshakeError as error:
        if error.reason is not Reason.MALFORMED:
            await ws.send_bytes(shake.hello)  # from it the peer sees what is wrong
        raise
    mark = host.links.mark()
    await ws.send_bytes(shake.hello)
    kind, body = await _open(ws, shake.session)
    if kind == Kind.BYE:
        raise _refusal(body, peer)
    if kind != Kind.PROVE:
        raise HandshakeError(Reason.MALFORMED, f"it sent kind {kind} for a proof", peer)
    try:
        if shake.peer_role is Role.OBSERVER:
            return host.admit_observer(ws, shake.session, peer)
        return host.admit(
            ws,
            shake.session,
            reachable(peer, remote),
            instance=shake.peer_instance,
            dialed=False,
            mark=mark,
        )
    except HandshakeError as error:
        await _tell(ws, shake.session, error.reason)
        raise


async def greet_as_dialer(ws: WebSocket, host: Host, remote: str) -> Link:
    """The link with the node that was called at host `remote`; raises as `greet_as_listener`."""
    shake = host.handshake(dialer=True)
    await ws.send_bytes(shake.hello)
    peer = reachable(shake.hear(await receive_bytes(ws)), remote)
    try:
        linked = host.links.get(peer.name)
        if linked is not None and linked.instance == shake.peer_instance:
            raise HandshakeError(Reason.DUPLICATE, "it is linked already", peer)
        with host.pursuits.begin(peer):
            await ws.send_bytes(shake.session.seal(Kind.PROVE))
            kind, body = await _open(ws, shake.session)
            if kind == Kind.BYE:
                raise _refusal(body, peer)
            if kind != Kind.ACCEPT:
                raise HandshakeError(Reason.MALFORMED, f"it sent kind {kind} for a verdict", peer)
            return host.admit(
                ws,
                shake.session,
                peer,
                instance=shake.peer_instance,
                dialed=True,
                mark=0,
            )
    except HandshakeError as error:
        if not error.heard:
            await _tell(ws, shake.session, error.reason)
        raise


async def greet_as_observer(ws: WebSocket, shake: Handshake) -> NodeInfo:
    """The node that was called, which from now on answers what `shake.session` seals.

    Raises `HandshakeError`, `WireError` and `ConnectionLost`.
    """
    await ws.send_bytes(shake.hello)
    peer = shake.hear(await receive_bytes(ws))
    if shake.peer_role is None:
        # It would take this for a member, and divide its limits by one more.
        await _tell(ws, shake.session, Reason.VERSION)
        text = "it runs a version that knows no observers: upgrade it"
        raise HandshakeError(Reason.VERSION, text, peer)
    await ws.send_bytes(shake.session.seal(Kind.PROVE))
    kind, body = await _open(ws, shake.session)
    if kind == Kind.BYE:
        raise _refusal(body, peer)
    if kind != Kind.ACCEPT:
        raise HandshakeError(Reason.MALFORMED, f"it sent kind {kind} for a verdict", peer)
    return peer


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
    text = _HEARD.get(reason, f"it refuses: {describe_bye(body)}")
    return HandshakeError(reason, text, peer, heard=True)


__all__ = [
    "Host",
    "Pursuits",
    "greet_as_dialer",
    "greet_as_listener",
    "greet_as_observer",
    "reachable",
]
