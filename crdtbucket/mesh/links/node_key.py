"""The key of a node: it signs with it, others know it by its fingerprint, and keys for single links
are made beside it.

`cryptography` is imported where a key is used, so that a mesh without keys does not need it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from crdtbucket.errors import MeshError, WireError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
INSTALL = "pip install 'crdtbucket[identity]'"


class NodeKey:
    """An Ed25519 key. Whoever has its private half is the node."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        """The public half of the key, 32 bytes."""
        self.fingerprint = fingerprint_of(self.public)

    @classmethod
    def make(cls) -> NodeKey:
        """A new one. Raises `MeshError` when cryptography is not installed."""
        load_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes, source: str) -> NodeKey:
        """The key in these bytes. `source` names them in the `MeshError` for what is no key."""
        load_cryptography()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        fix = "give an Ed25519 private key in PEM without a password, as they come from "
        fix += "`crdtbucket identity make` and `openssl genpkey -algorithm ed25519`"
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            # The message of the error may repeat bytes of the key.
            raise MeshError(f"{source} holds no key that can be read: {fix}") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise MeshError(f"{source} holds a key of another kind: {fix}")
        return cls(private)

    def pem(self) -> bytes:
        """The private key as a file has it."""
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`: 64 bytes that only this key can make."""
        return self._private.sign(data)


class LinkKey:
    """An X25519 key for one handshake: both ends derive a secret from their two keys, which nobody
    else can derive."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def agree(self, theirs: bytes) -> bytes:
        """The secret that both ends share, 32 bytes. Raises `WireError` for a key that makes no
        secret."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError as error:  # of low order: everyone knows the result
            raise WireError("hello with a key for the link that keeps nothing secret") from error


def fingerprint_of(public: bytes) -> str:
    """The name that people use for a public key: "ed25519:" and 32 hex digits."""
    digest = hashlib.blake2b(public, digest_size=16, person=b"cb-mesh-key")
    return f"ed25519:{digest.hexdigest()}"


def is_signed(data: bytes, signature: bytes, public: bytes) -> bool:
    """Whether the key with this public half has signed `data`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_cryptography() -> None:
    """Imports what keys need. Raises `MeshError` when it is not installed."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401 - for what follows
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        raise MeshError(f"mesh.identity needs the package cryptography: {INSTALL}") from error
