"""The handshake as it runs over a channel, for either side.

dialer -> hello, listener -> hello, dialer -> PROVE, listener -> ACCEPT or BYE. An end that finds
a reason against the link, which its peer cannot find itself, states it in a sealed BYE. Each of
these three carries its sender's signature where both have a key of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from crdtbucket.errors import WireError
from crdtbucket.mesh.links.channel import Channel, ChannelLost, Oversize
from crdtbucket.mesh.links.counters import LOG, MeshCounters, Refusals
from crdtbucket.mesh.links.hello import Role
from crdtbucket.mesh.links.link import Link, describe_bye
from crdtbucket.mesh.links.link_table import LinkTable
from crdtbucket.mesh.links.node_key import SIGNATURE_BYTES
from crdtbucket.mesh.links.peer_identity import PeerIdentity, Proof
from crdtbucket.mesh.links.peer_keys import PeerKeys
from crdtbucket.mesh.links.session import QUIET, Handshake, HandshakeError, Kind, Reason, Session
from crdtbucket.mesh.node_info import NodeInfo

HANDSHAKE_S = 3.0
"""Seconds within which a channel becomes a link, or is given up."""
MAX_SAID = 500
"""Most bytes of a peer's message about another process with this node's name."""
# What each reason means when a peer sends it in place of ACCEPT.
_FROM_PEER = {
    Reason.LEAVING: "it is shutting down",
    Reason.HANDOVER: "another process of it goes on",
    Reason.DUPLICATE: "it is linked already",
    Reason.CONFLICT: "another process with this node's name is in the mesh: give each its own name",
    Reason.NAME: "this node writes where another name does",
    Reason.RENEWED: "its secrets have changed meanwhile",
    Reason.EJECTED: "an operator has ejected this node, or its key, from the mesh",
    Reason.KEY: "it knows another key by this node's name, or none of this node's, or has seen a "
    "certificate that is not for this name: see its log",
    Reason.SHARED_KEY: "it is, or is linked with, another node that has this node's key, or whose "
    "name is in this node's certificate: give each node a key, or certificate, of its own",
    Reason.NEW_NAMES: "it has met as many new names as it may in an hour: see its log",
    Reason.ROLE: "the secret of observers makes no member: set the mesh.secret that the nodes have",
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

    name: str
    links: LinkTable
    max_peers: int
    counters: MeshCounters
    refusals: Refusals
    peer_keys: PeerKeys
    instance: int
    """Random 64 bits of this process."""

    def handshake(self, *, dialer: bool, lossy: bool) -> Handshake:
        """A fresh handshake; `lossy`: for a carrier that may lose messages."""

    def conflict_reported(self, error: HandshakeError) -> None:
        """A peer says that another process uses this node's name."""

    def found(self, hurry: str = "") -> None:
        """The transport knows other addresses than before. `hurry`: one that answers now."""

    def dial_failed(self, name: str, address: str, *, refused: bool) -> None:
        """A dial made no link: see `MeshNode.dial_failed`."""

    def admit(
        self,
        channel: Channel,
        shake: Handshake,
        identity: PeerIdentity,
        *,
        dialed: str,
        serial: int,
    ) -> Link:
        """Makes the channel a link that sends, and that is in the table unless it is an observer's.
        `dialed`: the address, "" for a call. Raises `HandshakeError` when there is to be none."""

    async def serve(self, link: Link) -> None:
        """Runs a link until it ends; whatever a peer does, nothing is raised."""


async def handshake_as_listener(channel: Channel, host: MeshEndpoint) -> Link:
    """The link with the node that dialled.

    Raises `HandshakeError`, `WireError` for a proof that fails, and `ChannelLost`.
    """
    shake = host.handshake(dialer=False, lossy=channel.lossy)
    hello = await channel.receive()
    try:
        peer = shake.read_hello(hello)
    except HandshakeError as error:
        if error.reason is not Reason.MALFORMED:
            await channel.send(shake.hello)  # the peer sees in it why there is no link
        raise
    serial = host.links.serial()
    await channel.send(shake.hello)
    kind, body = await _open(channel, shake.session)
    if kind not in (Kind.PROVE, Kind.BYE):
        raise HandshakeError(Reason.MALFORMED, f"it sent kind {kind} as its proof", peer)
    try:
        _check_name(peer, channel)
        if shake.peer_role is not Role.OBSERVER:
            host.peer_keys.check(peer, shake.peer_key, channel)
        if kind == Kind.BYE:
            raise _refusal(shake, body, peer)
        shake.check_proof(body, peer)
        identity = _identity(shake, reachable(peer, channel.remote), channel)
        return host.admit(channel, shake, identity, dialed="", serial=serial)
    except HandshakeError as error:
        if not error.from_peer:
            await _tell(channel, shake, error)
        raise


async def answered(channel: Channel, host: MeshEndpoint, place: str) -> Link | None:
    """The link with the node that dialled from `place`; None where there is to be none, which is
    counted and logged. Raises `WireError` and `Oversize` for what is no handshake."""
    try:
        return await handshake_as_listener(channel, host)
    except HandshakeError as error:
        report(host, error, "refused a peer,", place)
    except Oversize:
        raise
    except ChannelLost as error:
        LOG.debug("%s hung up during the handshake: %s", place, error)
    return None


