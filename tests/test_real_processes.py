"""Three real processes under load, one of which is killed and started again without memory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from crdtbucket import BucketSpec
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.demo.accounts import Accounts
from crdtbucket.demo.demo_run import linked
from crdtbucket.demo.processes import RegionProcess
from crdtbucket.simulator.measure import Ideal, OverAdmission
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.testing.fault_proxy import HOST
from tests.strong.redis_server import free_port

NAMES = ("eu", "us", "ap")
# That of the configuration that the processes read.
SPEC = BucketSpec("ai-agent-inference", 10_000, 2_000)
SECRET = "a secret of this test"
COST, GAP_NS = 25, 25_000_000
LOAD_NS = 12 * NS_PER_SECOND
KILL_NS = 4 * NS_PER_SECOND
UNSENT = 1_000
"""Tokens that the dead process may have taken without sending it: it offers as many in a second."""


class Cluster:
    """Three processes that call each other directly."""

    def __init__(self) -> None:
        self.ports = {name: free_port() for name in NAMES}
        self.accounts = Accounts(NAMES)
        self.processes = [self.process(name) for name in NAMES]

    def process(self, name: str) -> RegionProcess:
        place = NAMES.index(name)
        peers = [f"{HOST}:{port}" for other, port in self.ports.items() if other != name]
        mesh = {"listen": f"{HOST}:{self.ports[name]}", "peers": peers, "secret": SECRET}
        return RegionProcess(name, mesh, lambda one: self.accounts.report(place, one))

    async def stop(self) -> None:
        await asyncio.gather(*(process.stop() for process in self.processes))

    async def restart(self, name: str) -> RegionProcess:
        place = NAMES.index(name)
        self.processes[place] = again = self.process(name)
        await again.start()
        return again


async def load(process: RegionProcess, start_ns: int, from_ns: int) -> None:
    """Calls at 1,000 tokens a second, to the end of the load; of three, 1.5 x the rate."""
    calls = [(at, COST) for at in range(from_ns, LOAD_NS, GAP_NS)]
    await process.tell({"start": start_ns, "calls": calls})


async def eventually_agreed(accounts: Accounts, start_ns: int) -> None:
    await asyncio.sleep(max(0, start_ns + LOAD_NS - now_ns()) / NS_PER_SECOND)
    deadline = now_ns() + 60 * NS_PER_SECOND
    while not accounts.agreed():
        assert now_ns() < deadline, [account.latest for account in accounts.each]
        await asyncio.sleep(0.02)


async def test_a_process_killed_under_load_and_restarted_empty_keeps_the_limit() -> None:
    async with AsyncExitStack() as stack:
        cluster = Cluster()
        stack.push_async_callback(cluster.stop)
        for process in cluster.processes:
            await process.start()
        await linked(cluster.processes, 60)
        start_ns = now_ns() + NS_PER_SECOND // 10
        for process in cluster.processes:
            await load(process, start_ns, 0)

        victim = cluster.processes[1]
        await asyncio.sleep((start_ns + KILL_NS - now_ns()) / NS_PER_SECOND)
        victim.kill()
        await victim.ended()
        accounts = cluster.accounts
        dead_told = accounts.each[1].total
        assert dead_told > 0

        again = await cluster.restart("us")
        await linked(cluster.processes, 60)
        back_ns = now_ns()
        await load(again, start_ns, back_ns - start_ns)
        await eventually_agreed(accounts, start_ns)
    judge(accounts, dead_told, back_ns)


def judge(accounts: Accounts, dead_told: int, back_ns: int) -> None:
    (dead, alive) = accounts.each[1].epochs  # one epoch a life
    known = [columns(account.latest) for account in accounts.each]
    assert known[0] == known[1] == known[2]
    held = known[0]
    told = [accounts.each[place].total for place in range(3)]
    assert [held[accounts.each[place].epochs[0]] for place in (0, 2)] == [told[0], told[2]]
    assert held[alive] == told[1] - dead_told
    assert abs(held[dead] - dead_told) <= UNSENT
    assert len(held) == 4  # and nobody else took anything

    settings = Settings.of_bucket(SPEC, regions=3)
    over_admission, ideal = OverAdmission(settings), Ideal(settings)
    decided = accounts.decided()
    first = decided[0].at_ns
    for call in decided:
        ideal.offer(call.at_ns - first, 1, call.cost)
        if call.allowed:
            over_admission.add(call.at_ns - first, call.cost)
    # What the dead process took and sent to nobody is in no log either: it is added.
    assert over_admission.tokens() + max(0, held[dead] - dead_told) <= 0.1 * SPEC.capacity
    assert sum(told) >= 0.9 * ideal.admitted

    served = [call.at_ns for call in decided if call.region == 1 and call.allowed]
    after = [at for at in served if at >= back_ns]
    assert after[0] - back_ns < 2 * NS_PER_SECOND
    assert (
        sum(COST for _ in after) >= 0.5 * 2_000 / 3 * (decided[-1].at_ns - back_ns) / NS_PER_SECOND
    )


def columns(report: dict[str, Any] | None) -> dict[str, int]:
    assert report is not None
    return dict(report["known"])
