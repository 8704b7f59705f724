"""Bodies of requests and answers: what is checked here is what the OpenAPI document says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from crdtbucket._core import MAX_COST, MAX_KEY_BYTES, MAX_SETTLE

MAX_TAKES = 256
MIN_TTL_S, MAX_TTL_S = 0.001, 3_600.0
MAX_TOP = 500


def _fits(key: str) -> str:
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise ValueError(f"has {size} bytes in UTF-8, at most {MAX_KEY_BYTES} are allowed")
    return key


BucketName = Annotated[
    str, Field(min_length=1, max_length=200, description="As `GET /v1/buckets` lists it.")
]
Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_KEY_BYTES,
        description="What is limited: a tenant, an address. At most 512 bytes in UTF-8.",
    ),
    AfterValidator(_fits),
]
Cost = Annotated[int, Field(ge=1, le=MAX_COST, description="Tokens, at most the capacity.")]
Id = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]
ModeName = Literal["strong", "eventual", "fallback"]


class Body(BaseModel):
    """Of a request: no unknown names, and no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Peek(Body):
    """A decision that is only asked about."""

    bucket: BucketName
    key: Key
    cost: Cost = 1


class Take(Peek):
    """A decision."""

    refundable: Annotated[bool, Field(description="Answer with an `id` for /v1/refund.")] = False


class TakeMany(Body):
    """Decisions on several keys."""

    takes: Annotated[list[Peek], Field(min_length=1, max_length=MAX_TAKES)]
    together: Annotated[
        bool, Field(description="All of them, or none and 429; else each on its own.")
    ] = False


class Refund(Body):
    """Gives back an admitted take."""

    id: Id
    tokens: Annotated[
        int | None, Field(ge=1, le=MAX_COST, description="By default all that was taken.")
    ] = None


class Reserve(Body):
    """Sets an estimate aside."""

    bucket: BucketName
    key: Key
    estimate: Cost
    ttl: Annotated[
        float,
        Field(
            ge=MIN_TTL_S,
            le=MAX_TTL_S,
            allow_inf_nan=False,
            description="Seconds after which the estimate goes back.",
        ),
    ] = 60.0


class Commit(Body):
    """Replaces a reserved estimate by the true cost; 0 releases it."""

    id: Id
    actual: Annotated[int, Field(ge=0, le=MAX_SETTLE)]


class Reset(Body):
    """Fills a key."""

    bucket: BucketName
    key: Key


class Steer(Body):
    """A command to the roll-out of a version."""

    action: Annotated[
        Literal["advance", "halt", "rollback"],
        Field(description="To the next stage; stay as it is; the version before again."),
    ]


class Answer(BaseModel):
    """Of the server."""

    model_config = ConfigDict(extra="forbid")


class Decided(Answer):
    """How a call was decided. Times are seconds."""

    allowed: bool
    limit: Annotated[int, Field(description="The capacity.")]
    remaining: Annotated[int, Field(description="Whole tokens that are left.")]
    retry_after: Annotated[float, Field(description="Until the same cost could pass; 0 if it did.")]
    reset_after: Annotated[float, Field(description="Until the bucket is full.")]
    mode: ModeName


class Taken(Decided):
    """An admitted take."""

    id: Annotated[str | None, Field(description="For /v1/refund, where it was asked for.")] = None


class Reserved(Decided):
    """An estimate that is set aside."""

    id: str


class OneOfMany(Answer):
    """One answer of several."""

    allowed: bool
    remaining: int
    retry_after: float


class TakenMany(Answer):
    """Answers in the order of the takes."""

    results: list[OneOfMany]


class Refunded(Answer):
    """What came back: 0 when the bucket has been full since."""

    refunded: int


class Committed(Answer):
    """What is charged now; `late` when the estimate had gone back before."""

    actual: int
    late: bool


class BucketNow(Answer):
    """A bucket and its counts since this node started."""

    name: str
    capacity: int
    refill_per_second: float
    mode: ModeName
    keys: int
    allowed: int
    denied: int
    granted: int
    refunded: int


