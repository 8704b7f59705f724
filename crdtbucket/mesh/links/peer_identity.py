"""Who is at the other end of a link, and how that is known."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from crdtbucket.mesh.node_info import NodeInfo


class Proof(enum.Enum):
    """What stands for the name that a peer gave."""

    SECRET = "the shared secret"
    CERTIFICATE = "a certificate"
    NOTHING = "nothing: this machine alone can reach it"


@dataclass(frozen=True)
class PeerIdentity:
    """One process of a peer, after its handshake."""

    info: NodeInfo
    instance: int
    """Random 64 bits of the process; 0 of an observer, whose processes nobody tells apart."""
    proof: Proof


__all__ = ["PeerIdentity", "Proof"]
