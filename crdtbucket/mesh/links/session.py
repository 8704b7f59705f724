"""Proves the identity of both ends of a link, and seals every frame after that: no sockets, no
clock.

Both sides send a hello with a fresh nonce, then frames sealed with keys that only a holder of the
shared secret can derive from the two hellos. The first sealed frame of each side (`PROVE` from the
dialer, `ACCEPT` or `BYE` from the listener) is its proof. A seal covers a counter that is not sent,
so a frame that was changed, cut, repeated, left out or moved to another link fails. If the carrier
may lose messages, the counter is sent as well, and only frames with a rising counter are opened:
there frames may be missing. Contents are authenticated, not hidden: that is what TLS is for.

Where both nodes have a key of their own, the seals also depend on two keys that are made for this
link alone, and each side signs both hellos and the result. So a member that relays the messages of
two others can neither seal frames of theirs nor use a signature for a link of its own.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links import hello as hello_message
from crdtbucket.mesh.links.hello import VERSION, Hello, Introduction, PublicKeys, Role
from crdtbucket.mesh.links.keyring import Keyring, keyed_digest, name_of
from crdtbucket.mesh.links.node_key import SIGNATURE_BYTES, LinkKey, is_signed
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.wire import MAX_FRAME

MAC_BYTES = 16
SIGNED = b"crdtbucket mesh identity 1 "
"""The beginning of everything that a node signs, so that a signature cannot be used for anything
else."""
MAX_SEALED = MAC_BYTES + 1 + MAX_FRAME

_COUNTER = struct.Struct(">Q")


class Kind(enum.IntEnum):
    """The first byte of a sealed frame's contents. Numbers are never reused."""

    FRAME = 0
    PROVE = 1
    ACCEPT = 2
    BYE = 3
    ORDERS = 4
    OVERRIDES = 5
    COMMANDS = 6


class Reason(enum.IntEnum):
    """Why a link is not made or ends, as said in a `BYE`. Numbers are never reused."""

    LEAVING = 0
    DUPLICATE = 1
    CONFLICT = 2
    BUSY = 3
    BAD_FRAMES = 4
    MALFORMED = 5
    VERSION = 6
    SECRET = 7
    HASH_KEY = 8
    SELF = 9
    INTERNAL = 10
    HANDOVER = 11
    NAME = 12
    KEY = 13
    EJECTED = 14
    RENEWED = 15
    ROLE = 16
    SHARED_KEY = 17
    NEW_NAMES = 18


# Reasons that are a normal part of two nodes finding each other.
QUIET = frozenset({Reason.SELF, Reason.DUPLICATE, Reason.LEAVING, Reason.HANDOVER, Reason.RENEWED})


class HandshakeError(MeshError):
    """No link: `reason` says which check failed, `peer` is the claimed identity of the peer (or
    None). `from_peer` is true when an authenticated peer reported the failure, false when this node
    found it. `me` is how this node introduced itself, if the peer refuses.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        peer: NodeInfo | None = None,
        *,
        from_peer: bool = False,
        me: NodeInfo | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.peer = peer
        self.from_peer = from_peer
        self.me = me


class Handshake:
    """One side of a handshake: send `hello`, give the peer's to `read_hello`, use `session`."""

    def __init__(
        self,
        keys: Keyring,
        me: Introduction,
        *,
        nonce: bytes,
        dialer: bool,
        lossy: bool = False,
    ) -> None:
        """`nonce` is 32 fresh random bytes. `lossy`: the carrier may lose messages."""
        self._keys = keys
        self._dialer = dialer
        self._lossy = lossy
        self._node_key = me.node_key
        self._cluster = me.cluster.encode()
        self._link_key = None if me.node_key is None else LinkKey()
        shown = None
        if me.node_key is not None and self._link_key is not None:
            shown = PublicKeys(me.node_key.public, self._link_key.public)
        ids, hashed = keys.ids(nonce, dialer=dialer), keys.fingerprint(nonce)
        self._own = Hello(me.info, me.instance, nonce, hashed, ids, role=me.role, keys=shown)
        self.hello = self._own.encode()
        self.peer_instance = 0
        self.peer_role = Role.MEMBER
        self.used = b""
        """Names the secret that both sides have, after `read_hello`."""
        self.peer_key: bytes | None = None
        """The key that the peer claims as its own (public half), until `check_proof` has verified
        it."""
        self._session: Session | None = None

    @property
    def me(self) -> NodeInfo:
        """The record with which this node introduces itself."""
        return self._own.info

    @property
    def proves_secret(self) -> bool:
        """Whether a peer that opens this handshake's frames knows a secret."""
        return self._keys.proves

    @property
    def session(self) -> Session:
        """Seals and opens frames; only after `read_hello` has accepted the peer's hello."""
        if self._session is None:
            raise RuntimeError("there is no session before the peer's hello was read")
        return self._session

    def read_hello(self, data: bytes) -> NodeInfo:
        """Reads the claimed identity of the peer, which is proved only once a frame of `session`
        opens.

        Raises `HandshakeError`: both sides come to the same verdict from the two hellos.
        """
        try:
            theirs = hello_message.decode(data)
        except WireError as error:
            raise HandshakeError(Reason.MALFORMED, str(error)) from error
        peer = theirs.info
        if not theirs.lowest <= VERSION <= theirs.highest:
            raise HandshakeError(
                Reason.VERSION,
                f"it speaks protocol versions {theirs.lowest} to {theirs.highest} and this node "
                f"{VERSION}: upgrade the older one",
                peer,
            )
        self.peer_instance = theirs.instance
        self.peer_role = theirs.role
        if theirs.instance == self._own.instance:
            raise HandshakeError(Reason.SELF, "it is this node itself", peer)
        key = self._keys.common(theirs, dialer=self._dialer)
        if key is None:
            raise HandshakeError(
                Reason.SECRET, "it shares no secret with this node: check mesh.secret", peer
            )
        expected = self._keys.fingerprint(theirs.nonce)
        if not hmac.compare_digest(expected, theirs.fingerprint):
            raise HandshakeError(
                Reason.HASH_KEY,
                "it hashes bucket keys with another key: set the same mesh.hash_secret on every "
                "node; or keep the oldest secret last in every mesh.secret, and give a Redis to "
                "all of them or to none",
                peer,
            )
        hellos = (self.hello, data) if self._dialer else (data, self.hello)
        self.used = name_of(key)
        shared = self._agree(theirs)
        self._session = Session(key, *hellos, dialer=self._dialer, lossy=self._lossy, shared=shared)
        return peer

    @property
    def signed(self) -> bool:
        """Whether both sides have a key of their own, and so sign this handshake."""
        return self._node_key is not None and self.peer_key is not None

    def proof(self) -> bytes:
        """The content of this side's first frame: the signature, if both sides have a key."""
        if self._node_key is None or self.peer_key is None:
            return b""
        return self._node_key.sign(self.session.to_sign(self._cluster, dialer=self._dialer))

    def check_proof(self, proof: bytes, peer: NodeInfo) -> None:
        """Raises `HandshakeError` when the peer has not signed this handshake with its key. Where
        one side has no key there is nothing to check."""
        if self._node_key is None or self.peer_key is None:
            return
        text = self.session.to_sign(self._cluster, dialer=not self._dialer)
        if not is_signed(text, proof[:SIGNATURE_BYTES], self.peer_key):
            raise HandshakeError(
                Reason.KEY,
                "it has not signed this handshake with the key that it shows: somebody uses the "
                "key of another node, or its mesh.mesh_name is another one",
                peer,
            )

    def _agree(self, theirs: Hello) -> bytes:
        if theirs.keys is None:
            return b""
        self.peer_key = theirs.keys.node
        if self._link_key is None:
            return b""
        try:
            return self._link_key.agree(theirs.keys.link)
        except WireError as error:
            raise HandshakeError(Reason.MALFORMED, str(error), theirs.info) from error


