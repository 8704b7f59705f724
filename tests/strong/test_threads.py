"""Threads that ask Redis over connections of their own, and what fails: exact to the token."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, CrdtbucketError, Decision, Limiter, Mode, RedisConfig
from crdtbucket._core import ask_store
from crdtbucket.errors import LimiterNotOpen
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.redis import blocking_connection
from crdtbucket.strong.redis.blocking_connection import BlockingConnection
from crdtbucket.strong.strong_bucket import StrongBucket
from tests.certificates import Authority
from tests.forks import in_child
from tests.strong.redis.test_redis_connection import tls_server
from tests.strong.redis_server import EAGER, PATIENT, Server
from tests.strong.test_strong_bucket import records

HOT = BucketSpec("b", 2_000, 1, "1h")
BOUND = 60.0


def limiter(
    url: str, *, deadline: float = 10.0, modes: dict[str, float] = PATIENT, **redis: Any
) -> Limiter:
    return Limiter(
        [HOT],
        node="n1",
        consistency="strong",
        redis=RedisConfig(url=url, deadline=deadline, **redis),
        degradation=Degradation(modes=ControllerSettings(**modes)),  # type: ignore[arg-type]
    )


def warm(bucket: Any) -> int:
    """Asks until a thread's own connection is in use. Returns the tokens taken."""
    taken = 0
    while True:
        taken += bool(bucket.acquire_sync("warm"))
        store = bucket.store
        if store.ledger.in_flight.ready_for_threads:
            return taken + bool(bucket.acquire_sync("warm"))


def until(holds: Callable[[], object]) -> None:
    """Waits on a thread of a test, which has no event loop."""
    over = threading.Event()
    for _ in range(int(BOUND / 0.01)):
        if holds():
            return
        over.wait(0.01)
    raise AssertionError("it did not happen in time")


def quiet(one: Limiter) -> bool:
    return not one.stats()["strong"]["unsettled"]


def clients(server: Server) -> int:
    return len(
        [line for line in server.call("CLIENT", "LIST").split(b"\n") if b"crdtbucket" in line]
    )


def test_many_threads_share_a_key_exactly_and_nothing_looks_lost(server: Server) -> None:
    with limiter(server.url) as one, ThreadPoolExecutor(16) as threads:
        bucket = one.bucket("b")
        warm(bucket)
        asks = [threads.submit(bucket.acquire_sync, "k") for _ in range(2_500)]
        decisions = [ask.result() for ask in asks]
        assert sum(bool(d) for d in decisions) == 2_000
        assert {d.mode for d in decisions} == {Mode.STRONG}
        assert clients(server) > 4
        stats = one.stats()["strong"]
        assert (stats["unclaimed_charges"], stats["unsettled"]) == (0, 0)
    taken, refunded = records(server)["n1"]
    assert (taken - 2_000, refunded) == (taken - 2_000, 0)


def test_threads_the_event_loop_and_refunds_meet_on_a_key(server: Server) -> None:
    with limiter(server.url) as one, ThreadPoolExecutor(8) as threads:
        bucket = one.bucket("b")
        net = warm(bucket)

        def work(number: int) -> int:
            kept = 0
            for turn in range(60):
                decision = bucket.acquire_sync("k", 2)
                kept += 2 * decision.allowed
                if decision and turn % 7 == number % 7:
                    kept -= bucket.refund(decision, 1)
            return kept

        net += sum(threads.map(work, range(8)))
        until(lambda: quiet(one))
        assert one.stats()["strong"]["unclaimed_charges"] == 0
    taken, refunded = records(server)["n1"]
    assert taken - refunded == net


@contextmanager
def asked_on_and_on(bucket: Any, keys: int) -> Iterator[list[int]]:
    """Six threads take one token after the other, of so many keys. In the end it has what each of
    them was granted."""
    over, granted = threading.Event(), list[int]()

    def work(number: int) -> int:
        kept = 0
        while not over.is_set():
            kept += bool(bucket.acquire_sync(f"k{number % keys}"))
        return kept

    with ThreadPoolExecutor(6) as threads:
        asks = [threads.submit(work, number) for number in range(6)]
        try:
            yield granted
        finally:
            over.set()
        granted += [ask.result() for ask in asks]


