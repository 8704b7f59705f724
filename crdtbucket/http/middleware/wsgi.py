"""Middleware for every WSGI application: Flask, Django and the like."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.answers import Verdict
from crdtbucket.http.fields import DeferredFields, field_pairs
from crdtbucket.http.limits import Limits, check_application, check_limits
from crdtbucket.http.request import Request
from crdtbucket.spec.field_checks import check_flag

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

KEY = "crdtbucket.verdict"
"""Under this name the environ holds the `Verdict`."""


class WSGILimitMiddleware:
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
        check_limits(limits, maker=True)
        check_application(app)
        check_flag("open_limiter", open_limiter)
        self.app = app
        self._source = limits
        self._limits: Limits | None = None
        self._here: Limits | None = None
        """The limits, in the process that has made them; None in its forked children."""
        self._open_limiter = open_limiter
        self._opening = ForkLock(forget=self._forget)

    @property
    def limits(self) -> Limits:
        """The limits of this process, which are made and opened at the first use."""
        if self._limits is None:
            with self._opening:
                if self._limits is None:
                    # In this order: other threads look at `_limits` without the lock.
                    self._here = made = self._made()
                    self._limits = made
        if self._here is None:
            raise CrdtbucketError(
                "the limiter was opened before this process was forked, and its threads are not "
                "here: serve the first request in the worker"
            )
        return self._here

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request, as the server calls it."""
        limits = self._here or self.limits
        verdict = limits.take_of_peer(environ.get("REMOTE_ADDR"))
        if verdict is None:
            verdict = limits.acquire_sync(WSGIRequest(environ, limits.trusted))
        if not verdict.allowed:
            answer = limits.answer(WSGIRequest(environ, limits.trusted), verdict)
            start_response(_status_line(answer.status), list(answer.headers.items()))
            return [answer.body]
        environ[KEY] = verdict
        if limits.may_refund or limits.may_hold:
            return _watched(self.app, environ, start_response, verdict)
        if verdict.deferred:
            start_response = _with_fields(verdict.deferred, start_response)
        return self.app(environ, start_response)

    def close(self) -> None:
        """Closes the limiter if this middleware has opened it. If nobody calls this, the end of the
        process closes it."""
        if self._open_limiter and self._here is not None:
            self._here.limiter.close()

    def _forget(self) -> None:
        """Called in a child of the process that has made the limits: it makes its own."""
        self._here = None

    def _made(self) -> Limits:
        limits = self._source if isinstance(self._source, Limits) else self._source()
        check_limits(limits)
        if self._open_limiter:
            limits.limiter.__enter__()
            atexit.register(self.close)
        return limits


class WSGIRequest(Request):
    """The request of a WSGI environ."""

    __slots__ = ()

    @property
    def method(self) -> str:
        """The method of the request, in capitals."""
        method: str = self.native["REQUEST_METHOD"]
        return method.upper()  # servers leave that out, and frameworks take "post" for POST

    @property
    def path(self) -> str:
        """The decoded path of the request, from the server's root."""
        path: str = self.native.get("SCRIPT_NAME", "") + self.native.get("PATH_INFO", "")
        return path.encode("latin-1").decode("utf-8", "replace")

    @property
    def peer(self) -> str | None:
        """The address of the other end of the connection; None when the server knows none."""
        peer: str | None = self.native.get("REMOTE_ADDR")
        return peer

    def _values(self, name: str) -> Sequence[str]:
        value = self.native.get("HTTP_" + name.upper().replace("-", "_"))
        return [] if value is None else [value]


def _with_fields(deferred: DeferredFields, start_response: StartResponse) -> StartResponse:
    """`start_response` that adds the fields to the head of an answer."""

    def starting(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        headers = [*headers, *field_pairs(deferred)]
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    return starting


def _watched(
    app: WSGIApplication,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    verdict: Verdict,
) -> Iterable[bytes]:
    """The application's answer, whose end gives the verdict the status."""
    answer = WatchedAnswer(verdict, _with_fields(verdict.deferred, start_response))
    try:
        answer.begin(app(environ, answer.start_response))
    except BaseException as error:
        try:
            if isinstance(error, Exception):
                verdict.ended(500)
        finally:
            verdict.release()  # also when `refund_if` raises
        raise
    return answer


class WatchedAnswer:
    """The parts of an answer as they come; the verdict learns how they end.

    When the server closes it before the last part, the client has gone away.
    """

    def __init__(self, verdict: Verdict, start_response: StartResponse) -> None:
        self._verdict: Verdict | None = verdict
        self._held = verdict
        self._start_response = start_response
        self._status = 500  # of an application that never answers
        self._parts: Iterable[bytes] = ()
        self._each: Iterator[bytes] = iter(())

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """What the application calls."""
        self._status = int(status.split(" ", 1)[0])
        return self._start_response(status, headers, exc_info)

    def begin(self, parts: Iterable[bytes]) -> None:
        """The application has returned the parts."""
        self._parts, self._each = parts, iter(parts)

    def __iter__(self) -> Iterator[bytes]:
        """Itself: it is read once."""
        return self

    def __next__(self) -> bytes:
        """The next part."""
        try:
            return next(self._each)
        except StopIteration:
            self._end(self._status)
            raise
        except Exception:
            self._end(500)
            raise

    def close(self) -> None:
        """Called by the server at the end, whatever has happened."""
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()
        finally:
            self._held.release()

    def _end(self, status: int) -> None:
        verdict, self._verdict = self._verdict, None
        if verdict is not None:
            try:
                verdict.ended(status)
            finally:
                verdict.release()


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Denied"
