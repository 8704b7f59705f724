"""Planted bugs in the real code: each must be found by the part of the suite named beside it.

    python -m tests.mutations [NAME ...]

A mutation is a textual patch to a copy of the package, whose core is compiled anew. The text that
is replaced must stand in its folder exactly once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.planted import MUTATIONS, Mutation

ROOT = Path(__file__).parents[1]
EXTENSION = "_core" + str(sysconfig.get_config_var("EXT_SUFFIX"))
CFLAGS = ["-O0", "-w", "-fno-strict-aliasing", "-fwrapv", "-std=gnu11", "-shared", "-fPIC"]
SECONDS = 100


def frozen(directory: Path) -> Path:
    """The project as it stands now, its binding translated once: the headers come in later."""
    copy = directory / "frozen"
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("crdtbucket", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", copy)
    source, target = copy / "crdtbucket/_core.pyx", copy / "_core.c"
    command = [sys.executable, "-m", "cython", "-3", str(source), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return copy


def compiled(source: Path, package: Path) -> None:
    include = sysconfig.get_path("include")
    paths = ["-I", str(package), "-I", include, str(source), "-o", str(package / EXTENSION)]
    subprocess.run(["gcc", *CFLAGS, *paths, "-lm", "-lpthread"], check=True)


def place(mutation: Mutation, project: Path) -> Path:
    """The file in which the text that a mutation replaces stands, exactly once."""
    files = [
        p
        for p in (project / "crdtbucket" / mutation.folder).rglob("*")
        if p.suffix in (".h", ".py", ".lua")
    ]
    counts = {p: count for p in files if (count := p.read_text().count(mutation.old))}
    assert list(counts.values()) == [1], f"{mutation.name}: not there once: {mutation.old!r}"
    return next(iter(counts))


def planted(mutation: Mutation | None, original: Path, directory: Path) -> Path:
    """A copy of the project with the bug in it."""
    copy = directory / (mutation.name if mutation else "unmutated")
    shutil.copytree(original, copy)
    core_is_new = mutation is None or mutation.folder == "core"
    if mutation:
        path = place(mutation, copy)
        path.write_text(path.read_text().replace(mutation.old, mutation.new))
    if core_is_new:
        compiled(copy / "_core.c", copy / "crdtbucket")
    else:
        shutil.copy(directory / "unmutated/crdtbucket" / EXTENSION, copy / "crdtbucket")
    where = [sys.executable, "-c", "from crdtbucket import _core; print(_core.__file__)"]
    env = {**os.environ, "PYTHONPATH": str(copy)}
    found = subprocess.run(where, cwd=copy, env=env, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(copy), found.stdout
    return copy


def passes(copy: Path, check: tuple[str, ...]) -> tuple[bool, str]:
    """Whether a part of the suite passes against a copy, and what it said."""
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    env["HYPOTHESIS_PROFILE"] = "ci"  # what is found does not depend on who asks
    command = [sys.executable, "-m", *check]
    done = subprocess.run(
        command, cwd=copy, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode in (0, 1), output  # 1: tests ran and failed
    return done.returncode == 0, output


def survivors(
    mutations: tuple[Mutation, ...] = MUTATIONS, *, alone: bool = True, jobs: int | None = None
) -> list[str]:
    """Names of mutations that nothing noticed; "unmutated" when the suite fails without any, which
    is not tried again where this is not `alone` but a part of that suite."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        original = frozen(directory)
        whole = planted(None, original, directory)

        def sound(check: tuple[str, ...]) -> str | None:
            return None if passes(whole, check)[0] else "unmutated"

        def survives(mutation: Mutation) -> str | None:
            copy = planted(mutation, original, directory)
            return mutation.name if passes(copy, mutation.check)[0] else None

        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            checks = {mutation.check for mutation in mutations if alone}
            found = [*pool.map(survives, mutations), *pool.map(sound, sorted(checks))]
    return [name for name in found if name is not None]


if __name__ == "__main__":
    wanted = sys.argv[1:]
    alive = survivors(tuple(m for m in MUTATIONS if not wanted or m.name in wanted))
    print(f"survived: {', '.join(alive)}" if alive else "all were found")
    sys.exit(1 if alive else 0)
