"""The fuzz targets on their seeds and on inputs made of these, without libFuzzer."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.native import seeds
from tests.native.build import QUICKLY, NoSanitizer, build

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a shared table needs Linux")
RUNS = 5000


@pytest.mark.parametrize("target", list(seeds.MADE))
def test_no_input_breaks_what_is_promised(target: str, tmp_path: Path) -> None:
    try:
        program = build(f"fuzz_{target}", tmp_path / target, QUICKLY)
    except NoSanitizer as missing:
        pytest.skip(f"the compiler has no {missing} here")
    files = seeds.write(target, tmp_path / "seeds")
    run = subprocess.run(
        [program, "--runs", str(RUNS), *files], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{len(files)} files and {RUNS} inputs made of them\n"
