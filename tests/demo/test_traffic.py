"""The calls of the demo: as many as it says, at the times that it says, from the trace that it
ships."""

from __future__ import annotations

from array import array
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest

from crdtbucket import BucketSpec
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.cli.demo_command import REDIS_LEAST
from crdtbucket.demo.modes import ACTS, PATIENCE, SLOW_S
from crdtbucket.demo.traffic import (
    BLOCK,
    REDIS_MARKS,
    REGIONS,
    STALL_MARKS,
    WEIGHTS,
    Traffic,
    demo_trace,
    phases,
    plan,
)  # fmt: skip
from crdtbucket.simulator.simulation_errors import TraceError
from crdtbucket.simulator.trace import Trace
from crdtbucket.strong.controller.controller_settings import ControllerSettings

SPEC = BucketSpec("ai-agent-inference", 10_000, 2_000)
EXAMPLES = Path(__file__).parents[2] / "examples"


def offered(traffic: Traffic, name: str) -> float:
    """Tokens a second in all phases of a name."""
    parts = [part for part in traffic.phases if part.name == name]
    length = sum(part.end_ns - part.start_ns for part in parts)
    tokens = sum(c.cost for c in traffic.calls if traffic.phase(c.at_ns) in parts)
    return tokens * NS_PER_SECOND / length


def test_the_configuration_is_that_of_the_examples() -> None:
    shipped = (resources.files("crdtbucket.demo") / "openclaw.yaml").read_bytes()
    assert shipped == (EXAMPLES / "openclaw.yaml").read_bytes()


def test_the_trace_is_shipped_with_its_source() -> None:
    trace = demo_trace()
    assert len(trace) == 2_000
    words = (resources.files("crdtbucket.demo") / "TRACE.md").read_text("utf-8")
    assert "Creative Commons Attribution 4.0" in words
    assert "Splitwise" in words


def test_all_that_is_not_python_is_in_the_package() -> None:
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11")
    project = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["package-data"]["crdtbucket.demo"]
    folder = EXAMPLES.parent / "crdtbucket" / "demo"
    files = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    assert files == set(listed)


def test_phases_of_a_run_with_a_redis_leave_time_for_every_switch() -> None:
    parts = phases(REDIS_LEAST, REDIS_MARKS)
    assert [part.name for part in parts] == ["normal", "burst", "normal", "slow", "gone", "back"]
    assert parts[0].start_ns == 0
    assert parts[-1].end_ns == REDIS_LEAST * NS_PER_SECOND
    assert all(a.end_ns == b.start_ns for a, b in pairwise(parts))
    lengths = {part.name: (part.end_ns - part.start_ns) / NS_PER_SECOND for part in parts}
    settings = ControllerSettings(**PATIENCE)  # type: ignore[arg-type]
    slow, gone, _ = (lengths[act] for act in ACTS)  # the last waits beyond the end
    assert slow > 1.5 * (2 * SLOW_S + settings.latency_window)
    assert gone > 1.4 * settings.outage_after


def test_phases_follow_on_each_other_to_the_end() -> None:
    parts = phases(25)
    assert [part.name for part in parts] == ["normal", "burst", "normal", "cut", "healed"]
    assert parts[0].start_ns == 0
    assert parts[-1].end_ns == 25 * NS_PER_SECOND
    assert all(a.end_ns == b.start_ns for a, b in pairwise(parts))
    burst = parts[1]
    assert burst.start_ns + burst.end_ns == 25 * NS_PER_SECOND  # in the middle


def test_the_stall_begins_in_the_middle_of_the_time_after_the_cut() -> None:
    *before, healed, stalled = phases(25, STALL_MARKS)
    assert [*before, replace(healed, end_ns=stalled.end_ns)] == phases(25)
    assert stalled.start_ns == healed.end_ns
    assert stalled.start_ns - healed.start_ns == stalled.end_ns - stalled.start_ns


@pytest.mark.parametrize("seconds", [8, 25, 100])
def test_the_load_is_what_is_said(seconds: int) -> None:
    traffic = plan(demo_trace(), SPEC, phases(seconds), 0)
    parts = traffic.phases
    times = [call.at_ns for call in traffic.calls]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < parts[-1].end_ns
    # 0.88 of the time at one pace, 0.12 at five times that.
    wanted = 1.5 * 2_000 * seconds * (0.88 + 0.12 * 5)
    largest = max(call.cost for call in traffic.calls)
    assert wanted <= sum(call.cost for call in traffic.calls) < wanted + largest


def test_even_calls_come_five_times_as_fast_in_the_burst() -> None:
    even = Trace(array("q", range(0, 10**12, 10**9)), array("q", [160] * 1000))
    traffic = plan(even, SPEC, phases(25), 0)
    assert offered(traffic, "normal") == pytest.approx(3_000, rel=0.02)
    assert offered(traffic, "burst") == pytest.approx(15_000, rel=0.02)
    assert offered(traffic, "cut") == pytest.approx(3_000, rel=0.02)
    assert traffic.rounds > 1  # it is too short, and begins again without a gap


def test_calls_are_spread_by_the_seed() -> None:
    first, again, other = (plan(demo_trace(), SPEC, phases(25), seed) for seed in (1, 1, 2))
    assert first.calls == again.calls
    assert first.calls != other.calls
    assert [c.at_ns for c in first.calls] == [c.at_ns for c in other.calls]
    for place, _ in enumerate(REGIONS):
        share = sum(c.region == place for c in first.calls) / len(first.calls)
        assert share == pytest.approx(WEIGHTS[place], abs=0.05)


def test_calls_above_the_capacity_are_counted_apart_and_free_ones_not_at_all() -> None:
    tokens = array("q", [BLOCK * 10_000, BLOCK * 10_000 + 1, 0, 1])
    traffic = plan(Trace(array("q", [0, 1, 2, 3]), tokens), SPEC, phases(8), 0)
    assert {call.cost for call in traffic.calls} == {10_000, 1}
    # 35,520 tokens are needed: the fourth round ends with its first call.
    assert [call.cost for call in traffic.calls] == [10_000, 1] * 3 + [10_000]
    assert (traffic.rounds, traffic.too_large) == (4, 3)


def test_a_trace_without_a_usable_call_is_refused() -> None:
    with pytest.raises(TraceError, match="no call"):
        plan(Trace(array("q", [0, 1]), array("q", [0, BLOCK * 10_001])), SPEC, phases(8), 0)
