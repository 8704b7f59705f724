"""The application: its routes, and what is checked before each of them."""

from __future__ import annotations

import asyncio
import json
import logging
from functools import cached_property

from aiohttp import HttpVersion11, web
from prometheus_client import CollectorRegistry

from crdtbucket.base.clock import now_ns
from crdtbucket.http.server.admin import Admin
from crdtbucket.http.server.calls import Calls, respond
from crdtbucket.http.server.connections import ClientConnection, Connections
from crdtbucket.http.server.console.console_routes import Console
from crdtbucket.http.server.descriptor_limits import DescriptorLimits
from crdtbucket.http.server.envoy_json import EnvoyJson
from crdtbucket.http.server.forward_auth import FORWARD_AUTH, ForwardAuth
from crdtbucket.http.server.given_limits import GivenLimits
from crdtbucket.http.server.host_names import Hosts
from crdtbucket.http.server.json_answer import JsonAnswer
from crdtbucket.http.server.openapi import document
from crdtbucket.http.server.quota_server import QuotaServer
from crdtbucket.http.server.refusal import Refusal, refusal_of
from crdtbucket.http.server.routes import Route, RouteTable
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.server_metrics import COUNTS, SERVER, ServerMetrics
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.http.server.slot_calls import SlotCalls
from crdtbucket.http.server.tokens import Tokens
from crdtbucket.http.server.views import DRAINING, Views
from crdtbucket.limiter.facade import Limiter
from crdtbucket.metrics.collector import CatalogueCollector, register

LOG = logging.getLogger("crdtbucket.http")
OPENAPI = "/openapi.json"


class Api:
    """Answers requests about one limiter."""

    def __init__(self, limiter: Limiter, settings: ServeSettings, siblings: Siblings) -> None:
        self.connections = Connections(settings)
        self._hosts = Hosts(settings.listen, settings.allowed_hosts)
        self.tokens = Tokens(settings, siblings)
        self.registry = CollectorRegistry()
        register(limiter, self.registry)
        self.calls = Calls(limiter, settings, siblings)
        forward_auth = ForwardAuth(limiter, settings, self.calls.weigh)
        self.descriptors = DescriptorLimits(limiter, settings, self.calls.weigh)
        self.quotas = QuotaServer(limiter, self.descriptors, self.calls.weigh)
        self.metrics = ServerMetrics(self.connections, self.calls, self.descriptors, self.quotas)
        self.registry.register(CatalogueCollector(SERVER, self.metrics.stats))
        self.views = Views(limiter, self.calls, self.registry, self.metrics, siblings)
        self.admin = Admin(limiter, self.views, settings, siblings)
        self.console = Console(limiter, self.calls, self.views, self.admin, self.tokens, siblings)
        self.routes: list[Route] = [
            *self.calls.routes(),
            *SlotCalls(limiter, siblings).routes(),
            *forward_auth.routes(),
            *EnvoyJson(self.descriptors).routes(),
            *self.views.routes(),
            *self.admin.routes(),
            *GivenLimits(limiter).routes(),
        ]
        self.settings = settings
        openapi = Route("GET", OPENAPI, "This document", self._openapi, None)
        counts = Route("GET", COUNTS, "For the other workers", self._counts, None, always=True)
        others = [openapi, *self.console.routes(), *([counts] if siblings.address else [])]
        self._table = RouteTable([*self.routes, *others])

    def server(self) -> web.Server:
        """A server that hands the requests of `ClientConnection`s of the running event loop to this
        application."""
        loop, most = asyncio.get_running_loop(), self.settings.max_body

        def request(message, payload, protocol, writer, task):  # type: ignore[no-untyped-def]
            protocol.takes_up(payload)
            return web.BaseRequest(
                message, payload, protocol, writer, task, loop, client_max_size=most
            )

        return web.Server(self._handle, request_factory=request)

    def ending(self) -> None:
        """The server is about to end: it is not ready, and streams end."""
        self.views.drain()
        self.console.feed.end(DRAINING)

    async def _openapi(self, _: web.BaseRequest) -> web.StreamResponse:
        return JsonAnswer(self._document, {})

    @cached_property
    def _document(self) -> str:
        return json.dumps(document(self.routes), indent=1)

    async def _counts(self, _: web.BaseRequest) -> web.StreamResponse:
        return respond(self.metrics.counts())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, ClientConnection)
        placed = connection.request_begins()
        begun = now_ns()
        self.metrics.begun()
        path = ""
        try:
            # No web page can send X-Forwarded-For: its browser would first ask this server for
            # permission (a CORS preflight), and get none. So a request with this field comes from a
            # proxy.
            forwarded = request.path == FORWARD_AUTH and "X-Forwarded-For" in request.headers
            self._hosts.check(request, forwarded=forwarded)
            self.tokens.check(request)
            route, parts = self._table.find(request)
            path = route.path
            if not (placed or route.always or route.admin):
                self.connections.refused["full"] += 1
                raise Refusal(503, "too many connections", headers={"Retry-After": "1"})
            if "Expect" in request.headers:
                await _expected(request)
            response = await route.handler(request, **parts)
        except ConnectionError:
            raise  # the client is gone
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None:
                LOG.exception("a bug in the answer to %s %s", request.method, request.path)
                refusal = Refusal(500, "a bug of the server: its log has it")
            if request.writer.output_size > 0:
                raise ConnectionError("its answer had begun, and cannot be another one") from error
            response = refusal.response()
        finally:
            self.metrics.ended()
        self.metrics.answered(path, response.status, now_ns() - begun)
        return response


async def _expected(request: web.BaseRequest) -> None:
    """Asks a client to send its body, if it waits for that (Expect: 100-continue)."""
    if request.version < HttpVersion11:
        return
    if request.headers["Expect"].lower() != "100-continue":
        raise Refusal(417, "of Expect only 100-continue is known")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun
