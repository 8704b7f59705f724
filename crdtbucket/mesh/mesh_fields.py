"""The settings of one node's part in the mesh, not checked yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Secret = str | bytes


@dataclass(frozen=True)
class MeshFields:
    """The fields of `MeshConfig`."""

    transport: Literal["sockets", "nats", "redis"] = "sockets"
    """What carries frames: WebSockets between nodes, or a message engine that all connect with."""
    servers: Sequence[str] = ()
    """Servers of the engine: "nats://host:4222" (tls:// with TLS), any of which will do; or one
    "redis://host:6379" (rediss:// with TLS)."""
    credentials: str | None = field(default=None, repr=False)
    """What lets this node into the engine: "user:password"; for NATS also a token, or the text of
    a .creds file, for Redis also a password alone."""
    subject_prefix: str = "cb"
    """Begins the subjects of all meshes on an engine: letters, digits, - and _."""
    mesh_name: str = "mesh"
    """Tells this mesh from others on one engine: letters, digits, - and _."""
    listen: str = "127.0.0.1:7946"
    """Where peers connect, "host:port"; port 0 takes a free one."""
    advertise: str | None = None
    """The address that is advertised to other nodes, where it differs from `listen`."""
    peers: Sequence[str] = ()
    """Nodes to call: "host:port", or "dns+host:port" for every address of a name."""
    secret: Secret | Sequence[Secret] | None = field(default=None, repr=False)
    """Authenticates peers and frames. Of several the first is used and all are accepted, so that
    a secret can be changed node by node. At least 16 bytes each, and random."""
    observer_secret: Secret | None = field(default=None, repr=False)
    """Lets those in who may look at counts, change nothing, and are no members. It needs
    `hash_secret`, which they are given, too."""
    hash_secret: Secret | None = field(default=None, repr=False)
    """Keys the hash of bucket keys; the same on all nodes for as long as the mesh lives."""
    tls_cert: str | None = None
    """Certificate file (PEM) that this node shows."""
    tls_key: str | None = None
    """Private key file (PEM) of `tls_cert`."""
    tls_ca: str | None = None
    """Authorities (PEM) that sign peers' certificates; given, TLS is mutual."""
    tls_verify_peer: bool = True
    """False keeps TLS but takes any certificate; the secret must then authenticate."""
    identity: Literal["off", "pinned", "allowed", "certificate"] | None = None
    """What binds a node to its name: nothing but the secret; a key of its own, which each node pins
    to the name when it first meets it, or which stands in `allowed_keys`; or the name (DNS) in its
    certificate, with mutual TLS. None: its certificate where TLS is mutual, else nothing."""
    identity_key: str | None = field(default=None, repr=False)
    """Private key (Ed25519, PEM) of this node; None: the one in `state_dir`, made when missing."""
    allowed_keys: Mapping[str, str | Sequence[str]] | None = field(default=None, hash=False)
    """Fingerprints of the keys by the names of the nodes, one or several for each."""
    operator_keys: Sequence[str] = ()
    """Fingerprints of the keys whose orders eject nodes and keys from the mesh, move roll-outs and
    reset keys; with one, such commands have to be signed."""
    gossip_interval: float = 0.1
    """Seconds between two rounds to a peer, 0.01 to 10."""
    partition_trust: float | None = None
    """Seconds for which a silent peer's demand is still predicted; None: while a member."""
    partition_burst: Literal["whole", "share"] = "whole"
    """How many tokens a bucket holds at most while peers are silent: its whole capacity, so that
    each side of a partition may burst to it; or this side's share of it by demand, so that all
    sides together burst to one capacity, and a burst on one side alone gets no more than that."""
    forget_after: float = 900.0
    """Seconds of silence until a peer is no member, 1 (and 20 `gossip_interval`) to 30 days."""
    ended_is_dead: float | Literal["never"] = 10.0
    """Seconds for which every call to a peer whose connection ended must be refused, until it
    counts as dead and what was set aside for it is free, 1 to 30 days; "never": not before
    `forget_after`."""
    state_dir: str | os.PathLike[str] | None = None
    """Directory for this node's epoch and snapshots; None keeps nothing."""
    max_peers: int = 64
    """Connections to peers, 1 to 1024."""
    expected_nodes: int = 1
    """How many nodes the mesh has at least, this one included, 1 to 1024: where many of them are
    reached through one other each, what is guaranteed to each goes by this number."""

    @property
    def mutual_tls(self) -> bool:
        """Whether both sides of a connection prove themselves by certificate."""
        return self.tls_ca is not None and self.tls_verify_peer

    @property
    def identity_policy(self) -> Literal["off", "pinned", "allowed", "certificate"]:
        """`identity`, or what it is where it is not given."""
        if self.identity is not None:
            return self.identity
        return "certificate" if self.transport == "sockets" and self.mutual_tls else "off"
