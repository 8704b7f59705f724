"""The short form of `make chaos`: real servers fail under load, and every token is accounted for.

Nothing here is timed; `python -m tests.chaos` measures times.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crdtbucket import BucketSpec
from tests.chaos import cancelled, exact, outage, regional_load, regions, slots, switches
from tests.chaos.audit import Audit
from tests.chaos.faults import FAULTS
from tests.chaos.fleet import HASTY, UNHURRIED, Generations
from tests.chaos.lag import Lag
from tests.demo.programs import ROOT, children, gone
from tests.mesh.engines.nats_server import NatsServer
from tests.server_process import ServerProcess
from tests.strong.redis_server import PROGRAMS, RESERVED, Server
from tests.waits import until


def balanced(books: Audit) -> bool:
    return books.exact and books.charged == books.consumed > 0 and books.level == 0


# In turn, where there is more than one.
PROGRAM = dict(zip(FAULTS, itertools.cycle(PROGRAMS or ["redis-server"]), strict=False))


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_fault_redis_holds_what_was_consumed(fault: str) -> None:
    mesh = fault not in ("killed", "restarted empty", "scripts flushed")
    run = await exact.under(fault, 600, seconds=0.9, mesh=mesh, modes=HASTY, program=PROGRAM[fault])
    assert balanced(run.audit), (run.modes, run.audit)
    assert run.decisions >= 600


async def test_cancelled_callers_leave_no_reply_and_no_token_behind() -> None:
    found, books = await cancelled.run(800)
    assert found.cancelled >= 800
    assert found.answered > 100
    assert not found.foreign
    assert balanced(books), books


@pytest.mark.parametrize("fault", ["refused", "silent"])
async def test_an_outage_is_reported(fault: str) -> None:
    assert await switches.outage(switches.OUTAGES[fault]) < 60


async def test_a_redis_that_flaps_is_left_and_not_asked_again_at_once() -> None:
    assert 1 <= await switches.flapping(3.0, 1.0) <= 3


async def test_an_outage_of_a_fleet_gives_out_its_share_and_the_books_agree_after_it() -> None:
    found = await outage.run(1.5, HASTY)
    assert 0 < found.admitted <= 1.05 * found.allowance
    assert found.record == found.join


async def test_a_frozen_node_of_a_cluster_takes_its_own_slots_along_and_no_others() -> None:
    # The others have time for their answers on a busy machine, too.
    modes = replace(HASTY, latency_limit=2.0, outage_after=2.5)
    found = await slots.run(1.5, modes, deadline=0.5)
    assert found.strong > 0.98
    assert balanced(found.books), found.books


@pytest.mark.parametrize(("slow", "p99"), [(1, 1.0), (2, 9.0)])
def test_of_a_hundred_decisions_the_slowest_is_beyond_the_p99(slow: int, p99: float) -> None:
    took = [9_000_000] * slow + [1_000_000] * (100 - slow)
    found = [slots.Took(second + 0.5, 0, ns, True) for second in range(4) for ns in took]
    assert slots.p99_ms(Lag(), found, 0.0, 4.0) == p99


@pytest.mark.processes
@pytest.mark.parametrize("fault", regions.FAULTS)
async def test_after_a_fault_of_the_replication_every_member_holds_what_was_consumed(
    fault: str,
) -> None:
    mesh = fault in ("cut", "killed")
    run = await regions.under(fault, 300, seconds=0.9, mesh=mesh, modes=HASTY)
    assert run.audit.exact, (run.modes, run.audit)
    assert run.audit.level == 0
    assert run.decisions >= 300


@pytest.mark.processes
async def test_regions_that_do_not_see_each_other_keep_one_limit_and_deny_no_light_load() -> None:
    spec = BucketSpec("shared", 2_000, 400)
    twice = await regional_load.run(2.0, 3.0, spec=spec, before=4.0, after=2.0, modes=UNHURRIED)
    assert 0.85 <= twice.ratio <= 1.25, twice  # 1.43 where nobody is taken to use anything
    light = await regional_load.run(0.3, 2.0, spec=spec, before=1.0, after=1.0, modes=UNHURRIED)
    assert light.calls > 10
    assert not light.denied, light


def test_what_was_consumed_before_a_new_generation_is_history_if_the_key_was_full() -> None:
    one, full = ("tight", "k0"), 400
    generations = Generations()
    takes = [(7, 1_000), (7, 9_000), (8, 9_399), (9, 9_800), (9, 9_800)]
    found = [generations.take(one, number, now, full) for number, now in takes]
    assert found == [False, False, False, True, False]


def test_what_other_processes_took_is_found_wherever_it_lay_in_the_delay() -> None:
    lag = Lag()
    lag.note(100, 160, 30)
    lag.note(200, 210, 10)
    spans = [(0, 130), (130, 160), (110, 120), (0, 300), (160, 200), (205, 300)]
    assert [lag.stolen_ns(*span) for span in spans] == [30, 30, 10, 40, 0, 5]


@pytest.mark.slow
@pytest.mark.usefixtures("nobody_handles_hangups")
@pytest.mark.parametrize(
    ("program", "kind", "number"),
    [
        ("tests.chaos --only regions", Server, signal.SIGTERM),
        ("benchmarks strong --quick", Server, signal.SIGHUP),
        ("benchmarks sockets --quick", NatsServer, signal.SIGTERM),
    ],
)
def test_a_signal_ends_the_servers_of_a_program_and_removes_their_folders(
    program: str, kind: Callable[[], ServerProcess], number: int, tmp_path: Path
) -> None:
    kind().remove()  # or it is not installed
    running = subprocess.Popen(
        [sys.executable, "-m", *program.split()],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: any(tmp_path.glob("crdtbucket-*/log")) and bool(children(running.pid)))
        servers = children(running.pid)
        running.send_signal(number)
        assert running.wait(60) not in (0, -number)
    finally:
        running.kill()
        running.wait()
    until(lambda: all(map(gone, servers)))
    assert [one.name for one in tmp_path.iterdir()] == [RESERVED.name]
