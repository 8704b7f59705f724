"""Which process of a shared table has the connections of the peers, and how its leadership ends."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.base import lasting
from crdtbucket.limiter.local_node import LocalNode
from crdtbucket.shared import leadership
from crdtbucket.shared.leadership import Leadership
from crdtbucket.shared.shared_file import SharedFile
from tests.waits import eventually

SPEC = BucketSpec("api", 100, 1)


async def test_a_node_whose_processes_end_at_once_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """gunicorn and `serve --workers` end them so; here the leader is the first."""
    asked: list[bool] = []
    alone = SharedFile.alone

    def ask(file: SharedFile) -> bool:
        asked.append(alone(file))
        return asked[-1]

    caplog.set_level(logging.INFO, "crdtbucket.mesh")
    monkeypatch.setattr(leadership, "ALL_END_S", 60.0)
    mesh, path = MeshConfig(listen="127.0.0.1:0"), tmp_path / "table"
    leader, other = (Limiter([SPEC], node="a", mesh=mesh, shared=path) for _ in "12")
    await leader.__aenter__()
    await other.__aenter__()
    monkeypatch.setattr(SharedFile, "alone", ask)
    closing = asyncio.create_task(leader.aclose())
    await eventually(lambda: asked, "the leader ends")
    await other.aclose()
    await closing
    assert not asked[0]
    assert "node a has left" in caplog.text


async def test_a_bug_in_one_of_its_works_ends_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lasting, "AGAIN_S", 0.01)
    monkeypatch.setattr(leadership, "SHOW_S", 0.01)
    monkeypatch.setattr(leadership, "CHECK_S", 0.01)
    shown, checked, looks = [], [], []
    look = Leadership._look

    async def counted(self: Leadership) -> None:
        looks.append(self)
        await look(self)

    monkeypatch.setattr(Leadership, "_look", counted)

    def bug(self: LocalNode) -> None:
        shown.append(True)
        raise ZeroDivisionError

    def replaced(self: SharedFile) -> bool:
        checked.append(True)
        if len(checked) == 1:
            raise ZeroDivisionError
        return False

    monkeypatch.setattr(LocalNode, "show", bug)
    monkeypatch.setattr(SharedFile, "replaced", replaced)
    mesh = MeshConfig(listen="127.0.0.1:0")
    async with Limiter([SPEC], node="a", mesh=mesh, shared=tmp_path / "table"):
        await eventually(lambda: min(len(shown), len(checked)) > 2)
        assert len(looks) == 1
    assert "a bug in leading the processes that share a table" in caplog.text


async def test_a_process_that_met_a_bug_leads_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lasting, "AGAIN_S", 0.01)
    mesh, path = MeshConfig(listen="127.0.0.1:0"), tmp_path / "table"
    leader, other = (Limiter([SPEC], node="a", mesh=mesh, shared=path) for _ in "12")
    begin, begun = Leadership._begin, []

    async def fails_once(self: Leadership) -> None:
        begun.append(self)
        if len(begun) == 1:
            self._table.sharing.yield_lead()
            raise ZeroDivisionError
        await begin(self)

    await leader.__aenter__()
    async with other:
        monkeypatch.setattr(Leadership, "_begin", fails_once)
        await leader.aclose()
        await eventually(lambda: len(begun) == 2 and other.in_force.tables.main.sharing.leading)
    assert "a bug in leading the processes that share a table" in caplog.text


ENDING = """
import atexit, logging, sys, time
from crdtbucket import BucketSpec, Limiter, MeshConfig
logging.basicConfig(level=logging.INFO)
mesh = MeshConfig(listen="127.0.0.1:0")
limiter = Limiter([BucketSpec("api", 100, 1)], node="a", mesh=mesh, shared=sys.argv[1])
limiter.__enter__()

def ends():
    print("ends", flush=True)
    sys.stdin.readline()
    time.sleep(1)  # five times as long as it stands by before it asks for the lead
    limiter.close()

atexit.register(ends)
"""


async def test_a_process_whose_interpreter_ends_does_not_try_to_lead(tmp_path: Path) -> None:
    """Workers close their limiters at exit, when Python has no new threads to give."""
    mesh, path = MeshConfig(listen="127.0.0.1:0"), tmp_path / "table"
    leader = Limiter([SPEC], node="a", mesh=mesh, shared=path)
    pipe = asyncio.subprocess.PIPE
    async with leader:
        ending = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ENDING, str(path), stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert ending.stdout is not None
        assert await ending.stdout.readline() == b"ends\n"
    _, log = await ending.communicate(b"the leader has ended\n")
    assert ending.returncode == 0
    assert b"ERROR" not in log, log.decode()
    assert b"listening on" not in log, log.decode()
