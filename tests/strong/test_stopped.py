"""A process that is stopped in a burst, at any moment, together with its Redis, as on a machine
that stands still. The time in which nothing runs is no latency."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from crdtbucket import BucketSpec, Limiter, Mode
from tests.demo.programs import ROOT
from tests.strong.redis_server import Server

TASKS, CALLS, OF_THREADS = "tasks", "one call", "threads"
BURSTS = {TASKS: 6_000, CALLS: 20_000, OF_THREADS: 2_000}
STOPS = 4


async def burst(url: str, kind: str) -> Counter[str]:
    """The modes in which the decisions of a burst were made, with the default deadline, and what
    Redis answered too late."""
    spec = BucketSpec("b", 10, 1, "1h", consistency="strong")
    async with Limiter([spec], node="n1", redis=url) as limiter:
        bucket, keys = limiter.bucket("b"), [f"k{i}" for i in range(BURSTS[kind])]
        await bucket.acquire("first")
        print("ready", flush=True)
        found: Counter[str] = Counter()

        def work(some: list[str]) -> None:
            found.update(str(bucket.acquire_sync(key).mode) for key in some)

        if kind == TASKS:
            found.update(str(d.mode) for d in await asyncio.gather(*map(bucket.acquire, keys)))
        elif kind == CALLS:
            await bucket.acquire_many(keys)
        else:
            await asyncio.gather(*(asyncio.to_thread(work, keys[i::4]) for i in range(4)))
        (numbers,) = limiter.stats()["redis"].values()
        missing = len(keys) + 1 - numbers["answered"]
        return found + Counter(timed_out=numbers["timed_out"], missing=missing)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("kind", BURSTS)
def test_a_burst_beside_which_the_machine_stands_still_is_answered_by_redis(kind: str) -> None:
    dice = random.Random(4711)
    with Server() as server:
        running = subprocess.Popen(
            [sys.executable, "-m", "tests.strong.test_stopped", server.url, kind],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        with running:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            for _ in range(STOPS):
                time.sleep(dice.uniform(0.01, 0.1))
                server.freeze()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running.pid, signal.SIGSTOP)
                time.sleep(dice.uniform(0.2, 1.0))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running.pid, signal.SIGCONT)
                time.sleep(dice.uniform(0.0, 0.02))
                server.thaw()
            said = running.stdout.readline()
        assert json.loads(said) in ({}, {str(Mode.STRONG): BURSTS[kind]})


if __name__ == "__main__":
    print(json.dumps(asyncio.run(burst(*sys.argv[1:]))), flush=True)
