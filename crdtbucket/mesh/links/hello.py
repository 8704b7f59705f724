"""The first message on a link, in both directions: it introduces the sender and shows what it can
prove.

Layout, big endian: magic, lowest and highest protocol version (u8 each), nonce, instance, epoch
and age (u64 each), fingerprint of the hash key, number of key ids (u8) and the ids, then name,
region and address (u16 length and UTF-8 each), then the role (u8), then 1 and the two public keys
of a node that has a key of its own, else 0, then flags (u8; 1: it is established) and when its
process began (u64). Hellos before version 3 may end before the role, the keys or the flags, and are
read so that their version can be named; later ones append. What follows is ignored here, yet is
authenticated with the rest.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import NamedTuple

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.node_key import PUBLIC_BYTES, NodeKey
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.wire import MAX_NAME

MAGIC = b"CBKM"
VERSION = 3
NONCE_BYTES = 32
KEY_ID_BYTES = 8
MAX_KEY_IDS = 16
MAX_HELLO = 2048
MAX_AGE_NS = 2**62
"""No process is older, and the time at which it began fits into 64 bits with a sign."""

_HEAD = struct.Struct(f">4sBB{NONCE_BYTES}sQQQ8sB")
_LENGTH = struct.Struct(">H")
_KEYS = struct.Struct(f">B{PUBLIC_BYTES}s{PUBLIC_BYTES}s")
_NO_KEYS, _ED25519 = 0, 1
"""The kinds of keys that this version knows; numbers are never reused."""
_END = struct.Struct(">BQ")
_ESTABLISHED = 1


class Role(enum.IntEnum):
    """The role that the caller asks for. Numbers are never reused."""

    MEMBER = 0
    OBSERVER = 1
    """An observer reads counts and brings counts, takes nothing, and is no member."""


class Introduction(NamedTuple):
    """What this process says about itself in all its hellos."""

    info: NodeInfo
    instance: int
    """64 random bits of the process."""
    role: Role = Role.MEMBER
    node_key: NodeKey | None = None
    """The key by which the node is known, if it has one of its own."""
    cluster: str = ""
    """The name of the mesh in which it is known by that key."""


class PublicKeys(NamedTuple):
    """The two public keys that a node with a key of its own shows, 32 bytes each."""

    node: bytes
    """By which it signs the handshake."""
    link: bytes
    """The key for this link alone."""


@dataclass(frozen=True)
class Hello:
    """One side's introduction. Nothing in it is believed before the handshake is over."""

    info: NodeInfo
    instance: int
    """Random 64 bits of the process: they show whether a second link is to the same process."""
    nonce: bytes
    fingerprint: bytes
    """A digest of the nonce keyed by the hash key: it shows whether two keys are equal, and not the
    keys."""
    key_ids: tuple[bytes, ...]
    """One for each accepted secret, the one used first."""
    lowest: int = VERSION
    highest: int = VERSION
    role: Role = Role.MEMBER
    keys: PublicKeys | None = None

    def encode(self) -> bytes:
        """The message's bytes. Raises `MeshError` for what no hello can say."""
        info = self.info
        if len(self.key_ids) > MAX_KEY_IDS:
            raise MeshError(f"{len(self.key_ids)} secrets: at most {MAX_KEY_IDS} can be accepted")
        head = _HEAD.pack(
            MAGIC,
            self.lowest,
            self.highest,
            self.nonce,
            self.instance,
            info.epoch,
            info.age_ns,
            self.fingerprint,
            len(self.key_ids),
        )
        texts = (info.name, info.region, info.address)
        keys = bytes((_NO_KEYS,)) if self.keys is None else _KEYS.pack(_ED25519, *self.keys)
        flags = _ESTABLISHED if info.established else 0
        end = bytes((self.role,)) + keys + _END.pack(flags, info.began)
        return b"".join((head, *self.key_ids, *map(_pack_text, texts), end))


def decode(data: bytes) -> Hello:
    """The hello in `data`, whatever bytes these are; raises `WireError` when there is none."""
    if not _HEAD.size <= len(data) <= MAX_HELLO or data[:4] != MAGIC:
        raise WireError("the first message is not a hello of this protocol")
    _, lowest, highest, nonce, instance, epoch, age_ns, fingerprint, count = _HEAD.unpack_from(data)
    if lowest > highest or not 1 <= count <= MAX_KEY_IDS:
        raise WireError("hello with impossible versions or number of keys")
    if age_ns > MAX_AGE_NS:
        raise WireError("hello of a process of an impossible age")
    if not epoch:
        raise WireError("hello of a process without an epoch")
    end = _HEAD.size + count * KEY_ID_BYTES
    ids = data[_HEAD.size : end]
    if len(ids) != count * KEY_ID_BYTES:
        raise WireError("hello ends within its key ids")
    name, end = _read_text(data, end)
    region, end = _read_text(data, end)
    address, end = _read_text(data, end)
    if not name:
        raise WireError("hello without a node name")
    role = _read_role(data, end)
    keys, end = _read_keys(data, end + 1)
    flags, began = _END.unpack_from(data, end) if end + _END.size <= len(data) else (0, 0)
    return Hello(
        NodeInfo(name, region, epoch, address, age_ns, bool(flags & _ESTABLISHED), began),
        instance,
        nonce,
        fingerprint,
        tuple(ids[at : at + KEY_ID_BYTES] for at in range(0, len(ids), KEY_ID_BYTES)),
        lowest,
        highest,
        role,
        keys,
    )


def _pack_text(text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_NAME or not text.isprintable():
        raise MeshError(
            f"{text!r} cannot be said to peers: give a node's name and region of at most "
            f"{MAX_NAME} bytes, all printable"
        )
    return _LENGTH.pack(len(data)) + data


def _read_role(data: bytes, at: int) -> Role:
    if at == len(data):
        return Role.MEMBER
    try:
        return Role(data[at])
    except ValueError as error:
        raise WireError(f"hello with role {data[at]}, which is of a later version") from error


def _read_keys(data: bytes, at: int) -> tuple[PublicKeys | None, int]:
    """The keys, and where they end: at the end of all where only later versions know the kind."""
    if at >= len(data) or data[at] not in (_NO_KEYS, _ED25519):
        return None, len(data)
    if data[at] == _NO_KEYS:
        return None, at + 1
    if at + _KEYS.size > len(data):
        raise WireError("hello ends within its keys")
    _, *keys = _KEYS.unpack_from(data, at)
    return PublicKeys(*keys), at + _KEYS.size


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    start = at + _LENGTH.size
    if start > len(data):
        raise WireError("hello ends within a text")
    (length,) = _LENGTH.unpack_from(data, at)
    end = start + length
    if length > MAX_NAME or end > len(data):  # frames that name the node would be malformed
        raise WireError("hello with a text that is too long")
    try:
        text = data[start:end].decode()
    except UnicodeDecodeError as error:
        raise WireError("hello with a text that is not UTF-8") from error
    if not text.isprintable():  # the text is shown in log lines
        raise WireError("hello with a text that is not printable")
    return text, end