def report(host: MeshEndpoint, error: HandshakeError, what: str, place: str) -> str:
    """Counts and logs that there is no link with the process at `place`; `what` is the beginning of
    the log line. Returns the log line; "" for what is normal while two nodes find each other."""
    who = f"{error.peer.name!r} at " if error.peer is not None else ""
    text = f"{what} {who}{place}: {error}"
    if error.from_peer and error.reason is Reason.CONFLICT:
        host.conflict_reported(error)
    if error.reason in QUIET:
        LOG.debug("%s", text)
        return ""
    host.refusals.add(error.reason.name.lower(), text)
    return text


async def handshake_as_dialer(
    channel: Channel, host: MeshEndpoint, pending: PendingDials, address: str
) -> Link:
    """The link with the node that was dialled there; raises as `handshake_as_listener`."""
    shake = host.handshake(dialer=True, lossy=channel.lossy)
    await channel.send(shake.hello)
    peer = reachable(shake.read_hello(await channel.receive()), channel.remote)
    try:
        _check_name(peer, channel)
        host.peer_keys.check(peer, shake.peer_key, channel)
        linked = host.links.get(peer.name)
        if linked is not None and linked.instance == shake.peer_instance:
            raise HandshakeError(Reason.DUPLICATE, "it is linked already", peer)
        identity = _identity(shake, peer, channel)
        host.peer_keys.check_alone(identity, host.links.identities())
        with pending.begin(peer):
            await _prove(channel, shake, peer)
            # Once more: an order, or a reload, may have come while the answer was on its way.
            host.peer_keys.check(peer, shake.peer_key, channel)
            return host.admit(channel, shake, identity, dialed=address, serial=0)
    except HandshakeError as error:
        if not error.from_peer:
            await _tell(channel, shake, error)
        raise


async def handshake_as_observer(channel: Channel, shake: Handshake) -> NodeInfo:
    """The node that was dialled, which from now on answers what `shake.session` seals.

    Raises `HandshakeError`, `WireError` and `ChannelLost`.
    """
    await channel.send(shake.hello)
    peer = shake.read_hello(await channel.receive())
    await _prove(channel, shake, peer)
    return peer


def _check_name(peer: NodeInfo, channel: Channel) -> None:
    if channel.peer_name not in ("", peer.name):
        text = f"it calls itself {peer.name!r} and writes where {channel.peer_name!r} does"
        raise HandshakeError(Reason.NAME, text, peer)


def _identity(shake: Handshake, peer: NodeInfo, channel: Channel) -> PeerIdentity:
    """The identity of the peer, with the strongest proof of its name."""
    if shake.signed:
        proof = Proof.KEY
    elif channel.certified:
        proof = Proof.CERTIFICATE
    else:
        proof = Proof.SECRET if shake.proves_secret else Proof.NOTHING
    key = shake.peer_key if shake.signed else None
    names = channel.certified_names
    return PeerIdentity(peer, shake.peer_instance, proof, key, shake.used, names)


async def _prove(channel: Channel, shake: Handshake, peer: NodeInfo) -> None:
    """Proves to the dialled side that this one has the secret, and its key, and waits until that
    side has proved itself."""
    await channel.send(shake.session.seal(Kind.PROVE, shake.proof()))
    kind, body = await _open(channel, shake.session)
    if kind == Kind.BYE:
        raise _refusal(shake, body, peer)
    if kind != Kind.ACCEPT:
        text = f"it sent kind {kind} as an answer to the proof"
        raise HandshakeError(Reason.MALFORMED, text, peer)
    shake.check_proof(body, peer)


def reachable(peer: NodeInfo, remote: str) -> NodeInfo:
    """`peer` with the host that it was met at, where it could only name its port (":7946")."""
    if not peer.address.startswith(":"):
        return peer
    host = f"[{remote}]" if ":" in remote else remote
    return replace(peer, address=host + peer.address)


async def _open(channel: Channel, session: Session) -> tuple[int, bytes]:
    data = await channel.receive()
    try:
        return session.open(data)
    except WireError as error:
        raise HandshakeError(
            Reason.SECRET, "its proof of the shared secret is wrong: someone changes messages"
        ) from error


async def _tell(channel: Channel, shake: Handshake, error: HandshakeError) -> None:
    said = bytes((error.reason,)) + shake.proof()
    if error.reason is Reason.CONFLICT:
        said += str(error).encode()[:MAX_SAID]
    try:
        await channel.send(shake.session.seal(Kind.BYE, said))
    except ChannelLost:
        return  # it hung up after its own BYE


def _refusal(shake: Handshake, body: bytes, peer: NodeInfo) -> HandshakeError:
    """The peer's reason against the link. The one that another process uses this node's name, which
    may stop this node, has to be signed."""
    try:
        reason = Reason(body[0])
    except (IndexError, ValueError):
        reason = Reason.INTERNAL  # of a later version
    text = _FROM_PEER.get(reason, f"it refuses: {describe_bye(body)}")
    if reason is Reason.CONFLICT:
        shake.check_proof(body[1:], peer)
        signed = SIGNATURE_BYTES if shake.signed else 0
        words = body[1 + signed :][:MAX_SAID].decode(errors="replace")
        text = "".join(one if one.isprintable() else "?" for one in words) or text
    return HandshakeError(reason, text, peer, from_peer=True, me=shake.me)
