"""Models of the answers about a node and the nodes that it knows, for the OpenAPI document."""
# ruff: noqa: RUF012 - pydantic copies defaults

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crdtbucket.http.server.bodies import ModeName
from crdtbucket.http.server.replies import Reply


class OutageRule(Reply):
    """What callers of a bucket in fallback get."""

    rule: Annotated[
        Literal["quota", "eventual", "deny", "allow"], Field(description="`on_outage`.")
    ]
    tokens: Annotated[
        int | None,
        Field(description="Of `quota`: what a key has on this node; of slots how many."),
    ] = None
    seconds: Annotated[float | None, Field(description="In which these tokens come back.")] = None


class BucketInfo(Reply):
    """A bucket and its counts since this node started."""

    name: str
    capacity: int
    slots: Annotated[
        int | None, Field(description="Of a limit of what is in flight; else null.")
    ] = None
    refill_per_second: float
    mode: ModeName
    outage: Annotated[OutageRule | None, Field(description="Null but in fallback.")] = None
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
    denied: Annotated[int, Field(description="Of those, tokens that were denied.")]
    remaining: int


class HeavyKeysReply(Reply):
    """The heaviest keys first."""

    bucket: str
    counted: Annotated[str, Field(description="What the numbers count.")]
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

    before: Annotated[int, Field(description="The version that it replaces.")]
    reason: Annotated[str, Field(description="Why it stands so, where that is known here.")]
    stage: Annotated[int, Field(description="From 1.")]
    stages: int
    reach: Annotated[str, Field(description="What this stage reaches, in words.")]
    percent: Annotated[int, Field(description="Of the keys of this node.")]
    since: Annotated[float, Field(description="Since it came here.")]
    hold: Annotated[
        float | None,
        Field(description="How long a stage lasts; null: until an operator advances it."),
    ]
    halts: Annotated[int, Field(description="Times that this node halted it by itself.")]
    buckets: dict[str, OldAndNewCounts]


class PeerInfo(Reply):
    """A node that this one knows; `config` is null where it has sent none."""

    name: str
    region: str
    state: Literal["alive", "suspect", "dead", "left"]
    lag: Annotated[float | None, Field(description="How old its newest round is, seconds.")] = None
    fingerprint: Annotated[
        str | None, Field(description="Of the key that it has proved; null: none, or no link.")
    ] = None
    config: ConfigInfo | None = None
    rollout: RolloutInfo | None = None
    unseen: Annotated[
        list[str], Field(description="Members that it says it does not see itself.")
    ] = []
    mode: Annotated[
        ModeName | None,
        Field(description="The worst mode of its buckets; null where it has sent none."),
    ] = None


class IdentityInfo(Reply):
    """The way in which names of nodes are bound to keys, and the key of this node."""

    policy: Literal["off", "pinned", "allowed", "certificate"]
    fingerprint: str | None = None
    operators: Annotated[
        list[str],
        Field(
            description="Fingerprints of the keys whose orders hold, at most 32; none: what moves "
            "other nodes is not signed."
        ),
    ] = []
    ejected: Annotated[
        list[str], Field(description="Names of nodes and fingerprints of keys, at most 32.")
    ] = []
    rebound: Annotated[
        dict[str, str], Field(description="Fingerprints of keys that operators gave, at most 32.")
    ] = {}


class UnreachedInfo(Reply):
    """An entry of `mesh.peers` that no node is linked at."""

    address: str
    node: Annotated[str, Field(description="The node last met there; empty when none was.")]
    seconds: Annotated[float, Field(description="For how long.")]
    reason: Annotated[str, Field(description="Why the last call made no link.")]
    left: Annotated[bool, Field(description="That node said that it leaves: nothing is wrong.")]


class PeersReply(Reply):
    """This node and those that it knows."""

    node: str
    region: str
    identity: Annotated[IdentityInfo | None, Field(description="Null without a mesh.")] = None
    peers: list[PeerInfo]
    unreached: Annotated[
        int,
        Field(
            description="Entries of `mesh.peers` that no node is linked at, but for those whose "
            "node said that it leaves."
        ),
    ] = 0
    alone: Annotated[
        bool, Field(description="It knows no peer, though it calls some: no call made a link.")
    ]


class OutageInfo(Reply):
    """A Redis that does not decide. Times are seconds."""

    seconds: Annotated[float, Field(description="For how long.")]
    reason: Annotated[str, Field(description="Why it was left.")]
    answering: Annotated[
        float | None,
        Field(description="For how long it has answered without a failure; null: it does not."),
    ]
    steady: Annotated[float, Field(description="For how long quickly enough.")]
    stable_after: Annotated[float, Field(description="For how long it must.")]
    gap: Annotated[float, Field(description="How long `least_return_gap` keeps it from a return.")]


class RegionInfo(Reply):
    """Another region of a replicated Redis."""

    state: Literal["seen", "silent", "unknown"]
    late: Annotated[
        float | None, Field(description="Seconds that its updates are behind; null: never seen.")
    ]


class SnapshotInfo(Reply):
    """The last snapshot of a node in its `mesh.state_dir`."""

    age: Annotated[float, Field(description="How old it is, seconds.")]
    fault: Annotated[
        str, Field(description="Why a newer one could not be written; empty where none failed.")
    ]


class CertificateInfo(Reply):
    """A certificate that a node shows to others."""

    left: Annotated[float, Field(description="Seconds until it expires; below 0 once it has.")]
    validity: Annotated[float, Field(description="For how many seconds it was issued.")]


class StatusReply(PeersReply):
    """The state of a node in one answer: what an operator asks for first."""

    ready: bool
    not_ready: Annotated[str, Field(description="Why no traffic should come; empty when ready.")]
    warming_up: Annotated[bool, Field(description="It has no answer from the mesh yet.")]
    buckets: list[BucketInfo]
    redis: Annotated[dict[str, str], Field(description="The mode of each endpoint.")]
    outages: Annotated[
        dict[str, OutageInfo], Field(description="The endpoints that do not decide.")
    ] = {}
    redis_fault: Annotated[
        str, Field(description="Why no Redis is used at all; empty where one is.")
    ] = ""
    regions: Annotated[
        dict[str, RegionInfo], Field(description="The other regions of a replicated Redis.")
    ]
    region_conflict: Annotated[
        bool, Field(description="Two servers have one region's name, or regions hash otherwise.")
    ]
    last_failure: Annotated[
        str, Field(description="Why the last call of a peer that failed made no link.")
    ]
    unreached_peers: list[UnreachedInfo] = []
    snapshot: Annotated[
        SnapshotInfo | None, Field(description="Null where the node keeps none.")
    ] = None
    certificates: Annotated[
        dict[str, CertificateInfo],
        Field(description="By their use: mesh, redis or serve; those that there are."),
    ] = {}
    config: OwnConfigInfo
    rollout: RolloutReply | None = None


class DoctorCheckInfo(Reply):
    """One thing that was examined."""

    subject: str
    level: Literal["ok", "note", "wrong"]
    text: Annotated[str, Field(description="What was found; with wrong, what to do.")]


class DoctorReply(Reply):
    """The results of an examination: of the node itself, and of everything that its file names."""

    ok: Annotated[bool, Field(description="Nothing is wrong.")]
    checks: list[DoctorCheckInfo]


class HealthReply(Reply):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReloadReply(Reply):
    """The configuration that is in force now."""

    config: OwnConfigInfo
