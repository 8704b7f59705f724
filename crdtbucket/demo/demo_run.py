"""A run of the demo: start, link, make the calls of its course, settle, judge; leave nothing."""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.deadline import first_of
from crdtbucket.demo import words
from crdtbucket.demo.accounts import Accounts
from crdtbucket.demo.board import board
from crdtbucket.demo.courses import course_of
from crdtbucket.demo.demo_network import DemoNetwork
from crdtbucket.demo.demo_redis import DemoStore, RegionStores
from crdtbucket.demo.processes import DemoError, RegionProcess, reserved_port
from crdtbucket.demo.region import BUCKET, shipped_config, until
from crdtbucket.demo.traffic import REGIONS, Traffic, demo_trace, phases, plan
from crdtbucket.demo.verdict import RunVerdict, judge
from crdtbucket.demo.view import SilentRunView
from crdtbucket.errors import CrdtbucketError
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import canonical_name

LINK_S = 20.0
SETTLE_S = 60.0
_LEAD_NS = 200_000_000
_POLL_S = 0.02


class Stopped(CrdtbucketError):
    """A signal asked the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@dataclass(frozen=True)
class Options:
    """The options of a run of the demo. `trace`: a file; None for the one that is shipped."""

    seconds: float = 25.0
    seed: int = 0
    trace: Path | None = None
    redis: str | None = None
    """A URL, "auto", or "regions" for one in each region; None to run without."""
    nats: bool = False
    """Whether the regions meet at NATS servers of this run."""
    console: bool = False
    """Whether each region shows its console."""


@dataclass(frozen=True)
class Result:
    """The outcome of a run."""

    verdict: RunVerdict
    traffic: Traffic


class Demo:
    """One run. Nothing is left behind, however it ends."""

    def __init__(self, options: Options, view: SilentRunView) -> None:
        """Raises `DemoError` when there is no Redis and one is asked for."""
        self.options, self.view = options, view
        self.accounts = Accounts(REGIONS)
        self.spec, self.mode = _bucket()
        self.course = course_of(options.redis, options.nats, self.spec)
        parts = phases(options.seconds, self.course.marks)
        self.traffic = plan(demo_trace(options.trace), self.spec, parts, options.seed)
        self.start_ns = 0

    async def run(self) -> Result:
        """Raises `Stopped`, `ProcessEnded`, `DemoError`."""
        self.view.say(words.title(self.spec, self.options.redis))
        async with AsyncExitStack() as stack:
            stack.callback(self.view.close)
            if self.course.stores is not None:
                stack.push_async_callback(self._forget, self.course.stores)
                await self.course.stores.start()
            network = self.course.network()
            stack.push_async_callback(network.stop)
            await network.start()
            regions = self._regions(network)
            stack.push_async_callback(_stop_all, regions)
            for region in regions:
                await region.start()
            await first_of(self._run(regions, network), *(region.ended() for region in regions))
        gossip_ns = MeshConfig(listen="127.0.0.1:0").gossip_interval_ns
        calls = len(self.traffic.calls)
        verdict = judge(self.accounts, self.spec, gossip_ns, self.course.happened, calls)
        for line, holds in words.verdict_lines(verdict):
            self.view.say(line, holds)
        self.view.say("")
        self.view.say(words.AFTER)
        return Result(verdict, self.traffic)

    async def _forget(self, stores: DemoStore | RegionStores) -> None:
        """Removes everything of this run from its Redis."""
        found = [report["redis"] for report in self.accounts.latest()]
        await stores.stop(sorted({key for one in found for key in (one["key"], *one["others"])}))

    def _regions(self, network: DemoNetwork) -> list[RegionProcess]:
        secret = secrets.token_hex(16)
        regions = []
        for place, name in enumerate(REGIONS):
            arguments = self.course.arguments(name)
            if self.options.console:
                arguments["console"] = reserved_port()
            mesh = {**network.mesh(name), "secret": secret}
            listener = partial(self.accounts.report, place)
            regions.append(RegionProcess(name, mesh, listener, **arguments))
        return regions

    async def _run(self, regions: list[RegionProcess], network: DemoNetwork) -> None:
        await linked(regions, LINK_S)
        consoles = {one.region: one.console for one in regions if one.console is not None}
        if consoles:
            self.view.say("")
            self.view.say(words.consoles(consoles))
            self.view.open_page(words.console_of(consoles[REGIONS[0]]))
        trace = "the Azure LLM trace" if self.options.trace is None else str(self.options.trace)
        self.view.say("")
        self.view.say(self.course.setting(self.mode, self.accounts.latest()[0]["mode"]))
        self.view.say(words.source(self.traffic, trace))
        self.start_ns = now_ns() + _LEAD_NS
        for place, region in enumerate(regions):
            calls = [(c.at_ns, c.cost) for c in self.traffic.calls if c.region == place]
            await region.tell({"start": self.start_ns, "calls": calls})
        await first_of(self._to_the_end(network), self._show())

    async def _to_the_end(self, network: DemoNetwork) -> None:
        """Waits until nothing is open; the verdict reports it if that does not happen."""
        await self.course.happen(network, self.traffic, self.start_ns)
        await until(self.start_ns + self.traffic.phases[-1].end_ns)
        deadline = now_ns() + round(SETTLE_S * NS_PER_SECOND)
        while not await self._all_reported() and now_ns() < deadline:  # noqa: ASYNC110 - a deadline
            await asyncio.sleep(_POLL_S)

    async def _all_reported(self) -> bool:
        """Whether all calls are made and all regions know of them."""
        made = sum(len(account.calls) for account in self.accounts.each)
        reported = made == len(self.traffic.calls) and self.accounts.agreed()
        return reported and await self.course.settled(self.accounts)

    async def _show(self) -> None:
        await until(self.start_ns)
        while True:
            said = tuple(words.switch_line(one, self.start_ns) for one in self.accounts.switches)
            switches = None if self.course.stores is None else said
            now = now_ns()
            self.view.show(
                board(self.accounts, self.spec, self.traffic, self.start_ns, now, switches)
            )
            await asyncio.sleep(1.0 / self.view.frames_a_second)


async def linked(regions: list[RegionProcess], seconds: float) -> None:
    """Waits until every region is linked with all others and has warmed up. Raises `DemoError`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not all(_ready(region, len(regions) - 1) for region in regions):
        if asyncio.get_running_loop().time() > deadline:
            raise DemoError(f"the regions did not find each other within {seconds:g} s")
        await asyncio.sleep(_POLL_S)


