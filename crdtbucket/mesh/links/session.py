"""Who may talk on a link, and proof that every frame is theirs: no sockets, no clock.

Both sides send a hello with a fresh nonce, then frames sealed with keys that only a holder of the
shared secret can derive from the two hellos. The first sealed frame of each side (`PROVE` from the
dialer, `ACCEPT` or `BYE` from the listener) is its proof. A seal covers a counter that is not sent,
so a frame that was changed, cut, repeated, left out or moved to another link fails. Where the
carrier may lose messages the counter is sent as well, and only what rises is opened: frames may be
left out there. Contents are authenticated, not hidden: that is what TLS is for.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct

from crdtbucket.base.hashing import NO_SECRET, shared_key
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links import hello as hello_message
from crdtbucket.mesh.links.hello import KEY_ID_BYTES, VERSION, Hello, Role
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.wire import MAX_FRAME

MAC_BYTES = 16
MAX_SEALED = MAC_BYTES + 1 + MAX_FRAME

_COUNTER = struct.Struct(">Q")
# Without any secret (loopback, or TLS that already proved both sides) the handshake still runs,
# with a key that everyone knows: it then finds mistakes, not attackers.


class Kind(enum.IntEnum):
    """The first byte of a sealed frame's contents. Numbers are never reused."""

    FRAME = 0
    PROVE = 1
    ACCEPT = 2
    BYE = 3


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


# Reasons that are a normal part of two nodes finding each other.
QUIET = frozenset({Reason.SELF, Reason.DUPLICATE, Reason.LEAVING, Reason.HANDOVER})


class HandshakeError(MeshError):
    """No link: `reason` says which check failed, `peer` is who it claimed to be (or None).

    `from_peer` is true when an authenticated peer said so, false when this node found it out.
    """

    def __init__(
        self, reason: Reason, message: str, peer: NodeInfo | None = None, *, from_peer: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.peer = peer
        self.from_peer = from_peer


def hash_key(config: MeshConfig) -> bytes:
    """The mesh's 16-byte key for hashing bucket keys; nodes with another one cannot take part.

    See `hashing.shared_key`, which knows of a Redis too.
    """
    key = shared_key(config, None)
    assert key is not None, "a mesh shares its limits"
    return key


class Keyring:
    """The secrets that a node accepts, the used one first, and its hash key."""

    def __init__(self, config: MeshConfig, key: bytes | None = None) -> None:
        """`key`: of the hash of bucket keys; that of `hash_key` when it is not given."""
        secrets = config.secrets or (NO_SECRET,)
        self.proves = bool(config.secrets)
        """Whether who shares one of these keys knows a secret."""
        if len(secrets) > hello_message.MAX_KEY_IDS:
            raise MeshError(
                f"mesh.secret lists {len(secrets)} secrets and at most "
                f"{hello_message.MAX_KEY_IDS} can be accepted: drop those no node uses"
            )
        self._keys = tuple(_digest(b"", secret, b"cb-mesh-auth", 32) for secret in secrets)
        self._hash_key = hash_key(config) if key is None else key

    def ids(self, nonce: bytes) -> tuple[bytes, ...]:
        """One id a secret, for this nonce only: it tells holders of the secret, and them alone."""
        return tuple(_digest(key, nonce, b"cb-mesh-keyid", KEY_ID_BYTES) for key in self._keys)

    def fingerprint(self, nonce: bytes) -> bytes:
        """Eight bytes by which a peer can tell that it has the same hash key."""
        return _digest(self._hash_key, nonce, b"cb-mesh-hashid", 8)

    def common(self, theirs: Hello, *, dialer: bool) -> bytes | None:
        """The key to use with a peer: the first of the dialer's list that the listener accepts.

        `dialer` says whether this node is the dialer; None when no secret is shared.
        """
        known = list(zip(self.ids(theirs.nonce), self._keys, strict=True))
        shared = {id_: key for id_, key in known if _any_equal(id_, theirs.key_ids)}
        order = shared if dialer else [id_ for id_ in theirs.key_ids if id_ in shared]
        return next((shared[id_] for id_ in order), None)


class Handshake:
    """One side of a handshake: send `hello`, give the peer's to `read_hello`, use `session`."""

    def __init__(
        self,
        keys: Keyring,
        me: NodeInfo,
        *,
        instance: int,
        nonce: bytes,
        dialer: bool,
        role: Role = Role.MEMBER,
        lossy: bool = False,
    ) -> None:
        """`nonce` is 32 fresh random bytes, `instance` 64 random bits of this process. `lossy`:
        the carrier may lose messages."""
        self._keys = keys
        self._dialer = dialer
        self._lossy = lossy
        self._own = Hello(me, instance, nonce, keys.fingerprint(nonce), keys.ids(nonce), role=role)
        self.hello = self._own.encode()
        self.peer_instance = 0
        self.peer_role: Role | None = None
        self._session: Session | None = None

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
        """Who the peer claims to be; believe it once a frame of `session` opens.

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
        self._session = Session(key, *hellos, dialer=self._dialer, lossy=self._lossy)
        return peer


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
    ) -> None:
        transcript = _COUNTER.pack(len(dialer_hello)) + dialer_hello + listener_hello
        root = _digest(key, transcript, b"cb-mesh-session", 32)
        outward = _digest(root, b"", b"cb-mesh-dialer", 32)
        inward = _digest(root, b"", b"cb-mesh-listener", 32)
        self._seal_key, self._open_key = (outward, inward) if dialer else (inward, outward)
        self._lossy = lossy
        self._sealed = 0
        self._opened = 0

    def seal(self, kind: Kind, body: bytes = b"") -> bytes:
        """The next frame to send; frames must be sent in the order of sealing, none left out."""
        if len(body) > MAX_FRAME:
            raise ValueError(f"a frame of {len(body)} bytes: at most {MAX_FRAME} are allowed")
        content = bytes((kind,)) + body
        number = self._sealed
        mac = _mac(self._seal_key, number, content)
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
            number = max(number, _COUNTER.unpack_from(data)[0])  # an older one does not open
        if not MAC_BYTES < len(data) - begin <= MAX_SEALED:
            raise WireError(f"a sealed frame of {len(data)} bytes")
        content = data[begin + MAC_BYTES :]
        mac = _mac(self._open_key, number, content)
        if not hmac.compare_digest(mac, data[begin : begin + MAC_BYTES]):
            raise WireError("a frame whose seal is wrong: changed, repeated, reordered or forged")
        self._opened = number + 1
        return content[0], content[1:]


def _mac(key: bytes, counter: int, content: bytes) -> bytes:
    state = hashlib.blake2b(_COUNTER.pack(counter), digest_size=MAC_BYTES, key=key)
    state.update(content)
    return state.digest()


def _digest(key: bytes, data: bytes, person: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, key=key, person=person, digest_size=size).digest()


def _any_equal(one: bytes, several: tuple[bytes, ...]) -> bool:
    found = False
    for other in several:  # all of them: the time taken must not tell which one it was
        found |= hmac.compare_digest(one, other)
    return found


__all__ = [
    "MAX_FRAME",
    "MAX_SEALED",
    "QUIET",
    "Handshake",
    "HandshakeError",
    "Keyring",
    "Kind",
    "Reason",
    "Session",
    "hash_key",
]
