"""How many decisions of a shared Redis do threads without an event loop get?

Two rows are floors: the script of this library and that of `limits`, each called over a bare
socket. What they take belongs to Redis and to the way there, the rest of a row to Python.
"""

from __future__ import annotations

import gc
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from statistics import quantiles
from typing import Any

import hiredis

from benchmarks import shared
from benchmarks.measure import Case, Comparison, Scale
from benchmarks.peers import PLENTY, attempt, parted
from crdtbucket import Degradation, Limiter, Mode, RedisConfig
from crdtbucket.strong.redis.resp import encode
from crdtbucket.strong.redis.script import SOURCE, Arguments, ScriptCall, owner_name
from crdtbucket.strong.store_names import redis_key
from tests.strong.redis_server import Server

Ask = Callable[[str], Any]
Join = Callable[[], Ask]
"""Is called once in each thread, and returns the function by which that thread asks."""

THREADS = (1, 16)
KEYS = [f"user:{i}" for i in range(1_000)]
BOUND = 60.0
"""Seconds within which all threads must be ready, else the run fails."""
OURS, LIMITS = "crdtbucket, acquire_sync", "limits, fixed window"
OUR_FLOOR, LIMITS_FLOOR = "floor: our script over a socket", "floor: limits' script over a socket"
NOTE = "wall time; server and threads on a core each where there are two; p99 of one decision"


class Line:
    """A bare socket to the server, without anything else that takes time."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection((server.host, server.port), BOUND)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)
        self._reader = hiredis.Reader()

    def close(self) -> None:
        """Ends it."""
        self._socket.close()

    def ask(self, command: bytes) -> Any:
        """The reply to one command."""
        self._socket.sendall(command)
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65_536))
        return reply


def floor(server: Server, commands: dict[str, bytes], stack: ExitStack) -> Ask:
    """A row that is a floor: it sends bytes that were made before, for each key."""
    line = stack.enter_context(closing(Line(server)))

    def ask(key: str) -> bool:
        reply = line.ask(commands[key])
        return bool(reply[0] == 1 if isinstance(reply, list) else reply >= 1)

    return ask


def our_commands() -> dict[str, bytes]:
    """The command for each key, of a process that has taken nothing yet."""
    arguments, owner = Arguments(shared.SPEC, PLENTY), owner_name(1, "bench")
    names = {key: redis_key(b"floor:", "bench", (1, number)) for number, key in enumerate(KEYS)}
    return {
        key: arguments.command(ScriptCall(name, 1, owner, 0, 1, 0, 0, 0))
        for key, name in names.items()
    }


def limits_commands(server: Server, script: Any) -> dict[str, bytes]:
    """The command that `limits` sends for each key."""
    server.call("SCRIPT", "LOAD", script.script)
    return {
        key: encode("EVALSHA", script.sha, 1, f"LIMITS:floor/{key}/{PLENTY}/1/day", 86_400, 1)
        for key in KEYS
    }


def ours(server: Server, stack: ExitStack) -> Join:
    """`acquire_sync`: of a limiter that runs in a thread of its own and must stay strong."""
    redis = RedisConfig(url=server.url, deadline=2.0)
    degradation = Degradation(modes=shared.PATIENCE)
    limiter = Limiter([shared.SPEC], node="threads", redis=redis, degradation=degradation)
    bucket = stack.enter_context(limiter).bucket("bench")

    def stayed_strong() -> None:
        (endpoint,) = limiter.stats()["redis"].values()
        if bucket.mode is not Mode.STRONG or endpoint["switches"] or endpoint["timed_out"]:
            raise AssertionError(f"not all decisions were strong: {endpoint}")

    stack.callback(stayed_strong)
    return lambda: bucket.acquire_sync


def limits(server: Server, stack: ExitStack) -> tuple[Join, Any]:
    """`hit` of limits, and the script that it calls."""
    from limits import RateLimitItemPerDay
    from limits.storage import RedisStorage
    from limits.strategies import FixedWindowRateLimiter

    storage = RedisStorage(server.url)
    stack.callback(storage.get_connection().close)
    hit = partial(FixedWindowRateLimiter(storage).hit, RateLimitItemPerDay(PLENTY))
    return (lambda: hit), storage.lua_incr_expire


def timed(ask: Ask, keys: Sequence[str]) -> list[int]:
    """Asks for each key, one after the other; ns of each."""
    clock, spent = time.perf_counter_ns, []
    for key in keys:
        start = clock()
        allowed = ask(key)
        spent.append(clock() - start)
        if not allowed:
            raise AssertionError(f"{ask} denied {key}")
    return spent


def server_seconds(server: Server) -> float:
    """CPU time of the server so far."""
    text = server.call("INFO", "cpu").decode()
    spent = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    return float(spent["used_cpu_sys"]) + float(spent["used_cpu_user"])


def together(server: Server, join: Join, threads: int, keys: Sequence[str]) -> tuple[float, ...]:
    """Decisions a second of all threads, the time (ms) within which 99 of 100 were made, and the
    CPU time (us) of this process and of the server for each."""
    ready = threading.Barrier(threads + 1, timeout=BOUND)

    def work(number: int) -> list[int]:
        try:
            ask, mine = join(), keys[number::threads]
            timed(ask, mine[: max(5, len(mine) // 10)])
        except BaseException:
            ready.abort()
            raise
        ready.wait()
        return timed(ask, mine)

    gc.collect()
    gc.disable()
    try:
        with ThreadPoolExecutor(threads) as pool:
            parts = [pool.submit(work, number) for number in range(threads)]
            try:
                ready.wait()
            except threading.BrokenBarrierError:
                for part in parts:
                    part.result()
                raise
            start, here, there = time.perf_counter(), time.process_time(), server_seconds(server)
            spent = [ns for part in parts for ns in part.result()]
            seconds, here = time.perf_counter() - start, time.process_time() - here
            there = server_seconds(server) - there
    finally:
        gc.enable()
    each_us = 1e6 / len(spent)
    slowest_ms = quantiles(spent, n=100)[98] / 1e6
    return len(spent) / seconds, slowest_ms, here * each_us, there * each_us


def by_threads(server: Server, scale: Scale) -> Iterator[Comparison]:
    """A table for each number of threads."""
    with ExitStack() as stack:
        server.call("SCRIPT", "LOAD", SOURCE)
        joins: dict[str, Join] = {
            OUR_FLOOR: partial(floor, server, our_commands(), stack),
            OURS: ours(server, stack),
        }
        found, missing = parted({LIMITS: attempt(partial(limits, server, stack))})
        for name, (join, script) in found.items():
            joins[LIMITS_FLOOR] = partial(floor, server, limits_commands(server, script), stack)
            joins[name] = join
        keys = random.Random(1).choices(KEYS, k=scale.pick(20_000, 10_000, 256))
        for threads in THREADS:
            title = f"acquire_sync from {threads} thread{'s' * (threads > 1)}"
            cases = [
                Case(
                    name,
                    partial(together, server, join, threads, keys),
                    peer=name in (LIMITS, LIMITS_FLOOR),
                )
                for name, join in joins.items()
            ]
            units = ("decisions a second", "ms, p99", "µs of CPU each", "µs of the server each")
            yield Comparison(title, units, cases, missing, note=NOTE, versus=LIMITS)
