"""The answers of one read are reported in one call for each latency."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from crdtbucket.strong.endpoint_health import EndpointHealth
from crdtbucket.strong.read_tally import ReadTally
from crdtbucket.strong.redis.command_batch import Batch
from crdtbucket.strong.window import START, Window


class RecordingHealth:
    """Records its calls."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.observed = 0

    def observe(self, latency_ns: int, answers: int) -> None:
        self.observed += latency_ns * answers

    def answered(self, latency_ns: int, **how: Any) -> None:
        self.told.append((latency_ns, how))


def batch(latency_ns: int) -> Batch:
    made = Batch()
    made.written_ns, made.arrived_ns = 1_000, 1_000 + latency_ns
    return made


def test_one_call_for_each_batch_and_for_what_came_late() -> None:
    health, counters, window = RecordingHealth(), {"answered": 0, "late": 0}, Window(0)
    tally = ReadTally(cast(EndpointHealth, health), contextlib.nullcontext(), counters, window)
    tally.tell()
    first, second = batch(5), batch(3)
    tally.add(first, wrote=False, late=True, queued=False)
    tally.add(first, wrote=False, late=False, queued=True)
    tally.add(first, wrote=True, late=False, queued=False)
    tally.add(second, wrote=False, late=False, queued=False)
    tally.tell()
    tally.tell()
    assert health.told == [
        (5, {"late": True, "wrote": False, "answers": 1}),
        (5, {"late": False, "wrote": True, "answers": 2}),
        (3, {"late": False, "wrote": False, "answers": 1}),
    ]
    assert counters == {"answered": 3, "late": 1}
    assert health.observed == 5 + 2 * 5 + 3
    window.answered(5, START - 2)
    assert window.size == START, "only answers for which calls waited are of the window"
    window.answered(5)
    assert window.size > START
