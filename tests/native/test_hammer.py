"""Threads and processes do everything at once on a shared table, also under the sanitizers."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.build import OPTIMIZED, QUICKLY, THREADS, NoSanitizer, build

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a shared table needs Linux")
FLAGS = {"optimized": OPTIMIZED, "addresses": QUICKLY, "threads": THREADS}
ROUNDS = {"optimized": 100_000, "addresses": 3_000, "threads": 3_000}


@pytest.mark.parametrize("how", FLAGS)
def test_every_token_is_accounted_for(how: str, tmp_path: Path) -> None:
    """By threads and by processes, on a clock that stands still and on one that goes on. In one
    test, since it takes longer to compile the program than to run it."""
    try:
        program = build("hammer", tmp_path / "hammer", FLAGS[how])
    except NoSanitizer as flags:
        pytest.skip(f"the compiler has no {flags} here")
    for options in itertools.product(([], ["--processes"]), ([], ["--flow"])):
        command = [program, "--rounds", str(ROUNDS[how]), *itertools.chain(*options)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, (options, run.stderr + run.stdout)
        assert "admitted" in run.stdout
