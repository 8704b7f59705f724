"""The roll-out of a version in the processes of a shared table: all of them are in one stage."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket._core import Table
from crdtbucket.config import Config
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.rollout.limiter_file import LimiterFile
from crdtbucket.rollout.rollout_store import ROLLOUT_SUFFIX, HostRollout, RolloutStore, position_in
from crdtbucket.rollout.staged import Position, Status
from tests.strong.redis_server import free_port
from tests.waits import until

KEYS = [f"key-{number}" for number in range(200)]
OLD, NEW = 1_000, 50
STAGES = "rollout: {stages: [{percent: 10}, {percent: 50}, {}]}"
CONFIG = """
node: edge-1
version: {version}
services: {{api: {{limit: 1/hour burst {capacity}}}}}
{more}
"""


class Host:
    """The configuration file and the shared table of a host."""

    def __init__(self, folder: Path) -> None:
        self.file, self.table = folder / "edge.yaml", str(folder / "table")
        self.write(1, OLD)

    def write(self, version: int, capacity: int, more: str = "") -> None:
        self.file.write_text(CONFIG.format(version=version, capacity=capacity, more=more))

    def worker(self) -> Limiter:
        return Limiter.from_file(self.file, shared=self.table)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def under_new(limiter: Limiter) -> set[str]:
    """The keys that the new version decides on."""
    return {key for key in KEYS if limiter.bucket("api").peek(key).limit == NEW}


def status(limiter: Limiter) -> tuple[int, str]:
    state = limiter.rollout.state
    assert state is not None
    return state["stage"], state["status"]


def test_a_command_in_one_process_moves_all(host: Host) -> None:
    with host.worker() as one, host.worker() as other:
        host.write(2, NEW, STAGES)
        for limiter in (one, other):
            limiter.reload()
            assert status(limiter) == (1, "running")
        first = under_new(one)
        assert first == under_new(other)
        assert 5 <= len(first) <= 40
        one.rollout.advance()
        until(lambda: status(other) == (2, "running"), "the other process follows")
        second = under_new(other)
        assert first < second == under_new(one)
        other.rollout.halt()
        until(lambda: status(one) == (2, "halted"), "the halt is seen")
        other.rollout.rollback()
        until(lambda: status(one) == (2, "rolled back"), "the roll-back is seen")
        reasons = [x.rollout.state["reason"] for x in (one, other) if x.rollout.state]
        assert reasons == ["another process of this host: rolled back", "command"]
        assert under_new(one) == under_new(other) == set()


def test_it_comes_to_its_end_everywhere(host: Host) -> None:
    with host.worker() as one, host.worker() as other:
        host.write(2, NEW, STAGES)
        one.reload()
        other.reload()
        for limiter in (one, other, one):
            limiter.rollout.advance()
            at = limiter.rollout.position
            until(
                lambda at=at: one.rollout.position == other.rollout.position == at, "both are there"
            )
        for limiter in (one, other):
            assert status(limiter)[1] == "done"
            assert under_new(limiter) == set(KEYS)
            assert limiter.stats()["config"]["version"] == 2


def test_a_process_that_has_not_read_the_file_decides_as_the_others_do(host: Host) -> None:
    with host.worker() as one, host.worker() as late:
        host.write(2, NEW, STAGES)
        one.reload()
        one.rollout.advance()
        assert under_new(late) == under_new(one)
        late.reload()
        assert status(late) == (2, "running"), "it begins where the others are"
        assert under_new(late) == under_new(one)


def test_a_process_that_starts_again_begins_where_the_others_are(host: Host) -> None:
    with host.worker() as one:
        host.write(2, NEW, STAGES)
        one.reload()
        staged = under_new(one)
        with host.worker() as again:
            assert status(again) == (1, "running")
            assert under_new(again) == staged == under_new(one)
            again.rollout.rollback()
            until(lambda: status(one)[1] == "rolled back", "the roll-back is seen")
        with host.worker() as once_more:
            assert under_new(once_more) == set()
            assert under_new(one) == set()


def test_all_processes_that_start_again_go_on(host: Host) -> None:
    with host.worker() as one:
        host.write(2, NEW, STAGES)
        one.reload()
        one.rollout.advance()
        staged = under_new(one)
    with host.worker() as again:
        assert status(again) == (2, "running")
        assert under_new(again) == staged
        again.rollout.advance()
        again.rollout.advance()
        with host.worker() as last:
            assert status(last) == (3, "done")
            assert under_new(last) == set(KEYS)
            again.rollout.rollback()
            until(lambda: status(last)[1] == "rolled back", "the one before is known here")
            assert under_new(last) == under_new(again) == set()


def test_a_process_that_starts_after_the_end_does_not_define_the_old_version(host: Host) -> None:
    """It would hold for a moment in the other processes, too."""
    with host.worker() as one:
        host.write(2, NEW, STAGES)
        one.reload()
        for _ in range(3):
            one.rollout.advance()
        file = LimiterFile.read(host.file, node=None, mesh=None, shared=host.table, watch=False)
        assert file.known is not None
        assert (file.known[0].version, file.first.version) == (1, 2)


def test_denials_in_any_process_halt_it(host: Host) -> None:
    with host.worker() as one, host.worker() as other:
        more = STAGES[:-1] + ", halt_on: {denied_ratio_rise: 20%}}"
        host.write(2, 1, more.replace("percent: 10}", "percent: 40}"))
        one.reload()
        other.reload()

        def halted() -> bool:
            other.bucket("api").take_many(KEYS)
            return status(one)[1] == status(other)[1] == "halted"

        until(halted, "both are halted")


@pytest.mark.timeout(300)
def test_over_a_mesh_of_hosts_with_processes(tmp_path: Path) -> None:
    """A command in a process that does not speak to the peers reaches those of another host."""
    ports = free_port(), free_port()
    hosts = []
    for number, port in enumerate(ports):
        folder = tmp_path / f"host-{number}"
        folder.mkdir()
        host = Host(folder)
        mesh = f'mesh: {{listen: "127.0.0.1:{port}", peers: ["127.0.0.1:{ports[1 - number]}"]}}'

        def write(
            version: int, capacity: int, more: str = "", host: Host = host, mesh: str = mesh
        ) -> None:
            Host.write(host, version, capacity, f"{mesh}\n{more}")
            text = host.file.read_text().replace("edge-1", f"edge-{host.table[-7]}")
            host.file.write_text(text)

        host.write = write  # type: ignore[method-assign]
        host.write(1, OLD)
        hosts.append(host)
    with (
        hosts[0].worker() as a,
        hosts[0].worker() as b,
        hosts[1].worker() as c,
        hosts[1].worker() as d,
    ):
        all_of_them = (a, b, c, d)
        assert [x.stats()["shared"]["leading"] for x in all_of_them] == [1, 0, 1, 0]
        for host in hosts:
            host.write(2, NEW, STAGES)
        for limiter in all_of_them:
            limiter.reload()
        b.rollout.advance()
        until(
            lambda: all(status(x) == (2, "running") for x in all_of_them),
            "the command is everywhere",
        )
        d.rollout.rollback()
        until(
            lambda: all(status(x)[1] == "rolled back" for x in all_of_them),
            "the roll-back is everywhere",
        )
        assert not any(under_new(x) for x in all_of_them)


def test_a_worker_killed_in_a_roll_out_leaves_it_to_the_others(host: Host) -> None:
    code = f"""
