"""The courses of a run: a region is cut off; Redis is made slow, is taken away and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crdtbucket.base.clock import now_ns
from crdtbucket.demo import words
from crdtbucket.demo.accounts import Accounts
from crdtbucket.demo.demo_network import DELAY_S, DemoNetwork, EngineNetwork, RegionNetwork
from crdtbucket.demo.demo_redis import DemoStore, RegionStores
from crdtbucket.demo.limit_figures import Happened
from crdtbucket.demo.modes import PER_REGION
from crdtbucket.demo.processes import reserved_port
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
    """One kind of run: in this class the regions have no Redis, and one of them is cut off for a
    while. The subclasses differ from it."""

    marks = CUT_MARKS
    stores: DemoStore | RegionStores | None = None
    """The Redis of the run."""

    def __init__(self) -> None:
        self.happened = Happened()

    def network(self) -> DemoNetwork:
        """The network between the regions."""
        return RegionNetwork({region: reserved_port() for region in REGIONS}, DELAY_S)

    def arguments(self, region: str) -> dict[str, Any]:
        """Arguments of a region's process: how it reaches Redis, and when it changes its mode."""
        if self.stores is None:
            return {}
        return {"redis": self.stores.config(region), "modes": self.stores.patience}

    def setting(self, file_mode: str, mode: str) -> str:
        """How the regions run, in words: the mode that the configuration asks for, and theirs."""
        return words.setting(file_mode, mode)

    async def happen(self, network: DemoNetwork, traffic: Traffic, start_ns: int) -> None:
        """Carries out the act of each phase when it begins."""
        for phase in traffic.phases:
            await until(start_ns + phase.start_ns)
            self.happened.began_ns[phase.name] = now_ns()
            await self.act(phase.name, network)

    async def act(self, phase: str, network: DemoNetwork) -> None:
        """Does what begins a phase: cuts a region off, or heals the cut."""
        for way in self.ways(network):
            if phase == "cut":
                way.cut(CUT_REGION)
            elif phase == "healed":
                way.heal(CUT_REGION)

    def ways(self, network: DemoNetwork) -> Sequence[DemoNetwork | RegionStores]:
        """What the cut closes: a network, and in a subclass the replication, too."""
        return [network]

    async def settled(self, accounts: Accounts) -> bool:
        """Whether the run is over once the regions agree. With a Redis, every region must be in
        strong mode and have sent it everything, and each Redis must hold exactly what the regions
        know."""
        reports = accounts.latest()
        if self.stores is None:
            return True
        if any(one["mode"] != Mode.STRONG or one["redis"]["unsettled"] for one in reports):
            return False
        found = await self.stores.records(reports[0]["redis"]["key"])
        if found is None:
            return False
        self.happened.records = found
        known = {epoch: tokens for epoch, tokens in reports[0]["known"].items() if tokens}
        return all(one == known for one in found)


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

    async def act(self, phase: str, network: DemoNetwork) -> None:
        """Cuts, heals, or stalls a server."""
        await super().act(phase, network)
        if phase == "stalled":
            await self._network.stall(STALL_S)


class RegionsCourse(Course):
    """Every region has a Redis, and one region is cut off: its mesh and its replication."""

    def __init__(self, spec: BucketSpec) -> None:
        """`spec`: of the bucket. Raises `DemoError` when no Redis is installed."""
        super().__init__()
        self.stores = self._stores = RegionStores(DELAY_S, spec)
        self.happened.records = [{} for _ in REGIONS]

    def setting(self, file_mode: str, mode: str) -> str:
        """Which servers the regions use."""
        return words.regions_setting(self._stores.program)

    def ways(self, network: DemoNetwork) -> Sequence[DemoNetwork | RegionStores]:
        """The region's process is cut off together with its Redis; these two still reach each
        other."""
        return [network, self._stores]


class RedisCourse(Course):
    """The regions ask one Redis, which is made slow, taken away and given back."""

    marks = REDIS_MARKS

    def __init__(self, redis: str) -> None:
        """Raises `DemoError` when there is no Redis to use."""
        super().__init__()
        self.stores = self._store = DemoStore(redis)
        self.happened = Happened(records=[{}], ratio=Degradation().fallback_ratio)

    def setting(self, file_mode: str, mode: str) -> str:
        """Which Redis the regions use, and how patient they are with it."""
        return words.redis_setting(self._store.program)

    async def act(self, phase: str, network: DemoNetwork) -> None:
        """Makes it slow, takes it away, or gives it back."""
        if phase == "slow":
            self._store.slow()
        elif phase == "gone":
            await self._store.gone()
        elif phase == "back":
            await self._store.back()


def course_of(redis: str | None, nats: bool, spec: BucketSpec) -> Course:
    """The course that the options ask for. Raises `DemoError` without the servers of it."""
    if nats:
        return EngineCourse()
    if redis is None:
        return Course()
    return RegionsCourse(spec) if redis == PER_REGION else RedisCourse(redis)