def test_lost_calls_are_settled_exactly() -> None:
    modes = EAGER | {"latency_limit": 0.1, "outage_after": 0.3}
    with Server() as server, limiter(server.url, deadline=0.1, modes=modes) as one:
        bucket = one.bucket("b")
        net = warm(bucket)
        with asked_on_and_on(bucket, keys=3) as granted:
            for _ in range(2):
                until(lambda: bucket.mode is Mode.STRONG)
                server.freeze()
                until(lambda: bucket.mode is Mode.FALLBACK)
                server.thaw()
            until(lambda: bucket.mode is Mode.STRONG)
        net += sum(granted)
        until(lambda: quiet(one))
        (numbers,) = one.stats()["redis"].values()
        assert numbers["timed_out"] > 0
        taken, refunded = records(server)["n1"]
        assert taken - refunded == net


def test_a_lost_call_gets_a_new_fence_and_is_kept_out() -> None:
    """It lies in the server's socket, which is read after that of a call on the same key."""
    with Server() as server, limiter(server.url, deadline=0.2) as one:
        bucket = one.bucket("b")
        warm(bucket)
        (endpoint,) = bucket.store.endpoints.values()
        before = endpoint.link.fence
        server.freeze()
        decision = bucket.acquire_sync("k", 5)
        assert decision.mode is Mode.FALLBACK
        assert endpoint.link.fence > before
        server.thaw()
        until(lambda: quiet(one))
        assert records(server)["n1"][0] - records(server)["n1"][1] >= 5 * decision.allowed


def test_connections_that_are_cut_lose_and_double_nothing(server: Server) -> None:
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        net = warm(bucket)
        with asked_on_and_on(bucket, keys=2) as granted:
            for _ in range(20):
                server.call("CLIENT", "KILL", "TYPE", "normal")
                until(lambda: clients(server) > 1)
        net += sum(granted)
        until(lambda: quiet(one))
        taken, refunded = records(server)["n1"]
        assert taken - refunded == net


def test_an_idle_connection_that_the_server_closed_is_replaced(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crdtbucket.strong import threads as module

    monkeypatch.setattr(module, "IDLE_NS", 0)
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        net = warm(bucket)
        for line in server.call("CLIENT", "LIST").decode().splitlines():
            fields = dict(field.split("=", 1) for field in line.split())
            if fields["name"].startswith("crdtbucket") and fields["cmd"] == "evalsha":
                server.call("CLIENT", "KILL", "ID", fields["id"])
        decisions = [bucket.acquire_sync("k") for _ in range(5)]
        until(lambda: quiet(one))
        taken, refunded = records(server)["n1"]
        assert taken - refunded == net + sum(bool(d) for d in decisions)


def test_a_server_without_the_script_gets_it(server: Server) -> None:
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        warm(bucket)
        server.call("SCRIPT", "FLUSH")
        assert bucket.acquire_sync("k", 5).mode is Mode.STRONG
        assert bucket.acquire_sync("k", 5).remaining == 1_990


def test_without_redis_threads_decide_by_the_mode() -> None:
    with Server() as server, limiter(server.url, modes=EAGER) as one:
        bucket = one.bucket("b")
        net = warm(bucket)
        server.kill()
        until(lambda: bucket.mode is Mode.FALLBACK)
        decisions = [bucket.acquire_sync("k", 50) for _ in range(5)]
        assert [d.allowed for d in decisions] == [True] * 4 + [False]  # a tenth of 2,000
        assert {d.mode for d in decisions} == {Mode.FALLBACK}
        server.start()
        until(lambda: bucket.mode is Mode.STRONG)
        until(lambda: quiet(one))
        assert bucket.acquire_sync("k").mode is Mode.STRONG
        taken, refunded = records(server)["n1"]
        assert taken - refunded >= 201
        assert net


def test_closing_waits_for_the_calls_of_threads(server: Server) -> None:
    one = limiter(server.url)
    kept: list[int] = []
    all_were_answered = threading.Barrier(7)

    def work() -> None:
        mine = int(bool(bucket.acquire_sync("k")))
        all_were_answered.wait(BOUND)
        try:
            while True:
                mine += bool(bucket.acquire_sync("k"))
        except CrdtbucketError:
            kept.append(mine)

    async def left_when_stopped() -> int:
        await threads.stop()
        return threads.in_flight

    with one:
        bucket = one.bucket("b")
        net = warm(bucket)
        asking = [threading.Thread(target=work) for _ in range(6)]
        for thread in asking:
            thread.start()
        all_were_answered.wait(BOUND)
        threads = bucket.store._threads
        server.freeze()
        until(lambda: threads.in_flight)  # the event loop may ask for some of them
        stopping = asyncio.run_coroutine_threadsafe(left_when_stopped(), threads._loop)
        for _ in range(3):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), threads._loop).result(BOUND)
        # All that were in flight may have had their answers on the way already.
        assert not stopping.done() or not threads.in_flight
        server.thaw()
        assert stopping.result(BOUND) == 0
        assert threads.in_flight == 0
    for thread in asking:
        thread.join(BOUND)
    taken, refunded = records(server)["n1"]
    assert len(kept) == 6
    assert taken - refunded == net + sum(kept)


