"""Planted bugs in the real code: each must be found by the part of the suite named beside it.

    python -m tests.mutations [NAME ...] [--one-in N [--turn K]] [--suite-passed]

A mutation is a textual patch to a copy of the package. The text that is replaced must stand in its
folder exactly once. The bugs of the core are compiled together (`tests.planted_core`); a copy that
the others are patched into is used again. Of all bugs `SHARE` must be found by the tests that
`make test` runs, which are those without the marker `slow`; of one share of them more may need slow
tests.

With `--one-in N` each commit that changes the package or its tests plants the next of N shares, so
that all come round, and a commit always plants the same ones.
"""

from __future__ import annotations

import argparse
import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests import planted_core
from tests.planted import MUTATIONS, Mutation

ROOT = Path(__file__).parents[1]
EXTENSION = "_core" + str(sysconfig.get_config_var("EXT_SUFFIX"))
CFLAGS = ["-O0", "-w", "-fno-strict-aliasing", "-fwrapv", "-std=gnu11", "-shared", "-fPIC"]
SECONDS = 600
SHARE = 45 / 54
FAST, SLOW = ("-m", "not slow"), ("-m", "slow")
PASSED, FAILED, NONE_CHOSEN = 0, 1, 5
"""Exit statuses of pytest."""
NUMBERS = {mutation.name: number for number, mutation in enumerate(MUTATIONS, 1)}


def sources(folder: Path) -> dict[Path, str]:
    """The text of the files of a folder that may be changed."""
    files = (path for path in folder.rglob("*") if path.suffix in (".h", ".py", ".lua"))
    return {path: path.read_text() for path in files}


def place(
    mutation: Mutation, project: Path, read: Callable[[Path], dict[Path, str]] = sources
) -> Path:
    """The file that contains the text which a mutation replaces, exactly once."""
    texts = read(project / "crdtbucket" / mutation.folder)
    counts = {path: n for path, text in texts.items() if (n := text.count(mutation.old))}
    assert list(counts.values()) == [1], (
        f"{mutation.name}: not there once: {mutation.old!r}; where the code "
        "has changed, the planted bug in tests/planted follows it"
    )
    return next(iter(counts))


