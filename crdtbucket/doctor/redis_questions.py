"""Asks one primary for its facts, its rights, its time and its latency."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from crdtbucket._core import Table
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.counted import counted
from crdtbucket.doctor.diagnosis import Level
from crdtbucket.errors import CrdtbucketError, RedisReplyError
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis.login import explained
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection, asked
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.registry import Registry
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.server_facts import read_facts, read_time
from crdtbucket.strong.redis.topology import Primary

OLDEST = 7
"""The first version of Redis whose scripts do what ours need."""
BEHIND_S = 10
"""Seconds; a replica that was not seen for longer may lack writes, which a failover to it would
lose."""
CLOCK_S = 1.0
"""Seconds by which a clock may seem wrong because of the network alone."""
LEAST_CALLS, CALLS = 20, 200
"""Decisions whose latency is measured: the second number, or fewer when they are slow."""
MORE_COMMANDS: dict[str, tuple[str | int, ...]] = {
    "SET": ("a", "PX", 1_000),
    "GET": (),
    "HGET": ("a",),
}
"""Commands that a replicated Redis needs beside the others, with their arguments after the key."""
Answer = tuple[str, Level, str]
"""The subject of a question, the status of the answer, and its words."""
Question = Callable[[], Coroutine[Any, Any, Sequence[Answer]]]


@dataclass(eq=False)
class RedisQuestions:
    """Asked over one connection; each method raises `CrdtbucketError` when that ends."""

    connection: RedisConnection
    primary: Primary
    config: RedisConfig
    modes: ControllerSettings
    seconds: float
    """About how long (s) latency is measured."""
    regions: Regions | None
    """The regions of a replicated Redis; None for one that all nodes share."""

    def __post_init__(self) -> None:
        prefix, table = self.config.prefix, Table(max_keys=16)
        registry = Registry(prefix, "doctor", table, regions=self.regions)
        self._arguments, self._call = registry.probe(self.primary.ranges)
        self._more = MORE_COMMANDS if self.regions is not None else {}

    async def facts(self) -> Sequence[Answer]:
        """The server's report about itself: version, role, replicas, and whether it evicts keys."""
        reply = await asked(self.connection, "INFO")
        if isinstance(reply, RedisErrorReply):
            text = "INFO is not allowed to this user: version, role and memory are unknown"
            return [("facts", "note", text)]
        if not isinstance(reply, bytes):
            raise _error(reply, "INFO")
        lines = reply.decode(errors="replace").splitlines()
        info = dict(line.split(":", 1) for line in lines if ":" in line)
        policy = read_facts(reply)
        why = policy.policy or "no policy"
        if policy.max_memory == 0 and why != "noeviction":
            why += ", which without maxmemory means nothing"
        kept: Answer = ("memory", "ok", f"{why}: it forgets no keys")
        return [
            _version(info),
            _role(info),
            *_replicas(info),
            ("memory", "wrong", policy.warning) if policy.evicts else kept,
        ]

    async def rights(self) -> Sequence[Answer]:
        """Whether this user may run every command that a limiter needs, on its keys."""
        key = self._call.key + b":rights"
        script = self._arguments.script
        commands: dict[str, tuple[bytes | str | int, ...]] = {
            "PING": (), "TIME": (), "SCRIPT LOAD": (script.source,), "EVAL": ("return 1", 1, key),
            "EVALSHA": (script.sha, 1, key), "HSET": (key, "a", "1"), "PEXPIRE": (key, 60_000),
            "HGETALL": (key,), "HMGET": (key, "a"), "HLEN": (key,), "HDEL": (key, "a"),
            **{name: (key + b":text", *rest) for name, rest in self._more.items()},
        }  # fmt: skip
        denied = []
        for name, words in commands.items():
            reply = await asked(self.connection, *name.split(), *words)
            if not isinstance(reply, RedisErrorReply):
                if isinstance(reply, CrdtbucketError):
                    raise reply
            elif reply.denied and "key" in reply.message:
                return [("rights", "wrong", explained(self.primary.address, reply))]
            elif reply.denied or "unknown command" in reply.message:
                denied.append(name)
        if not denied:
            return [("rights", "ok", f"{len(commands)} commands are allowed")]
        fix = " ".join(f"+{name.lower().replace(' ', '|')}" for name in denied)
        text = f"{', '.join(denied)} may not be run: allow them (ACL SETUSER ... {fix})"
        return [("rights", "wrong", text)]

    async def decides(self) -> Sequence[Answer]:
        """Whether its script decides: a call on a key of its own, which is gone after a minute."""
        reply, _ = await self._ask(self._arguments.command(self._call, source=True))
        if isinstance(reply, RedisErrorReply):
            return [("script", "wrong", explained(self.primary.address, reply))]
        self._arguments.parse(reply)
        return [("script", "ok", "it decides")]

    async def clock(self) -> Sequence[Answer]:
        """How far its clock is off from this host's."""
        before = time.time()
        theirs_us = await self.time_us()
        return [clock_answer(theirs_us / 1e6, before, time.time())]

    async def time_us(self) -> int:
        """The server's time (us)."""
        return read_time(await asked(self.connection, "TIME"))

    async def latency(self) -> Sequence[Answer]:
        """Measures how long decisions take."""
        samples: list[int] = []
        until = now_ns() + round(self.seconds * NS_PER_SECOND)
        while len(samples) < CALLS and (len(samples) < LEAST_CALLS or now_ns() < until):
            reply, latency_ns = await self._ask(self._arguments.command(self._call))
            if isinstance(reply, RedisErrorReply):
                return []  # without a script that decides there is nothing to measure
            samples.append(latency_ns)
        return [latency_answer(samples, self.modes.latency_limit, self.config.deadline)]

    async def _ask(self, command: bytes) -> tuple[object, int]:
        """The reply, and how long it took (ns), without the time for which it lay unread here."""
        future: asyncio.Future[tuple[object, int]] = asyncio.get_running_loop().create_future()

        def replied(reply: object) -> None:
            if not future.done():
                future.set_result((reply, batch.latency_ns))

        batch = self.connection.send(command, replied)
        reply, latency_ns = await future
        if isinstance(reply, CrdtbucketError) and not isinstance(reply, RedisErrorReply):
            raise reply
        return reply, latency_ns