import time
from crdtbucket import BucketSpec, Limiter
from crdtbucket._core import Table
from crdtbucket.config import Config
with Limiter.from_file({str(host.file)!r}, shared={host.table!r}) as limiter:
    print("open", flush=True)
    input()
    limiter.reload()
    limiter.rollout.advance()
    print("advanced", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == "open\n"
        with host.worker() as one:
            host.write(2, NEW, STAGES)
            one.reload()
            print(file=worker.stdin, flush=True)
            assert worker.stdout.readline() == "advanced\n"
            worker.kill()
            until(lambda: status(one) == (2, "running"), "its command stays")
            one.rollout.rollback()
            assert under_new(one) == set()


# ---- the file ----


def place(stage: int) -> tuple[Position, Callable[[], bytes]]:
    position = Position(2, 77, stage, Status.RUNNING, stage)
    return position, lambda: f'{{"format": 1, "position": [2, 77, {stage}, 0, {stage}]}}'.encode()


def test_the_largest_position_stays(tmp_path: Path) -> None:
    file = HostRollout(str(tmp_path / "table"))
    (first, _), (second, more) = place(0), place(1)
    assert file.exchange(second, more) is None
    unwanted = Mock(side_effect=AssertionError)
    assert file.exchange(first, unwanted) == second
    assert file.exchange(second, unwanted) == second
    assert Path(file.path).read_bytes() == more()


def test_what_the_file_has_is_whole_until_the_next_is(tmp_path: Path) -> None:
    """Else a process that is killed in the middle of a write leaves neither."""
    file = HostRollout(str(tmp_path / "table"))
    (first, more), (second, less) = place(0), place(1)
    file.exchange(first, lambda: more() + b" " * 100)
    with open(file.path, "rb") as before:
        file.exchange(second, less)
        assert before.read() == more() + b" " * 100
    assert Path(file.path).read_bytes() == less()
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
    assert os.listdir(tmp_path) == [os.path.basename(file.path)]


def test_a_process_that_waits_reads_what_the_one_before_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = HostRollout(str(tmp_path / "table"))
    (first, its), (second, more), (third, most) = (place(stage) for stage in range(3))
    file.exchange(first, its)
    monkeypatch.setattr(fcntl, "flock", lambda *_: replaced())

    def replaced() -> None:  # another process had the lock
        monkeypatch.undo()
        HostRollout(str(tmp_path / "table")).exchange(third, most)

    assert file.exchange(second, more) == third
    assert Path(file.path).read_bytes() == most()


def test_a_link_of_another_user_is_not_written_through(tmp_path: Path) -> None:
    file = HostRollout(str(tmp_path / "table"))
    os.symlink(tmp_path / "elsewhere", file.path + ".new")
    file.exchange(*place(1))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"format": 9}', b"\xff" * 100, b'{"format": 1}']
)
def test_a_damaged_file_is_written_anew(tmp_path: Path, content: bytes) -> None:
    file = HostRollout(str(tmp_path / "table"))
    Path(file.path).write_bytes(content)
    Path(file.path).chmod(0o600)
    position, its = place(1)
    assert file.exchange(position, its) is None
    assert file.exchange(position, its) == position


