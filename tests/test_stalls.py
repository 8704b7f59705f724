"""The command that measures how long a frame holds up the event loop."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests import stalls
from tests.budget import UNITS, piece_of_work

MEASURED = 3
"""Times that all is measured before something is too slow."""


@pytest.fixture
def no_garbage_of_others() -> Iterator[None]:
    """What other tests have left is not collected in a frame of this one."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.slow
@pytest.mark.processes  # those of a busy machine share its caches
@pytest.mark.usefixtures("no_garbage_of_others")
def test_at_a_million_keys_no_frame_and_no_round_takes_longer_than_is_stated() -> None:
    assert always_beyond(lambda: stalls.rows(stalls.KEYS)) == set()


def always_beyond(rows: Callable[[], Iterable[tuple[str, float, float]]]) -> set[str]:
    """The rows that take longer than they may each time that all are measured: other processes fill
    the machine's caches, but not for ever. A slow machine may take longer, as in `tests.budget`."""
    slow: set[str] | None = None
    for _ in range(MEASURED):
        slower = UNITS * min(piece_of_work() for _ in range(3))
        took = list(rows())
        slower = max(1.0, slower, UNITS * min(piece_of_work() for _ in range(3)))
        beyond = {name for name, ms, most in took if ms > slower * most}
        slow = beyond if slow is None else slow & beyond
        if not slow:
            break
    return slow or set()


@pytest.mark.parametrize(
    ("times", "found"), [((6.0, 6.0, 5.0), set()), ((6.0, 6.0, 5.1), {"slow"})]
)
def test_what_takes_longer_once_was_held_up_by_others(
    times: tuple[float, ...], found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.test_stalls.piece_of_work", lambda: 1 / UNITS)
    measured = iter(times)
    assert always_beyond(lambda: [("fine", 5.0, 5.0), ("slow", next(measured), 5.0)]) == found


def test_each_frame_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("ENTRIES", 30), ("REPEATS", 1), ("ROUNDS", 1)):
        monkeypatch.setattr(stalls, name, small)
    counted = [name for name, *_ in stalls.rows(500)]
    assert len({*counted}) == len(counted)
    victim = stalls.Victim(500, 100)
    for make in stalls.frames(victim).values():
        victim.longest(make())
    counters = victim.node.counters
    assert counters["merged"] == 30 + 30 + 250
    assert counters["frames"] == victim.seq


def test_what_takes_longer_than_it_may_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for took, status in ((5.0, 0), (5.1, 1)):
        monkeypatch.setattr(stalls, "rows", lambda keys, took=took: iter([("x", took, 5.0)]))
        assert stalls.main(10) == status
    assert capsys.readouterr().out.endswith("x | 5.10 | 5\n")
