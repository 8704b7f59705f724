"""The courses of a run: a region is cut off; Redis is made slow, is taken away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.demo import words
from crdtbucket.demo.accounts import Accounts
from crdtbucket.demo.demo_network import DemoNetwork, EngineNetwork, RegionNetwork
from crdtbucket.demo.demo_redis import DemoStore
from crdtbucket.demo.happened import Happened, RedisOutage, RegionCut
from crdtbucket.demo.modes import ACTS, PATIENCE, REGIONAL_PATIENCE
from crdtbucket.demo.processes import Report, free_port
from crdtbucket.demo.region_stores import RegionStores
from crdtbucket.demo.traffic import (
    CUT_REGION,
    REGIONS,
    Phase,
    Traffic,
    phases,
    redis_phases,
    stall_phases,
)
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.degradation import Degradation

DELAY_S = 0.04
STALL_S = 1.0


class Course:
    """One kind of run. The base does what all kinds have in common."""

    stores: DemoStore | RegionStores | None = None
    """The Redis of the run."""
    records: Sequence[Mapping[str, int]] | None = None
    """Tokens by epoch, as each Redis held them when it was looked at."""

    def network(self) -> DemoNetwork:
        """The network between the regions. Ports are chosen as late as can be, so that nobody else
        takes them meanwhile."""
        return RegionNetwork({region: free_port() for region in REGIONS}, DELAY_S)

    async def prepare(self, stack: AsyncExitStack, accounts: Accounts) -> None:
        """Starts what the regions need before they start."""

    def parts(self, seconds: float) -> list[Phase]:
        """The phases of the run."""
        raise NotImplementedError

    def arguments(self, region: str) -> dict[str, dict[str, Any]]:
        """Arguments of a region's process."""
        return {}

    def setting(self, file_mode: str, accounts: Accounts) -> str:
        """How the regions run, in words; `file_mode` is what the configuration asks for."""
        raise NotImplementedError

    async def happen(self, network: DemoNetwork, traffic: Traffic, start_ns: int) -> None:
        """Does what is to be done, each at its time."""
        raise NotImplementedError

    async def settled(self, accounts: Accounts) -> bool:
        """Whether all that happened is over, when the regions agree: with a Redis, whether each
        holds just what they know."""
        if self.stores is None:
            return True
        reports = settled_reports(accounts)
        found = await self.stores.records(reports[0]["redis"]["key"]) if reports else None
        if found is None:
            return False
        self.records = found
        known = {epoch: n for epoch, n in reports[0]["known"].items() if n}
        return all(one == known for one in found)

    def happened(self) -> Happened:
        """What was done, for the verdict."""
        raise NotImplementedError

    def cut(self) -> str | None:
        """The region that is cut off now."""
        return None

    def switches(self, accounts: Accounts, start_ns: int) -> tuple[str, ...] | None:
        """All changes of mode so far, in words; None in a run without Redis."""
        if self.stores is None:
            return None
        return tuple(words.switch_line(one, start_ns) for one in accounts.switches)


class CutCourse(Course):
    """The regions have no Redis, and one of them is cut off for a while."""

    def __init__(self) -> None:
        self._cut: str | None = None
        self._cut_ns = (0, 0)

    def parts(self, seconds: float) -> list[Phase]:
        """A burst, a cut, and the time after it."""
        return phases(seconds)

    def setting(self, file_mode: str, accounts: Accounts) -> str:
        """Says in which mode the regions run, and why."""
        latest = accounts.each[0].latest
        assert latest is not None
        return words.setting(file_mode, latest["mode"], DELAY_S * 1000)

    async def happen(self, network: DemoNetwork, traffic: Traffic, start_ns: int) -> None:
        """Cuts a region off, and heals the cut."""
        phase = traffic.named("cut")
        await until(start_ns + phase.start_ns)
        self.part(network)
        self._cut, cut_ns = CUT_REGION, now_ns()
        await until(start_ns + phase.end_ns)
        self.join(network)
        self._cut, self._cut_ns = None, (cut_ns, now_ns())

    def part(self, network: DemoNetwork) -> None:
        """Cuts the region off."""
        network.cut(CUT_REGION)

    def join(self, network: DemoNetwork) -> None:
        """Heals the cut."""
        network.heal(CUT_REGION)

    def happened(self) -> RegionCut:
        """When the region was cut off."""
        return RegionCut(*self._cut_ns, self.records)

    def cut(self) -> str | None:
        """The region that is cut off now."""
        return self._cut