class Session:
    """Seals the frames of one link in one direction and opens those of the other, in order."""

    def __init__(
        self,
        key: bytes,
        dialer_hello: bytes,
        listener_hello: bytes,
        *,
        dialer: bool,
        lossy: bool = False,
        shared: bytes = b"",
    ) -> None:
        """`shared`: the secret that the keys for this link make, where both sides have one."""
        transcript = _COUNTER.pack(len(dialer_hello)) + dialer_hello + listener_hello + shared
        root = keyed_digest(key, transcript, b"cb-mesh-session", 32)
        self._root = root
        outward = keyed_digest(root, b"", b"cb-mesh-dialer", 32)
        inward = keyed_digest(root, b"", b"cb-mesh-listener", 32)
        sealing, opening = (outward, inward) if dialer else (inward, outward)
        # Hash objects that contain the keys and are copied for each frame, which is cheaper than
        # making new ones.
        self._seal_mac = hashlib.blake2b(digest_size=MAC_BYTES, key=sealing)
        self._open_mac = hashlib.blake2b(digest_size=MAC_BYTES, key=opening)
        self._lossy = lossy
        self._sealed = 0
        self._opened = 0

    def to_sign(self, cluster: bytes, *, dialer: bool) -> bytes:
        """The bytes that the dialer, or the listener, signs. They depend on both hellos (and so on
        nonces, names and keys), on the secret, and on the keys of this link."""
        side = (b"dialer " if dialer else b"listener ") + cluster
        return SIGNED + keyed_digest(self._root, side, b"cb-mesh-signed", 64)

    def seal(self, kind: Kind, body: bytes = b"") -> bytes:
        """The next frame to send; frames must be sent in the order of sealing, none left out."""
        if len(body) > MAX_FRAME:
            raise ValueError(f"a frame of {len(body)} bytes: at most {MAX_FRAME} are allowed")
        content = bytes((kind,)) + body
        number = self._sealed
        mac = _mac(self._seal_mac, number, content)
        self._sealed += 1
        return (_COUNTER.pack(number) if self._lossy else b"") + mac + content

    def open(self, data: bytes) -> tuple[int, bytes]:
        """Kind (perhaps one of a later version) and body of the next frame.

        Raises `WireError` when it is not what the peer sealed next (or later, where some may be
        lost); the link is then beyond repair.
        """
        number, begin = self._opened, 0
        if self._lossy and len(data) >= _COUNTER.size:
            begin = _COUNTER.size
            number = max(number, _COUNTER.unpack_from(data)[0])  # no older frame opens
        if not MAC_BYTES < len(data) - begin <= MAX_SEALED:
            raise WireError(f"a sealed frame of {len(data)} bytes")
        content = data[begin + MAC_BYTES :]
        mac = _mac(self._open_mac, number, content)
        if not hmac.compare_digest(mac, data[begin : begin + MAC_BYTES]):
            raise WireError("a frame whose seal is wrong: changed, repeated, reordered or forged")
        self._opened = number + 1
        return content[0], content[1:]


def _mac(keyed: hashlib.blake2b, counter: int, content: bytes) -> bytes:
    state = keyed.copy()
    state.update(_COUNTER.pack(counter))
    state.update(content)
    return state.digest()
