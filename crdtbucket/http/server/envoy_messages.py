"""The messages of Envoy's rate limit service, version 3: the fields that are used.

They are described here and not generated, so that there is no file that depends on the version of
the compiler; the pool is private, so that a program may have Envoy's own messages beside them. On
the wire a message consists only of numbers and types. Texts that may come from a client are bytes
here: a text that is not UTF-8 would be an error, and so a way around the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.http.server.descriptor_limits import (
    MAX_UINT32,
    OK,
    OVER_LIMIT,
    UNITS,
    Descriptor,
    DescriptorStatus,
    RateLimitAnswer,
    limit_of,
    text_of,
)
from crdtbucket.http.server.refusal import Refusal

PACKAGE = "envoy.service.ratelimit.v3"
SERVICE, METHOD = f"{PACKAGE}.RateLimitService", "ShouldRateLimit"
CODES = {OK: 1, OVER_LIMIT: 2}
UNIT_NUMBERS = {unit: number for number, (unit, _) in enumerate(UNITS, 1)}

Field = tuple[int, str]
"""Number and type; a type of ours is another message. `*` before it stands for a list, `?` for one
whose absence is told apart from zero."""
ENTRY: dict[str, Field] = {"key": (1, "bytes"), "value": (2, "bytes")}
DURATION: dict[str, Field] = {"seconds": (1, "int64"), "nanos": (2, "int32")}
MESSAGES: dict[str, dict[str, Field]] = {
    "Entry": ENTRY,
    "UInt64Value": {"value": (1, "uint64")},
    "RateLimitDescriptor": {
        "entries": (1, "*Entry"),
        "hits_addend": (3, "UInt64Value"),
        "is_negative_hits": (4, "bool"),
    },
    "RateLimitRequest": {
        "domain": (1, "bytes"),
        "descriptors": (2, "*RateLimitDescriptor"),
        "hits_addend": (3, "uint32"),
    },
    "RateLimit": {"requests_per_unit": (1, "uint32"), "unit": (2, "int32"), "name": (3, "string")},
    "Duration": DURATION,
    "DescriptorStatus": {
        "code": (1, "int32"),
        "current_limit": (2, "RateLimit"),
        "limit_remaining": (3, "uint32"),
        "duration_until_reset": (4, "Duration"),
    },
    "HeaderValue": {"key": (1, "string"), "value": (2, "string")},
    "RateLimitResponse": {
        "overall_code": (1, "int32"),
        "statuses": (2, "*DescriptorStatus"),
        "response_headers_to_add": (3, "*HeaderValue"),
        "raw_body": (5, "bytes"),
    },
}


def message_classes(package: str, messages: Mapping[str, Mapping[str, Field]]) -> dict[str, Any]:
    """A class for each message, by its name, in a pool of their own."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    full = {name: f".{package}.{name}" for name in messages}
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(message, field, number, kind, full)
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages
    }


def _add(
    message: DescriptorProto, field: str, number: int, kind: str, messages: Mapping[str, str]
) -> None:
    types = FieldDescriptorProto
    plain = kind.lstrip("*?")
    label = types.LABEL_REPEATED if kind.startswith("*") else types.LABEL_OPTIONAL
    added = message.field.add(name=field, number=number, label=label)
    if kind.startswith("?"):
        added.proto3_optional, added.oneof_index = True, len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{field}")
    if plain in messages:
        added.type, added.type_name = types.TYPE_MESSAGE, messages[plain]
    else:
        added.type = types.Type.Value(f"TYPE_{plain.upper()}")


CLASSES = message_classes(PACKAGE, MESSAGES)
"""A class for each message, by its name."""


def read_request(raw: bytes) -> tuple[str, list[Descriptor]]:
    """Reads the domain and the descriptors of a request. Raises `Refusal`."""
    try:
        request = CLASSES["RateLimitRequest"].FromString(raw)
    except DecodeError as error:
        raise Refusal(400, "this is no RateLimitRequest") from error
    descriptors = []
    for number, one in enumerate(request.descriptors):
        if one.is_negative_hits:
            place = f"descriptors.{number}.is_negative_hits"
            raise Refusal.of_field(place, "tokens are given back over HTTP: /v1/refund")
        own = one.hits_addend.value if one.HasField("hits_addend") else None
        cost = (request.hits_addend or 1) if own is None else own
        entries = tuple((text_of(entry.key), text_of(entry.value)) for entry in one.entries)
        descriptors.append(Descriptor(entries, cost))
    return text_of(request.domain), descriptors


def write_answer(answer: RateLimitAnswer) -> bytes:
    """Writes the answer as a RateLimitResponse."""
    raw: bytes = CLASSES["RateLimitResponse"](
        overall_code=CODES[answer.code],
        statuses=[_status(one) for one in answer.statuses],
        response_headers_to_add=[
            {"key": name, "value": value} for name, value in answer.fields.items()
        ],
        raw_body=answer.body,
    ).SerializeToString()
    return raw


def _status(status: DescriptorStatus) -> dict[str, Any]:
    code, decision = CODES[status.code], status.decision
    if decision is None:
        return {"code": code}
    limit = limit_of(decision)
    seconds, nanos = divmod(round(decision.reset_after * NS_PER_SECOND), NS_PER_SECOND)
    return {
        "code": code,
        "current_limit": {
            "requests_per_unit": limit.tokens,
            "unit": UNIT_NUMBERS[limit.unit],
            "name": limit.name,
        },
        "limit_remaining": min(decision.remaining, MAX_UINT32),
        "duration_until_reset": {"seconds": seconds, "nanos": nanos},
    }