def _ready(region: RegionProcess, others: int) -> bool:
    latest = region.latest
    if latest is None or latest["warming_up"]:
        return False
    return list(latest["peers"].values()).count("alive") == others


async def _stop_all(regions: list[RegionProcess]) -> None:
    await asyncio.gather(*(region.stop() for region in regions))


def _bucket() -> tuple[BucketSpec, str]:
    """The bucket in the shipped configuration, and the consistency that the file asks for."""
    config, wanted = shipped_config(), canonical_name(BUCKET)
    spec = next(spec for spec in config.buckets if canonical_name(spec.name) == wanted)
    return spec, config.consistency.value


def run_demo(options: Options, view: SilentRunView) -> Result:
    """Run it to its end. Raises `Stopped` at SIGINT, SIGTERM or SIGHUP, `ProcessEnded`,
    `DemoError`."""
    return asyncio.run(_with_signals(Demo(options, view)))


async def _with_signals(demo: Demo) -> Result:
    running = asyncio.ensure_future(demo.run())
    got: list[int] = []

    def stop(number: int) -> None:
        if not got:  # cleaning up takes a moment: a second Ctrl-C must not break it off
            got.append(number)
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            loop.add_signal_handler(number, stop, number)
    try:
        return await running
    except asyncio.CancelledError:
        if got:
            raise Stopped(got[0]) from None
        raise
