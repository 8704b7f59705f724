"""The identity of the peer of a link, and the proof of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from crdtbucket.mesh.links.node_key import fingerprint_of
from crdtbucket.mesh.node_info import NodeInfo


class Proof(enum.Enum):
    """The proof of the name that a peer gave."""

    SECRET = "the shared secret"
    KEY = "a key of its own"
    CERTIFICATE = "a certificate"
    NOTHING = "nothing: this machine alone can reach it"


@dataclass(frozen=True)
class PeerIdentity:
    """One process of a peer, after its handshake."""

    info: NodeInfo
    instance: int
    """Random 64 bits of the process; 0 for an observer, whose processes are not distinguished."""
    proof: Proof
    key: bytes | None = None
    """The public half of the key by which it has signed the handshake; None if it did not sign."""

    used: bytes = b""
    """The name by which a `Keyring` knows the secret that both ends had."""
    certified_names: tuple[str, ...] = ()
    """The names (DNS) in the certificate that it has shown."""

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of `key`."""
        return None if self.key is None else fingerprint_of(self.key)
