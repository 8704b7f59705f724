"""A copy of this checkout in which mypyc has compiled what a simulation runs most of the time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = "crdtbucket/mesh/protocol"
INTERPRETED = ("__init__.py", "wire.py", "peer_warnings.py")
"""Files of which mypyc makes no working module."""
MYPYC = (sys.executable, "-m", "mypyc")
PLAYS = "from tests.simulated.run import play; print(*map(play, range({})))"
BREAKS = """import json; from tests.soak import failures
print(json.dumps([one for _, found in failures({}, {}, {}) for one in found]))"""


@contextlib.contextmanager
def compiled_copy(compiler: Sequence[str] = MYPYC) -> Iterator[Path]:
    """Yields the folder of a copy. The copy holds the files as they are now, whatever is edited
    meanwhile. Where it cannot be compiled, a line says why, and the folder is that of the
    checkout."""
    with tempfile.TemporaryDirectory(prefix="crdtbucket-compiled-") as folder:
        place = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("crdtbucket", "tests"):
            shutil.copytree(ROOT / name, place / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", place)
        failed = _compile(place, compiler)
        if failed:
            print(f"played without being compiled, which takes longer: {failed}", flush=True)
        yield ROOT if failed else place


def run_in(place: Path, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command with the modules in this folder."""
    environment = {**os.environ, "PYTHONPATH": str(place)}
    return subprocess.run(command, check=False, cwd=place, env=environment, text=True, **options)


def traces(place: Path, seeds: int) -> list[str]:
    """The traces of the first seeds, by the modules in this folder; none where that fails."""
    code = PLAYS.format(seeds)
    return run_in(place, sys.executable, "-c", code, stdout=subprocess.PIPE).stdout.split()


def broken(place: Path, start: int, count: int, jobs: int) -> list[tuple[int, str]]:
    """The seeds that fail with the modules in this folder, and the error of each."""
    code = BREAKS.format(start, count, jobs)
    done = run_in(place, sys.executable, "-c", code, stdout=subprocess.PIPE)
    done.check_returncode()
    return [(seed, error) for seed, error in json.loads(done.stdout)]


def _compile(place: Path, compiler: Sequence[str]) -> str:
    """Compiles the modules in a copy. Returns what went wrong, "" when nothing did."""
    files = [path for path in (ROOT / FOLDER).glob("*.py") if path.name not in INTERPRETED]
    names = [str(path.relative_to(ROOT)) for path in sorted(files)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = run_in(place, *compiler, *names, **output)
    if done.returncode:
        return (done.stdout.strip().splitlines() or ["the compiler says nothing"])[-1]
    if traces(place, 1) != traces(ROOT, 1):
        return "seed 0 does not do the same when it is compiled"
    return ""
