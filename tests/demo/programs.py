"""Runs the demo as a program under test, and looks at its processes and sockets."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from crdtbucket.base.address import Address
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask

ROOT = Path(__file__).parents[2]
DEMO = f"import sys; sys.path[0] = {str(ROOT)!r}; from crdtbucket.cli.main import main; main()"


def start(*arguments: str, tmp: Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Starts the demo with its output in a pipe and its temporary files below `tmp`. `cwd`: where
    it is run."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", DEMO, "demo", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, tmp: Path, cwd: Path | None = None) -> str:
    """Runs the demo, which must end well; returns what it prints."""
    program = start(*arguments, tmp=tmp, cwd=cwd)
    out, err = program.communicate(timeout=120)
    assert (program.returncode, err) == (0, ""), out
    return out


def verdict(out: str, checks: Sequence[str], counted: str) -> str:
    """The verdict that was printed. Asserts that all of these checks hold, and that `counted` names
    the tokens of the three regions and their sum."""
    found = out[out.index("Verdict:") :]
    for check in checks:
        assert re.search(rf"^  ok +{check} ", found, re.MULTILINE), found
    told = re.search(rf"{counted} +([\d,]+) \+ ([\d,]+) \+ ([\d,]+) = ([\d,]+)[,:]", found)
    assert told is not None
    *each, together = (int(one.replace(",", "")) for one in told.groups())
    assert min(each) > 0
    assert sum(each) == together
    return found


async def answer_of(address: Address, access: Access | None, *words: str) -> object:
    """The reply of a Redis to one command."""
    connection = await RedisConnection.open(address, access, 5.0)
    try:
        return await ask(connection, *words)
    finally:
        connection.abort()


def children(pid: int) -> list[int]:
    """The processes whose parent is this one."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in listed.split()]


def listening(pid: int) -> set[str]:
    """The sockets on which a process listens for TCP; none when it has ended."""
    held = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                held.add(os.readlink(fd))
    return {socket for socket, _ in _listeners() if f"socket:[{socket}]" in held}


def anybody_listens(sockets: set[str]) -> bool:
    """Whether any process of the machine still has one of these sockets. They are known by numbers,
    since a free port may have been given to another test."""
    return any(socket in sockets for socket, _ in _listeners())


def is_open(port: int) -> bool:
    """Whether any process of the machine listens on the port."""
    return any(port == one for _, one in _listeners())


def _listeners() -> list[tuple[str, int]]:
    """The sockets of the machine that listen for TCP, and their ports."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [(f[9], int(f[1].rpartition(":")[2], 16)) for f in lines if f[3] == "0A"]


def gone(pid: int) -> bool:
    """Whether a process has ended, even if its parent has not read its status yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"
