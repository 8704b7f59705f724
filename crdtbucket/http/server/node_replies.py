"""Models of the answers about a node and the nodes that it knows, for the OpenAPI document."""
# ruff: noqa: RUF012 - pydantic copies defaults

from __future__ import annotations

from typing import Literal

from crdtbucket.http.server.bodies import ModeName
from crdtbucket.http.server.replies import Reply


class OutageRule(Reply):
    """What callers of a bucket in fallback get."""

    rule: Literal["quota", "eventual", "deny", "allow"]
    """`on_outage`."""
    tokens: int | None = None
    """Of `quota`: what a key has on this node; of slots how many."""
    seconds: float | None = None
    """In which these tokens come back."""


class BucketInfo(Reply):
    """A bucket and its counts since this node started."""

    name: str
    capacity: int
    slots: int | None = None
    """Of a limit of what is in flight; else null."""
    refill_per_second: float
    mode: ModeName
    outage: OutageRule | None = None
    """Null but in fallback."""
    keys: int
    allowed: int
    denied: int
    granted: int
    refunded: int


class BucketsReply(Reply):
    """All buckets."""

    buckets: list[BucketInfo]


class HeavyKeyInfo(Reply):
    """A key and the tokens that were asked for it here, at most `error` too many."""

    key: str
    tokens: int
    error: int
    denied: int
    """Of those, tokens that were denied."""
    remaining: int


class HeavyKeysReply(Reply):
    """The heaviest keys first."""

    bucket: str
    counted: str
    """What the numbers count."""
    keys: list[HeavyKeyInfo]


class ConfigInfo(Reply):
    """The configuration that a node runs. `hash` is empty where the node has no file."""

    version: int
    hash: str
    stage: str


class OwnConfigInfo(ConfigInfo):
    """The configuration that this node runs, and how many it has taken and refused. `fault`: why
    the last one was refused, "" where it was not."""

    reloads: int
    refused: int
    fault: str


StatusName = Literal["running", "done", "halted", "rolled back"]


class RolloutInfo(Reply):
    """The newest version that a node has, and how that stands."""

    version: int
    hash: str
    status: StatusName


class CallCounts(Reply):
    """Calls that were admitted and denied."""

    admitted: int
    denied: int


class OldAndNewCounts(Reply):
    """The calls of a bucket that has keys of both versions, since the roll-out began."""

    old: CallCounts
    new: CallCounts


class RolloutReply(RolloutInfo):
    """The progress of the newest version on this node. Times are seconds."""

    before: int
    """The version that it replaces."""
    reason: str
    """Why it stands so, where that is known here."""
    stage: int
    """From 1."""
    stages: int
    reach: str
    """What this stage reaches, in words."""
    percent: int
    """Of the keys of this node."""
    since: float
    """Since it came here."""
    hold: float | None
    """How long a stage lasts; null: until an operator advances it."""
    halts: int
    """Times that this node halted it by itself."""
    buckets: dict[str, OldAndNewCounts]


class PeerInfo(Reply):
    """A node that this one knows; `config` is null where it has sent none."""

    name: str
    region: str
    state: Literal["alive", "suspect", "dead", "left"]
    lag: float | None = None
    """How old its newest round is, seconds."""
    fingerprint: str | None = None
    """Of the key that it has proved; null: none, or no link."""
    config: ConfigInfo | None = None
    rollout: RolloutInfo | None = None
    unseen: list[str] = []
    """Members that it says it does not see itself."""
    mode: ModeName | None = None
    """The worst mode of its buckets; null where it has sent none."""


class IdentityInfo(Reply):
    """The way in which names of nodes are bound to keys, and the key of this node."""

    policy: Literal["off", "pinned", "allowed", "certificate"]
    fingerprint: str | None = None
    operators: list[str] = []
    """Fingerprints of the keys whose orders hold, at most 32; none: what moves other nodes is
    not signed."""
    ejected: list[str] = []
    """Names of nodes and fingerprints of keys, at most 32."""
    rebound: dict[str, str] = {}
    """Fingerprints of keys that operators gave, at most 32."""


class UnreachedInfo(Reply):
    """An entry of `mesh.peers` that no node is linked at."""

    address: str
    node: str
    """The node last met there; empty when none was."""
    seconds: float
    """For how long."""
    reason: str
    """Why the last call made no link."""
    left: bool
    """That node said that it leaves: nothing is wrong."""


class PeersReply(Reply):
    """This node and those that it knows."""

    node: str
    region: str
    identity: IdentityInfo | None = None
    """Null without a mesh."""
    peers: list[PeerInfo]
    unreached: int = 0
    """Entries of `mesh.peers` that no node is linked at, but for those whose node said that it
    leaves."""
    alone: bool
    """It knows no peer, though it calls some: no call made a link."""


class OutageInfo(Reply):
    """A Redis that does not decide. Times are seconds."""

    seconds: float
    """For how long."""
    reason: str
    """Why it was left."""
    answering: float | None
    """For how long it has answered without a failure; null: it does not."""
    steady: float
    """For how long quickly enough."""
    stable_after: float
    """For how long it must."""
    gap: float
    """How long `least_return_gap` keeps it from a return."""


class RegionInfo(Reply):
    """Another region of a replicated Redis."""

    state: Literal["seen", "silent", "unknown"]
    late: float | None
    """Seconds that its updates are behind; null: never seen."""


class SnapshotInfo(Reply):
    """The last snapshot of a node in its `mesh.state_dir`."""

    age: float
    """How old it is, seconds."""
    fault: str
    """Why a newer one could not be written; empty where none failed."""


class CertificateInfo(Reply):
    """A certificate that a node shows to others."""

    left: float
    """Seconds until it expires; below 0 once it has."""
    validity: float
    """For how many seconds it was issued."""


class StatusReply(PeersReply):
    """The state of a node in one answer: what an operator asks for first."""

    ready: bool
    not_ready: str
    """Why no traffic should come; empty when ready."""
    warming_up: bool
    """It has no answer from the mesh yet."""
    buckets: list[BucketInfo]
    redis: dict[str, str]
    """The mode of each endpoint."""
    outages: dict[str, OutageInfo] = {}
    """The endpoints that do not decide."""
    redis_fault: str = ""
    """Why no Redis is used at all; empty where one is."""
    regions: dict[str, RegionInfo]
    """The other regions of a replicated Redis."""
    region_conflict: bool
    """Two servers have one region's name, or regions hash otherwise."""
    last_failure: str
    """Why the last call of a peer that failed made no link."""
    unreached_peers: list[UnreachedInfo] = []
    snapshot: SnapshotInfo | None = None
    """Null where the node keeps none."""
    certificates: dict[str, CertificateInfo] = {}
    """By their use: mesh, redis or serve; those that there are."""
    config: OwnConfigInfo
    rollout: RolloutReply | None = None


class DoctorCheckInfo(Reply):
    """One thing that was examined."""

    subject: str
    level: Literal["ok", "note", "wrong"]
    text: str
    """What was found; with wrong, what to do."""


class DoctorReply(Reply):
    """The results of an examination: of the node itself, and of everything that its file names."""

    ok: bool
    """Nothing is wrong."""
    checks: list[DoctorCheckInfo]


class HealthReply(Reply):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReloadReply(Reply):
    """The configuration that is in force now."""

    config: OwnConfigInfo
