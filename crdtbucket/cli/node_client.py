"""A client of the HTTP API of `crdtbucket serve`: each way it can fail is one clear line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from crdtbucket.base.address import why_distrusted, why_unreachable
from crdtbucket.cli.terminal_text import printable
from crdtbucket.errors import CrdtbucketError

MAX_ANSWER = 16 << 20
"""Bytes of an answer that are read at most."""
UNIX = "unix:"
DECIDED = (200, 429, 503)
"""Statuses of a decision. 503 is a denial by the rule of an outage, on a server that is set up to
distinguish it."""


class NodeError(CrdtbucketError):
    """A node cannot be asked, or does not do what was asked; the message is one line."""


class Unreachable(NodeError):
    """The node gave no answer, or it or a proxy in front of it answered with a fault (5xx)."""


class AdminOff(NodeError):
    """The node was started without an admin side."""


class NodeClient:
    """One node's HTTP API. `async with` it; every call raises `NodeError`."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 5.0) -> None:
        """url: such as `http://127.0.0.1:7980`, where a path comes before each path of the API, or
        `unix:/path` of a socket.

        token: of the admin side, or the one for calls. timeout: seconds of a whole call,
        connecting included.
        """
        self.url = base_url(url)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> NodeClient:
        path = self.url.removeprefix(UNIX)
        self._session = aiohttp.ClientSession(
            connector=None if path == self.url else aiohttp.UnixConnector(path),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def decide(self, what: str, bucket: str, key: str, cost: int) -> dict[str, Any]:
        """The decision of a `take` or `peek`."""
        body = {"bucket": bucket, "key": key, "cost": cost}
        decision = await self._call("POST", f"v1/{what}", body, DECIDED)
        if not isinstance(decision.get("allowed"), bool):
            raise NodeError(f"{self.url}: {_problem(decision) or 'its answer is no decision'}")
        return decision

    async def reset(self, bucket: str, key: str) -> dict[str, Any]:
        """Resets a key. Returns `given_back`, `remaining` and `limit`, in tokens."""
        done = await self._call("POST", "admin/reset", {"bucket": bucket, "key": key})
        if not all(isinstance(done.get(n), int) for n in ("given_back", "remaining", "limit")):
            raise NodeError(f"{self.url}: its answer does not say what came back")
        return done

    async def rollout(self, action: str) -> dict[str, Any]:
        """Gives the roll-out a command, `advance`, `halt` or `rollback`, and returns its state
        afterwards."""
        return await self._call("POST", "admin/rollout", {"action": action})

    async def order(self, order: str) -> dict[str, Any]:
        """Gives the node an operator's order. The answer says whether it is `new` there."""
        return await self._call("POST", "admin/order", {"order": order})

    async def override(
        self, bucket: str, key: str, limit: str | None, order: str | None
    ) -> dict[str, Any]:
        """Gives a key a limit, or with None takes it away; `order`: as an operator has signed that.
        The answer says whether it is `new` there."""
        path = f"admin/overrides/{quote(bucket, safe='')}/{quote(key, safe='')}"
        if limit is not None:
            body = {"limit": limit} if order is None else {"order": order}
            return await self._call("PUT", path, body)
        return await self._call("DELETE", path if order is None else f"{path}?order={order}")

    async def overrides(self, bucket: str | None, after: str | None, most: int) -> dict[str, Any]:
        """A page of the limits that are given to keys: `overrides`, and the `next` page."""
        named = {"bucket": bucket, "after": after, "most": str(most)}
        query = "&".join(f"{name}={quote(text, safe='')}" for name, text in named.items() if text)
        page = await self._call("GET", f"admin/overrides?{query}")
        if not isinstance(page.get("overrides"), list):
            raise NodeError(f"{self.url}: its answer has no overrides")
        return page

    async def status(self) -> dict[str, Any]:
        """The node's report about itself and its peers; without a token, or where the node has no
        admin side, the part of it that `/v1/` shows."""
        if self._headers:
            with contextlib.suppress(AdminOff):
                return await self._call("GET", "admin/status")
        ready = await self._call("GET", "readyz", wanted=(200, 503))
        peers = await self._call("GET", "v1/peers")
        well = ready.get("status") == "ok"
        reason = "" if well else ready.get("detail")
        return {**peers, **await self.buckets(), "ready": well, "not_ready": reason}

    async def doctor(self) -> dict[str, Any]:
        """The node's examination of itself: `ok`, and the `checks`."""
        found = await self._call("GET", "admin/doctor")
        if not isinstance(found.get("checks"), list):
            raise NodeError(f"{self.url}: its answer has no checks")
        return found

    async def buckets(self) -> dict[str, Any]:
        """All buckets, with their counters."""
        return await self._call("GET", "v1/buckets")

    async def keys(self, bucket: str, top: int) -> dict[str, Any]:
        """The heaviest keys of a bucket."""
        return await self._call("GET", f"v1/buckets/{quote(bucket, safe='')}/keys?top={top}")

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        wanted: tuple[int, ...] = (200,),
    ) -> dict[str, Any]:
        """The JSON object that is answered with one of the `wanted` statuses."""
        status, content = await self._ask(method, path, body)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if status == 401:
            raise NodeError(f"{self.url} {self._token_fault(path)}")
        if status in wanted and isinstance(answer, dict):
            return answer
        problem = _problem(answer)
        kind = Unreachable if status >= 500 else NodeError
        if problem:
            kind = AdminOff if status == 403 and path.startswith("admin/") else kind
            raise kind(f"{self.url}: {problem}")
        raise kind(
            f"{self.url} answers {method} /{path.partition('?')[0]} with status {status}"
            f"{'' if isinstance(answer, dict) else ' and no JSON object'}: "
            "is this a `crdtbucket serve` of this version?"
        )

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        if self._session is None:
            raise NodeError("a NodeClient is used with `async with`")
        base = "http://localhost" if self.url.startswith(UNIX) else self.url
        url = URL(f"{base}/{path}", encoded=True)
        try:
            # A redirect is not followed: the token is for this server alone.
            async with self._session.request(
                method, url, json=body, allow_redirects=False
            ) as response:
                content = b""
                while len(content) <= MAX_ANSWER and (more := await response.content.readany()):
                    content += more
        except asyncio.TimeoutError as error:
            raise Unreachable(f"{self.url}: no answer within {self._timeout:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"{self.url} is not reachable: {_reason(error)}") from error
        except aiohttp.ServerDisconnectedError as error:
            fix = ": does it serve https:// there?" if self.url.startswith("http:") else ""
            raise Unreachable(f"{self.url}: Server disconnected{fix}") from error
        except (aiohttp.ClientError, UnicodeError) as error:  # the second: of a host that is none
            raise Unreachable(f"{self.url}: {str(error) or type(error).__name__}") from error
        if len(content) > MAX_ANSWER:
            raise NodeError(f"{self.url}: its answer is longer than {MAX_ANSWER >> 20} MiB")
        return response.status, content

    def _token_fault(self, path: str) -> str:
        wanted = "the admin token" if path.startswith("admin/") else "a token"
        if self._headers:
            return f"refuses this token: {wanted} that the server was started with is needed"
        return f"wants {wanted}: give --token-file, or set CRDTBUCKET_TOKEN"


def base_url(text: str) -> str:
    """The URL without a slash at its end; `host:port` alone means http."""
    if text.startswith(UNIX + "/"):
        return text
    try:
        url = URL(text if "://" in text else f"http://{text}")
        port = url.port
    except ValueError as error:
        raise NodeError(f"{text!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or port is None or text.startswith(UNIX):
        raise NodeError(f"{text!r} is no URL of a node: write http://host:port or unix:/path")
    if url.user is not None or url.query_string or url.fragment:
        raise NodeError("the URL has more than scheme, host, port and path: write http://host:port")
    return str(url).rstrip("/")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    fault = getattr(error, "certificate_error", None)
    if isinstance(fault, ssl.SSLCertVerificationError):
        fix = "name the file of its authority in SSL_CERT_FILE, and call it by its name"
        return f"it is not trusted {why_distrusted(fault, fix)}"
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):  # its number is not one of the system
        return f"TLS fails ({cause.reason or cause}): does it serve http:// there?"
    nobody = isinstance(cause, (ConnectionRefusedError, FileNotFoundError))
    return why_unreachable(cause) + ": is `crdtbucket serve` running there?" * nobody


def _problem(answer: Any) -> str:
    """What a problem document (RFC 9457) says, in one line that is safe to show."""
    if not isinstance(answer, dict):
        return ""
    text = answer.get("detail") or answer.get("title") or ""
    return printable(" ".join(text.split())) if isinstance(text, str) else ""
