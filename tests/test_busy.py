"""A run beside busy processors is reported, and its loops are gone afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import busy
from tests.demo.programs import ROOT, children, gone
from tests.waits import until

ALONE = "failed beside others, passed alone: tests/x.py::test_y"


@pytest.mark.parametrize("status", [0, 1])
def test_each_run_is_reported(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in = f"import sys; print({ALONE!r}); sys.exit({status})"
    monkeypatch.setattr(busy, "PYTEST", (sys.executable, "-c", stand_in))
    assert busy.main(["--runs", "2"]) == status
    told = capsys.readouterr().out
    assert told.count("1 of its tests only when alone") == 2
    assert ("every run passed" in told) is (status == 0)
    assert ("run 2 of 2: FAILED (status 1)" in told) is (status == 1)


def test_no_loop_stays() -> None:
    with busy.busy(2) as loops:
        assert [one.poll() for one in loops] == [None, None]
    assert all(isinstance(one, subprocess.Popen) and one.poll() is not None for one in loops)


def test_no_loop_goes_on_after_its_program_was_killed() -> None:
    text = "import sys; from tests.busy import busy\nwith busy(2):\n print(flush=True); input()"
    program = subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with program:
        assert program.stdout is not None
        program.stdout.readline()
        loops = children(program.pid)
        program.kill()
    assert len(loops) == 2
    until(lambda: all(map(gone, loops)))