def test_a_file_that_cannot_be_used_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = HostRollout(str(tmp_path / "table"))
    os.symlink(tmp_path / "elsewhere", file.path)
    position, its = place(1)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert file.exchange(position, its) is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert ROLLOUT_SUFFIX in caplog.text
    assert not (tmp_path / "elsewhere").exists()
    os.unlink(file.path)
    assert file.exchange(position, its) is None
    assert file.exchange(position, its) == position


def test_what_the_file_has_stays_where_there_is_no_room_for_more(tmp_path: Path) -> None:
    """Else a process that starts then has the new version on all keys, and the others follow it."""
    file = HostRollout(str(tmp_path / "table"))
    first, its = place(1)
    file.exchange(first, its)
    before = Path(file.path).read_bytes()
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1, most[1]))
    try:
        later, larger = place(2)
        assert file.exchange(later, lambda: larger() + b" " * 100) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert Path(file.path).read_bytes() == before
    assert file.exchange(later, larger) == first
    assert Path(file.path).read_bytes() == larger()


def test_what_a_full_disk_did_not_take_is_kept_once_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a version that was rolled back would be in force after the next restart."""
    file = StateDir(tmp_path, "eu-1").rollout
    store = RolloutStore(Table(), state_dir=Mock(rollout=file))
    before = Config("v1", (BucketSpec.parse("api", "1/s"),), version=1)
    back = Position(2, 7, 1, Status.ROLLED_BACK)
    store.exchange(Position(2, 7), before)
    in_the_way = tmp_path / "eu-1.rollout.new"
    in_the_way.mkdir()  # nothing can be written
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            store.exchange(back, before)
    assert position_in(file.load() or b"") == Position(2, 7)
    in_the_way.rmdir()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            store.exchange(back, before)
    assert position_in(file.load() or b"") == back
    said = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert [level for level, _ in said] == ["ERROR", "INFO"]
    assert "cannot be written: Is a directory" in said[0][1]
    assert "restart" in said[0][1]
