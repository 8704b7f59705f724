"""The paths of the console: its page, its events, signing in, and what needs that."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from crdtbucket.base.clock import now_ns
from crdtbucket.http.server import bodies
from crdtbucket.http.server.admin import AUDIT, Admin
from crdtbucket.http.server.calls import Calls, respond
from crdtbucket.http.server.console.console_feed import ConsoleFeed
from crdtbucket.http.server.console.console_sessions import (
    LIFE_S,
    ConsoleSession,
    ConsoleSessions,
)
from crdtbucket.http.server.console.console_view import look_at
from crdtbucket.http.server.console.explanation import explain
from crdtbucket.http.server.console.page_files import PAGE, SAFETY, VENDOR, PageFiles
from crdtbucket.http.server.refusal import Refusal, read
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.http.server.tokens import Tokens, asker
from crdtbucket.http.server.views import Views
from crdtbucket.limiter.facade import Limiter

CONSOLE = "/console"
QUESTION = "/internal/console-session"
"""Where the workers of one server ask each other about a session."""
PROOF = "X-Console-Proof"
COOKIE = "crdtbucket_console"


class Console:
    """Everything under /console. It changes nothing but through `Admin`, which logs it."""

    def __init__(
        self,
        limiter: Limiter,
        calls: Calls,
        views: Views,
        admin: Admin,
        tokens: Tokens,
        siblings: Siblings,
    ) -> None:
        """`tokens`: if there is one for calls, nothing is shown without a session."""
        self._limiter = limiter
        self._calls = calls
        self._views = views
        self._admin = admin
        self._tokens = tokens
        self._siblings = siblings
        self._files = PageFiles()
        self.sessions = ConsoleSessions(siblings.prefix)
        self.feed = ConsoleFeed(partial(look_at, limiter, views, admin))

    def routes(self) -> list[Route]:
        """The routes that this part of the server answers. They are for its own page alone, so the
        OpenAPI document has none of them."""
        question = Route("POST", QUESTION, "For the other workers", self.question, None)
        return [
            Route("GET", CONSOLE, "The page", self.page, None),
            Route("GET", CONSOLE + "/", "The way to the page", self.moved, None),
            Route("GET", CONSOLE + "/events", "What it shows, live", self.events, None),
            Route("GET", CONSOLE + "/session", "Who is signed in", self.session, None),
            Route("POST", CONSOLE + "/sign-in", "Show the token", self.sign_in, None),
            Route("POST", CONSOLE + "/sign-out", "End the session", self.sign_out, None),
            Route("POST", CONSOLE + "/why", "Why a key is denied", self.why, None),
            Route("POST", CONSOLE + "/rollout", "Move a roll-out", self.rollout, None),
            Route("GET", CONSOLE + "/keys/{bucket}", "The heaviest keys", self.keys, None),
            Route("GET", CONSOLE + "/{name}", "A file of the page", self.file, None),
            Route("GET", f"{CONSOLE}/{VENDOR}{{name}}", "A file of others", self.vendor, None),
            *([question] if self._siblings.address else []),
        ]

    async def page(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers with the page, to everybody who may reach the server."""
        return self._files.answer(request, PAGE)

    async def moved(self, _: web.BaseRequest) -> web.StreamResponse:
        """Redirects to the path without the slash at the end. The address is relative, as a proxy
        may serve the console below a path of its own."""
        return web.Response(status=308, headers={"Location": f"..{CONSOLE}"})

    async def file(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        """A script, a style or a picture."""
        return self._files.answer(request, name)

    async def vendor(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        """Answers with the library that draws the charts."""
        return self._files.answer(request, VENDOR + name)

    async def events(self, request: web.BaseRequest) -> web.StreamResponse:
        """The stream; with a session the private part is in it, for as long as that lasts."""
        if not self._tokens.calls_are_open:
            await self._required(request)

        async def signed_in() -> bool:
            return await self._session_of(request) is not None

        return await self.feed.follow(request, signed_in)

    async def session(self, request: web.BaseRequest) -> web.StreamResponse:
        """Whether there is a session, and its proof."""
        return self._session_answer(await self._session_of(request))

    async def sign_in(self, request: web.BaseRequest) -> web.StreamResponse:
        """Begins a session for a client that has the admin token."""
        body = await read(request, bodies.SignIn)
        if not self._tokens.is_admin(body.token.strip()):
            AUDIT.warning("console: a wrong token from %s", asker(request))
            raise Refusal(401, "this is not the token that the server was started with")
        name, session = self.sessions.begin(now_ns())
        AUDIT.warning("console: signed in from %s", asker(request))
        response = self._session_answer(session)
        response.headers["Set-Cookie"] = _cookie(request, name, LIFE_S)
        return response

    async def sign_out(self, request: web.BaseRequest) -> web.StreamResponse:
        """Ends the session."""
        await self._proven(request)
        name = request.cookies.get(_cookie_name(request), "")
        owner = self._siblings.owner(name)
        if owner is not None:
            await self._siblings.ask(owner, QUESTION, {"id": name, "ending": True})
        self.sessions.end(name)
        response = self._session_answer(None)
        response.headers["Set-Cookie"] = _cookie(request, "", 0)
        return response

    async def why(self, request: web.BaseRequest) -> web.StreamResponse:
        """Explains the level of a key. The key is in the body, so that no log of a proxy has it."""
        await self._proven(request)
        body = await read(request, bodies.Peek)
        return respond(explain(self._limiter, self._calls, body.bucket, body.key, body.cost))

    async def keys(self, request: web.BaseRequest, bucket: str) -> web.StreamResponse:
        """Answers as `/v1/buckets/{bucket}/keys` does, to those who have signed in."""
        await self._required(request)
        return await self._views.keys(request, bucket)

    async def rollout(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers as `/admin/rollout` does, to those who have signed in."""
        await self._proven(request)
        return await self._admin.rollout(request)

    async def question(self, request: web.BaseRequest) -> web.StreamResponse:
        """Another worker asks about a session of this one."""
        body = await read(request, bodies.SessionQuestion)
        session = self.sessions.find(body.id, now_ns())
        if not self._siblings.asked_by_one(request) or session is None:
            raise Refusal(404, "there is no such session")
        if body.ending:
            self.sessions.end(body.id)
        return respond({"proof": session.proof, "ends": session.ends})

    def _session_answer(self, session: ConsoleSession | None) -> web.Response:
        document: dict[str, Any] = {
            "admin": self._tokens.has_admin,
            "open": self._tokens.calls_are_open,
            "signed_in": session is not None,
            "proof": "" if session is None else session.proof,
        }
        return web.json_response(document, headers={**SAFETY, "Cache-Control": "no-store"})

    async def _session_of(self, request: web.BaseRequest) -> ConsoleSession | None:
        name = request.cookies.get(_cookie_name(request), "")
        owner = self._siblings.owner(name)
        if owner is None:
            return self.sessions.find(name, now_ns())
        found = await self._siblings.ask(owner, QUESTION, {"id": name})
        return None if found is None else ConsoleSession(found["proof"], found["ends"])

    async def _required(self, request: web.BaseRequest) -> ConsoleSession:
        session = await self._session_of(request)
        if session is None:
            raise Refusal(401, "sign in first: this is shown to the holder of the admin token")
        return session

    async def _proven(self, request: web.BaseRequest) -> None:
        """Raises `Refusal` for a request that was not made by the page itself: another page of this
        host, on any port, is of the same site, and the browser sends the cookie for it."""
        session = await self._required(request)
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if site != "same-origin" or not session.proven(request.headers.get(PROOF, "")):
            raise Refusal(403, f"this is no request of the console's own page: it has no {PROOF}")


def _cookie_name(request: web.BaseRequest) -> str:
    """Cookies know no ports, and several nodes may run on one host."""
    port = request.headers.get("Host", "").rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isdecimal() else COOKIE


def _cookie(request: web.BaseRequest, value: str, seconds: int) -> str:
    # TLS may end here or at a proxy before this server: the page's own address shows it.
    by_tls = request.headers.get("Origin", "").startswith("https://")
    secure = "; Secure" if by_tls else ""
    name = _cookie_name(request)
    return f"{name}={value}; Path={CONSOLE}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
