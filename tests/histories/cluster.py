"""Nodes as real processes, the clients that call them, and the faults of both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.compositions.process import Failed, LibraryProcess
from tests.histories.checker import ROUNDING, SERVE_S
from tests.histories.history import (
    ADMITTED,
    CLOSED,
    CUT_OFF,
    DENIED,
    KILLED,
    TIGHT,
    WIDE,
    Call,
    History,
    Life,
    Limits,
    Pause,
    Read,
)  # fmt: skip
from tests.histories.network import Network

LIMITS = Limits(wide_refill_per_second=1 / 3600, tight_capacity=60, tight_refill_per_second=20.0)
WIDE_KEYS = [f"k{number}" for number in range(60)]
"""The first keys are hot; others may be asked for the first time while the network is cut."""
KEYS_AT_ONCE = 10
"""The number of keys that a node is asked about at once. An answer grows with every process that
ever ran, and the memory for writing it stays with the allocator: it would look like growth of the
node."""
TIGHT_KEY = "all"
SECRET = "a secret of these histories, 32+"
CONFIG = """
node: node-{node}
version: {version}
rating: {{consistency: eventual}}
services:
  wide: {{limit: 1/hour burst {wide}}}
  tight: {{limit: 20/s burst 60}}
  churn: {{limit: 50/s burst 100, bucket: {{max_keys: 10000}}}}
