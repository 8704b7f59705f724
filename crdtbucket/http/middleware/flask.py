"""Limits on single routes of Flask. For a whole application: `wsgi`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from flask import Flask, Response, after_this_request, current_app, request

from crdtbucket.errors import CostExceedsCapacity, Denied
from crdtbucket.http.answers import ANSWERED, Answer, Verdict, answer_of
from crdtbucket.http.fields import field_pairs
from crdtbucket.http.limits import Limits, check_application, check_limits, check_route
from crdtbucket.http.middleware.wsgi import KEY, WSGIRequest

P = ParamSpec("P")
R = TypeVar("R")


def limit_route(limits: Limits) -> Callable[[Callable[P, R]], Callable[P, R | Response]]:
    """A decorator for a view, below the one of Flask: it asks the rules before the view.

    Denied, the view does not run, and the answer is a problem document. Allowed, the answer has
    the header fields, and the view finds its `Verdict` in `request.environ["crdtbucket.verdict"]`.
    Slots are held while the view runs.
    """
    check_limits(limits)

    def decorate(view: Callable[P, R]) -> Callable[P, R | Response]:
        check_route("view", view)
        awaited = inspect.iscoroutinefunction(view)

        @functools.wraps(view)
        def limited(*args: P.args, **kwargs: P.kwargs) -> Any:
            environ = request.environ
            verdict = limits.take_of_peer(environ.get("REMOTE_ADDR"))
            if verdict is None:
                verdict = limits.acquire_sync(WSGIRequest(environ, limits.trusted))
            if not verdict.allowed:
                return _response(limits.answer(WSGIRequest(environ, limits.trusted), verdict))
            environ[KEY] = verdict
            after_this_request(_completing(verdict))
            try:
                return (current_app.ensure_sync(view) if awaited else view)(*args, **kwargs)
            finally:
                verdict.release()

        return limited

    return decorate


def _completing(verdict: Verdict) -> Callable[[Response], Response]:
    """Adds the fields to the view's answer, and gives the verdict its status."""

    def completing(response: Response) -> Response:
        for name, value in field_pairs(verdict.deferred):
            response.headers.add(name, value)
        verdict.ended(response.status_code)
        return response

    return completing


def install(app: Flask) -> None:
    """Answers every `LimitExceeded`, `ReservationDenied`, `SlotDenied` and `CostExceedsCapacity`
    that a view lets through by a problem document."""
    check_application(app, "register_error_handler")
    for error in ANSWERED:
        app.register_error_handler(error, _answer)


def _answer(error: Denied | CostExceedsCapacity) -> Response:
    return _response(answer_of(error))


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers)
