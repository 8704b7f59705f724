"""The application: its routes, and what stands before each of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry

from crdtbucket.base.clock import now_ns
from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.refusal import JSON, Refusal, refused, refused_by_http
from crdtbucket.http.serve_settings import ServeSettings
from crdtbucket.http.server.admin import Admin
from crdtbucket.http.server.calls import Calls
from crdtbucket.http.server.connections import Connection, Doors
from crdtbucket.http.server.host_names import Hosts
from crdtbucket.http.server.openapi import document
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.server_metrics import Numbers
from crdtbucket.http.server.views import Views
from crdtbucket.limiter.facade import Limiter
from crdtbucket.metrics.collector import register

LOG = logging.getLogger("crdtbucket.http")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPENAPI = "/openapi.json"


class Api:
    """Answers requests about one limiter."""

    def __init__(self, limiter: Limiter, settings: ServeSettings) -> None:
        self.doors = Doors(settings)
        self._hosts = Hosts(settings.listen, settings.allowed_hosts)
        self.registry = CollectorRegistry()
        register(limiter, self.registry)
        self.calls = Calls(limiter, settings)
        self.numbers = Numbers(self.doors, self.calls)
        self.registry.register(self.numbers)
        self.views = Views(limiter, self.calls, self.registry)
        self.admin = Admin(limiter, self.views, settings)
        self.routes: list[Route] = [
            *self.calls.routes(),
            *self.views.routes(),
            *self.admin.routes(),
        ]
        self._settings = settings
        self._document = json.dumps(document(self.routes), indent=1).encode()

    def application(self) -> web.Application:
        """To be run by a server whose connections are `Connection`s."""
        app = web.Application(middlewares=[self._each], client_max_size=self._settings.max_body)
        for route in self.routes:
            app.router.add_route(route.method, route.path, route.handler)
        app.router.add_get(OPENAPI, self._openapi, allow_head=False)
        return app

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type=JSON)

    @web.middleware
    async def _each(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.request_begins()
        begun = now_ns()
        self.numbers.open_requests += 1
        try:
            response = await self._answer(request, handler)
        finally:
            self.numbers.open_requests -= 1
        resource = request.match_info.route.resource
        path = "" if resource is None else resource.canonical
        self.numbers.answered(path, response.status, now_ns() - begun)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._hosts.check(request)
            self.admin.check(request)
            return await handler(request)
        except Refusal as refusal:
            return refusal.response()
        except CrdtbucketError as error:
            return refused(error).response()
        except web.HTTPException as error:
            return refused_by_http(error).response()
        except ConnectionError:
            raise  # nobody is there to be answered
        except Exception:
            LOG.exception("a bug in the answer to %s %s", request.method, request.path)
            return Refusal(500, "a bug of the server: its log has it").response()


__all__ = ["OPENAPI", "Api"]
