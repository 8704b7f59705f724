"""Requests that get no decision, and the problem documents that say why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from aiohttp import web
from pydantic import ValidationError

from crdtbucket.errors import (
    CostExceedsCapacity,
    CrdtbucketError,
    InvalidCost,
    InvalidKey,
    LimiterClosed,
    LimiterNotOpen,
    NodeConflict,
    ReservationError,
    UnknownBucket,
)
from crdtbucket.http.fields import PROBLEM_TYPE
from crdtbucket.http.server.bodies import Body

B = TypeVar("B", bound=Body)
JSON = "application/json"


class Refusal(Exception):
    """An answer that is no success: a status, what is wrong, and every fault by its field."""

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
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """As application/problem+json."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"field": name, "message": text} for name, text in self.errors]
        return problem_response(document, self.headers)


def problem_response(
    document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> web.Response:
    """The response with a problem document's own status."""
    return web.Response(
        body=json.dumps(document).encode(),
        status=document["status"],
        content_type=PROBLEM_TYPE,
        headers=headers,
    )


async def read(request: web.Request, kind: type[B]) -> B:
    """The body of a request. Raises `Refusal` with every fault."""
    if request.content_type != JSON:
        raise Refusal(
            415,
            f"the body is {request.headers.get('Content-Type', 'of no type')}: "
            f"send JSON with Content-Type: {JSON}",
            headers={"Accept": JSON},
        )
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Refusal(415, "the body is compressed: send it as it is")
    try:
        return kind.model_validate_json(await request.read())
    except ValidationError as error:
        faults = [
            (".".join(str(part) for part in fault["loc"]), fault["msg"])
            for fault in error.errors(include_url=False, include_input=False)
        ]
        told = "; ".join(f"{name or 'body'}: {text}" for name, text in faults[:5])
        raise Refusal(400, told, faults) from None


def refused(error: CrdtbucketError) -> Refusal:
    """The answer to what the limiter raised."""
    if isinstance(error, UnknownBucket):
        return Refusal(404, str(error), [("bucket", str(error))])
    if isinstance(error, InvalidKey):
        return Refusal(400, str(error), [("key", str(error))])
    if isinstance(error, (InvalidCost, CostExceedsCapacity)):
        return Refusal(400, str(error), [("cost", str(error))])
    if isinstance(error, ReservationError):
        return Refusal(409, str(error))
    if isinstance(error, (LimiterClosed, LimiterNotOpen, NodeConflict)):
        return Refusal(503, str(error), headers={"Retry-After": "1"})
    raise error


def refused_by_http(error: web.HTTPException) -> Refusal:
    """The answer to what aiohttp found wrong: no such path, method, size."""
    details = {
        404: "there is no such path: GET /openapi.json lists what there is",
        405: "the path has other methods: see Allow",
        413: "the body is too large",
    }
    kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return Refusal(error.status, details.get(error.status, error.reason), headers=kept)


__all__ = ["JSON", "Refusal", "problem_response", "read", "refused", "refused_by_http"]
