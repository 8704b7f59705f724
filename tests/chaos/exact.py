"""Every token is accounted for, whatever happens to the server in the middle of the load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from crdtbucket.strong.controller.controller_settings import ControllerSettings
from tests.chaos.audit import Audit, audit
from tests.chaos.faults import FAULTS
from tests.chaos.figure import Figure, Progress, at_most, exactly
from tests.chaos.fleet import PATIENT, Fleet, fleet, until
from tests.strong.redis_server import PROGRAMS

SECONDS = 6.0
COLD = tuple(f"cold{number}" for number in range(4))
"""Keys that nobody asks for once the fault has begun."""


class Run:
    """The fleet and the audit after one fault."""

    def __init__(self, fleet: Fleet, found: Audit) -> None:
        self.fleet, self.audit = fleet, found
        self.decisions = fleet.decisions
        self.deadline_ms = 50.0
        self.worst_ms = fleet.worst_ms()
        self.raw_ms = fleet.worst_ms(raw=True)
        self.modes = fleet.mode_counts


async def under(
    fault: str,
    calls: int,
    *,
    seconds: float = SECONDS,
    mesh: bool = True,
    seed: int = 0,
    program: str = "redis-server",
    modes: ControllerSettings = PATIENT,
) -> Run:
    """Plays a load of `calls` decisions with a fault of about `seconds` in it, and audits after
    that."""
    async with (
        FAULTS[fault](seconds, program) as stage,
        fleet(stage.config, mesh=mesh, seed=seed, modes=modes) as nodes,
    ):
        await nodes.touch(COLD)
        async with nodes.loaded(calls, 2 * seconds):
            await asyncio.sleep(seconds / 4)
            await stage.fail()
            await until(lambda: nodes.strong, 60)
        await until(lambda: nodes.settled, 60)
        return Run(nodes, audit(nodes, [stage.primary()]))


async def figures(calls: int, progress: Progress) -> AsyncIterator[Figure]:
    total = 0
    runs = [(program, fault) for program in PROGRAMS for fault in FAULTS]
    for number, (program, fault) in enumerate(runs):
        mesh = number % 2 == 0
        run = await under(fault, -(-calls // len(runs)), mesh=mesh, seed=number, program=program)
        total += run.decisions
        found, name = run.audit, fault if program == PROGRAMS[0] else f"{program}, {fault}"
        progress(f"{name}: {run.decisions} decisions ({run.modes}); {found}")
        yield exactly(
            f"{name}: charged in Redis, lost, charged twice, levels off by",
            (found.consumed, 0, 0, 0),
            (found.charged, found.lost, found.over, found.level),
        )
        note = f"{run.raw_ms:.4g} ms with what the machine took"
        yield at_most(f"{name}: worst decision", run.deadline_ms + 50, run.worst_ms, " ms", note)
    yield Figure("decisions under faults", f">= {calls}", str(total), total >= calls)
