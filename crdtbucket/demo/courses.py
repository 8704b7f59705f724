"""The courses of a run: a region is cut off; Redis is made slow, is taken away and comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crdtbucket.base.clock import now_ns
from crdtbucket.demo import words
from crdtbucket.demo.accounts import Accounts
from crdtbucket.demo.demo_network import DELAY_S, DemoNetwork, EngineNetwork, RegionNetwork
from crdtbucket.demo.demo_redis import DemoStore, DemoStores, RegionStores
from crdtbucket.demo.limit_figures import Happened
from crdtbucket.demo.modes import ACTS, PER_REGION
from crdtbucket.demo.processes import free_port
from crdtbucket.demo.region import until
from crdtbucket.demo.traffic import (
    CUT_MARKS,
    CUT_REGION,
    REDIS_MARKS,
    REGIONS,
    STALL_MARKS,
    Traffic,
)
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.degradation import Degradation

STALL_S = 1.0


class Course:
    """One kind of run. In this one the regions have no Redis, and one of them is cut off for a
    while; the other kinds differ from it."""

    marks = CUT_MARKS
    stores: DemoStores | None = None
    """The Redis of the run."""

    def __init__(self) -> None:
        self.cut: str | None = None
        """The region that is cut off now."""
        self.cut_ns = 0, 0
        """From when to when it was."""
        self.records: Sequence[Mapping[str, int]] | None = None
        """Tokens by epoch, as each Redis held them when it was looked at."""

    def network(self) -> DemoNetwork:
        """The network between the regions. Ports are chosen as late as can be, so that nobody else
        takes them meanwhile."""
        return RegionNetwork({region: free_port() for region in REGIONS}, DELAY_S)

    def arguments(self, region: str) -> dict[str, Any]:
        """Arguments of a region's process: how it reaches Redis, and when it changes its mode."""
        if self.stores is None:
            return {}
        return {"redis": self.stores.config(region), "modes": self.stores.patience}

    def setting(self, file_mode: str, mode: str) -> str:
        """How the regions run, in words: the mode that the configuration asks for, and theirs."""
        return words.setting(file_mode, mode)

    async def happen(self, network: DemoNetwork, traffic: Traffic, start_ns: int) -> None:
        """Does what is to be done, each at its time: cuts a region off, and heals the cut."""
        phase = traffic.named("cut")
        await until(start_ns + phase.start_ns)
        self.part(network)
        self.cut, cut_ns = CUT_REGION, now_ns()
        await until(start_ns + phase.end_ns)
        self.join(network)
        self.cut, self.cut_ns = None, (cut_ns, now_ns())

    def part(self, network: DemoNetwork) -> None:
        """Cuts the region off."""
        network.cut(CUT_REGION)

    def join(self, network: DemoNetwork) -> None:
        """Heals the cut."""
        network.heal(CUT_REGION)

    async def settled(self, accounts: Accounts) -> bool:
        """Whether all that happened is over, when the regions agree: with a Redis, whether it
        decides everywhere and has been sent everything, and each holds just what they know."""
        reports = accounts.latest()
        if self.stores is None:
            return True
        if any(one["mode"] != Mode.STRONG or one["redis"]["unsettled"] for one in reports):
            return False
        found = await self.stores.records(reports[0]["redis"]["key"])
        if found is None:
            return False
        self.records = found
        known = {epoch: tokens for epoch, tokens in reports[0]["known"].items() if tokens}
        return all(one == known for one in found)

    def happened(self) -> Happened:
        """What was done, for the verdict."""
        return Happened(self.cut_ns, records=self.records)


class EngineCourse(Course):
    """The regions meet at NATS: its gateway is cut for a while, and then a server stalls."""

    marks = STALL_MARKS

    def __init__(self) -> None:
        """Raises `DemoError` without a server."""
        super().__init__()
        self._network = EngineNetwork(DELAY_S)

    def network(self) -> DemoNetwork:
        """Two clusters, and a gateway between them."""
        return self._network

    def setting(self, file_mode: str, mode: str) -> str:
        """How the regions are linked."""
        return words.nats_setting()

    async def happen(self, network: DemoNetwork, traffic: Traffic, start_ns: int) -> None:
        """Cuts, heals, and stalls a server."""
        await super().happen(network, traffic, start_ns)
        await until(start_ns + traffic.named("stalled").start_ns)
        await self._network.stall(STALL_S)


class RegionsCourse(Course):
    """Every region has a Redis, and one region is cut off: its mesh and its replication."""

    def __init__(self, spec: BucketSpec) -> None:
        """`spec`: of the bucket. Raises `DemoError` when no Redis is installed."""
        super().__init__()
        self.stores = self._stores = RegionStores(DELAY_S, spec)
        self.records = [{} for _ in REGIONS]

    def setting(self, file_mode: str, mode: str) -> str:
        """Which servers the regions use."""
        return words.regions_setting(self._stores.program)

    def part(self, network: DemoNetwork) -> None:
        """Cuts off the region's process and its Redis, which reach each other."""
        super().part(network)
        self._stores.cut(CUT_REGION)

    def join(self, network: DemoNetwork) -> None:
        """Heals the process' links and the replication."""
        super().join(network)
        self._stores.heal()


class RedisCourse(Course):
    """The regions ask one Redis, which is made slow, taken away and given back."""

    marks = REDIS_MARKS

    def __init__(self, redis: str) -> None:
        """Raises `DemoError` when there is no Redis to use."""
        super().__init__()
        self.stores = self._store = DemoStore(redis)
        self.records = [{}]
        self._acts_ns: dict[str, int] = {}

    def setting(self, file_mode: str, mode: str) -> str:
        """Which Redis the regions use, and how patient they are with it."""
        return words.redis_setting(self._store.program)

    async def happen(self, network: DemoNetwork, traffic: Traffic, start_ns: int) -> None:
        """Makes it slow, takes it away, and gives it back."""
        for act in ACTS:
            await until(start_ns + traffic.named(act).start_ns)
            if act == "back":
                await self._store.back()
            self._acts_ns[act] = now_ns()
            if act == "slow":
                self._store.slow()
            elif act == "gone":
                await self._store.gone()

    def happened(self) -> Happened:
        """When Redis was slow, gone and back, and what it holds."""
        ratio = Degradation().fallback_ratio
        return Happened(acts_ns=self._acts_ns, records=self.records, ratio=ratio)


def course_of(redis: str | None, nats: bool, spec: BucketSpec) -> Course:
    """The course that the options ask for. Raises `DemoError` without the servers of it."""
    if nats:
        return EngineCourse()
    if redis is None:
        return Course()
    return RegionsCourse(spec) if redis == PER_REGION else RedisCourse(redis)
