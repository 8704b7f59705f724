"""The walk of docs/operating.md, step by step in a shell: each step prints what the page shows."""

from __future__ import annotations

import doctest
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.server_process import installed
from tests.strong.redis_server import free_port
from tests.test_docs import blocks

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operating.md"
PORT = re.compile(r"(?<![\d.])(79[58]\d|6379)\b")
MARK = "the end of a step"
STEP_S = 120
LOOK = re.compile(
    r"(?!.*\b(take|reset|rollback|take-many)\b)"
    r"(until |while )?(crdtbucket (status|peek|top|rollout \$\w+$)|curl -s \S+/metrics|grep )"
)
"""A command that only looks at the state. It may look too early: at a lag of seconds, or a key that
is not merged yet. So it looks again until it shows what the page says, and not at one moment
alone."""
CHECKER = doctest.OutputChecker()
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Shell:
    """One bash for the whole walk; what it writes is one stream."""

    def __init__(self, folder: Path) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            bufsize=0, cwd=folder, env={**os.environ, "PATH": path},
        )  # fmt: skip

    def run(self, command: str) -> str:
        """Runs a command; returns what it prints, while background jobs go on."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\necho '{MARK}'\n".encode())
        end, printed = time.monotonic() + STEP_S, b""
        while not printed.endswith(f"{MARK}\n".encode()):
            left = end - time.monotonic()
            ready, _, _ = select.select([self._bash.stdout], [], [], max(left, 0))
            assert ready, f"no end within {STEP_S} s: {command}\n{printed.decode()}"
            printed += os.read(self._bash.stdout.fileno(), 1 << 16)
        return printed.decode().removesuffix(f"{MARK}\n")

    def close(self) -> None:
        # Its jobs may hold the pipe: its end is not waited for.
        self._bash.kill()
        self._bash.wait()
        for pipe in (self._bash.stdin, self._bash.stdout):
            assert pipe is not None
            pipe.close()


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Each command, lines that begin with `> ` included, and what it is said to print."""
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = step.splitlines()
        more = next((n for n, one in enumerate(lines[1:], 1) if one[:2] != "> "), len(lines))
        yield "\n".join([lines[0], *(one[2:] for one in lines[1:more])]), "\n".join(lines[more:])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    yield tmp_path
    for file in tmp_path.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)


def patient(text: str) -> str:
    """The article's configuration on a machine that may be slow: Redis is not given up for its
    latency, and what was taken does not come back within the time between two steps. The two lines
    replace the first two comments, so that the numbers of lines in messages stay."""
    _, _, *lines = text.splitlines(keepends=True)
    text = "".join(lines).replace("refill_interval: 1s", "refill_interval: 10m")
    for line, more in (
        ("      type: redis\n", "      deadline: 5s\n"),
        ("    consistency: strong\n", "    modes: {latency_limit: 4s, outage_after: 10s}\n"),
    ):
        text = text.replace(line, line + more)
    return text


def see(shell: Shell, command: str, said: str) -> tuple[str, bool]:
    """What a command printed last, and whether that is what is said."""
    end = time.monotonic() + STEP_S
    while True:
        printed = shell.run(command)
        same = CHECKER.check_output(said, printed, SAME)
        if same or not LOOK.match(command) or time.monotonic() > end:
            return printed, bool(same)


@pytest.mark.parametrize(
    ("command", "looks"),
    [
        ("crdtbucket status $eu", True),
        ("until crdtbucket status $eu $us $ap > s 2> /dev/null; do sleep 0.2; done; cat s", True),
        ("crdtbucket rollout $us", True),
        ("curl -s http://127.0.0.1:7982/metrics | grep '^x'", True),
        ("crdtbucket take b k 10 $eu", False),
        ("crdtbucket rollout rollback $ap | head -1", False),
        ("for call in 1 2; do crdtbucket take b loud 7 $ap; done > /dev/null", False),
        ("kill -9 $(cat ap-1.pid)", False),
    ],
)
def test_only_what_changes_nothing_is_done_again(command: str, looks: bool) -> None:
    assert bool(LOOK.match(command)) is looks


@pytest.mark.timeout(1200)
def test_the_walk(folder: Path) -> None:
    installed("curl", "apt-get install curl")
    ports: dict[str, str] = {}

    def moved(text: str) -> str:
        return PORT.sub(lambda match: ports.setdefault(match[0], str(free_port())), text)

    article = folder / "examples" / "openclaw.yaml"
    article.write_text(patient(moved(article.read_text())))
    shell = Shell(folder)
    taken = 0
    try:
        for line, text in blocks(PAGE, "shell"):
            for command, said in steps(moved(text)):
                printed, same = see(shell, command, f"{said}\n" if said else "")
                logs = "".join(one.read_text()[-2_000:] for one in folder.glob("*.log"))
                assert same, f"line {line}, {command}\nsaid:\n{said}\nprinted:\n{printed}\n{logs}"
                taken += 1
    finally:
        shell.close()
    assert taken > 40