QUESTIONS: tuple[Callable[[RedisQuestions], Coroutine[Any, Any, Sequence[Answer]]], ...] = (
    RedisQuestions.facts,
    RedisQuestions.rights,
    RedisQuestions.decides,
    RedisQuestions.clock,
    RedisQuestions.latency,
)


def clock_answer(theirs: float, before: float, after: float) -> Answer:
    """Compares a clock that was read between `before` and `after` (s)."""
    off = theirs - before if theirs < before else max(0.0, theirs - after)
    if abs(off) <= CLOCK_S:
        return "clock", "ok", "it agrees with this host's"
    side = "ahead of" if off > 0 else "behind"
    text = (
        f"it is {abs(off):.1f} s {side} this host's: a failover between servers with such clocks "
        "refills every bucket too early or too late. Run NTP on both"
    )
    return "clock", "wrong", text


def latency_answer(samples: Sequence[int], limit: float, deadline: float) -> Answer:
    """Compares latencies (ns) with `latency_limit` and `deadline` (s)."""
    ranked = sorted(samples)
    p50, p99 = (ranked[len(ranked) * part // 100] / NS_PER_SECOND for part in (50, 99))
    times = f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
    fix = "raise it, or use a Redis that is nearer"
    if p99 > deadline:
        of = f"bucket_backend.deadline is {deadline * 1e3:g} ms"
        return "latency", "wrong", f"{times}, and {of}, so it would often be given up: {fix}"
    if p99 > limit:
        of = f"modes.latency_limit is {limit * 1e3:g} ms"
        return "latency", "wrong", f"{times}, and {of}, so it would count as slow: {fix}"
    return "latency", "ok", f"{times}, within {limit * 1e3:g} ms"


def _version(info: dict[str, str]) -> Answer:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "?")
    compatible = re.match(r"\d+", info.get("redis_version", ""))
    if compatible is None or int(compatible[0]) >= OLDEST:
        return "version", "ok", f"{name} {version}"
    return "version", "wrong", f"{name} {version}: upgrade it to {OLDEST} or newer"


def _role(info: dict[str, str]) -> Answer:
    if info.get("role", "master") == "master":
        return "role", "ok", "it is a primary"
    where = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
    return "role", "wrong", f"it is a replica of {where}, and takes no writes: name the primary"


def _replicas(info: dict[str, str]) -> Iterator[Answer]:
    if info.get("role") != "master":
        return
    rows = [value for name, value in info.items() if re.fullmatch(r"slave\d+", name)]
    found = [dict(part.partition("=")[::2] for part in row.split(",")) for row in rows]
    for one in found:
        lag = one.get("lag", "0")
        if one.get("state") != "online" or (lag.isdigit() and int(lag) > BEHIND_S):
            who = f"replica {one.get('ip')}:{one.get('port')}"
            text = f"{who} is {one.get('state')} and was last seen {lag} s ago: a failover to it "
            yield "replication", "wrong", text + "would lose what it lacks. Look at its log"
            return
    if found:
        yield "replication", "ok", f"it has {counted(len(found), 'replica')}"
    else:
        yield "replication", "note", "no replica: while it is gone the rule for an outage decides"


def _error(reply: object, command: str) -> CrdtbucketError:
    if isinstance(reply, CrdtbucketError):
        return reply
    return RedisReplyError(f"{command} was answered with something else: is it really a Redis?")
