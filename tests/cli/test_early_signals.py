"""Signals that reach `crdtbucket serve` before it can handle them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cli.test_serve import CONFIG, started

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
IMPORTING = """
import os, signal, sys

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that nohup has started ignore it

class Early:
    def find_spec(self, name, path=None, target=None):
        if name == "crdtbucket.cli.commands":
            os.kill(os.getpid(), signal.SIGHUP)

sys.meta_path.insert(0, Early())
"""
FORKED = """
import os, signal, time

def in_child():
    os.kill(os.getppid(), signal.SIGTERM)
    while signal.SIGTERM not in signal.sigpending():
        time.sleep(0.001)

os.register_at_fork(after_in_child=in_child)
"""


@pytest.fixture
def early(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs this text at its start."""
    every = (str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(every))
    (tmp_path / "sitecustomize.py").write_text(request.param)


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("early", [IMPORTING], indirect=True, ids=["importing"])
async def test_a_hangup_while_python_imports_waits_and_reloads(tmp_path: Path) -> None:
    async with started(tmp_path) as server:
        while "is in force after" not in "".join(server.lines):  # before or after it serves
            await server.line("")
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("early", [FORKED], indirect=True, ids=["forked"])
async def test_a_worker_that_is_ended_before_it_serves_ends_in_order(tmp_path: Path) -> None:
    config = f"shared: {tmp_path / 'table'}{CONFIG}"
    async with started(tmp_path, "--workers", "2", config=config) as server:
        assert await server.ended() == 0
