"""Threads and processes do everything at once on a shared table, also under the sanitizers."""

import subprocess
import sys

import pytest

from tests.native.build import ADDRESSES, OPTIMIZED, THREADS, NoSanitizer, build

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a shared table needs Linux")
FLAGS = {"optimized": OPTIMIZED, "addresses": ADDRESSES, "threads": THREADS}
ROUNDS = {"optimized": 100_000, "addresses": 3_000, "threads": 3_000}


@pytest.fixture(scope="module", params=list(FLAGS))
def hammer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The program and how long it is to run."""
    target = tmp_path_factory.mktemp("native") / f"hammer-{request.param}"
    try:
        build("hammer", target, FLAGS[request.param])
    except NoSanitizer as flags:
        pytest.skip(f"the compiler has no {flags} here")
    return [str(target), "--rounds", str(ROUNDS[request.param])]


@pytest.mark.parametrize("clock", ["still", "flow"])
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_every_token_is_accounted_for(hammer: list[str], clock: str, kind: str) -> None:
    options = ["--flow"] * (clock == "flow") + ["--processes"] * (kind == "processes")
    run = subprocess.run([*hammer, *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr + run.stdout
    assert "admitted" in run.stdout
