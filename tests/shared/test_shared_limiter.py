"""Limiters of several processes over one table: one node, one leader, one count."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.config import load_config
from crdtbucket.errors import (
    CrdtbucketError,
    InvalidSpec,
    MeshError,
    NodeConflict,
    SharedTableError,
)
from crdtbucket.limiter.saved_state import SavedState
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.shared import leadership
from crdtbucket.shared.leadership import ASK_S, LASTING
from crdtbucket.shared.shared_file import own_folder, path_for
from tests.strong.redis_server import free_port
from tests.waits import eventually

SPEC = BucketSpec("api", 1_000_000, 1, "1h", max_debt=0)
SECRET = "x" * 32
MANY_SLOTS = BucketSpec.concurrency("slots", 5)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "table")


# -- in one process, where each limiter is a user of its own


def test_two_limiters_are_one(path: str) -> None:
    spec = BucketSpec("api", 100, 1, "1h")
    first, second = Limiter([spec], shared=path), Limiter([spec], shared=path)
    takes = [one.bucket("api").take("k", 30).allowed for one in (first, second, first, second)]
    assert takes == [True, True, True, False]
    assert second.bucket("api").peek("k").remaining == 10
    both = [one.stats()["buckets"]["api"] for one in (first, second)]
    assert [(one["allowed"], one["denied"], one["granted"]) for one in both] == [(3, 1, 90)] * 2
    first.close()
    second.close()


REDIS = "redis://127.0.0.1:1"
REFUSED: dict[str, dict[str, Any]] = {
    "buckets": {"buckets": "api"},
    "consistency": {"consistency": "fallback"},
    "degradation": {"degradation": "quota"},
    "enabled": {"enabled": "no"},
    "redis": {"consistency": "strong"},
    "quotas": {"consistency": "strong", "redis": REDIS, "buckets": [SPEC, MANY_SLOTS]},
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_limiter_that_is_refused_keeps_no_file_open(path: str, case: str) -> None:
    with pytest.raises(CrdtbucketError) as kept:  # as a program may that tries again and again
        Limiter(**{"buckets": [SPEC], "node": "a", "shared": path, **REFUSED[case]})
    held = [os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")]
    assert [one for one in held if one.startswith(path)] == []
    assert kept
    with Limiter([SPEC], node="a", shared=path) as limiter:
        assert limiter.stats()["shared"]["processes"] == 1


def test_one_of_two_users_in_a_process_ends_its_use_alone(path: str) -> None:
    first, second = Limiter([SPEC], shared=path), Limiter([SPEC], shared=path)
    assert first.stats()["shared"]["processes"] == 2
    first.close()
    assert second.stats()["shared"]["processes"] == 1
    second.close()


def test_what_was_taken_is_debt_after_a_restart_of_all(path: str) -> None:
    with Limiter([SPEC], shared=path) as limiter:
        assert limiter.bucket("api").take("k", 999_999)
    with Limiter([SPEC], shared=path) as again:
        assert again.bucket("api").peek("k").remaining == 1
        assert again.bucket("api").take("k", 1)
        assert not again.bucket("api").take("k", 1)


def test_a_new_definition_holds_for_all_that_share(path: str) -> None:
    old, new = BucketSpec("api", 100, 1, "1h"), BucketSpec("api", 200, 1, "1h")
    first = Limiter([old], shared=path)
    assert first.bucket("api").take("k", 60)
    second = Limiter([new], shared=path)
    for one in (second, first, second, first):
        assert one.bucket("api").take("k", 30)
    assert first.bucket("api").peek("k").limit == 200
    assert second.bucket("api").peek("k").remaining == 20
    first.close()
    second.close()


def test_a_refund_is_everywhere(path: str) -> None:
    spec = BucketSpec("api", 100, 1, "1h")
    first, second = Limiter([spec], shared=path), Limiter([spec], shared=path)
    decision = first.bucket("api").take("k", 100)
    assert not second.bucket("api").take("k")
    assert first.bucket("api").refund(decision, 40) == 40
    assert second.bucket("api").take("k", 40)
    assert first.bucket("api").settle("k", 10) == 10
    assert not second.bucket("api").take("k")
    first.close()
    second.close()


async def test_only_one_leads_and_another_follows(path: str) -> None:
    async with Limiter([SPEC], shared=path) as second:
        async with Limiter([SPEC], shared=path) as first:
            await eventually(
                lambda: (
                    first.stats()["shared"]["leading"] + second.stats()["shared"]["leading"] == 1
                ),
                "one of the two leads",
            )
        await eventually(lambda: second.stats()["shared"]["leading"], "the other one follows")
        assert second.stats()["shared"]["leader"] == os.getpid()


async def test_who_could_not_lead_at_once_leads_later(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET, state_dir=tmp_path / "state")
    attempts: list[MeshNetwork] = []
    start = MeshNetwork.start

    async def fails_once(network: MeshNetwork) -> None:
        attempts.append(network)
        if len(attempts) == 1:
            raise MeshError("the port is in use for a moment")
        await start(network)

    async with (
        Limiter([SPEC], node="a", mesh=mesh, shared=path) as leader,
        Limiter([SPEC], node="a", mesh=mesh, shared=path) as follower,
    ):
        monkeypatch.setattr(MeshNetwork, "start", fails_once)
        await leader.aclose()
        await eventually(lambda: len(attempts) == 2, "it tries again")
        await eventually(lambda: follower.stats()["shared"]["leading"], "it leads")


async def test_a_leader_that_closes_gives_its_name_back_before_the_lead(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However slow the disk is: else the next leader would find the name in use, and log that (a
    first time for DEBUG only)."""
    caplog.set_level(logging.DEBUG, "crdtbucket")
    mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET, state_dir=tmp_path / "state")
    save = SavedState.save

    def save_slowly(saved: SavedState) -> None:
        time.sleep(3 * ASK_S)
        save(saved)

    async with (
        Limiter([SPEC], node="a", mesh=mesh, shared=path) as leader,
        Limiter([SPEC], node="a", mesh=mesh, shared=path) as follower,
    ):
        with monkeypatch.context() as slow:
            slow.setattr(SavedState, "save", save_slowly)
            await leader.aclose()
        await eventually(lambda: follower.stats()["shared"]["leading"], "it leads")
    assert "cannot lead" not in caplog.text


