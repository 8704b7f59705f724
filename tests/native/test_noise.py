"""Random bytes where the core reads bytes: frames, and the body of a table's file."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.build import OPTIMIZED, QUICKLY, NoSanitizer, build

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a shared table needs Linux")


@pytest.mark.parametrize("flags", [OPTIMIZED, QUICKLY], ids=["optimized", "addresses"])
def test_whatever_is_read_stays_within_its_memory(flags: tuple[str, ...], tmp_path: Path) -> None:
    try:
        program = build("noise", tmp_path / "noise", flags)
    except NoSanitizer as missing:
        pytest.skip(f"the compiler has no {missing} here")
    run = subprocess.run([program, "--rounds", "3000"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    merged, used = (int(part.split()[0]) for part in run.stdout.split(","))
    assert merged > 50, "hardly a frame was read"
    assert used > 50, "hardly a table was used"
