"""The claims of the documents: ratios of two rows that were measured in turns, in one run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.kept import Results
from benchmarks.ways import OURS_SHARED

OURS = "crdtbucket"
HOT, DENIED = "one hot key, allowed", "one hot key, denied"
DICT = "dict[key] += 1, no limit"
SPEED, EXACT = "admitted takes a second", "admitted of a limit"
ALONE, FLOCK = "crdtbucket, a memory for each process", "a mapped file and flock"
MERGED, RAISED = "1,000,000 keys", "merge, one column higher"
REGIONS = "regions: one hot key"
ONE_THREAD, THREADS = "acquire_sync from 1 thread", "acquire_sync from 16 threads"
OF_THREADS = "crdtbucket, acquire_sync"
OUR_SCRIPT, LIMITS_SCRIPT = (f"floor: {whose} script over a socket" for whose in ("our", "limits'"))
MIDDLEWARE = "crdtbucket, middleware"
OVERRIDES = "takes where keys may have other limits"
BARE = "aiohttp that parses and answers, no limiter"
LINE = "floor: one cache line read at random"
ENTRIES = "entries with 5 columns"


@dataclass(frozen=True)
class Claim:
    """How many times as large as `under` `over` is: two rows of one table, or of two tables of one
    question.

    title2: the table of `under`, unless it is the same. unit, unit2: which of the values.
    """

    question: str
    title: str
    over: str
    under: str
    unit: int = 0
    title2: str = ""
    unit2: int | None = None

    def ratio(self, results: Results) -> float:
        """The ratio of the medians."""
        over = results.value(self.question, self.title, self.over, self.unit)
        unit = self.unit if self.unit2 is None else self.unit2
        under = results.value(self.question, self.title2 or self.title, self.under, unit)
        return float(over["median"] / under["median"])


def _hot(peer: str) -> Claim:
    return Claim("take", HOT, peer, OURS)


def _key(peer: str) -> Claim:
    return Claim("memory", "", peer, "crdtbucket, 1 region")


CLAIMS: dict[str, Claim] = {
    "take over a dictionary": Claim("take", HOT, OURS, DICT),
    "token-bucket": _hot("token-bucket"),
    "aiolimiter": _hot("aiolimiter, awaited"),
    "limits": _hot("limits, fixed window"),
    "throttled-py": _hot("throttled-py, GCRA"),
    "pyrate-limiter": _hot("pyrate-limiter, token bucket"),
    "token-bucket, a million keys": Claim("many_keys", "1,000,000 keys", "token-bucket", OURS),
    "take_many": Claim(
        "take_many", "100,000 keys in random order", "take in a loop", "take_many of 1,000"
    ),
    "memory: token-bucket": _key("token-bucket"),
    "memory: 10 regions": _key("crdtbucket, 10 regions"),
    "shared over flock": Claim("workers", SPEED, OURS_SHARED, FLOCK, unit=1),
    "no sharing, admitted": Claim("workers", EXACT, ALONE, ALONE, unit=2, unit2=0),
    "SQLite, admitted": Claim(
        "workers", EXACT, "pyrate-limiter, SQLite store", ALONE, unit=2, unit2=0
    ),
    "strong: redis-py": Claim("strong", "one caller", "EVALSHA by redis-py", OURS),
    "strong: more than limits": Claim("strong", "64 callers", OURS, "limits.aio, fixed window"),
    "strong: 1 thread": Claim("strong", ONE_THREAD, OF_THREADS, "limits, fixed window"),
    "strong: 16 threads": Claim("strong", THREADS, OF_THREADS, "limits, fixed window"),
    "strong: script, 1 thread": Claim("strong", ONE_THREAD, OUR_SCRIPT, LIMITS_SCRIPT),
    "strong: script, 16 threads": Claim("strong", THREADS, OUR_SCRIPT, LIMITS_SCRIPT),
    "strong: 3 regions": Claim(
        "strong", REGIONS, "3 regions, copies of 60 records that change", "one server"
    ),
    "strong: 3 regions, 2 silent": Claim(
        "strong", REGIONS, "3 regions, the others silent", "one server"
    ),
    "merge over a cache line": Claim("merge", MERGED, RAISED, LINE),
    "msgpack pack over encode": Claim(
        "codec", ENTRIES, "msgpack: pack rows of Python objects", "encode from the table"
    ),
    "msgpack unpack over decode": Claim(
        "codec",
        ENTRIES,
        "msgpack: unpack them",
        "decode: read and check, all but the last byte",
    ),
    "converged over the way": Claim(
        "convergence", "", "0% of frames lost", "floor: the network's mean one-way delay"
    ),
    "converged at 30 % loss": Claim("convergence", "", "30% of frames lost", "0% of frames lost"),
    "NATS over WebSockets": Claim("sockets", "", "NATS, 30 nodes", "WebSockets, 30 nodes"),
    "join: ten times the keys": Claim("join", "", "1,000,000 keys", "100,000 keys"),
    "fastapi-limiter adds": Claim(
        "surfaces", "FastAPI", "fastapi-limiter, dependency", "crdtbucket, dependency", unit=1
    ),
    "flask-limiter adds": Claim("surfaces", "Flask", "flask-limiter", MIDDLEWARE, unit=1),
    "override by a glob": Claim("surfaces", OVERRIDES, "an override by a glob", "no overrides"),
    "override by a function": Claim(
        "surfaces", OVERRIDES, "a function that was asked before", "no overrides"
    ),
    "acquire over take": Claim("surfaces", "awaited", "acquire", "take", title2="one hot key"),
    "sidecar over bare aiohttp": Claim("sidecar", "", "take, allowed", BARE),
    "sidecar: forward auth": Claim("sidecar", "a decision each", "forward auth", BARE),
    "sidecar: Envoy's JSON": Claim(
        "sidecar", "a decision each", "Envoy's rate limit service as JSON", BARE
    ),
    "sidecar: 2 workers": Claim("sidecar", "16 connections, workers", "2 workers", "1 worker"),
    "growth: take": Claim("growth", "takes", "10,000,000 keys", "1,000 keys", unit=1),
    "growth: dictionary": Claim("growth", "takes", "10,000,000 keys", "1,000 keys"),
    "growth: take_many": Claim("growth", "takes", "10,000,000 keys", "1,000 keys", unit=2),
    "growth: merge": Claim("growth", "merged", "10,000,000 keys", "10,000 keys"),
}
"""All claims, by the names that the templates use."""


def written(name: str, results: Results) -> str:
    """The ratio of a claim as text, with two digits."""
    ratio = CLAIMS[name].ratio(results)
    digits = max(0, 1 - math.floor(math.log10(ratio)))
    return f"{round(ratio, 1 - math.floor(math.log10(ratio))):,.{digits}f}"
