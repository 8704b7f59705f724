"""A take that goes on when its entry has become another one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.build import build


@pytest.mark.skipif(sys.platform != "linux", reason="a shared table needs Linux")
def test_a_take_that_was_stopped_changes_nothing_of_another_entry(tmp_path: Path) -> None:
    subprocess.run([build("stale", tmp_path / "stale")], check=True)
