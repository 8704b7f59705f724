"""Decisions for a proxy that asks about each request before it passes it on.

nginx (`auth_request`), Traefik (`ForwardAuth`), Caddy (`forward_auth`) and their like send the head
of the client's request. The query of the address that they ask names the limit, so each route of
the proxy can have its own, and no part of it comes from the client.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from crdtbucket.errors import InvalidKey, InvalidSpec
from crdtbucket.http.client_address import UNIX, client_address
from crdtbucket.http.fields import FieldOptions
from crdtbucket.http.limits import Limits
from crdtbucket.http.request import Request
from crdtbucket.http.request_rules import Rule
from crdtbucket.http.server.descriptor_limits import Weigh
from crdtbucket.http.server.json_answer import JsonAnswer
from crdtbucket.http.server.refusal import Refusal
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.limiter.facade import Limiter

FORWARD_AUTH = "/v1/forward-auth"
MAX_RULES = 8
MAX_KEPT = 256
"""Rules are parsed once for each query, for at most this many different queries; others are parsed
each time."""
STATUSES = (401, 403, 429, 503)
_END_OF_PATH = re.compile("[?#]")


def _texts(description: str) -> dict[str, object]:
    """The schema of a parameter that may stand several times."""
    return {"type": "array", "items": {"type": "string"}, "description": description}


QUERY: dict[str, dict[str, object]] = {
    "bucket": _texts("What is taken from: all of them, or nothing."),
    "key": _texts(
        "`address`, or `header:NAME`, or several of them with commas, of which the first counts "
        "that the request has; one for each bucket, or one for all."
    ),
    "cost": {"type": "integer", "minimum": 1, "description": "Tokens of a request."},
    "floor": {
        "type": "string",
        "description": "The share of the capacity that is left to more important requests, 0 up to "
        "1, or a priority: `critical`, `normal`, `batch` or `smooth`.",
    },
    "match": _texts('Requests that are limited, such as "POST /items/**"; all without one.'),
    "trusted": _texts("Proxies before the one that asks: addresses or networks."),
    "denied": {"type": "integer", "enum": list(STATUSES), "description": "Status of a denial."},
}


class ForwardedRequest(Request):
    """The client's request, as it is described by the proxy that asks."""

    __slots__ = ()

    native: web.BaseRequest

    @property
    def method(self) -> str:
        return (self._one("X-Forwarded-Method", "X-Original-Method") or "GET").upper()

    @property
    def path(self) -> str:
        target = self._one("X-Forwarded-Uri", "X-Original-URI")
        if target is None:
            raise Refusal(
                400,
                "the proxy does not say which path was asked for: let it send X-Forwarded-Uri, or "
                "leave out `match`",
            )
        return _resolved(unquote(_END_OF_PATH.split(target, maxsplit=1)[0]))

    @property
    def peer(self) -> str | None:
        return None

    @property
    def address(self) -> str:
        """The client's address, as reported by the proxy, which is trusted."""
        return client_address(None, self._values("x-forwarded-for"), (UNIX, *self._trusted))

    def _values(self, name: str) -> Sequence[str]:
        return self.native.headers.getall(name, ())

    def _one(self, *names: str) -> str | None:
        """The value of whichever field the proxy sets; the others are the client's own. Raises
        `Refusal` where they differ."""
        found = {value for name in names if (value := self.header(name))}
        if len(found) > 1:
            fields = " and ".join(names)
            raise Refusal(400, f"{fields} differ: let the proxy set one, and remove the other")
        return found.pop() if found else None


@dataclass(frozen=True)
class Question:
    """The query of a proxy: the limits that hold for its request, and the status of a denial."""

    limits: Limits
    denied: int | None