class EngineCourse(CutCourse):
    """The regions meet at NATS: its gateway is cut for a while, and then a server stalls."""

    def __init__(self) -> None:
        """Raises `DemoError` without a server."""
        super().__init__()
        self._network = EngineNetwork(DELAY_S)

    def network(self) -> DemoNetwork:
        """Makes two clusters, and a gateway between them."""
        return self._network

    def setting(self, file_mode: str, accounts: Accounts) -> str:
        """Says how the regions are linked."""
        return words.nats_setting(DELAY_S * 1000)

    def parts(self, seconds: float) -> list[Phase]:
        """A burst, a cut, the time after it, and a stall."""
        return stall_phases(seconds)

    async def happen(self, network: DemoNetwork, traffic: Traffic, start_ns: int) -> None:
        """Cuts, heals, and stalls a server."""
        await super().happen(network, traffic, start_ns)
        await until(start_ns + traffic.named("stalled").start_ns)
        await self._network.stall(STALL_S)


class RedisCourse(Course):
    """The regions ask a Redis, which is made slow, taken away and given back."""

    def __init__(self, redis: str) -> None:
        """Raises `DemoError` when there is no Redis to use."""
        self.stores = self._store = DemoStore(redis)
        self._acts_ns: dict[str, int] = {}

    def parts(self, seconds: float) -> list[Phase]:
        """A burst, then Redis is slow, gone, and back."""
        return redis_phases(seconds)

    async def prepare(self, stack: AsyncExitStack, accounts: Accounts) -> None:
        """Starts the server, or asks it; in the end nothing of the run stays in it."""

        async def remove() -> None:
            latest = [account.latest for account in accounts.each]
            stores = [report["redis"] for report in latest if report is not None]
            keys = {key for redis in stores for key in (redis["key"], *redis["others"])}
            await self._store.stop(sorted(keys))

        stack.push_async_callback(remove)
        await self._store.start()

    def arguments(self, region: str) -> dict[str, dict[str, Any]]:
        """How a region reaches Redis, and when it changes its mode."""
        return {"redis": self._store.config(), "modes": PATIENCE}

    def setting(self, file_mode: str, accounts: Accounts) -> str:
        """Which Redis they use, and how patient they are with it."""
        server = self._store.server
        program = None if server is None else Path(server.program).name
        return words.redis_setting(program, DELAY_S * 1000)

    async def happen(self, network: DemoNetwork, traffic: Traffic, start_ns: int) -> None:
        """Makes it slow, takes it away, and gives it back."""
        for act in ACTS:
            await until(start_ns + traffic.named(act.name).start_ns)
            if act.name == "back":
                await self._store.back()
            self._acts_ns[act.name] = now_ns()
            if act.name == "slow":
                self._store.slow()
            elif act.name == "gone":
                await self._store.gone()

    def happened(self) -> RedisOutage:
        """When Redis was slow, gone and back, and what it holds."""
        [records] = self.records or [{}]
        return RedisOutage(self._acts_ns, records, Degradation().fallback_ratio)


class RegionsCourse(CutCourse):
    """Every region has a Redis, and one region is cut off: its mesh and its replication."""

    def __init__(self, spec: BucketSpec) -> None:
        """`spec`: of the bucket. Raises `DemoError` when no Redis is installed."""
        super().__init__()
        self.stores = self._stores = RegionStores(DELAY_S, spec)
        self.records = [{} for _ in REGIONS]

    async def prepare(self, stack: AsyncExitStack, accounts: Accounts) -> None:
        """Starts the servers and the replication between them."""
        stack.push_async_callback(self._stores.stop)
        await self._stores.start()

    def arguments(self, region: str) -> dict[str, dict[str, Any]]:
        """How a region reaches its Redis, and how patient it is with it."""
        return {"redis": self._stores.config(region), "modes": REGIONAL_PATIENCE}

    def setting(self, file_mode: str, accounts: Accounts) -> str:
        """Says which servers the regions use."""
        program = Path(self._stores.servers[CUT_REGION].program).name
        return words.regions_setting(program, DELAY_S * 1000)

    def part(self, network: DemoNetwork) -> None:
        """Cuts off the region's process and its Redis, which reach each other."""
        super().part(network)
        self._stores.cut(CUT_REGION)

    def join(self, network: DemoNetwork) -> None:
        """Heals the process' links and the replication."""
        super().join(network)
        self._stores.heal()


def settled_reports(accounts: Accounts) -> list[Report]:
    """The newest reports, when Redis decides everywhere and has been sent everything; else none."""
    latest = [account.latest for account in accounts.each]
    reports = [report for report in latest if report is not None]
    if any(one["mode"] != Mode.STRONG or one["redis"]["unsettled"] for one in reports):
        return []
    return reports


async def until(at_ns: int) -> None:
    """Sleeps until this time on the clock of all processes."""
    wait = at_ns - now_ns()
    if wait > 0:
        await asyncio.sleep(wait / NS_PER_SECOND)
