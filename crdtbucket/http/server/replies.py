"""Models of the answers to calls, from which the OpenAPI document is made."""

from __future__ import annotations

from pydantic import ConfigDict

from crdtbucket.http.server.bodies import Documented, ModeName


class Reply(Documented):
    """An answer of the server."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class DecisionReply(Reply):
    """The decision on a call. Times are seconds."""

    allowed: bool
    limit: int
    """The capacity."""
    remaining: int
    """Whole tokens that are left."""
    retry_after: float
    """Until the same cost could pass; 0 if it did."""
    reset_after: float
    """Until the bucket is full."""
    mode: ModeName


class TakeReply(DecisionReply):
    """An admitted take."""

    id: str | None = None
    """For /v1/refund, where it was asked for."""


class ReserveReply(DecisionReply):
    """An estimate that is set aside."""

    id: str


class OneOfManyReply(Reply):
    """One answer of several."""

    allowed: bool
    remaining: int
    retry_after: float


class TakeManyReply(Reply):
    """Answers in the order of the takes."""

    results: list[OneOfManyReply]


class RefundReply(Reply):
    """The tokens that came back: 0 when the bucket has been full since."""

    refunded: int


class CommitReply(Reply):
    """The tokens that are charged now. `late`: the estimate had gone back before."""

    actual: int
    late: bool


class HoldReply(Reply):
    """A slot that is held."""

    id: str
    """For /v1/release."""
    ttl: float
    """Seconds after which it is free again."""


class ReleaseReply(Reply):
    """Whether the slot was held until now. It was not when its ttl was over before."""

    released: bool


class ResetReply(Reply):
    """The tokens that came back, and those that are left now."""

    given_back: int
    remaining: int
    limit: int


class OrderReply(Reply):
    """The answer to an order that holds from now on."""

    new: bool
    """False: it held here already."""


class OverrideInfo(Reply):
    """The limit that an operator has given to a key."""

    bucket: str
    key: str
    limit: str
    """The name of a bucket, or a rate."""
    counter: int
    """Of the order: when it was made, in ms, or higher."""


class OverridesReply(Reply):
    """A page of the limits that operators have given to keys."""

    overrides: list[OverrideInfo]
    next: str | None
    """Ask for `after` this to go on; null: that is all."""
    count: int
    """Of all buckets."""


class RequestFault(Reply):
    """One thing that is wrong with a request."""

    field: str
    message: str


class ProblemReply(Documented):
    """application/problem+json (RFC 9457), with members of our own."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: list[RequestFault] | None = None
    """Faults of the request, at most 20."""