class ForwardAuth:
    """Answers proxies: 204 when a request may pass."""

    def __init__(self, limiter: Limiter, settings: ServeSettings, weigh: Weigh) -> None:
        self._limiter = limiter
        self._weigh = weigh
        self._fallback_503 = settings.fallback_503
        self._fields = FieldOptions(legacy=settings.legacy_fields, jitter_s=settings.retry_jitter)
        self._known: dict[str, Question] = {}

    def routes(self) -> list[Route]:
        """The routes that this part of the server answers."""
        summary = "Decide on the request of a proxy's client"
        return [
            Route(method, FORWARD_AUTH, summary, self.decide, None, None, STATUSES,
                  (400, 404), QUERY, status=204)
            for method in ("GET", "POST")
        ]  # fmt: skip

    async def decide(self, request: web.BaseRequest) -> web.StreamResponse:
        """Takes what the query asks for."""
        query = request.rel_url.raw_query_string
        question = self._known.get(query)
        if question is None:
            question = self._question(query)
            if len(self._known) < MAX_KEPT:
                self._known[query] = question
        asked = ForwardedRequest(request, question.limits.trusted)
        verdict = await question.limits.acquire(asked)
        for rule, decision in verdict.taken:
            bucket = self._limiter.bucket(rule.bucket)
            self._weigh(bucket, str(decision.key), decision.cost, verdict.allowed)
        if verdict:
            return JsonAnswer("", verdict.fields, 204)
        answer = question.limits.answer(asked, verdict)
        media = answer.headers.pop("Content-Type")
        del answer.headers["Content-Length"]
        status = question.denied or answer.status
        return JsonAnswer(answer.body.decode(), answer.headers, status, media)

    def _question(self, query: str) -> Question:
        """The rules that a query asks for. Raises `Refusal`, `UnknownBucket`."""
        found: dict[str, list[str]] = {name: [] for name in QUERY}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in found:
                _refuse(name, f"there is no such parameter; there are {', '.join(QUERY)}")
            found[name].append(value)
        buckets, keys = found["bucket"], found["key"] or ["address"]
        if not 1 <= len(buckets) <= MAX_RULES:
            _refuse("bucket", f"name 1 to {MAX_RULES} buckets: ?bucket=api")
        if len(keys) not in (1, len(buckets)):
            _refuse("key", f"{len(keys)} keys for {len(buckets)} buckets: give one, or one each")
        keys *= len(buckets) if len(keys) == 1 else 1
        cost = _whole(found["cost"], "cost", 1)
        floor = _floor(found["floor"])
        denied = _whole(found["denied"], "denied", 0)
        if denied and denied not in STATUSES:
            _refuse("denied", f"is {denied}: use one of {', '.join(map(str, STATUSES))}")
        try:
            rules = [
                Rule(bucket, Key(key).of, cost=cost, match=tuple(found["match"]), floor=floor)
                for bucket, key in zip(buckets, keys, strict=True)
            ]
            limits = Limits(
                self._limiter,
                rules,
                trusted=found["trusted"],
                fields=self._fields,
                reduced_capacity=self._fallback_503,
            )
            if limits.may_hold:
                _refuse("bucket", "has slots, and a proxy does not say when a request has ended")
        except InvalidKey as error:
            _refuse("key", str(error))
        except InvalidSpec as error:
            _refuse(error.field or "match", str(error))
        return Question(limits, denied or None)


class Key:
    """Finds the key of a request by the text of a `key` parameter."""

    def __init__(self, text: str) -> None:
        """Raises `InvalidKey`."""
        self.text = text
        self.sources: list[tuple[str, str | None]] = []
        """Each source, and the header field that it names."""
        for source in text.split(","):
            kind, _, name = source.partition(":")
            if source != "address" and (kind != "header" or not name):
                raise InvalidKey(f"is {text!r}: write `address`, or `header:NAME`")
            self.sources.append((source, None if source == "address" else name.lower()))

    def of(self, request: Request) -> str:
        """The key of a request. With several sources the key names its source, so that no client
        can pass for another one by putting that one's address into a header. Raises
        `InvalidKey`."""
        for source, name in self.sources:
            value = request.address if name is None else request.header(name)
            if value:
                return value if len(self.sources) == 1 else f"{source}={value}"
        raise InvalidKey(f"the request has nothing to be limited by: the key is {self.text!r}")


def _resolved(path: str) -> str:
    """The path that proxies look up, and that many pass on: `.`, `..` and repeated slashes are
    resolved."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    ends_in_folder = kept and segments[-1] in ("", ".", "..")
    return f"/{'/'.join(kept)}{'/' if ends_in_folder else ''}"


def _whole(texts: list[str], name: str, default: int) -> int:
    text = texts[-1] if texts else str(default)
    if len(texts) > 1 or not (text.isascii() and text.isdigit() and len(text) <= 16):
        _refuse(name, f"is {', '.join(texts)}: give one whole number")
    if int(text) < default:
        _refuse(name, f"is {text}: give {default} or more")
    return int(text)


def _floor(texts: list[str]) -> Any:
    """Reads the floor in a form that `Rule` can check."""
    if len(texts) > 1:
        _refuse("floor", f"is {', '.join(texts)}: give one")
    try:
        return float(texts[0]) if texts else 0
    except ValueError:
        return texts[0]


def _refuse(name: str, why: str) -> NoReturn:
    raise Refusal.of_field(name, why)