class Buckets(Answer):
    """All buckets."""

    buckets: list[BucketNow]


class HeavyKey(Answer):
    """A key and the tokens that were asked for it here, at most `error` too many."""

    key: str
    tokens: int
    error: int
    denied: Annotated[int, Field(description="Of those, tokens that were denied.")]
    remaining: int


class HeavyKeys(Answer):
    """The heaviest keys first."""

    bucket: str
    counted: Annotated[str, Field(description="What the numbers count.")]
    keys: list[HeavyKey]


class ConfigNow(Answer):
    """Which configuration a node runs; `hash` is empty where it has no file."""

    version: int
    hash: str
    stage: str


class ConfigHere(ConfigNow):
    """Which configuration this node runs, and how many it has taken and refused."""

    reloads: int
    refused: int


StatusName = Literal["running", "done", "halted", "rolled back"]


class RolloutOf(Answer):
    """The newest version that a node has, and how that stands."""

    version: int
    hash: str
    status: StatusName


class Sides(Answer):
    """Calls that were admitted and denied."""

    admitted: int
    denied: int


class OldAndNew(Answer):
    """Of a bucket that has keys of both versions, since the roll-out began."""

    old: Sides
    new: Sides


class RolloutNow(RolloutOf):
    """How far the newest version is, on this node. Times are seconds."""

    before: Annotated[int, Field(description="The version that it replaces.")]
    reason: Annotated[str, Field(description="Why it stands so, where that is known here.")]
    stage: Annotated[int, Field(description="From 1.")]
    stages: int
    reach: Annotated[str, Field(description="What this stage reaches, in words.")]
    percent: Annotated[int, Field(description="Of the keys of this node.")]
    since: Annotated[float, Field(description="Since it came here.")]
    hold: Annotated[float | None, Field(description="How long a stage lasts; null: until told.")]
    halts: Annotated[int, Field(description="Times that this node halted it by itself.")]
    buckets: dict[str, OldAndNew]


class Peer(Answer):
    """A node that this one knows; `config` is null where it told none."""

    name: str
    region: str
    state: Literal["alive", "suspect", "dead", "left"]
    lag: Annotated[float | None, Field(description="How old its newest round is, seconds.")] = None
    config: ConfigNow | None = None
    rollout: RolloutOf | None = None


class Peers(Answer):
    """This node and those that it knows."""

    node: str
    region: str
    peers: list[Peer]


class Status(Peers):
    """What an operator asks first."""

    ready: bool
    cautious: Annotated[bool, Field(description="It has not heard the mesh yet.")]
    buckets: list[BucketNow]
    redis: Annotated[dict[str, str], Field(description="The mode of each endpoint.")]
    config: ConfigHere
    rollout: RolloutNow | None = None


class DoctorCheck(Answer):
    """One thing that was examined."""

    subject: str
    level: Literal["ok", "note", "wrong"]
    text: Annotated[str, Field(description="What was found; with wrong, what to do.")]


class Doctor(Answer):
    """What the node found about itself and all that its file names."""

    ok: Annotated[bool, Field(description="Nothing is wrong.")]
    checks: list[DoctorCheck]


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ResetDone(Answer):
    """What came back, and what is left now."""

    given_back: int
    remaining: int
    limit: int


class Reloaded(Answer):
    """What is in force now."""

    config: ConfigHere


class Fault(Answer):
    """One thing that is wrong with a request."""

    field: str
    message: str


class Problem(BaseModel):
    """application/problem+json (RFC 9457), with members of our own."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: Annotated[list[Fault] | None, Field(description="Every fault of the request.")] = None


__all__ = [
    "Answer",
    "Body",
    "Buckets",
    "Commit",
    "Committed",
    "Decided",
    "Doctor",
    "Health",
    "HeavyKeys",
    "Peek",
    "Peers",
    "Problem",
    "Refund",
    "Refunded",
    "Reloaded",
    "Reserve",
    "Reserved",
    "Reset",
    "ResetDone",
    "RolloutNow",
    "Status",
    "Steer",
    "Take",
    "TakeMany",
    "Taken",
    "TakenMany",
]
