"""The command that measures how long a frame holds up the event loop."""

from __future__ import annotations

import pytest

from tests import stalls


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
