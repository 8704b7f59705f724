"""State that outlives a process: a save in another thread may come at any moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig, MeshError
from crdtbucket._core import Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.limiter.saved_state import SavedState
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.strong.kept_quotas import KeptQuotas
from tests.waits import eventually

SPEC = BucketSpec("api", 300, 1, "1h")
MOMENT_S = 0.1
"""Long enough for a thread that nothing holds up. On a slow machine a fault may stay unseen; a
correct program never fails."""


class Directory:
    """A state directory in which an earlier epoch has left a snapshot."""

    directory = "anywhere"

    def __init__(self) -> None:
        self.snapshot = self
        self.kept = b"left"
        self.opened = False
        self.meanwhile: Callable[[], None] = lambda: None
        """What another thread does while the snapshot is read or written."""
        self.thread = threading.Thread()
        self.opened_then: list[bool] = []

    def open(self) -> None:
        self.opened = True

    def close(self) -> None:
        self.opened = False

    def begin_epoch(self, *_: object, **__: object) -> int:
        return 2

    def load(self) -> bytes:
        self._meanwhile()
        return self.kept

    def save(self, *pieces: bytes) -> None:
        self._meanwhile()
        self.kept = b"".join(pieces)

    def _meanwhile(self) -> None:
        work, self.meanwhile = self.meanwhile, lambda: None
        self.thread = threading.Thread(target=work)
        self.thread.start()
        self.thread.join(MOMENT_S)
        self.opened_then.append(self.opened)


class Machine:
    """The protocol of a node; its snapshot is what it remembers."""

    def __init__(self) -> None:
        self.memory = b"nothing"

    def restore(self, saved: bytes) -> int:
        self.memory = saved
        return 1

    def snapshot(self) -> tuple[bytes, ...]:
        return (self.memory,)


@pytest.fixture
def state() -> SavedState:
    table = Table(max_keys=16, virtual=True)
    return SavedState(table, None)


def begin(state: SavedState, directory: Any, machine: Any) -> None:
    state.begin(directory, machine, "a", shared=True, goes_on=False)


def test_no_snapshot_replaces_that_of_the_last_epoch_before_it_is_read(state: SavedState) -> None:
    directory, machine = Directory(), Machine()
    directory.meanwhile = state.save
    begin(state, directory, machine)
    saver = directory.thread
    saver.join()
    assert machine.memory == directory.kept == b"left"


def test_the_directory_is_given_up_after_a_save_that_is_under_way(state: SavedState) -> None:
    directory, machine = Directory(), Machine()
    begin(state, directory, machine)
    directory.opened_then.clear()
    directory.meanwhile = state.give_up
    state.save()
    directory.thread.join()
    assert (directory.opened_then, directory.opened) == ([True], False)
    assert state.directory is None


@pytest.mark.parametrize("shared", [False, True])
async def test_a_snapshot_is_restored_while_the_event_loop_goes_on(
    shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    load = snapshot.load

    def noting(*arguments: Any) -> int:
        threads.append(threading.get_ident())
        return load(*arguments)

    monkeypatch.setattr(snapshot, "load", noting)
    table = str(tmp_path / "table") if shared else None
    mesh = MeshConfig(listen="127.0.0.1:0", secret="x" * 32, state_dir=tmp_path / "state")
    for taken in (10, 20):
        async with Limiter([SPEC], node="eu-1", mesh=mesh, shared=table) as limiter:
            limiter.bucket("api").take("k", 10)
            assert limiter.bucket("api").peek("k").remaining == 300 - taken
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


async def test_a_damaged_snapshot_stops_the_start_and_names_the_file(tmp_path: Path) -> None:
    mesh = MeshConfig(listen="127.0.0.1:0", secret="x" * 32, state_dir=tmp_path)

    async def left(take: int) -> int:
        async with Limiter([SPEC], node="eu-1", mesh=mesh) as limiter:
            limiter.bucket("api").take("k", take)
            return limiter.bucket("api").peek("k").remaining

    assert await left(10) == 290
    kept = tmp_path / "eu-1.snapshot"
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(
        MeshError, match=f"^{kept} cannot be restored .*: put back a copy, or remov"
    ):
        await left(1)
    kept.unlink()
    assert await left(1) == 299


async def test_a_start_that_failed_is_tried_again_with_what_was_kept(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        kept = MeshConfig(listen="127.0.0.1:0", secret="x" * 32, state_dir=tmp_path)

        def limiter(mesh: MeshConfig) -> Limiter:
            return Limiter([SPEC], node="eu-1", mesh=mesh)

        async with limiter(kept) as before:
            before.bucket("api").take("k", 10)
        first, second = (limiter(replace(kept, listen=listen)) for _ in range(2))
        for one in (first, second):
            with pytest.raises(MeshError, match="cannot listen"):
                await one.__aenter__()
    async with second:
        assert second.bucket("api").take("k", 1).remaining == 289
    with pytest.raises(MeshError, match=r"another process called 'eu-1' has .*make another"):
        await first.__aenter__()  # it would go on without the takes of the second
    async with limiter(kept) as after:
        assert after.bucket("api").peek("k").remaining == 289


@pytest.mark.parametrize("file", ["snapshot", "owed"])
def test_the_stats_say_how_old_the_last_snapshot_is_and_why_there_is_no_newer_one(
    file: str, tmp_path: Path
) -> None:
    table = Table(max_keys=16, virtual=True)
    strong: Any = SimpleNamespace(
        resume=lambda *_: None,
        unsettled_state=lambda: b"owed",
        tell_what_is_kept=lambda _: None,
        note_nodes=lambda: None,
        kept_quotas=KeptQuotas(Table(max_keys=16), "a"),
    )
    state = SavedState(table, strong)

    def at(seconds: int) -> dict[str, Any]:
        table.set_time(seconds * NS_PER_SECOND)
        return state.stats()

    assert at(5) == {"snapshot_age": None, "snapshot_fault": ""}
    state.begin(StateDir(tmp_path, "a"), Machine(), "a", shared=False, goes_on=False)  # type: ignore[arg-type]
    assert at(7) == {"snapshot_age": 2.0, "snapshot_fault": ""}
    state.save()
    assert at(8) == {"snapshot_age": 1.0, "snapshot_fault": ""}
    aside = tmp_path / f"a.{file}.new"
    aside.mkdir()  # what cannot be written, whoever runs this test
    with pytest.raises(MeshError):
        state.save()
    fault = f"{tmp_path}/a.{file} cannot be written: Is a directory"
    assert at(67) == {"snapshot_age": 60.0, "snapshot_fault": fault}
    aside.rmdir()
    state.save()
    assert at(68) == {"snapshot_age": 1.0, "snapshot_fault": ""}
    state.release()
    assert at(80) == {"snapshot_age": None, "snapshot_fault": ""}


@pytest.mark.parametrize("shared", [False, True])
async def test_every_process_of_a_node_says_how_old_its_snapshot_is(
    shared: bool, tmp_path: Path
) -> None:
    table = str(tmp_path / "table") if shared else None
    mesh = MeshConfig(listen="127.0.0.1:0", secret="x" * 32, state_dir=tmp_path / "state")
    async with AsyncExitStack() as stack:
        limiters = [
            await stack.enter_async_context(Limiter([SPEC], node="eu-1", mesh=mesh, shared=table))
            for _ in range(1 + shared)
        ]
        for limiter in limiters:
            await eventually(lambda one=limiter: "snapshot_age" in one.stats().get("mesh", {}))
            assert limiter.stats()["mesh"]["snapshot_age"] >= 0
            assert limiter.stats()["mesh"]["snapshot_fault"] == ""
