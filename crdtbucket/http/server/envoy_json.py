"""The rate limit service of Envoy as JSON over HTTP, for clients without gRPC.

Names and values are those of the protocol's own JSON form.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from crdtbucket.http.server.bodies import RequestBody
from crdtbucket.http.server.descriptor_limits import (
    MAX_UINT32,
    OK,
    Descriptor,
    DescriptorLimits,
    DescriptorStatus,
    limit_of,
)
from crdtbucket.http.server.json_answer import JsonAnswer, json_text
from crdtbucket.http.server.refusal import read
from crdtbucket.http.server.replies import Reply
from crdtbucket.http.server.routes import Route

PATH = "/json"
Code = Literal["OK", "OVER_LIMIT"]
Unit = Literal["SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR"]
Hits = Annotated[int, Field(ge=0, lt=2**64)] | Annotated[str, Field(pattern="^[0-9]{1,19}$")] | None
"""The protocol's JSON form has texts for such numbers, and takes both."""


class EnvoyBody(RequestBody):
    """A body that may have the names of its fields in either spelling, such as hits_addend and
    hitsAddend."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class EntryBody(EnvoyBody):
    """A name and its value."""

    key: str
    value: str = ""


class DescriptorBody(EnvoyBody):
    """One descriptor, for which a limit is asked."""

    entries: list[EntryBody]
    hits_addend: Hits = None
    """Tokens; 0 asks whether any are left."""


class RateLimitBody(EnvoyBody):
    """The descriptors of one request."""

    domain: str
    descriptors: list[DescriptorBody]
    hits_addend: Hits = None
    """Of descriptors that do not say it; 1 without, or if it is 0."""


class EnvoyReply(Reply):
    """An answer that has the names of the protocol's JSON form."""

    model_config = ConfigDict(alias_generator=to_camel)


class CurrentLimitInfo(EnvoyReply):
    """The rate at which tokens come back."""

    name: str
    requests_per_unit: int
    unit: Unit


class DescriptorReply(EnvoyReply):
    """The answer about one descriptor; the code alone where there is no limit."""

    code: Code
    current_limit: CurrentLimitInfo | None = None
    limit_remaining: int | None = None
    """Whole tokens that are left."""
    duration_until_reset: str | None = None
    """Seconds until the bucket is full, such as "1.5s"."""


class HeaderInfo(EnvoyReply):
    """A header field for the client's answer."""

    key: str
    value: str


class RateLimitReply(EnvoyReply):
    """The answer to a request; statuses in the order of its descriptors."""

    overall_code: Code
    statuses: list[DescriptorReply]
    response_headers_to_add: list[HeaderInfo]


class EnvoyJson:
    """Answers requests of Envoy's rate limit service in JSON, at the path of that service."""

    def __init__(self, limits: DescriptorLimits) -> None:
        self._limits = limits

    def routes(self) -> list[Route]:
        """The routes that this part of the server answers."""
        return [
            Route("POST", PATH, "Envoy's rate limit service as JSON", self.decide, RateLimitReply,
                  RateLimitBody, (429,), (400, 413, 415), denied=RateLimitReply)
        ]  # fmt: skip

    async def decide(self, request: web.BaseRequest) -> web.StreamResponse:
        """Takes the costs of all descriptors; 429 when one of them is over its limit."""
        body = await read(request, RateLimitBody)
        hits = int(body.hits_addend or 0) or 1
        descriptors = [
            Descriptor(
                tuple((entry.key, entry.value) for entry in one.entries),
                hits if one.hits_addend is None else int(one.hits_addend),
            )
            for one in body.descriptors
        ]
        answer = await self._limits.decide(body.domain, descriptors)
        fields = {name: text for name, text in answer.fields.items() if name != "Content-Type"}
        document = {
            "overallCode": answer.code,
            "statuses": [_status(one) for one in answer.statuses],
            "responseHeadersToAdd": [{"key": name, "value": text} for name, text in fields.items()],
        }
        return JsonAnswer(json_text(document), fields, 200 if answer.code == OK else 429)


def _status(status: DescriptorStatus) -> dict[str, Any]:
    decision = status.decision
    if decision is None:
        return {"code": status.code}
    limit = limit_of(decision)
    return {
        "code": status.code,
        "currentLimit": {
            "name": limit.name,
            "requestsPerUnit": limit.tokens,
            "unit": limit.unit,
        },
        "limitRemaining": min(decision.remaining, MAX_UINT32),
        "durationUntilReset": f"{decision.reset_after:.9f}s",
    }
