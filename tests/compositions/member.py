"""One process of a composition: it opens the limiter of a file and does what it is told, line by
line.

The commands come over a pipe. Every answer is one line of JSON on stdout, and so is every token
that a load in the background is granted, at once: so it is known what a process had granted even if
it is killed a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from crdtbucket import Bucket, CrdtbucketError, Limiter, SlotDenied
from crdtbucket.cli.main import main
from crdtbucket.limiter.held_slot import Slot
from tests.forks import in_child

BUCKET, KEY = "api", "k"
A_DAY_S = 86_400.0
SPAWN = multiprocessing.get_context("spawn")


class MallocInfo(ctypes.Structure):
    """The struct that `mallinfo2` of glibc returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


class Member:
    """The limiter of this process, and what can be asked of it."""

    def __init__(self, limiter: Limiter, path: str) -> None:
        self._limiter = limiter
        self._path = path
        self._load: asyncio.Task[None] | None = None
        self._slots: list[Slot] = []

    @property
    def _bucket(self) -> Bucket:
        return self._limiter.bucket(BUCKET)

    async def take(self, calls: int) -> dict[str, Any]:
        """Makes calls one after another; returns how many were granted."""
        granted = 0
        for _ in range(calls):
            granted += (await self._bucket.acquire(KEY)).allowed
        return {"granted": granted}

    async def burst(self, calls: int) -> dict[str, Any]:
        """Makes calls all at once."""
        bucket = self._bucket
        done = await asyncio.gather(*(bucket.acquire(KEY) for _ in range(calls)))
        return {"granted": sum(one.allowed for one in done)}

    async def load(self, gap: float) -> dict[str, Any]:
        """Goes on with calls in the background; each answer is written at once, with its time."""
        self._load = asyncio.create_task(self._go_on(gap))
        return {}

    async def _go_on(self, gap: float) -> None:
        due = time.monotonic()
        while True:
            allowed = (await self._bucket.acquire(KEY)).allowed
            now = time.monotonic()
            say({"granted": int(allowed), "at": now, "late": now - due})
            # The gaps are random: calls with equal gaps would always or never meet a token of the
            # bucket. A caller that a busy machine has delayed makes its calls all the same.
            due += random.expovariate(1 / gap)
            await asyncio.sleep(max(0.0, due - now))

    async def rest(self) -> dict[str, Any]:
        """Ends the load."""
        if self._load is not None:
            self._load.cancel()
            await asyncio.wait([self._load])
        return {}

    async def look(self) -> dict[str, Any]:
        """The tokens left here, and whether all services of the process run."""
        stats = self._limiter.stats()
        return {
            "left": self._bucket.peek(KEY).remaining,
            "limit": self._bucket.peek(KEY).limit,
            "mode": str(self._bucket.mode),
            "peers": stats.get("peers", {}),
            "unsettled": stats.get("strong", {}).get("unsettled", 0),
            "leading": stats.get("shared", {}).get("leading", 1),
        }

    async def reload(self) -> dict[str, Any]:
        """Reads the file again."""
        self._limiter.reload()
        return {}

    async def block(self, seconds: float, times: int) -> dict[str, Any]:
        """Blocks the event loop, as a handler without an await does."""
        granted = 0
        for _ in range(times):
            time.sleep(seconds)  # noqa: ASYNC251 - what is to be survived
            granted += (await self._bucket.acquire(KEY)).allowed
        return {"granted": granted}

    async def fork(self) -> dict[str, Any]:
        """Forks a child while the limiter is open; returns the decision of the child."""
        (told,) = in_child(lambda: f"granted {int(self._bucket.acquire_sync(KEY).allowed)}")
        return {"told": told}

    async def hold(self, calls: int, bucket: str = "llm", timeout: float = 0.0) -> dict[str, Any]:
        """Asks for so many slots, one after another, and keeps those that it gets; returns their
        modes."""
        modes = []
        for _ in range(calls):
            with contextlib.suppress(SlotDenied):
                slot = await self._limiter.bucket(bucket).slot(KEY, timeout=timeout).__aenter__()
                self._slots.append(slot)
                assert slot.decision is not None
                modes.append(str(slot.decision.mode))
        return {"held": modes}

    async def let_go(self, slots: int) -> dict[str, Any]:
        """Releases the slots that it got first."""
        released, self._slots = self._slots[:slots], self._slots[slots:]
        return {"released": [slot.release() for slot in released]}

    async def fork_with_slots(self) -> dict[str, Any]:
        """Forks a child while slots are held; returns what it gets: a slot, and its parent's slots
        back."""
        bucket = self._limiter.bucket("llm")
        return {"told": in_child(bucket.slot(KEY).__enter__, self._slots[0].release)}

    async def roll_out(self, command: str) -> dict[str, Any]:
        """Moves the roll-out; returns its state."""
        getattr(self._limiter.rollout, command)()
        return await self.rollout()

    async def rollout(self) -> dict[str, Any]:
        """The state of the roll-out."""
        return {"status": (self._limiter.rollout.state or {}).get("status", "none")}

    async def step_clock(self, seconds: float = -A_DAY_S) -> dict[str, Any]:
        """Moves the wall clock, by default back by a day."""
        step_clock(seconds)
        return {}

    async def call(self, bucket: str, key: str, cost: int) -> dict[str, Any]:
        """Makes one take of any bucket; returns which epoch decided."""
        found = self._limiter.bucket(bucket)
        allowed = found.take(key, cost).allowed
        return {"allowed": allowed, "epoch": f"{found.table.epochs.running:x}"}

    async def churn(self, bucket: str, first: int, count: int) -> dict[str, Any]:
        """Takes one token of each of so many keys, by number."""
        self._limiter.bucket(bucket).take_many([f"{n}" for n in range(first, first + count)])
        return {}

    async def know(self, bucket: str, keys: list[str]) -> dict[str, Any]:
        """The columns and debts of some keys here, and the state of the peers."""
        found = self._limiter.bucket(bucket)
        counted = {
            key: {f"{epoch:x}": taken - back for (_, epoch), (_, taken, back) in columns.items()}
            for key in keys
            if (columns := found.columns(key))
        }
        per_token = found.spec.interval_ns / found.spec.refill_rate
        return {
            "epoch": f"{found.table.epochs.running:x}",
            "columns": counted,
            "debts": {key: (found.debt(key) or 0) / per_token for key in counted},
            "peers": self._limiter.stats().get("peers", {}),
        }

    async def give_back(self) -> dict[str, Any]:
        """Gives free memory back to the system, where the allocator can do that; returns how many
        bytes malloc has given out, 0 where it cannot say."""
        libc = ctypes.CDLL(None)
        trim, told = getattr(libc, "malloc_trim", None), getattr(libc, "mallinfo2", None)
        given = trim is not None and bool(trim(0))
        if told is None:
            return {"given": given, "live": 0}
        told.restype = MallocInfo
        info = told()
        return {"given": given, "live": info.uordblks + info.hblkhd}

    async def collect(self) -> dict[str, Any]:
        """How many objects only Python's collector would have found."""
        return {"left": gc.collect()}

    async def spawn(self) -> dict[str, Any]:
        """Spawns a child; returns why it is not given this limiter, and what one of its own
        decides."""
        try:
            SPAWN.Process(target=decide, args=(self._limiter,)).start()
        except TypeError as error:
            refused = str(error)
        read, write = SPAWN.Pipe(duplex=False)
        child = SPAWN.Process(target=decide, args=(self._path, write))
        child.start()
        write.close()
        with read:
            told = await asyncio.to_thread(read.recv)
        await asyncio.to_thread(child.join)
        return {"refused": refused, "told": told}


