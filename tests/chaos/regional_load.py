"""A cut between all regions under a steady load: one limit holds for all, and no region is
starved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from crdtbucket import BucketSpec
from crdtbucket.simulator.measure import Ideal, OverAdmission, Starvation
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.testing.copy_queue import ReplicationFaults
from tests.chaos import regions
from tests.chaos.figure import Figure, Progress, at_most, exactly
from tests.chaos.fleet import PATIENT, WIDE, Client, Fleet
from tests.chaos.regions import LAG_S, REGIONS, cut_to_the_newest, region_fleet
from tests.strong.regions import region_world

SPEC = BucketSpec("shared", 2_500, 500)
KEY, COST = "k", 10
LEAST_RATIO = 0.98
MOST_STARVED_S = 3.0
SILENT_S = 0.5
"""A region is taken for silent after so long; until then the others know nothing of it."""


@dataclass(frozen=True)
class RegionalLoad:
    """The figures of a run. Times are seconds, and the over-admission is in % of the capacity."""

    calls: int
    denied: int
    ratio: float
    """What was admitted, divided by what one bucket admits that sees every call at once."""
    over_admission_percent: float
    starved: float
    """The longest time in which a region admitted nothing."""
    modes: str


async def run(
    load: float,
    seconds: float,
    *,
    spec: BucketSpec = SPEC,
    before: float = 7.0,
    after: float = 6.0,
    modes: ControllerSettings = PATIENT,
) -> RegionalLoad:
    """Asks for `load` times the refill; no copy reaches another region for `seconds` of it."""
    async with (
        region_world(*REGIONS, faults=ReplicationFaults(lag=LAG_S)) as world,
        region_fleet(world, mesh=False, seed=0, buckets=[WIDE, spec], modes=modes) as nodes,
    ):
        over = asyncio.Event()
        found: list[tuple[int, int, bool]] = []
        pause = COST * len(nodes.clients) / (load * spec.rate_per_second)
        begin = time.monotonic_ns()
        callers = [
            asyncio.create_task(_call_on(nodes, number, spec.name, pause, over, found))
            for number in range(len(nodes.clients))
        ]
        try:
            await asyncio.sleep(before)
            # One loop plays all nodes, and a backlog of copies would keep it busy.
            await cut_to_the_newest(world, seconds)
            await asyncio.sleep(after)
        finally:
            over.set()
            await asyncio.gather(*callers)
        return _judged(
            [(at - begin, *rest) for at, *rest in sorted(found)], spec, nodes.mode_counts
        )


async def _call_on(
    nodes: Fleet,
    number: int,
    bucket: str,
    pause: float,
    over: asyncio.Event,
    found: list[tuple[int, int, bool]],
) -> None:
    """Makes one node's part of the calls; notes when each decision was made, in which region, and
    whether it was allowed."""
    loop = asyncio.get_running_loop()
    client: Client = nodes.clients[number]
    due = loop.time() + pause * number / len(nodes.clients)
    calls: set[asyncio.Task[None]] = set()

    async def call() -> None:
        decision = await nodes.timed(client, bucket, KEY, COST)
        found.append((time.monotonic_ns(), number % len(REGIONS), decision.allowed))

    while not over.is_set():
        await asyncio.sleep(due - loop.time())
        due += pause
        task = asyncio.create_task(call())
        calls.add(task)
        task.add_done_callback(calls.discard)
    await asyncio.gather(*calls)


def _judged(found: list[tuple[int, ...]], spec: BucketSpec, modes: str) -> RegionalLoad:
    settings = Settings.of_bucket(spec, regions=len(REGIONS))
    over_admission, ideal, starvation = (
        OverAdmission(settings),
        Ideal(settings),
        Starvation(len(REGIONS)),
    )
    admitted = 0
    for region in range(len(REGIONS)):
        starvation.demand(region, True, 0)
    for at, region, allowed in found:
        ideal.offer(at, 1, COST)
        if allowed:
            admitted += COST
            over_admission.add(at, COST)
            starvation.admitted(region, at)
    starvation.finish(found[-1][0])
    return RegionalLoad(
        len(found),
        sum(not allowed for *_, allowed in found),
        admitted / ideal.admitted,
        over_admission.percent(),
        max(starvation.worst_ns) / 1e9,
        modes,
    )


async def figures(calls: int, progress: Progress) -> AsyncIterator[Figure]:
    async for figure in regions.figures(calls, progress):
        yield figure
    found = await run(2.0, 20.0)
    progress(f"regions apart for 20 s at 2x: {found}")
    unseen = 100 * (len(REGIONS) - 1) * SILENT_S * SPEC.rate_per_second / SPEC.capacity
    note = f"{found.calls} calls, {found.modes}"
    name = "regions apart for 20 s at 2x"
    yield at_most(
        f"{name}: over-admission", 1.5 * unseen, found.over_admission_percent, " % of C", note
    )
    off = abs(found.ratio - 1)
    yield at_most(f"{name}: off one bucket by", 1 - LEAST_RATIO, off, note=f"{found.ratio:.3f}")
    yield at_most(f"{name}: longest without a token", MOST_STARVED_S, found.starved, " s")
    light = await run(0.5, 20.0)
    progress(f"regions apart for 20 s at half the limit: {light}")
    yield exactly("regions apart for 20 s at half the limit: denied", 0, light.denied)
