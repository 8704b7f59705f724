"""Runs the fuzz targets with libFuzzer, which changes inputs towards code that was not reached yet.

The programs, what they found, and the inputs that they keep for the next run are in .fuzz. `python
-m tests.native.libfuzzer` succeeds when there is a clang for it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from tests.native import seeds
from tests.native.build import NoSanitizer, build, probe

PLACE = Path(__file__).parents[2] / ".fuzz"
FLAGS = (
    "-O1",
    "-DLIBFUZZER",
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=all",
)
NAMES = ("clang", *(f"clang-{version}" for version in range(22, 11, -1)))
LONGEST = 1024
"""The most bytes of an input."""
PATIENCE = 20
"""Seconds after which an input counts as hanging."""
TOLD_EVERY = 15.0
MISSING = (
    "there is no clang with libFuzzer: install clang and, of the same version, libclang-rt-dev, "
    "or name one with CLANG=...; `make fuzz CLANG=no` does without"
)
_LINE = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: \d+ corp: (\d+)/\S+ .*exec/s: (\d+)")
_EDGES = re.compile(r"\((\d+) inline 8-bit counters\)")


def find_clang(directory: Path) -> list[str]:
    """A clang that has libFuzzer and the sanitizers. Raises NoSanitizer."""
    named = os.environ.get("CLANG")
    for command in [shlex.split(named)] if named else [[name] for name in NAMES]:
        if shutil.which(command[0]) and probe([*command, *FLAGS], directory / "probe"):
            return command
    raise NoSanitizer(MISSING)


def prepare(place: Path = PLACE) -> dict[str, Path]:
    """Compiles the targets; returns the program of each. Raises NoSanitizer."""
    place.mkdir(exist_ok=True)
    clang = find_clang(place)
    return {name: build(f"fuzz_{name}", place / name, FLAGS, clang) for name in seeds.MADE}


def fuzz(name: str, program: Path, seconds: float) -> bool:
    """Runs a target of the core for so long; False when it found something."""
    seeds.write(name, program.parent / f"{name}.seeds")
    return drive(name, [str(program)], seconds)


def drive(name: str, target: list[str], seconds: float, place: Path = PLACE) -> bool:
    """Runs any target of libFuzzer for so long, on what it kept and on NAME.seeds, and prints how
    far it came; False when it found something."""
    corpus = place / f"{name}.corpus"
    corpus.mkdir(exist_ok=True)
    command = [*target, f"-max_total_time={max(1, round(seconds))}", f"-max_len={LONGEST}"]
    command += [f"-timeout={PATIENCE}", f"-artifact_prefix={place}/{name}-"]
    command += [str(corpus), str(place / f"{name}.seeds")]
    last: deque[str] = deque(maxlen=60)
    runs = reached = kept = edges = 0
    told = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        for line in process.stderr:
            last.append(line)
            if found := _EDGES.search(line):
                edges = int(found[1])
            if found := _LINE.match(line):
                runs, reached, kept = (int(found[i]) for i in (1, 2, 3))
                if time.monotonic() - told > TOLD_EVERY:
                    told = time.monotonic()
                    print(f"{name}: {runs} inputs, {reached} edges", flush=True)
    of = f" of {edges}" if edges else ""
    far = f"{runs} inputs, {reached}{of} edges reached, {kept} inputs kept"
    if process.returncode < 0:
        print(f"{name}: was stopped by signal {-process.returncode} after {far}", flush=True)
        return False
    if process.returncode:
        print("".join(last))
        print(
            f"{name}: FOUND something after {far}; once more: {shlex.join(target)} {place}/{name}-*"
        )
        return False
    print(f"{name}: nothing found: {far}", flush=True)
    return True


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        try:
            find_clang(Path(place))
        except NoSanitizer:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
