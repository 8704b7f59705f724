"""Simulations on several processors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waits import until

PROGRAM = """
from multiprocessing import active_children
from signal import pause

from crdtbucket.simulator.batch import Job, run_all
from crdtbucket.simulator.run_settings import Settings

outcomes = run_all([Job("balanced", "static-split", Settings(), scale=0.05)] * 2, processes=2)
next(outcomes)
print(*(one.pid for one in active_children()), flush=True)
pause()
"""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.processes
def test_what_is_killed_leaves_no_process_behind() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        workers = [int(pid) for pid in running.stdout.readline().split()]
        try:
            running.kill()
            assert len(workers) == 2
            until(lambda: not any(map(_runs, workers)))
        finally:
            for pid in filter(_runs, workers):
                os.kill(pid, signal.SIGKILL)
