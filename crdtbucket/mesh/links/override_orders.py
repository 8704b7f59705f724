"""Orders of operators about the limit of one key, which nodes check, keep and pass on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

from crdtbucket.base.packing import pack
from crdtbucket.errors import WireError
from crdtbucket.mesh.links.node_key import NodeKey, fingerprint_of
from crdtbucket.mesh.links.signed_orders import SignedOrder

MAX_TEXT = 200
"""Characters of the name of a bucket, and of a limit."""
MAX_KEY = 512
"""Bytes of a key in UTF-8."""
SHARDS = 256
MAX_RECORD = 1 << 20
"""Most orders in one record of a file, which never has more bytes than this."""


@dataclass(frozen=True, slots=True)
class OverrideOrder(SignedOrder):
    """The limit of one key of one bucket."""

    PURPOSE: ClassVar[bytes] = b"crdtbucket override order 1 "
    WHAT: ClassVar[str] = "order about a limit"
    MOST: ClassVar[int] = MAX_RECORD
    UNSIGNED: ClassVar[bool] = True
    bucket: str
    """The canonical name of the bucket."""
    key: str
    counter: int
    """Of two orders about one key the one with the higher counter holds."""
    limit: str | None
    """The name of a bucket, or a rate; None: the order takes the limit away."""
    public: bytes
    """The operator's key; empty where no mesh asks for one."""
    signature: bytes

    @classmethod
    def sign(
        cls, signer: NodeKey, mesh_name: str, bucket: str, key: str, counter: int, limit: str | None
    ) -> OverrideOrder:
        """An order of the operator with the key `signer`. `counter`: above that of every earlier
        order about the key, up to 2^63 - 1. Raises `MeshError` for an impossible order."""
        return cls(bucket, key, counter, limit, b"", b"").signed_with(signer, mesh_name)

    @property
    def about(self) -> tuple[str, str]:
        """The bucket and the key that the order is about."""
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
        """64 bits that stand for the content of the order."""
        said = pack((self.bucket, self.key, self.counter, self.limit))
        return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")

    def in_words(self) -> str:
        """The order in words, for people."""
        said = "has no limit from outside" if self.limit is None else f"has {self.limit!r}"
        by = f"operator {fingerprint_of(self.public)}, " if self.public else ""
        return f"key {self.key!r} of bucket {self.bucket!r} {said} ({by}counter {self.counter})"

    def is_known(self) -> bool:
        """True: no version knows other orders about limits."""
        if not _is_name(self.bucket):
            raise WireError("an override with an impossible bucket")
        if self.limit is not None and not _is_name(self.limit):
            raise WireError("an override with an impossible limit")
        if not _encodes(self.key) or not 1 <= len(self.key.encode()) <= MAX_KEY:
            raise WireError(f"an override with an impossible key: give 1 to {MAX_KEY} bytes")
        return True


def _is_name(text: object) -> bool:
    return _encodes(text) and 1 <= len(text) <= MAX_TEXT


def _encodes(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and not any("\ud800" <= one <= "\udfff" for one in text)