def test_a_call_that_meets_the_closing_is_left_to_the_event_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread has a connection by then, and has begun nothing."""
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        warm(bucket)
        threads, connection = bucket.store._threads, bucket.store._threads._connection
        (endpoint,) = bucket.store.endpoints.values()

        def closed_meanwhile(endpoint: Endpoint) -> BlockingConnection | None:
            found: BlockingConnection | None = connection(endpoint)
            asyncio.run_coroutine_threadsafe(threads.stop(), threads._loop).result(BOUND)
            return found

        monkeypatch.setattr(threads, "_connection", closed_meanwhile)
        assert threads.acquire(endpoint, bucket, "k", 1) is None
        assert threads.in_flight == 0


def test_the_connections_of_threads_end_with_them(server: Server) -> None:
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        warm(bucket)
        before = clients(server)
        for _ in range(5):
            with ThreadPoolExecutor(4) as threads:
                assert all(threads.map(lambda _: bucket.acquire_sync("k"), range(40)))
        until(lambda: clients(server) <= before)


def _fork_and_ask(bucket: Any) -> int:
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        code = 1
        try:
            bucket.acquire_sync("k")
        except LimiterNotOpen as error:
            code = 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    return child


def _ended(child: int, status: list[int]) -> bool:
    done, code = os.waitpid(child, os.WNOHANG)
    status += [os.waitstatus_to_exitcode(code)] * bool(done)
    return bool(done)


def test_a_forked_child_is_refused_with_the_fix(server: Server) -> None:
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        warm(bucket)
        with ThreadPoolExecutor(1) as other, bucket.store.ledger.lock:
            # Another thread forks while this one books: nobody will release the child's copy.
            child = other.submit(_fork_and_ask, bucket).result()
        status: list[int] = []
        try:
            until(lambda: status or _ended(child, status))
        finally:
            if not status:
                os.kill(child, signal.SIGKILL)
        assert status == [0]
        assert bucket.acquire_sync("k").remaining == 1_999


def test_a_forked_child_is_refused_on_its_own_event_loop_too(server: Server) -> None:
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        warm(bucket)
        told = in_child(
            lambda: asyncio.run(bucket.acquire("k")),
            lambda: asyncio.run(bucket.acquire_many(["k", "l"])),
            lambda: bucket.wait_sync("k", timeout=60),
        )
        assert [answer.partition(": this process was forked")[0] for answer in told] == [
            "LimiterNotOpen"
        ] * 3


def test_over_a_unix_socket(server: Server) -> None:
    with limiter(server.unix_url) as one:
        bucket = one.bucket("b")
        warm(bucket)
        before = clients(server)
        assert isinstance(bucket.acquire_sync("k"), Decision)
        assert before >= 2


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    with tls_server(authority, "tls-auth-clients no") as (_, port):
        url = f"rediss://127.0.0.1:{port}"
        with limiter(url, tls_ca=authority.file) as one:
            bucket = one.bucket("b")
            assert isinstance(bucket, StrongBucket)
            warm(bucket)
            assert [bucket.acquire_sync("k").remaining for _ in range(3)] == [1_999, 1_998, 1_997]


def test_a_call_from_within_a_call_of_the_same_thread_reads_no_answer_of_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler or a finalizer may make one while the thread waits."""
    with limiter(server.url) as one:
        bucket = one.bucket("b")
        warm(bucket)
        within, once = list[Decision](), iter([True])

        def interrupted(fd: int, command: bytes, *times: int) -> list[int] | bytes | int:
            assert os.write(fd, command) == len(command)
            if next(once, False):
                within.append(bucket.acquire_sync("within", 3))
            return ask_store(fd, b"", *times)

        monkeypatch.setattr(blocking_connection, "ask_store", interrupted)
        assert bucket.acquire_sync("k", 5).remaining == 1_995
        assert within[0].remaining == 1_997
        assert quiet(one)
