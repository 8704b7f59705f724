"""Models of the bodies of requests: they check each request, and the OpenAPI document is made from
them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from crdtbucket._core import MAX_COST, MAX_KEY_BYTES, MAX_SETTLE
from crdtbucket.base.field_texts import field_texts
from crdtbucket.spec.priority import Priority

MAX_TAKES = 256
MIN_TTL_S, MAX_TTL_S = 0.001, 3_600.0
MAX_TOP = 500


def _fits(key: str) -> str:
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise ValueError(f"has {size} bytes in UTF-8, at most {MAX_KEY_BYTES} are allowed")
    return key


def _share(floor: float | Priority) -> float | Priority:
    if not isinstance(floor, str) and not 0 <= floor < 1:
        raise ValueError("must be 0 or more, and below 1")
    return floor


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
Share = Annotated[
    float | Priority,
    Field(description="The share of the capacity that has to be left, 0 up to 1; or a priority."),
    AfterValidator(_share),
]
Id = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]
ModeName = Literal["strong", "eventual", "fallback"]


class Documented(BaseModel):
    """A model that the OpenAPI document shows, each field with the text below it."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        made = handler.resolve_ref_schema(handler(schema))
        for name, text in field_texts(cls, Documented).items():
            made["properties"][cls.model_fields[name].alias or name]["description"] = text
        return made


class RequestBody(Documented):
    """The body of a request: no unknown names, and no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    def texts(self) -> int:
        """How many texts its JSON had: names of fields, and values."""
        values, found = self.__dict__, 0
        for name in self.model_fields_set:
            kind = type(values[name])  # twice as quick as isinstance
            if kind is str:
                found += 2
            elif kind is list:
                found += 1 + sum([one.texts() for one in values[name]])
            else:
                found += 1
        return found


class OfKey(RequestBody):
    """A request about a key of a bucket."""

    bucket: BucketName
    key: Key


class OfId(RequestBody):
    """A request about something that an earlier answer has given an id."""

    id: Id


class Peek(OfKey):
    """Asks for a decision without taking tokens."""

    cost: Cost = 1
    floor: Share = 0.0


class Take(Peek):
    """Takes tokens of a key, if they are there."""

    refundable: bool = False
    """Answer with an `id` for /v1/refund."""


class TakeMany(RequestBody):
    """Takes tokens of several keys."""

    takes: Annotated[list[Peek], Field(min_length=1, max_length=MAX_TAKES)]
    together: bool = False
    """All of them, or none and 429; else each on its own."""


class Refund(OfId):
    """Gives back an admitted take."""

    tokens: Annotated[int | None, Field(ge=1, le=MAX_COST)] = None
    """By default all that was taken."""


class Reserve(OfKey):
    """Sets an estimate aside."""

    estimate: Cost
    floor: Share = 0.0
    ttl: Annotated[float, Field(ge=MIN_TTL_S, le=MAX_TTL_S, allow_inf_nan=False)] = 60.0
    """Seconds after which the estimate goes back."""


class SignIn(RequestBody):
    """Shows the admin token at the console."""

    token: Annotated[str, Field(max_length=4_096)]


class SessionQuestion(RequestBody):
    """One worker asks another one about a session of the console."""

    id: Annotated[str, Field(max_length=200)]
    ending: bool = False


class Commit(OfId):
    """Replaces a reserved estimate by the true cost; 0 releases it."""

    actual: Annotated[int, Field(ge=0, le=MAX_SETTLE)]


class Hold(OfKey):
    """Holds a slot of a key."""

    ttl: Annotated[float | None, Field(ge=MIN_TTL_S, allow_inf_nan=False)] = None
    """Seconds after which the slot is free again; by default the bucket's ttl, which is also the
    longest."""


class Release(OfId):
    """Releases a slot that is held."""


class Reset(OfKey):
    """Gives a key all its tokens back."""


class Steer(RequestBody):
    """A command to the roll-out of a version."""

    action: Literal["advance", "halt", "rollback"]
    """To the next stage; stay as it is; the version before again."""


class Order(RequestBody):
    """An order that an operator has signed."""

    order: Annotated[str, Field(min_length=1, max_length=2048, pattern="^[A-Za-z0-9_=-]+$")]
    """As `crdtbucket identity`, `rollout` or `reset` signs it."""


class Override(RequestBody):
    """The limit of a key: as it is, or as an operator has signed it."""

    limit: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """The name of a bucket, or a rate such as `100/s burst 200`."""
    order: Annotated[
        str | None, Field(min_length=1, max_length=4096, pattern="^[A-Za-z0-9_=-]+$")
    ] = None
    """As `crdtbucket overrides` signs it; a mesh takes nothing else."""