def compiled(project: Path, mutations: Sequence[Mutation]) -> None:
    """Compiles the core of a copy, with those bugs that are in its headers."""
    package, target = project / "crdtbucket", project / "_core.c"
    command = [sys.executable, "-m", "cython", "-3", str(package / "_core.pyx"), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as headers:
        folder = Path(headers)
        shutil.copytree(package, folder / "crdtbucket")
        choice = folder / "choice.h"
        choice.write_text(planted_core.CHOICE)
        bugs = {NUMBERS[m.name]: (place(m, project), m.old, m.new) for m in mutations}
        relative = {n: (path.relative_to(project), *patch) for n, (path, *patch) in bugs.items()}
        planted_core.switch(folder, relative)
        includes = ["-include", str(choice), "-I", str(folder / "crdtbucket")]
        includes += ["-I", sysconfig.get_path("include")]
        command = ["gcc", *CFLAGS, *includes, str(target), "-o", str(package / EXTENSION)]
        subprocess.run([*command, "-lm", "-lpthread"], check=True)


class Copies:
    """Copies of the project, one for each check that runs at the same time."""

    def __init__(self, directory: Path, count: int, mutations: Sequence[Mutation]) -> None:
        # Compiled Python files are copied, too: they are valid in a copy with the same times. Files
        # that a suite is writing at the same time are left out, since they would be gone before
        # they are copied.
        ignore = shutil.ignore_patterns("*.so", "*.pyc.*")
        first = directory / "0"
        for folder in ("crdtbucket", "tests", "docs/vectors"):
            shutil.copytree(ROOT / folder, first / folder, ignore=ignore)
        for file in ("pyproject.toml", "crdtbucket_command.py"):
            shutil.copy(ROOT / file, first)
        compiled(first, [m for m in mutations if m.folder == "core"])
        self._idle: queue.Queue[Path] = queue.Queue()
        self._idle.put(first)
        for number in range(1, count):
            self._idle.put(shutil.copytree(first, directory / str(number)))
        self._stamps = itertools.count(1)

    @contextmanager
    def planted(self, mutation: Mutation | None) -> Iterator[tuple[Path, dict[str, str]]]:
        """A copy with the bug in it, and the environment that it needs."""
        copy = self._idle.get()
        env = {**os.environ, "PYTHONPATH": str(copy)}
        env["HYPOTHESIS_PROFILE"] = "ci"  # so the result does not depend on the caller's profile
        try:
            if mutation is None or mutation.folder == "core":
                yield copy, env | {"PLANTED": str(NUMBERS[mutation.name] if mutation else 0)}
            else:
                path = place(mutation, copy)
                sound = path.read_text()
                self._write(path, sound.replace(mutation.old, mutation.new))
                try:
                    yield copy, env
                finally:
                    self._write(path, sound)
        finally:
            self._idle.put(copy)

    def _write(self, path: Path, text: str) -> None:
        """Writes a file with a time that it never had, so that no compiled form is taken for it."""
        path.write_text(text)
        stamp = path.stat().st_mtime + 10 * next(self._stamps)
        os.utime(path, (stamp, stamp))

    def run(self, mutation: Mutation | None, check: tuple[str, ...]) -> int:
        """Runs a part of the suite; returns its exit status."""
        with self.planted(mutation) as (copy, env):
            done = subprocess.run(
                [sys.executable, "-m", *check], cwd=copy, env=env, capture_output=True, text=True,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        assert done.returncode in (PASSED, FAILED, NONE_CHOSEN), done.stdout + done.stderr
        return done.returncode

    def found_by(self, mutation: Mutation) -> str | None:
        """Which tests notice a bug: "fast", "slow", or None when it survives."""
        for tier, chosen in (("fast", FAST), ("slow", SLOW)):
            if self.run(mutation, (*mutation.check, *chosen)) == FAILED:
                return tier
        return None

    def sound(self, check: tuple[str, ...]) -> bool:
        """Whether a part of the suite passes without any bug."""
        return self.run(None, check) == PASSED


def survivors(mutations: Sequence[Mutation], *, suite_passed: bool, least: float) -> list[str]:
    """What is wrong: bugs that nothing found, too few found by fast tests, and parts of the suite
    that fail without any bug, unless the whole suite is known to pass."""
    jobs = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(jobs) as pool:
        copies = Copies(Path(directory), jobs, mutations)
        checks = sorted({m.check for m in mutations}) if not suite_passed else []
        unsound = [
            f"{' '.join(check)} fails without a bug"
            for check, sound in zip(checks, pool.map(copies.sound, checks), strict=True)
            if not sound
        ]
        found = []
        for mutation, by in zip(mutations, pool.map(copies.found_by, mutations), strict=True):
            found.append(by)
            how = f"found by the {by} tests" if by else "survives"
            print(f"{len(found)} of {len(mutations)}: {mutation.name} {how}", flush=True)
    wrong = unsound + [m.name for m, by in zip(mutations, found, strict=True) if by is None]
    fast = found.count("fast")
    print(f"{len(mutations)} bugs, {fast} of them found by the tests of `make test`")
    if len(mutations) > 1 and fast < least * len(mutations):
        wrong.append(f"`make test` finds less than {least:.0%}")
    return wrong


def turn_of_commit() -> int:
    """How many commits have changed the package or its tests; 0 where there is no repository."""
    command = ["git", "rev-list", "--count", "HEAD", "--", "crdtbucket", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else 0


def share_of(mutations: Sequence[Mutation], one_in: int, turn: int) -> Sequence[Mutation]:
    """Every `one_in`-th of the mutations, beginning with another one at each turn."""
    return mutations[turn % one_in :: one_in]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--one-in", type=int, default=1, help="only a share of them")
    parser.add_argument("--turn", type=int, help="which share; without, that of the commit")
    parser.add_argument("--suite-passed", action="store_true", help="does not run it without bugs")
    options = parser.parse_args(arguments)
    # A shell in the background ignores Ctrl-C, and all that is started here would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = [m for m in MUTATIONS if not options.names or m.name in options.names]
    if options.one_in > 1:
        turn = turn_of_commit() if options.turn is None else options.turn
        wanted = share_of(wanted, options.one_in, turn)
        names = ", ".join(m.name for m in wanted)
        print(f"share {turn % options.one_in + 1} of {options.one_in} (--turn {turn}): {names}")
    wrong = survivors(
        wanted, suite_passed=options.suite_passed, least=SHARE if options.one_in == 1 else 0.0
    )
    print(f"survived: {', '.join(wrong)}" if wrong else "all were found")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
