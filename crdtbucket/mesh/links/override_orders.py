"""Orders of operators about the limit of one key, which nodes check, keep and pass on."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from crdtbucket.base.packing import pack, unpack
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.ejections import MAX_COUNTER
from crdtbucket.mesh.links.node_key import PUBLIC_BYTES, SIGNATURE_BYTES, NodeKey, is_signed

MAX_TEXT = 200
"""Characters of the name of a bucket, and of a limit."""
MAX_KEY = 512
"""Bytes of a key in UTF-8."""
SHARDS = 256
Row = tuple[str, str, int, "str | None", bytes, bytes]
_SIGNED = b"crdtbucket override order 1 "


@dataclass(frozen=True, slots=True)
class OverrideOrder:
    """The limit of one key of one bucket."""

    bucket: str
    """Its canonical name."""
    key: str
    counter: int
    """Of two orders about one key the one with the higher counter holds."""
    limit: str | None
    """The name of a bucket, or a rate; None: the key has what it has without."""
    public: bytes
    """The operator's key; empty where no mesh asks for one."""
    signature: bytes

    @classmethod
    def sign(
        cls, signer: NodeKey, mesh_name: str, bucket: str, key: str, counter: int, limit: str | None
    ) -> OverrideOrder:
        """An order of whoever has the key `signer`. `counter`: above that of every earlier one
        about the key, up to 2^63 - 1. Raises `MeshError` for what cannot be ordered."""
        text = _text(mesh_name, bucket, key, counter, limit)
        return checked(cls(bucket, key, counter, limit, signer.public, signer.sign(text)))

    def is_signed(self, mesh_name: str) -> bool:
        """Whether the key that it shows has signed it, for the mesh of this name."""
        text = _text(mesh_name, self.bucket, self.key, self.counter, self.limit)
        return is_signed(text, self.signature, self.public)

    @property
    def about(self) -> tuple[str, str]:
        """The bucket and the key."""
        return self.bucket, self.key

    @property
    def rank(self) -> tuple[int, bool, str]:
        """The higher one of two about one key holds, on all nodes."""
        return self.counter, self.limit is None, self.limit or ""

    @property
    def shard(self) -> int:
        """The place of the key among `SHARDS`, the same on all nodes."""
        return hashlib.blake2b(pack(self.about), digest_size=1).digest()[0]

    @property
    def digest(self) -> int:
        """64 bits that stand for what it says."""
        said = pack((self.bucket, self.key, self.counter, self.limit))
        return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")

    def row(self) -> Row:
        """As it is sent and kept."""
        return self.bucket, self.key, self.counter, self.limit, self.public, self.signature

    def in_words(self) -> str:
        """For people."""
        said = "has no limit from outside" if self.limit is None else f"has {self.limit!r}"
        return f"key {self.key!r} of bucket {self.bucket!r} {said} (counter {self.counter})"

    def as_text(self) -> str:
        """One word of ASCII."""
        return base64.urlsafe_b64encode(pack([self.row()])).decode()

    @classmethod
    def from_text(cls, text: str) -> OverrideOrder:
        """The order in this word. Raises `MeshError`."""
        try:
            orders = list(read_overrides(unpack(base64.urlsafe_b64decode(text))))
        except (WireError, binascii.Error, ValueError) as error:
            raise MeshError(f"this is no order about a limit: {error}") from error
        if len(orders) != 1:
            raise MeshError(f"these are {len(orders)} orders: give one")
        return orders[0]


def checked(order: OverrideOrder) -> OverrideOrder:
    """The same order. Raises `MeshError` for one that says what cannot be ordered."""
    try:
        return next(read_overrides((order.row(),)))
    except WireError as error:
        raise MeshError(str(error)) from error


def packed_overrides(orders: Iterable[OverrideOrder]) -> bytes:
    """As `read_overrides` takes them, once they are unpacked."""
    return pack([order.row() for order in orders])


def read_overrides(rows: object) -> Iterator[OverrideOrder]:
    """The orders in these rows, whatever they are; raises `WireError`. Signatures are not looked
    at."""
    if not isinstance(rows, tuple):
        raise WireError("overrides that are no list")
    for row in rows:
        if not isinstance(row, tuple) or len(row) < 6:
            raise WireError("an override with too few parts")
        bucket, key, counter, limit, public, signature = row[:6]  # later versions append
        for name, text in (("bucket", bucket), ("limit", limit)):
            if name == "limit" and text is None:
                continue
            if not isinstance(text, str) or not 1 <= len(text) <= MAX_TEXT or not _encodes(text):
                raise WireError(f"an override with an impossible {name}")
        if not isinstance(key, str) or not _encodes(key) or not 1 <= len(key.encode()) <= MAX_KEY:
            raise WireError(f"an override with an impossible key: give 1 to {MAX_KEY} bytes")
        if type(counter) is not int or not 1 <= counter <= MAX_COUNTER:
            raise WireError("an override with an impossible counter")
        if type(public) is not bytes or type(signature) is not bytes:
            raise WireError("an override without a signature")
        if (len(public), len(signature)) not in ((PUBLIC_BYTES, SIGNATURE_BYTES), (0, 0)):
            raise WireError("an override without a signature")
        yield OverrideOrder(bucket, key, counter, limit, public, signature)


def _encodes(text: str) -> bool:
    return not any("\ud800" <= one <= "\udfff" for one in text)


def _text(mesh_name: str, bucket: str, key: str, counter: int, limit: str | None) -> bytes:
    return _SIGNED + pack((mesh_name, bucket, key, counter, limit))
