"""What a path answers: used to serve it, and to describe it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from crdtbucket.http.server.bodies import Answer, Body


@dataclass(frozen=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    summary: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    answer: type[Answer] | None
    """What a success says; None where it is no JSON of a known shape."""
    body: type[Body] | None = None
    denials: tuple[int, ...] = ()
    """Statuses other than success that are answers, not mistakes."""
    refusals: tuple[int, ...] = ()
    query: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Schemas of the parameters in the query."""
    media: str = "application/json"
    admin: bool = False
    """Whether the admin token is asked for."""


__all__ = ["Route"]