@pytest.mark.parametrize(
    ("held", "causes", "said"),
    [
        (1, ["it is locked"], []),
        (2 * LASTING, ["it is locked"], ["it is locked"]),
        # The fifth attempt has the first cause, and the tenth one the second.
        (2 * LASTING, ["it is locked", "it is full"], ["it is locked", "it is full"]),
    ],
    ids=["for a moment", "for long", "for two reasons in turns"],
)
async def test_a_name_that_is_still_in_use_is_logged_once_if_that_lasts(
    held: int,
    causes: list[str],
    said: list[str],
    path: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The kernel passes on the lead of a killed process before it frees its lock of the name."""
    mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET, state_dir=tmp_path / "state")
    attempts: list[StateDir] = []
    take = StateDir.open

    def take_later(directory: StateDir) -> None:
        attempts.append(directory)
        if len(attempts) <= held:
            raise NodeConflict(causes[(len(attempts) - 1) % len(causes)])
        take(directory)

    caplog.set_level(logging.INFO, "crdtbucket")
    monkeypatch.setattr(leadership, "ASK_S", 0.01)
    async with (
        Limiter([SPEC], node="a", mesh=mesh, shared=path) as leader,
        Limiter([SPEC], node="a", mesh=mesh, shared=path),
    ):
        monkeypatch.setattr(StateDir, "open", take_later)
        await leader.aclose()
        await eventually(lambda: "this process leads now" in caplog.text, "another one leads")
    assert len(attempts) == held + 1
    ahead = "this process cannot lead yet: "
    told = [line.removeprefix(ahead) for line in caplog.messages if line.startswith(ahead)]
    assert told == said


def test_a_table_of_another_node_is_refused(path: str) -> None:
    first = Limiter([SPEC], node="a", shared=path)
    with pytest.raises(SharedTableError, match=r"another node: give each node its own file"):
        Limiter([SPEC], node="b", shared=path)
    with pytest.raises(SharedTableError, match=r"is for 1000000 keys, not 500: give all processes"):
        Limiter([SPEC], node="a", shared=path, max_keys=500)
    first.close()
    Limiter([SPEC], node="b", shared=path).close()  # nobody uses it any more


def test_a_file_that_was_removed_is_reported(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET)
        limiter = Limiter([SPEC], node="a", mesh=mesh, shared=path)
        os.unlink(path)
        async with limiter:
            await eventually(lambda: "was removed or replaced" in caplog.text, "it is logged")

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())


def test_auto_without_a_node_would_be_the_table_of_every_program(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("shared: auto\nservices: {api: {limit: 5/hour}}\n")
    for make in (lambda: Limiter([SPEC], shared="auto"), lambda: Limiter.from_file(file)):
        with pytest.raises(InvalidSpec, match=r"no node is named.*: pass node=.*add node:"):
            make()


def test_auto_names_a_file_of_user_and_node(tmp_path: Path) -> None:
    assert path_for("auto", "eu/1") == f"{own_folder()}/eu%2f1"
    long = [path_for("auto", "n" * 150 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(os.path.basename(one)) < 200 for one in long)
    file = tmp_path / "edge.yaml"
    file.write_text(f"node: edge\nshared: {tmp_path}/table\nservices: {{api: {{limit: 5/hour}}}}\n")
    assert load_config(file).shared == f"{tmp_path}/table"
    first, second = Limiter.from_file(file), Limiter.from_file(file)
    assert [bool(one.bucket("api").take("k")) for one in [first, second] * 3] == [True] * 5 + [
        False
    ]
    first.close()
    second.close()


# -- processes


def mesh_of(listen: int, peer: int) -> MeshConfig:
    return MeshConfig(listen=f"127.0.0.1:{listen}", peers=[f"127.0.0.1:{peer}"], secret=SECRET)


async def work(path: str, ports: tuple[int, int], told: Any, line: Connection) -> None:
    """Takes and reports each take until it is told to stop; then closes its limiter."""
    async with Limiter([SPEC], node="a", mesh=mesh_of(*ports), shared=path) as limiter:
        bucket = limiter.bucket("api")
        while not line.poll():
            told[0] += bucket.take("k").allowed
            told[1] = limiter.stats()["shared"]["leading"]
            await asyncio.sleep(0.002)


def start(path: str, ports: tuple[int, int], told: Any, line: Connection) -> None:
    asyncio.run(work(path, ports, told, line))


class Worker:
    """A worker process as its parent sees it: by memory that both have, since a pipe that nobody
    reads for a while would block the process."""

    def __init__(self, path: str, ports: tuple[int, int]) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = multiprocessing.Pipe()
        self._told = context.RawArray("q", 2)  # without a lock, which a killed process would keep
        self.process = context.Process(target=start, args=(path, ports, self._told, theirs))
        self.process.start()
        theirs.close()

    @property
    def taken(self) -> int:
        return int(self._told[0])

    @property
    def leads(self) -> bool:
        return bool(self._told[1]) and self.process.is_alive()

    @property
    def works(self) -> bool:
        return self.taken > 0

    def end(self) -> None:
        self.line.send("stop")


def taken_by(peer: Limiter) -> int:
    """What the peer has seen of the one epoch of all workers."""
    ((_, taken, refunded),) = peer.bucket("api").columns("k").values()
    assert refunded == 0
    return int(taken)


async def test_a_killed_leader_is_followed_and_no_take_is_lost_or_repeated(path: str) -> None:
    ports = free_port(), free_port()
    async with Limiter([SPEC], node="b", mesh=mesh_of(ports[1], ports[0])) as peer:
        workers = [Worker(path, ports) for _ in range(3)]
        try:
            # One that came alone, after the others were killed, would begin a new epoch.
            await eventually(lambda: all(w.works for w in workers), "all work")
            for left in (3, 2):
                await eventually(lambda: any(w.leads for w in workers), "one leads")
                await eventually(lambda: peer.stats()["peers"].get("a") == "alive", "it is seen")
                leader = next(w for w in workers if w.leads)
                assert leader.process.pid is not None
                os.kill(leader.process.pid, signal.SIGKILL)
                leader.process.join()
                before = peer.bucket("api").columns("k")
                await eventually(
                    lambda seen=before: peer.bucket("api").columns("k") != seen, "updates go on"
                )
                assert len([w for w in workers if w.process.is_alive()]) == left - 1
            (last,) = [w for w in workers if w.process.is_alive()]
            await eventually(lambda: last.leads, "the last one leads")
            told = sum(worker.taken for worker in workers)
            await eventually(lambda: taken_by(peer) > told, "its own updates come")
            last.end()
            await eventually(lambda: peer.stats()["peers"]["a"] == "left", "the last one leaves")
            last.process.join()
            told = sum(worker.taken for worker in workers)
            assert (
                told <= taken_by(peer) <= told + 2
            )  # one take of each killed process may not be reported
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()


async def test_a_leader_that_closes_makes_way_and_says_no_goodbye(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.mesh")
    ports = free_port(), free_port()
    async with Limiter([SPEC], node="b", mesh=mesh_of(ports[1], ports[0])) as peer:
        workers = [Worker(path, ports) for _ in range(2)]
        try:
            await eventually(lambda: all(w.works for w in workers), "both work")
            await eventually(lambda: any(w.leads for w in workers), "one leads")
            await eventually(lambda: peer.stats()["peers"].get("a") == "alive", "it is seen")
            leader, other = sorted(workers, key=lambda w: not w.leads)
            leader.end()
            await eventually(lambda: other.leads, "the other one follows")
            assert "b: a left" not in caplog.text
            await eventually(lambda: peer.stats()["peers"]["a"] == "alive", "it is seen again")
            other.end()
            await eventually(lambda: peer.stats()["peers"]["a"] == "left", "the last one leaves")
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