mesh: {mesh}
"""
LOOK_S = 1.0
"""Seconds between two questions to a node about what it knows."""
POLL_S = 0.1


class Node:
    """One node: its present process, and who may ask it."""

    def __init__(self, number: int, process: LibraryProcess) -> None:
        self.number, self.process = number, process
        self.life: Life | None = None
        """None while no process runs."""
        self.epoch = ""
        self.asking = asyncio.Lock()
        """A process answers one question after another."""
        self.stopped = False

    def signal(self, number: signal.Signals) -> None:
        """Sends SIGSTOP or SIGCONT."""
        self.process.signal(number)
        self.stopped = number == signal.SIGSTOP

    @property
    def pid(self) -> int:
        """The process id of the running process."""
        child = self.process.child
        assert child is not None
        assert child.pid is not None
        return child.pid


class Cluster:
    """All nodes; everything that happens to them is written into the history."""

    def __init__(
        self, folder: Path, network: Network, *, nodes: int, seed: int, calls_per_second: float
    ) -> None:
        """`calls_per_second`: the calls of the client of one node."""
        self.history = History(nodes, LIMITS)
        self.network = network
        self._folder, self._gap, self._version = folder, 1 / calls_per_second, 1
        self._random = random.Random(seed)
        self._calling = asyncio.Event()
        self.clients: list[asyncio.Future[None]] = []
        self._begin = 0.0
        self.whole = True
        """Whether the network has been whole since the last pause, so that a node that is closed
        can send all that it knows."""
        self.nodes = [Node(number, self._process(number)) for number in range(nodes)]

    def now(self) -> float:
        """Seconds since the run began."""
        return asyncio.get_running_loop().time() - self._begin

    def _process(self, node: int) -> LibraryProcess:
        config, log = self._folder / f"node-{node}.yaml", self._folder / f"node-{node}.log"
        return LibraryProcess(config, log, watch=False, life=self.network.life(node))

    def _write(self, node: int) -> None:
        """Writes the file of a node; every second node keeps snapshots on disk."""
        mesh = {**self.network.mesh(node), "secret": SECRET}
        if node % 2 == 0:
            mesh["state_dir"] = str(self._folder / f"state-{node}")
        text = CONFIG.format(
            node=node, version=self._version, mesh=json.dumps(mesh), wide=99_999 + self._version
        )
        (self._folder / f"node-{node}.yaml").write_text(text)

    # ---- life ----

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts the network, the nodes and their clients, and ends them all."""
        self._begin = asyncio.get_running_loop().time()
        await self.network.start()
        try:
            for node in self.nodes:
                self._write(node.number)
            await asyncio.gather(*(self.start(node) for node in self.nodes))
            self.clients = [asyncio.create_task(self._client(node)) for node in self.nodes]
            try:
                yield
            finally:
                for client in self.clients:
                    client.cancel()
                ended = await asyncio.gather(*self.clients, return_exceptions=True)
            for one in ended:
                if isinstance(one, Exception):
                    raise one
        finally:
            await asyncio.gather(*(node.process.kill() for node in self.nodes))
            await self.network.stop()

    async def start(self, node: Node, *, rebooted: bool = False) -> None:
        """Starts a process of a node that has none; returns when its limiter is open. `rebooted`:
        its network has given it another clock."""
        async with node.asking:
            begin = self.now()
            node.process.life = self.network.life(node.number)
            await node.process.start()
            node.epoch = (await node.process.ask("know", bucket=WIDE, keys=[]))["epoch"]
            node.life = Life(node.number, node.epoch, begin, rebooted=rebooted)
            self.history.lives.append(node.life)

    async def kill(self, node: Node) -> None:
        """Kills it (SIGKILL), in the middle of a call or not."""
        life, node.life, node.stopped = node.life, None, False
        if life is not None:
            life.end, life.how = self.now(), KILLED
            await node.process.kill()
            async with node.asking:  # its last call knows that nobody will answer
                pass

    async def close(self, node: Node) -> None:
        """Ends it in order."""
        async with node.asking:
            life, node.life = node.life, None
            assert life is not None
            await node.process.close()
            life.end, life.how = self.now(), CLOSED if self.whole else CUT_OFF

    async def reload(self) -> None:
        """Changes the capacity of the wide bucket, in the files and in all running processes."""
        self._version += 1
        for node in self.nodes:
            self._write(node.number)
            async with node.asking:
                await node.process.ask("reload")

    # ---- clients ----

    @property
    def calling(self) -> bool:
        """Whether calls are made now."""
        return self._calling.is_set()

    def resume(self) -> None:
        """Begins the calls again. Raises the error that has ended a client, since that one would
        make no more."""
        for client in self.clients:
            if client.done():
                client.result()
        self._calling.set()

    async def _client(self, node: Node) -> None:
        rng, looked = random.Random(self._random.getrandbits(32)), self.now()
        while True:
            await asyncio.sleep(self._gap * rng.uniform(0.5, 1.5))
            await self._calling.wait()
            async with node.asking:
                if node.life is None or not self._calling.is_set():
                    continue
                if self.now() - looked > LOOK_S:
                    looked = self.now()
                    read = await self._know(node)
                    if read is not None:
                        self.history.reads.append(read)
                elif rng.random() < 0.6:
                    await self._call(node, TIGHT, TIGHT_KEY, 1)
                else:
                    key = WIDE_KEYS[int(len(WIDE_KEYS) * rng.random() ** 3)]
                    await self._call(node, WIDE, key, rng.randint(1, 3))

    async def _call(self, node: Node, bucket: str, key: str, cost: int) -> bool:
        call = Call(node.number, node.epoch, bucket, key, cost, self.now())
        self.history.calls.append(call)
        answer = await self.ask(node, "call", bucket=bucket, key=key, cost=cost)
        if answer is None:
            return False
        call.end, call.epoch = self.now(), answer["epoch"]
        call.outcome = ADMITTED if answer["allowed"] else DENIED
        node.epoch = call.epoch
        return bool(answer["allowed"])

    async def ask(self, node: Node, do: str, **more: Any) -> dict[str, Any] | None:
        """The answer to a question. None when no process runs, or when it was killed before it
        answered: that may happen between two questions of one caller."""
        life = node.life
        if life is None:
            return None
        try:
            return await node.process.ask(do, **more)
        except Failed:
            if life.how == KILLED:
                return None
            raise

    async def _know(self, node: Node) -> Read | None:
        read = Read(node.number, self.now(), {}, {})
        for first in range(0, len(WIDE_KEYS), KEYS_AT_ONCE):
            some = WIDE_KEYS[first : first + KEYS_AT_ONCE]
            answer = await self.ask(node, "know", bucket=WIDE, keys=some)
            if answer is None:
                return None
            read.columns.update(answer["columns"])
            read.debts.update(answer["debts"])
        read.at = self.now()
        return read

    # ---- pauses ----

    async def pause(self) -> Pause:
        """Heals everything and stops the calls; waits until every node serves and all agree, or for
        `SERVE_S` seconds."""
        self._calling.clear()
        self.network.weather(0.0, 0.0, 0.0)
        self.network.block(frozenset())
        for node in self.nodes:
            if node.stopped:
                node.signal(signal.SIGCONT)
            if node.life is None:
                await self.start(node)
        async with contextlib.AsyncExitStack() as stack:
            for node in self.nodes:  # the last calls end
                await stack.enter_async_context(node.asking)
            pause = Pause(self.now(), None, None, [])
            if await self._until(pause.healed, self._serve):
                pause.served = self.now()
            if await self._until(pause.healed, lambda: self._agree(pause)):
                pause.agreed = self.now()
                self.whole = True
        self.history.pauses.append(pause)
        return pause

    async def _until(self, begin: float, holds: Any) -> bool:
        while not await holds():
            if self.now() - begin > SERVE_S:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _serve(self) -> bool:
        for node in self.nodes:
            peers = (await node.process.ask("know", bucket=WIDE, keys=[]))["peers"]
            alive = [state for state in peers.values() if state == "alive"]
            if len(alive) < len(self.nodes) - 1:
                return False
        return all([await self._call(node, WIDE, WIDE_KEYS[0], 1) for node in self.nodes])

    async def _agree(self, pause: Pause) -> bool:
        reads = [await self._know(node) for node in self.nodes]
        pause.reads = found = [read for read in reads if read is not None]
        first = found[0]
        return all(
            read.columns == first.columns
            and all(abs(read.debts[key] - first.debts[key]) < ROUNDING for key in first.debts)
            for read in found
        )


def resident_bytes(pid: int) -> int:
    """Memory that a process holds."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Open files of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))
