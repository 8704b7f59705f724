"""The section about the mesh, and the `MeshConfig` that it describes; each fault at its place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crdtbucket.config.check import as_keys, masked, report_problem, validate
from crdtbucket.config.section import Section
from crdtbucket.config.source import Source, YamlNode
from crdtbucket.config.values import (
    Address,
    Addresses,
    Fingerprints,
    Seconds,
    SecondsOrNever,
    Secrets,
    SecretText,
    whole,
)
from crdtbucket.errors import ConfigError, MeshError
from crdtbucket.mesh.mesh_config import MeshConfig


class MeshTlsSection(Section):
    """Encryption towards peers, or towards the engine."""

    cert: str | None = None
    """certificate file (PEM) that this node shows its peers, or the engine"""
    key: str | None = None
    """private key file (PEM) of `cert`"""
    ca: str | None = None
    """file (PEM) of the authorities that sign peers' certificates: given, TLS is mutual; or that of
    the engine, without one the system's"""
    verify_peer: bool = True
    """`false` takes any certificate; the secret must then authenticate"""


class MeshSection(Section):
    """This node's part in the mesh; see `MeshConfig`, which checks what goes together."""

    settings = MeshConfig

    transport: Literal["sockets", "nats", "redis"] | None = None
    """what carries frames: WebSockets between nodes (`sockets`), or a message engine that all
    connect with, [`nats` or `redis`](transports.md)"""
    servers: Addresses | None = None
    """the engine's: a list, or text with commas, of nats://host:port (tls:// with TLS); or one
    redis://host:port (rediss:// with TLS)"""
    credentials: SecretText | None = Field(default=None, repr=False)
    """lets this node into the engine: `user:password`, a token, or the text of a .creds file"""
    subject_prefix: str | None = None
    """begins the subjects at an engine: letters, digits, - and _"""
    mesh_name: str | None = None
    """tells this mesh from others on one engine: letters, digits, - and _"""
    listen: Address | None = None
    """where peers connect; see [MeshConfig](api.md#meshconfig) for this and the rest"""
    advertise: Address | None = None
    """the address that is advertised to other nodes, where it is another"""
    peers: Addresses | None = None
    """nodes to call: a list, or text with commas"""
    secret: Secrets | None = Field(default=None, repr=False)
    """authenticates peers: 16 bytes or more; of a list the first is used and all are accepted"""
    observer_secret: SecretText | None = Field(default=None, repr=False)
    """for [those who only look](security.md#roles), of 16 bytes or more; needs `hash_secret`"""
    hash_secret: SecretText | None = Field(default=None, repr=False)
    """keys the hash of bucket keys; the same on all nodes for as long as the mesh lives"""
    tls: MeshTlsSection | None = None
    identity: Literal["off", "pinned", "allowed", "certificate"] | None = None
    """[what binds a node to its name](security.md#who-a-node-is): nothing but the secret (`off`),
    a key that is `pinned` when it is first met, or `allowed` by a list; or its `certificate`, which
    is the default with mutual TLS, and else `off`"""
    identity_key: SecretText | None = Field(default=None, repr=False)
    """private key (Ed25519, PEM) of this node; left out, that of `state_dir`, made when missing"""
    allowed_keys: Fingerprints | None = None
    """fingerprints of keys by the names of the nodes: a text for each, or a list"""
    operator_keys: Addresses | None = None
    """fingerprints of keys whose orders [eject nodes](security.md#ejecting-a-node) from the mesh,
    move roll-outs and [reset keys](security.md#signed-commands): a list, or text with commas"""
    gossip_interval: Seconds | None = None
    """time between two rounds to each peer"""
    partition_trust: Seconds | None = None
    """how long a silent peer's demand is still predicted; while it is a member, if left out"""
    partition_burst: Literal["whole", "share"] | None = None
    """tokens that a bucket holds at most while peers are silent: its `whole` capacity, on each side
    of a partition; or this side's `share` of it by demand"""
    forget_after: Seconds | None = None
    """silence after which a peer is no longer a member; 20 times `gossip_interval` at least"""
    ended_is_dead: SecondsOrNever | None = None
    """for so long calls to a peer whose connection ended must be refused, until it counts as dead;
    or `never`"""
    state_dir: str | None = None
    """folder for this node's epoch and snapshots; without one nothing is kept"""
    max_peers: Annotated[int, whole("max_peers", 1, 1024)] | None = None
    """connections to peers, at most"""
    expected_nodes: Annotated[int, whole("expected_nodes", 1, 1024)] | None = None
    """how many nodes the mesh has at least, where many are
    [reached through one other](transports.md#nodes-that-cannot-all-be-linked)"""


_TLS = {f"tls_{name}": f"tls.{name}" for name in MeshTlsSection.model_fields}
"""Fields of `MeshConfig` that a file has below `tls`, and how it calls them."""


def mesh_key(field: str) -> str:
    """What a file calls a field of `MeshConfig`, below its `mesh`."""
    return _TLS.get(field, field)


def mesh_config(node: YamlNode, source: Source) -> MeshConfig | None:
    """What `node`, a `mesh`, describes; None for faults, which are then in `source`."""
    mesh = validate(MeshSection, node, source)
    if mesh is None:
        return None
    fields = mesh.model_dump(exclude={"tls"}, exclude_none=True)
    if mesh.tls is not None:
        tls = mesh.tls.model_dump(exclude_none=True)
        fields |= {f"tls_{name}": value for name, value in tls.items()}
    try:
        return MeshConfig(**fields)
    except ConfigError as error:
        for problem in error.problems:
            field = problem.path.removeprefix("mesh.")
            report_problem(problem, _TLS.get(field, field), node, source, _as_keys)
    except MeshError as error:
        place, _ = node.find(("listen",))
        message, _, fix = str(error).removeprefix("mesh.").partition(": ")
        source.report_at(place, masked(message, node), _as_keys(fix))
    return None


def _as_keys(text: str) -> str:
    return as_keys(text, _TLS)