def decide(path: str, told: Connection) -> None:
    """Sends the decision of a limiter that this process opens by itself."""
    try:
        with Limiter.from_file(path) as limiter:
            decision = limiter.bucket(BUCKET).acquire_sync(KEY)
        told.send(f"granted {int(decision.allowed)}")
    except CrdtbucketError as error:
        told.send(f"{type(error).__name__}: {error}")


def step_clock(seconds: float) -> None:
    """Moves the wall clock of this process."""
    real = time.time
    time.time = lambda: real() + seconds


def say(answer: dict[str, Any]) -> None:
    """Writes an answer at once."""
    os.write(1, json.dumps(answer).encode() + b"\n")


async def serve(path: str, watch: bool, asked_over: Connection) -> None:
    """Opens the limiter of a file and answers until the input ends or says "close"."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    pipe = os.fdopen(os.dup(asked_over.fileno()))
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), pipe)
    limiter = Limiter.from_file(path, watch=watch)
    async with limiter:
        member = Member(limiter, path)
        say({"open": limiter.address})
        while line := await lines.readline():
            asked = json.loads(line)
            what = asked.pop("do")
            if what == "close":
                await member.rest()
                break
            deed: Callable[..., Any] = getattr(member, what)
            try:
                say({"answer": await deed(**asked)})
            except CrdtbucketError as error:
                say({"failed": f"{type(error).__name__}: {error}"})
    say({"closed": True})


def live(log: str, path: str, watch: bool, asked_over: Connection, answers: Connection) -> None:
    """Runs the process from beginning to end; what it prints goes to stdout and to its log."""
    os.dup2(answers.fileno(), 1)
    answers.close()
    _log_to(log)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(path, watch, asked_over))


def run_command(log: str, words: list[str]) -> None:
    """Runs a command of `crdtbucket` in this process, from beginning to end; SIGUSR1 steps its
    clock."""
    _log_to(log)
    signal.signal(signal.SIGUSR1, lambda *_: step_clock(-A_DAY_S))
    sys.argv = ["crdtbucket", *words]
    main()


def _log_to(path: str) -> None:
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
