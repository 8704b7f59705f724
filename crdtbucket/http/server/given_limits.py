"""The limits that operators give to keys, over HTTP: a part of the admin side."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from urllib.parse import quote, unquote

from aiohttp import web

from crdtbucket.errors import InvalidSpec, MeshError
from crdtbucket.http.server import bodies, replies
from crdtbucket.http.server.calls import respond
from crdtbucket.http.server.refusal import Refusal, check_query, read, whole_parameter
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.tokens import ADMIN, asker
from crdtbucket.limiter.facade import Limiter

AUDIT = logging.getLogger("crdtbucket.audit")
PATH = ADMIN + "overrides"
ONE = PATH + "/{bucket}/{key}"
LISTED = 100
MOST_LISTED = 1_000


class GivenLimits:
    """Lists, gives and takes away limits of keys."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def routes(self) -> list[Route]:
        """The routes that this part of the server answers."""
        refusals = (400, 401, 403, 404)
        page: dict[str, dict[str, object]] = {
            "bucket": {"type": "string", "description": "Of this bucket alone."},
            "after": {"type": "string", "description": "The `next` of the page before."},
            "most": {
                "type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED,
            },
        }  # fmt: skip
        signed = {"order": {"type": "string", "description": "As `crdtbucket overrides` signs it."}}
        return [
            Route("GET", PATH, "The limits that operators have given to keys", self.listed,
                  replies.OverridesReply, refusals=refusals, query=page, admin=True),
            Route("PUT", ONE, "Give a key a limit", self.give, replies.OrderReply, bodies.Override,
                  refusals=(*refusals, 409, 413, 415), admin=True),
            Route("DELETE", ONE, "Take the limit of a key away", self.remove, replies.OrderReply,
                  refusals=(*refusals, 409), query=signed, admin=True),
        ]  # fmt: skip

    async def listed(self, request: web.BaseRequest) -> web.StreamResponse:
        """A page of the limits, by bucket and key."""
        check_query(request, ("bucket", "after", "most"))
        overrides = self._limiter.overrides
        most = whole_parameter(request, "most", LISTED, MOST_LISTED)
        bucket, _, key = request.query.get("after", "/").partition("/")
        found = overrides.listed(
            request.query.get("bucket"), (unquote(bucket), unquote(key)), most + 1
        )
        page = found[:most]
        last = page[-1] if len(found) > most else None
        return respond(
            {
                "overrides": [vars(one) for one in page],
                "next": None if last is None else f"{_quoted(last.bucket)}/{_quoted(last.key)}",
                "count": overrides.count,
            }
        )

    async def give(self, request: web.BaseRequest, bucket: str, key: str) -> web.StreamResponse:
        """Gives a key a limit; in a mesh by an order that an operator has signed."""
        body = await read(request, bodies.Override)
        if (body.limit is None) == (body.order is None):
            raise Refusal(400, "give either limit, or the order that an operator has signed")
        return await self._change(request, bucket, key, body.limit, body.order)

    async def remove(self, request: web.BaseRequest, bucket: str, key: str) -> web.StreamResponse:
        """Takes away the limit that an operator has given to a key."""
        check_query(request, ("order",))
        return await self._change(request, bucket, key, None, request.query.get("order"))

    async def _change(
        self,
        request: web.BaseRequest,
        bucket: str,
        key: str,
        limit: str | None,
        order: str | None,
    ) -> web.StreamResponse:
        """Changes a limit by a signed order, or to this limit; with neither the limit is taken
        away."""
        overrides = self._limiter.overrides
        if order is not None:
            change = partial(overrides.give, order, about=(bucket, key))
        elif limit is not None:
            change = partial(overrides.set, bucket, key, limit)
        else:
            change = partial(overrides.remove, bucket, key)
        who, named = asker(request), f"key {key!r} in bucket {bucket!r}"
        try:
            new = await asyncio.to_thread(change)
        except (InvalidSpec, MeshError) as error:
            AUDIT.warning("override of %s from %s: refused: %s", named, who, error)
            if isinstance(error, MeshError):
                raise Refusal(409, str(error)) from error
            raise Refusal(400, str(error), [(error.field, str(error))]) from error
        held = self._limiter.overrides.limit_of(bucket, key)
        AUDIT.warning(
            "override of %s from %s: %s%s",
            named,
            who,
            "none" if held is None else repr(held),
            "" if new else ", as before",
        )
        return respond({"new": new})


def _quoted(text: str) -> str:
    return quote(text, safe="")
