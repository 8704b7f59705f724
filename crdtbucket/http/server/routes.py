"""Describes what a path answers, both to serve it and for the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import web

from crdtbucket.http.server.bodies import RequestBody
from crdtbucket.http.server.refusal import Refusal
from crdtbucket.http.server.replies import Reply


@dataclass(frozen=True)
class Route:
    """One method of one path, and the function that answers it."""

    method: str
    path: str
    summary: str
    handler: Callable[..., Awaitable[web.StreamResponse]]
    """Is called with the request, and the named parts of its path."""
    answer: type[Reply] | None
    """The model of the answer to a success; None where it is no JSON of a known shape."""
    body: type[RequestBody] | None = None
    denials: tuple[int, ...] = ()
    """Statuses other than success that are answers, not mistakes."""
    refusals: tuple[int, ...] = ()
    query: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Schemas of the parameters in the query."""
    status: int = 200
    """The status of a success."""
    media: str = "application/json"
    denied: type[Reply] | None = None
    """The model of a denial, where it is no problem document."""
    admin: bool = False
    """Whether the admin token is asked for."""
    always: bool = False
    """Whether it is answered on surplus connections, too, and a GET of it also to HEAD, which
    monitors and balancers send."""


class RouteTable:
    """Finds the route of a request.

    aiohttp's own router and application cost a fifth of what a whole answer costs here.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._plain: dict[str, dict[str, Route]] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        for route in routes:
            methods = self._plain.setdefault(route.path, {})
            methods[route.method] = route
            if route.always and route.method == "GET":
                methods["HEAD"] = route  # the writer of an answer leaves its body out
            if "{" in route.path:
                pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route.path)
                self._patterns[route.path] = re.compile(pattern)

    def find(self, request: web.BaseRequest) -> tuple[Route, dict[str, str]]:
        """The route, and the named parts of the path. Raises `Refusal` where there is no such
        path, or no such method of it."""
        methods = self._plain.get(request.path)
        parts: dict[str, str] = {}
        if methods is None or request.path in self._patterns:
            methods, parts = self._by_pattern(request.rel_url.raw_path)
        route = methods.get(request.method)
        if route is None:
            allowed = ", ".join(sorted(methods))
            raise Refusal(405, f"this path takes {allowed}", headers={"Allow": allowed})
        return route, parts

    def _by_pattern(self, raw_path: str) -> tuple[dict[str, Route], dict[str, str]]:
        for path, pattern in self._patterns.items():
            found = pattern.fullmatch(raw_path)
            if found is not None:
                parts = {name: unquote(text) for name, text in found.groupdict().items()}
                return self._plain[path], parts
        raise Refusal(
            404, "there is no such path: /openapi.json lists them, /console is for people"
        )
