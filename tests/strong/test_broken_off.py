"""An exception that interrupts a thread's call of Redis, such as one that a signal handler
raises."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket.strong.endpoint_health import EndpointHealth
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.threads import Threads
from tests.strong.redis_server import Server
from tests.strong.test_strong_bucket import records
from tests.strong.test_threads import limiter, quiet, until, warm


class BrokenOffError(Exception):
    """Such as a task's limit of time."""


def breaks(real: Callable[..., Any], *, before: bool, calls: int = 1) -> Callable[..., Any]:
    """The function, into the last of so many calls by this thread an exception breaks, at its
    begin or its end."""
    left, thread = iter(range(calls)), threading.get_ident()

    def broken(*args: Any, **named: Any) -> Any:
        last = threading.get_ident() == thread and next(left, None) == calls - 1
        if last and before:
            raise BrokenOffError
        result = real(*args, **named)
        if last:
            raise BrokenOffError
        return result

    return broken


def in_flight_of_threads(bucket: Any) -> int:
    """Their requests, beside which the event loop may settle a key."""
    ledger = bucket.store.ledger
    with ledger.lock:
        return sum(key.by_threads for key in ledger.in_flight._by_key.values())


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (EndpointHealth, "asked"),
        (EndpointHealth, "answered_by_thread"),
        (Ledger, "book"),
        (Threads, "_ask"),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_a_call_that_is_broken_off_anywhere_leaves_nothing_in_flight(
    server: Server, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, before: bool
) -> None:
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        net = warm(bucket)
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, breaks(getattr(owner, name), before=before))
            with pytest.raises(BrokenOffError):
                bucket.acquire_sync("k", 5)
        assert bucket.store._threads.in_flight == 0
        assert not in_flight_of_threads(bucket)
        net += bool(bucket.acquire_sync("k"))
        until(lambda: quiet(one))
        taken, refunded = records(server)["n1"]
        booked = 5 if name in ("book", "_ask") and not before else 0
        assert taken - refunded == net + booked
        assert bucket.peek("k").remaining == 2_000 - 1 - booked


def test_nothing_is_left_in_flight_by_a_request_that_is_sent_in_place_of_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has lost its records, so that the whole entry is sent."""
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        warm(bucket)
        assert bucket.acquire_sync("k")
        server.call("FLUSHALL")
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "book", breaks(Ledger.book, before=True, calls=2))
            with pytest.raises(BrokenOffError):
                bucket.acquire_sync("k", 5)
        assert not in_flight_of_threads(bucket)
        until(lambda: quiet(one))
        assert bucket.peek("k").remaining == 1_999


def test_what_a_handler_raises_reaches_the_caller_as_it_is(server: Server) -> None:
    """An error of the system, too: it is no time-out of Redis."""

    def handler(*_: object) -> None:
        raise TimeoutError("of the program")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with limiter(server.url) as one:
            bucket = one.bucket("b")
            warm(bucket)
            server.freeze()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(TimeoutError, match="of the program"):
                bucket.acquire_sync("k", 5)
            server.thaw()
            until(lambda: quiet(one))
            (numbers,) = one.stats()["redis"].values()
            assert (numbers["timed_out"], numbers["cancelled"]) == (0, 1)
    finally:
        signal.signal(signal.SIGALRM, before)
