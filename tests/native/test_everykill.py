"""A process is killed after every instruction of every operation on a shared table, or another one
takes there."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.build import build

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="single steps are made with Linux's ptrace",
)
KILLS = "1"
"""Real ones an operation; on copies of the memory each instruction is tried."""


@pytest.fixture(scope="module")
def everykill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("everykill", tmp_path_factory.mktemp("native") / "everykill")


def test_a_kill_or_a_take_at_any_instruction_leaves_a_whole_table(everykill: Path) -> None:
    run = subprocess.run(
        [everykill, "--kills", KILLS], capture_output=True, text=True, timeout=110, check=False
    )
    if run.returncode == 77:
        pytest.skip(f"processes cannot be traced here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    operations = [line for line in lines if "instructions" in line]
    assert len(operations) >= 30
    assert int(lines[-1].split()[0]) > 2000, "hardly a state was judged"
    assert sum(int(line.split()[-2]) for line in operations) > 100, "hardly a take came between"
