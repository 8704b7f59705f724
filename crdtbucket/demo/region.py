"""One region of the demo: it reads commands on stdin and writes reports on stdout.

    python -m crdtbucket.demo.region

Lines of JSON both ways. The first one in is the setup, the second one has the calls to make. It
runs until the end of stdin: whatever becomes of its parent, a region does not outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from crdtbucket import Bucket, CrdtbucketError, Limiter, MeshConfig, RedisConfig
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.deadline import first_of
from crdtbucket.config import Config, load_config
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.redis.topology import ALL_SLOTS
from crdtbucket.strong.strong_bucket import StrongBucket
from crdtbucket.testing.fault_proxy import HOST

BUCKET = "ai-agent-inference"
"""The ASCII spelling finds it, whatever hyphens the file has."""
KEY = "tenant-42"
REPORT_S = 0.1
# One line holds all calls of a run.
_LINE_LIMIT = 2**26


class Region:
    """One region of the demo: a limiter under load, and the reports of what it decided."""

    def __init__(self, limiter: Limiter, switches: list[list[Any]]) -> None:
        """`switches`: changes of mode that have not been reported yet."""
        self.limiter = limiter
        self.bucket: Bucket = limiter.bucket(BUCKET)
        self.calls: list[list[Any]] = []
        self.switches = switches
        self.done = True

    def known(self) -> dict[str, int]:
        """Tokens that each process has taken, as far as it is known here, by epoch."""
        columns = self.bucket.columns(KEY).items()
        return {f"{epoch:x}": taken - refunded for (_, epoch), (_, taken, refunded) in columns}

    def room(self) -> float:
        """Tokens below full that the bucket may have kept for silent peers since the last look.

        Only a full bucket keeps any: 0 where the debt is more than what two report intervals
        refill.
        """
        credit = self.bucket.credit(KEY)
        refill = self.bucket.spec.rate_per_second * REPORT_S
        debt = self.bucket.debt(KEY) or 0
        return credit + refill if credit > 0 and debt <= 2 * refill else 0.0

    async def call(self, cost: int) -> None:
        """Makes one call, and notes its time and what was known when it was decided."""
        known, room = self.known(), self.room()
        before = now_ns()
        decision = await self.bucket.acquire(KEY, cost)
        after = now_ns()
        row = [after, after - before, cost, int(decision.allowed), room, known, decision.mode.value]
        self.calls.append(row)

    async def make(self, start_ns: int, calls: list[tuple[int, int]]) -> None:
        """Make calls, (ns after the start, cost), at their times, whether the last have ended or
        not."""
        made = []
        for at_ns, cost in calls:
            await until(start_ns + at_ns)
            made.append(asyncio.ensure_future(self.call(cost)))
        await asyncio.gather(*made)
        self.done = True

    def report(self) -> dict[str, Any]:
        """The present state, and the calls since the last report."""
        calls, self.calls = self.calls, []
        switches = list(self.switches)
        self.switches.clear()
        stats = self.limiter.stats()
        decision = self.bucket.peek(KEY)
        return {
            "at": now_ns(),
            "epoch": f"{self.bucket.table.epochs.running:x}",
            "mode": decision.mode.value,
            "remaining": decision.remaining,
            "warming_up": stats["warming_up"],
            "peers": stats["peers"],
            "known": self.known(),
            "room": self.room(),
            "forgiven": stats["buckets"][self.bucket.spec.name]["forgiven"],
            "redis": self.redis(),
            "switches": switches,
            "calls": calls,
            "done": self.done,
        }

    def redis(self) -> dict[str, Any] | None:
        """How many counts have not been sent to Redis, the key of the bucket there, and the other
        keys of this process there; None without a Redis."""
        if not isinstance(self.bucket, StrongBucket):
            return None
        store = self.bucket.store
        name = store.ledger.names.key(self.bucket, self.bucket.hash(KEY))
        _, probe = store.registry.probe(ALL_SLOTS)
        return {
            "unsettled": len(store.ledger.unsettled.pending),
            "key": name.decode(),
            "others": [store.registry.name.decode(), probe.key.decode()],
        }


async def until(at_ns: int) -> None:
    """Sleeps until this time on the clock of all processes."""
    wait = at_ns - now_ns()
    if wait > 0:
        await asyncio.sleep(wait / NS_PER_SECOND)


async def serve(region: Region, lines: asyncio.StreamReader) -> None:
    """Makes the calls that a line commands, and reports, until stdin ends."""
    await first_of(_obey(region, lines), _report(region))


async def _obey(region: Region, lines: asyncio.StreamReader) -> None:
    if line := await lines.readline():
        order = json.loads(line)
        region.done = False
        await first_of(region.make(order["start"], order["calls"]), lines.readline())
        await lines.readline()


async def _report(region: Region) -> None:
    while True:
        sys.stdout.write(json.dumps(region.report(), separators=(",", ":")) + "\n")
        sys.stdout.flush()
        await asyncio.sleep(REPORT_S)


def shipped_config() -> Config:
    """The configuration that comes with the demo."""
    with resources.as_file(resources.files("crdtbucket.demo") / "openclaw.yaml") as path:
        return load_config(path)


def limiter_of(setup: dict[str, Any], on_mode_change: Callable[[ModeNotice], None]) -> Limiter:
    """The limiter of the shipped configuration, with the Redis of the setup in place of the file's.
    Without one the mesh decides."""
    config, region = shipped_config(), setup["region"]
    who = {"node": f"{region}-1", "region": region, "mesh": MeshConfig(**setup["mesh"])}
    if "redis" not in setup:
        return Limiter(config.buckets, **who)
    modes = ControllerSettings(**setup["modes"])
    return Limiter(
        config.buckets,
        **who,
        redis=RedisConfig(**setup["redis"]),
        consistency=config.consistency,
        degradation=Degradation(modes=modes, on_mode_change=on_mode_change),
    )


async def main() -> None:
    """Set up as the first line says, serve, leave."""
    lines = asyncio.StreamReader(limit=_LINE_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    line = await lines.readline()
    if not line:
        return  # the parent was stopped before it sent the setup
    setup = json.loads(line)
    switches: list[list[Any]] = []

    def switched(notice: ModeNotice) -> None:
        switches.append([now_ns(), notice.before.value, notice.after.value, notice.reason])

    async with limiter_of(setup, switched) as limiter, console(limiter, setup["console"]):
        await serve(Region(limiter, switches), lines)


@asynccontextmanager
async def console(limiter: Limiter, port: int | None) -> AsyncIterator[None]:
    """Shows the limiter at the port of the loopback interface, to read alone; None: nowhere."""
    if port is None:
        yield
        return
    from crdtbucket.http.server.serve_settings import ServeSettings  # for those who want it
    from crdtbucket.http.server.serving import SidecarServer

    server = SidecarServer(limiter, ServeSettings(listen=(f"{HOST}:{port}",)))
    server.bind()
    try:
        await server.start()
        yield
    finally:
        await server.stop()


if __name__ == "__main__":
    try:
        # A parent that is gone cannot be sent anything.
        with contextlib.suppress(BrokenPipeError):
            asyncio.run(main())
    except CrdtbucketError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
