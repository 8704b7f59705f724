"""Turns requests that get no decision into problem documents that say why."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from aiohttp import web
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from crdtbucket.config.hints import did_you_mean
from crdtbucket.errors import (
    CostExceedsCapacity,
    InvalidCost,
    InvalidKey,
    LimiterClosed,
    LimiterNotOpen,
    NodeConflict,
    ReservationError,
    UnknownBucket,
    WrongKind,
)
from crdtbucket.http.fields import PROBLEM_TYPE
from crdtbucket.http.server.bodies import RequestBody
from crdtbucket.http.server.json_answer import JSON, JsonAnswer, json_text

B = TypeVar("B", bound=RequestBody)
T = TypeVar("T")
MAX_FAULTS = 20
"""Faults that one answer lists."""
IN_WORDS = 5
"""Faults that its `detail` names."""
FAULTY_FIELDS: tuple[tuple[type[Exception], int, str], ...] = (
    (UnknownBucket, 404, "bucket"),
    (WrongKind, 400, "bucket"),
    (InvalidKey, 400, "key"),
    (InvalidCost, 400, "cost"),
    (CostExceedsCapacity, 400, "cost"),
)
_FULL_BODY = (
    b'{"type": "about:blank", "title": "Service Unavailable", "status": 503, '
    b'"detail": "too many connections"}'
)
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_FULL_BODY), _FULL_BODY)
"""The whole answer to a connection for which there is no place."""


class Refusal(Exception):
    """An answer that is no success: a status, what is wrong, and the first faults by field."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)[:MAX_FAULTS]
        self.headers = dict(headers or {})

    @classmethod
    def of_field(cls, name: str, why: str) -> Refusal:
        """400 for one field or parameter of a request."""
        return cls(400, f"{name}: {why}", [(name, why)])

    def response(self) -> JsonAnswer:
        """The response of type application/problem+json."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"field": name, "message": text} for name, text in self.errors]
        # It may quote what a client has sent, which need not be UTF-8: not by `json_text`.
        return JsonAnswer(json.dumps(document), self.headers, self.status, PROBLEM_TYPE)


def problem_response(document: Mapping[str, Any], headers: Mapping[str, str]) -> JsonAnswer:
    """A denial, with its problem document's own status."""
    return JsonAnswer(json_text(document), headers, document["status"], PROBLEM_TYPE)


def check_query(request: web.BaseRequest, known: Collection[str]) -> None:
    """Raises `Refusal` for a parameter of the query that is none of these."""
    unknown = request.query.keys() - set(known)
    if unknown:
        fault = f"there is no such parameter; there are: {', '.join(sorted(known))}"
        raise Refusal.of_field(min(unknown), fault)


def whole_parameter(request: web.BaseRequest, name: str, default: int, most: int) -> int:
    """A number of the query from 1 to `most`. Raises `Refusal`."""
    text = request.query.get(name, str(default))
    digits = text.isascii() and text.isdigit() and len(text) <= 10
    if not (digits and 1 <= int(text) <= most):
        raise Refusal.of_field(name, f"write a whole number from 1 to {most}")
    return int(text)


async def read(request: web.BaseRequest, kind: type[B]) -> B:
    """The body of a request. Raises `Refusal` with the first faults."""
    headers = request.headers
    if headers.get("Content-Type") != JSON and request.content_type != JSON:
        raise Refusal(
            415,
            f"the body is {headers.get('Content-Type', 'of no type')}: "
            f"send JSON with Content-Type: {JSON}",
            headers={"Accept": JSON},
        )
    if headers.get("Content-Encoding", "identity") != "identity":
        raise Refusal(415, "the body is compressed: send it as it is")
    raw = await request.read()
    try:
        body = kind.model_validate_json(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        faults = [(".".join(map(str, one["loc"])), _fault_in_words(one, kind)) for one in found]
        raise Refusal(400, in_words(faults), faults) from None
    # Without escapes, the number of quotes shows how many texts there are: the names and the texts
    # among the values. Only if the parsed body has another number, it is read again to find the
    # reason.
    if b"\\" in raw or raw.count(b'"') != 2 * body.texts():
        json.loads(raw, object_pairs_hook=_without_duplicates)
    return body


def _fault_in_words(fault: ErrorDetails, kind: type[RequestBody]) -> str:
    """The fault of a field, in words without terms of the library that checks it."""
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "extra_forbidden":
        (name, *below) = fault["loc"]
        known = "" if below else f"; {did_you_mean(str(name), kind.model_fields)}"
        return f"there is no such field{known}"
    return fault["msg"].removeprefix("Input ").removeprefix("Value error, ")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Refusal(400, f"{name}: stands twice in one object", [(name, "stands twice")])
        seen.add(name)


@contextlib.contextmanager
def amount_in(field: str) -> Iterator[None]:
    """Turns an error of the limiter about a cost into a `Refusal` that names this field of the
    request."""
    try:
        yield
    except (InvalidCost, CostExceedsCapacity) as error:
        raise Refusal(400, str(error), [(field, str(error))]) from error


def known(item: T | None, missing: str) -> T:
    """The item of an id. Raises `Refusal` if there is none; `missing` is the reason in words."""
    if item is None:
        raise Refusal(404, missing, [("id", "unknown")])
    return item


def in_words(faults: list[tuple[str, str]]) -> str:
    """The first faults in one line."""
    text = "; ".join(f"{name or 'body'}: {text}" for name, text in faults[:IN_WORDS])
    return text if len(faults) <= IN_WORDS else f"{text}; and {len(faults) - IN_WORDS} more"


def refusal_of(error: Exception) -> Refusal | None:
    """The answer to what the limiter or aiohttp raised; None for a bug."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, web.HTTPException):
        text = {413: "the body is too large"}.get(error.status, error.reason)
        return Refusal(error.status, text)
    for kind, status, field in FAULTY_FIELDS:
        if isinstance(error, kind):
            return Refusal(status, str(error), [(field, str(error))])
    if isinstance(error, ReservationError):
        return Refusal(409, str(error))
    if isinstance(error, (LimiterClosed, LimiterNotOpen, NodeConflict)):
        return Refusal(503, str(error), headers={"Retry-After": "1"})
    return None
