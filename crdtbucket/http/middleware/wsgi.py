"""Middleware for every WSGI application: Flask, Django and the like."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.limits import Limits, Verdict
from crdtbucket.http.request import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

KEY = "crdtbucket.verdict"
"""Under this name the environ holds the `Verdict`."""


class LimitMiddleware:
    """Asks the rules before the application; a denied request does not reach it.

    The limiter is opened in threads of its own (`with limiter:`) by the first request that a
    process serves, and closed at the process' end: threads do not live through the fork of a
    pre-fork server. There, `limits` is a function that makes them, so that each worker is a node
    of its own name.
    """

    def __init__(
        self,
        app: WSGIApplication,
        limits: Limits | Callable[[], Limits],
        *,
        open_limiter: bool = True,
    ) -> None:
        """`open_limiter`: False when the program opens the limiter, in each process that serves."""
        self.app = app
        self._source = limits
        self._limits: Limits | None = None
        self._open_limiter = open_limiter
        self._process = 0
        self._opening = threading.Lock()

    @property
    def limits(self) -> Limits:
        """Those of this process, made and opened when they are first asked for."""
        if self._limits is None:
            with self._opening:
                if self._limits is None:
                    self._limits = self._made()
        if self._process != os.getpid():
            raise CrdtbucketError(
                "the limiter was opened before this process was forked, and its threads are not "
                "here: serve the first request in the worker"
            )
        return self._limits

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request, as the server calls it."""
        limits = self.limits
        request = request_of(environ, limits)
        verdict = limits.acquire_sync(request)
        if not verdict.allowed:
            answer = limits.answer(request, verdict)
            start_response(_status_line(answer.status), list(answer.headers.items()))
            return [answer.body]
        environ[KEY] = verdict
        told = Told(verdict, start_response)
        if not limits.may_refund:
            return self.app(environ, told.start_response)
        try:
            return Body(self.app(environ, told.start_response), told)
        except Exception:
            verdict.ended(500)
            raise

    def close(self) -> None:
        """Closes a limiter that this opened; else the end of the process does."""
        if self._open_limiter and self._limits is not None and self._process == os.getpid():
            self._limits.limiter.close()

    def _made(self) -> Limits:
        limits = self._source if isinstance(self._source, Limits) else self._source()
        if self._open_limiter:
            limits.limiter.__enter__()
            atexit.register(self.close)
        self._process = os.getpid()
        return limits


class Told:
    """Adds the fields to an answer, and remembers its status."""

    def __init__(self, verdict: Verdict, start_response: StartResponse) -> None:
        self.verdict = verdict
        self.status = 500  # of an application that never answered
        self._start_response = start_response

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """What the application calls."""
        self.status = int(status.split(" ", 1)[0])
        headers = [*headers, *self.verdict.fields.items()]
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)


class Body:
    """The parts of an answer as they come; the verdict hears how they end.

    When the server closes it before the last part, the client has gone away.
    """

    def __init__(self, parts: Iterable[bytes], told: Told) -> None:
        self._parts = parts
        self._each = iter(parts)
        self._told: Told | None = told

    def __iter__(self) -> Iterator[bytes]:
        """Itself: it is read once."""
        return self

    def __next__(self) -> bytes:
        """The next part."""
        try:
            return next(self._each)
        except StopIteration:
            self._end(None)
            raise
        except Exception:
            self._end(500)
            raise

    def close(self) -> None:
        """Called by the server at the end, whatever has happened."""
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()

    def _end(self, status: int | None) -> None:
        told, self._told = self._told, None
        if told is not None:
            told.verdict.ended(told.status if status is None else status)


def request_of(environ: WSGIEnvironment, limits: Limits) -> Request:
    """The request of a WSGI environ."""

    def headers(name: str) -> list[str]:
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        return [] if value is None else [value]

    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return Request(
        environ,
        method=environ["REQUEST_METHOD"],
        path=path.encode("latin-1").decode("utf-8", "replace"),
        peer=environ.get("REMOTE_ADDR"),
        headers=headers,
        trusted=limits.trusted,
    )


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Denied"


__all__ = ["KEY", "LimitMiddleware", "request_of"]
