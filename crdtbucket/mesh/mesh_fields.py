"""The settings of one node's part in the mesh, not checked yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from crdtbucket.base.setting_checks import HOST_PORT, SecondsRange, WholeRange

Secret = str | bytes
NEVER: Literal["never"] = "never"
MONTH_S = 2_592_000.0


@dataclass(frozen=True)
class MeshFields:
    """The fields of `MeshConfig`; spans are seconds. The text below each field is copied into the
    docs and into the schema of a file; see `keys_of`."""

    transport: Literal["sockets", "nats", "redis"] = "sockets"
    """What carries frames: WebSockets between nodes (`sockets`), or a message engine that all nodes
    connect to, [`nats` or `redis`](transports.md)."""
    servers: Sequence[str] = ()
    """Servers of the engine: `nats://host:4222` (tls:// with TLS), any of which will do; or one
    `redis://host:6379` (rediss:// with TLS)."""
    credentials: str | None = field(default=None, repr=False)
    """Lets this node into the engine: `user:password`; for NATS also a token, or the text of a
    .creds file, for Redis also a password alone."""
    subject_prefix: str = "cb"
    """The first part of the subjects of all meshes on an engine: letters, digits, - and _."""
    mesh_name: str = "mesh"
    """Distinguishes this mesh from others on the same engine: letters, digits, - and _."""
    listen: Annotated[str, HOST_PORT] = "127.0.0.1:7946"
    """The address at which peers connect, `host:port`; port 0 takes a free one."""
    advertise: Annotated[str, HOST_PORT] | None = None
    """The address that other nodes are to use, if it differs from `listen`."""
    peers: Sequence[str] = ()
    """Nodes to call: `host:port`, or `dns+host:port` for every address of a name, which is resolved
    again about every 10 s. A few are enough."""
    secret: Secret | Sequence[Secret] | None = field(default=None, repr=False)
    """Authenticates peers and frames: at least 16 random bytes. If there are several, the first is
    used and all are accepted, so that [a secret can be
    changed](security.md#changing-secrets-and-keys) node by node."""
    observer_secret: Secret | None = field(default=None, repr=False)
    """The secret of [observers](security.md#roles), which read the state of nodes, change nothing
    and are not members. At least 16 bytes. It needs `hash_secret`, which observers need, too."""
    hash_secret: Secret | None = field(default=None, repr=False)
    """The secret with which bucket keys are hashed; the same on all nodes for as long as the mesh
    lives, and on all users of a Redis."""
    tls_cert: str | None = None
    """Certificate file (PEM) that this node shows its peers, or the engine."""
    tls_key: str | None = None
    """Private key file (PEM) of `tls_cert`."""
    tls_ca: str | None = None
    """File (PEM) of the authorities that sign peers' certificates; with it, TLS is mutual. On an
    engine: of those that sign the engine's certificate, the system's if left out."""
    tls_verify_peer: bool = True
    """If false, any certificate is accepted; the secret must then authenticate."""
    identity: Literal["off", "pinned", "allowed", "certificate"] | None = None
    """[What binds a node to its name](security.md#who-a-node-is): nothing but the secret (`off`); a
    key of its own, which each node pins to the name when it first meets it (`pinned`), or which is
    listed in `allowed_keys` (`allowed`); or the DNS name in its `certificate`. The default is
    `certificate` with mutual TLS, else `off`."""
    identity_key: str | None = field(default=None, repr=False)
    """Private key (Ed25519, PEM) of this node. If left out, the node uses the one in `state_dir`,
    and makes it when it is missing."""
    allowed_keys: Mapping[str, str | Sequence[str]] | None = field(default=None, hash=False)
    """For each node name, the fingerprint of its key, or of several keys."""
    operator_keys: Sequence[str] = ()
    """Fingerprints of the operators' keys. Their orders [eject nodes](security.md#ejecting-a-node),
    give them [another key](security.md#a-node-that-lost-its-key), and [move roll-outs and reset
    keys](security.md#signed-commands); with one, such commands have to be signed."""
    gossip_interval: Annotated[float, SecondsRange(0.01, 10.0)] = 0.1
    """Time between two rounds to a peer, 0.01 to 10 seconds; the same on all nodes."""
    partition_trust: Annotated[float, SecondsRange(0.0, MONTH_S)] | None = None
    """How long a silent peer's demand is still predicted, up to 30 days; if left out, for as long
    as it is a member."""
    partition_burst: Literal["whole", "share"] = "whole"
    """How many tokens a bucket holds at most while peers are silent. `whole`: its capacity, so each
    side of a partition may burst to it. `share`: this side's share of the capacity by demand, so
    all sides together burst to one capacity, but a burst on one side alone gets only its share. A
    call that costs more than the share is denied until the peers are back."""
    forget_after: Annotated[float, SecondsRange(1.0, MONTH_S)] = 900.0
    """A peer that is silent for longer is no longer a member; 1 second (and 20 `gossip_interval`)
    to 30 days."""
    ended_is_dead: Annotated[float, SecondsRange(1.0, MONTH_S, NEVER)] | Literal["never"] = 10.0
    """How long all calls to a peer whose connection has ended must be refused before it counts as
    [dead](security.md#dead-or-cut-off), and its share is free for others; 1 second to 30 days, or
    `never`: then its share is free after `forget_after`."""
    state_dir: str | os.PathLike[str] | None = None
    """Directory for this node's epoch and snapshots; without one nothing is kept."""
    max_peers: Annotated[int, WholeRange(1, 1024)] = 64
    """Connections to peers, 1 to 1024."""
    expected_nodes: Annotated[int, WholeRange(1, 1024)] = 1
    """How many nodes the mesh has at least, this one included, 1 to 1024. Set it if many nodes [are
    reached only through one other](transports.md#nodes-that-cannot-all-be-linked): the share that
    is guaranteed to each is computed from this number."""

    @property
    def mutual_tls(self) -> bool:
        """Whether both sides of a connection prove their identity by a certificate."""
        return self.tls_ca is not None and self.tls_verify_peer

    @property
    def identity_policy(self) -> Literal["off", "pinned", "allowed", "certificate"]:
        """`identity`, or its default if it is not given."""
        if self.identity is not None:
            return self.identity
        return "certificate" if self.transport == "sockets" and self.mutual_tls else "off"
