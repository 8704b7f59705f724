"""The file of a shared table: who may use it, when it is made anew, and what a fork does to it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
from array import array
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from crdtbucket import BucketSpec
from crdtbucket._core import BucketCore, BucketReplica, Table, table_size
from crdtbucket.base.forks import Turn, after_fork
from crdtbucket.errors import CrdtbucketError, SharedTableError
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.shared.table_file import Host, open_table
from tests.disks import full, small_disk
from tests.forks import in_child
from tests.threads import in_threads

HERE = Host(b"this boot's bytes"[:16], 1, 2)
KEY = b"k" * 16
PR_SET_DUMPABLE = 4
SPEC = BucketSpec("b", 200, 1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "table")


def opened(path: str, **changes: object) -> tuple[SharedFile, Table]:
    file = SharedFile(path)
    settings: dict[str, object] = {"max_keys": 64, "hash_key": KEY, "owner": "node", "host": HERE}
    return file, open_table(file, **{**settings, **changes})  # type: ignore[arg-type]


def left_behind(path: str, **changes: object) -> None:
    """A table that nobody uses."""
    file, table = opened(path, **changes)
    BucketCore(table, SPEC).take("key", 5)
    del table
    file.close()


def gives_up_root() -> None:
    """Drops root, as a server does that was started as root. Then most of /proc/self belongs to
    root, as it does for a process that may not be dumped."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0


def test_a_process_that_gave_up_root_opens_a_table() -> None:
    folder = tempfile.mkdtemp()  # which such a user reaches, unlike pytest's
    try:
        os.chown(folder, 65534 if os.getuid() == 0 else -1, -1)
        opens = partial(opened, f"{folder}/table", host=None)
        outcomes = in_child(gives_up_root, lambda: os.listdir("/proc/self/ns"), Host.here, opens)
        assert outcomes[0] == "None"
        assert outcomes[1].startswith("PermissionError")
        assert outcomes[2] == str(Host.here())
        assert outcomes[3].startswith("(<crdtbucket.shared.shared_file.SharedFile")
    finally:
        shutil.rmtree(folder)


def test_a_host_that_cannot_be_known_is_an_error_with_a_fix(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here() -> Host:
        raise PermissionError(errno.EACCES, "Permission denied", "/proc/self/ns/pid")

    monkeypatch.setattr(Host, "here", here)
    with pytest.raises(SharedTableError, match=r"/proc/self/ns/pid: Permission denied.*mount"):
        opened(path, host=None)


OTHERS: dict[str, tuple[dict[str, object], str]] = {
    "boot": ({"host": replace(HERE, boot=b"another boot" + bytes(4))}, "before the last boot"),
    "pid_space": ({"host": replace(HERE, pid_space=9)}, "another container"),
    "time_space": ({"host": replace(HERE, time_space=9)}, "another clock"),
    "owner": ({"owner": "another"}, "another node"),
    "max_keys": ({"max_keys": 128}, "for 64 keys, not 128"),
    "hash_key": ({"hash_key": b"x" * 16}, "another mesh secret"),
}


@pytest.mark.parametrize("field", OTHERS)
def test_a_table_that_is_used_is_refused_to_who_wants_another(path: str, field: str) -> None:
    changes, reason = OTHERS[field]
    _file, table = opened(path)
    with pytest.raises(SharedTableError, match=reason) as caught:
        opened(path, **changes)
    assert path in str(caught.value)
    assert caught.value.fix in str(caught.value)
    assert BucketCore(table, SPEC).take("key").remaining == 199


@pytest.mark.parametrize("field", OTHERS)
def test_a_table_that_nobody_uses_is_begun_anew(
    path: str, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    changes, reason = OTHERS[field]
    left_behind(path)
    with caplog.at_level(logging.WARNING, "crdtbucket"):
        _file, table = opened(path, **changes)
    assert reason in caplog.text
    assert path in caplog.text
    assert BucketCore(table, SPEC).take("key").remaining == 199


def patch(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(("offset", "reason"), [(8, "layout"), (56, "another size")])
def test_of_another_layout_or_none(
    path: str, offset: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    left_behind(path)
    patch(path, offset, struct.pack("<Q", 99))
    with caplog.at_level(logging.WARNING, "crdtbucket"):
        opened(path)
    assert reason in caplog.text


FOREIGN = {
    "a key": b"-----BEGIN PRIVATE KEY-----\n" * 50,
    "one byte": b"x",
    "nearly": b"1tkbtdr" + b"x" * 5000,
    "nothing but zeros": bytes(20_000),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_table_is_left_as_it_is(path: str, kind: str) -> None:
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
        file.write(FOREIGN[kind])
    before = os.stat(path)
    with pytest.raises(SharedTableError, match="not a table, and is left as it is") as caught:
        opened(path)
    assert path in str(caught.value)
    assert "name a file that does not exist yet" in str(caught.value)
    after = os.stat(path)
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert Path(path).read_bytes() == FOREIGN[kind]


def test_a_file_that_has_another_name_is_refused(path: str) -> None:
    left_behind(path)
    before = Path(path).read_bytes()
    os.link(path, path + " of another node")
    with pytest.raises(
        SharedTableError, match=r"has 2 names \(hard links\): name a file of its own"
    ):
        opened(path + " of another node", owner="another")
    assert Path(path).read_bytes() == before


def test_a_table_whose_maker_was_killed_is_begun_anew(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    left_behind(path)
    patch(path, 0, struct.pack("<Q", 0x63726474626B7430))
    with caplog.at_level(logging.WARNING, "crdtbucket"):
        _file, table = opened(path)
    assert "was never finished: it is begun anew" in caplog.text
    assert BucketCore(table, SPEC).take("key").remaining == 199


def test_a_table_says_whose_it_is_before_it_takes_any_room(path: str) -> None:
    """A process that is killed while it makes a table leaves nothing, or a file that the next one
    may make anew."""

    def work() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        table = SharedFile(path)
        os.ftruncate = lambda fd, size: os._exit(0)  # type: ignore[assignment]
        return open_table(table, max_keys=64, hash_key=KEY, owner="node", host=HERE)

    in_child(work)
    assert Path(path).read_bytes() == struct.pack("<Q", 0x63726474626B7430)
    _file, table = opened(path)
    assert BucketCore(table, SPEC).take("key").remaining == 199


def test_a_file_that_was_cut_off(path: str, caplog: pytest.LogCaptureFixture) -> None:
    left_behind(path)
    os.truncate(path, table_size(64)[0] - 4096)
    with caplog.at_level(logging.WARNING, "crdtbucket"):
        opened(path)
    assert "cut off" in caplog.text


def test_counts_go_on_where_nothing_is_wrong(path: str, caplog: pytest.LogCaptureFixture) -> None:
    left_behind(path)
    _file, table = opened(path)
    assert not caplog.text
    assert BucketCore(table, SPEC).take("key").remaining == 194


def test_without_a_secret_the_table_keeps_its_own(path: str) -> None:
    left_behind(path, hash_key=None)
    _file, table = opened(path, hash_key=None)
    _other, second = opened(path, hash_key=None)
    assert BucketCore(table, SPEC).take("key").remaining == 194
    assert BucketCore(second, SPEC).take("key").remaining == 193


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_others_may_not_read_or_write_it(path: str, mode: int) -> None:
    left_behind(path)
    os.chmod(path, mode)
    with pytest.raises(SharedTableError, match=f"mode {mode:04o}") as caught:
        SharedFile(path)
    assert f"chmod 600 {path}" in str(caught.value)


def test_it_is_made_for_this_user_alone(path: str) -> None:
    before = os.umask(0)
    try:
        left_behind(path)
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_no_link_is_followed(path: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    os.symlink(target, path)
    with pytest.raises(SharedTableError, match="cannot be opened"):
        SharedFile(path)
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["directory", "missing", "pipe"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    at = tmp_path / "it"
    if kind == "directory":
        at.mkdir()
    elif kind == "pipe":
        os.mkfifo(at, 0o600)
    else:
        at = tmp_path / "no directory" / "it"
    with pytest.raises(SharedTableError, match=r"no file|cannot be opened") as caught:
        SharedFile(str(at))
    assert str(at) in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_another_users_file(path: str) -> None:
    left_behind(path)
    os.chown(path, 12345, -1)
    with pytest.raises(SharedTableError, match="belongs to user 12345, not to 0"):
        SharedFile(path)


def test_a_full_file_system_is_reported_at_once(path: str) -> None:
    def work() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        return opened(path)

    (said,) = in_child(work)
    assert said.startswith("SharedTableError")
    assert "has no room for 64 keys" in said
    assert "lower max_keys" in said
    assert not os.path.getsize(path)
    _file, table = opened(path)
    table.verify()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_table_that_cannot_grow_evicts_as_at_its_limit(tmp_path: Path) -> None:
    begun = table_size(100_000)[1]
    with small_disk(tmp_path / "disk", begun + (4 << 20)):
        file, table = opened(str(tmp_path / "disk" / "table"), max_keys=100_000)
        bucket = BucketCore(table, BucketSpec("b", 200, 1, "1h"))
        bucket.take("indebted", 150)
        assert all(bucket.take(f"key {i}") for i in range(10_000))
        stats = table.stats()
        assert 0 < stats["keys"] < 10_000
        assert stats["evicted_full"] + stats["evicted_indebted"] == 10_001 - stats["keys"]
        assert bucket.take("indebted", 150).allowed is False
        table.verify()
        del bucket, table
        file.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_changes_that_cannot_be_listed_are_counted_and_kept(path: str, tmp_path: Path) -> None:
    keys, places, room = [f"key {i}" for i in range(20_000)], array("H", [0] * 512), 1 << 21

    def filled(path: str) -> tuple[SharedFile, Table]:
        file, table = opened(path, max_keys=len(keys), virtual=True)
        BucketCore(table, SPEC).take_many(keys)
        return file, table

    file, table = filled(path)
    used = os.stat(path).st_blocks * 512
    table.outbox.collect()
    assert table.outbox.encode_log(0, table.outbox.version, places, room)[2] == len(keys)
    assert table.stats()["unlogged"] == 0
    assert os.stat(path).st_blocks * 512 - used < 48 * len(keys)
    table.verify()
    with small_disk(tmp_path / "disk", used + (64 << 10)):
        small, table = filled(str(tmp_path / "disk" / "table"))
        table.outbox.collect()
        listed = table.outbox.encode_log(0, table.outbox.version, places, room)[2]
        assert 0 < listed < len(keys)
        assert table.stats()["unlogged"] == len(keys) - listed
        assert table.outbox.encode_table(0, places, room)[2] == len(keys)
        table.verify()
        table.outbox.trim(table.outbox.version)
        BucketCore(table, SPEC).take_many(keys[-listed:])
        table.outbox.collect()
        assert table.outbox.encode_log(0, table.outbox.version, places, room)[2] == listed
        del table
        small.close()
    file.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("what", ["entries", "blocks", "log"])
def test_a_full_file_system_is_asked_for_memory_again_by_grow_alone(
    tmp_path: Path, what: str
) -> None:
    at, keys = tmp_path / "disk", [f"key {i}" for i in range(20_000)]
    with small_disk(at, 256 << 20):
        file, table = opened(str(at / "table"), max_keys=len(keys), virtual=True)
        bucket = BucketCore(table, SPEC)
        needs: dict[str, Callable[[], object]] = {
            "entries": lambda: bucket.take_many(keys),
            "blocks": lambda: bucket.refund(taken),
            "log": table.outbox.collect,
        }
        taken = bucket.take(keys[0])
        bucket.take_many(keys[:100] if what == "entries" else keys)
        full(at)
        used = os.stat(file.path).st_blocks
        needs[what]()
        assert table.sharing.grow() == "No space left on device"
        (at / "ballast").unlink()
        needs[what]()
        assert os.stat(file.path).st_blocks == used
        assert table.sharing.grow() == ""
        assert os.stat(file.path).st_blocks > used
        used = os.stat(file.path).st_blocks
        assert table.sharing.grow() == ""
        assert os.stat(file.path).st_blocks == used
        table.verify()
        del table
        file.close()


def test_two_who_make_it_at_once_share_it(path: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        allowed = pool.starmap(takes, [(path, 100)] * 4)
    assert sum(allowed) == 200


def takes(path: str, calls: int) -> int:
    """Takes in a spawned process; returns how many of its takes are allowed."""
    _file, table = opened(path)
    slow = BucketSpec("b", 200, 1, "1h")
    return BucketCore(table, slow).take_burst("key", calls)


def test_children_of_a_fork_share_the_limit_and_have_counters_of_their_own(path: str) -> None:
    """gunicorn does so with --preload: the table is open before the workers are."""
    file, table = opened(path)
    bucket = BucketCore(table, BucketSpec("b", 200, 1, "1h"))
    bucket.take_burst("key", 20)
    said = [in_child(lambda: bucket.take_burst("key", 50))[0] for _ in range(4)]
    assert sum(map(int, said)) == 180
    counters = bucket.counters()
    assert (counters["allowed"], counters["denied"]) == (200, 20), "of dead workers, too"
    assert table.sharing.workers() == [os.getpid()]
    assert file.alone()


def test_a_child_keeps_the_parent_from_being_alone(path: str) -> None:
    file, table = opened(path)
    go, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(done)
        os.read(go, 1)
        os._exit(0)
    os.close(go)
    try:
        while len(table.sharing.workers()) < 2:
            os.sched_yield()
        assert not file.alone()
    finally:
        os.close(done)
        os.waitpid(pid, 0)
    assert file.alone()


def test_a_child_without_room_for_one_more_file_decides_nothing(path: str) -> None:
    """It would count as its parent, and its end would end its parent's lock."""
    file, table = opened(path)
    bucket = BucketCore(table, SPEC)

    def allow_no_file(_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))

    after_fork(table, Turn.LOCKS, allow_no_file)
    inherited = file.fd
    said, left, closed = in_child(
        lambda: bucket.take("key"), lambda: os.fstat(inherited), file.close
    )
    assert said.startswith(f"SharedTableError: the shared table {path} cannot be opened in the")
    assert "Bad file descriptor" in left
    assert closed == "None"
    assert bucket.counters()["allowed"] == 0
    other, _table = opened(path)
    assert not other.alone()


def test_who_asks_whether_it_is_alone_keeps_its_lock(path: str) -> None:
    """With flock a refusal cost the first its lock, and the second believed that it was alone."""
    first, _table = opened(path)
    second, _other = opened(path)
    assert not first.alone()
    assert not second.alone()
    first.close()
    assert second.alone()


def test_nobody_comes_while_one_is_alone(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtbucket.shared.shared_file.MADE_WITHIN_S", 0.0)
    first, _table = opened(path)
    assert first.alone()
    with pytest.raises(SharedTableError, match="is being made by another process"):
        opened(path)


def test_threads_share_the_limit(path: str) -> None:
    _file, table = opened(path)
    bucket = BucketCore(table, BucketSpec("b", 200, 1, "1h"))
    allowed: list[int] = []
    in_threads(*[lambda: allowed.append(bucket.take_burst("key", 100))] * 4)
    assert sum(allowed) == 200


def test_a_path_that_leads_elsewhere_by_now(path: str) -> None:
    file, _table = opened(path)
    assert not file.replaced()
    os.unlink(path)
    assert file.replaced()
    _other, table = opened(path)
    assert file.replaced()
    assert BucketCore(table, SPEC).take("key").remaining == 199


def test_no_more_processes_than_fit(path: str) -> None:
    kept = [opened(path) for _ in range(128)]
    with pytest.raises(CrdtbucketError, match="128 processes use the table"):
        opened(path)
    assert len(kept[0][1].sharing.workers()) == 128
    bucket = BucketCore(kept[0][1], SPEC)
    said, ended = in_child(lambda: bucket.take("key"), kept[0][1].sharing.unclaim)
    assert said.startswith("CrdtbucketError: 128 processes"), (
        "one of the parent's counters is not used"
    )
    assert ended == "None"
    assert len(kept[0][1].sharing.workers()) == 128, "nor is its place given up"


def test_a_table_that_nobody_refers_to_any_more_has_no_place(path: str) -> None:
    _first, table = opened(path)
    for _ in range(200):  # as when a program tries its settings again until they are right
        _other, dropped = opened(path)
        del dropped
    assert len(table.sharing.workers()) == 1
    assert in_child(lambda: len(table.sharing.workers())) == ["2"]
    assert len(table.sharing.workers()) == 1


def test_a_table_whose_file_was_made_shorter_can_be_dropped(path: str) -> None:
    _file, table = opened(path)

    def dropped() -> None:
        nonlocal table
        os.truncate(path, 0)
        del table

    assert in_child(dropped, gc.collect)[0] == "None"


@pytest.mark.skipif(sys.platform != "linux", reason="the lock is Linux's")
def test_the_lock_is_the_open_files(path: str) -> None:
    """Closing another description of the same path must not end it."""
    first, _table = opened(path)
    os.close(os.open(path, os.O_RDWR))
    with open(path, "r+b") as other, pytest.raises(BlockingIOError):
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    assert first.fd >= 0


def test_a_slot_that_another_bucket_uses_since_is_not_followed(path: str) -> None:
    """One process gave the bucket a new definition; two minutes later its old slot is another's."""
    _file, mine = opened(path, virtual=True)
    _other, theirs = opened(path, virtual=True)
    bucket = BucketCore(mine, BucketSpec("b", 200, 1, "1h"))
    BucketCore(theirs, BucketSpec("b", 200, 1, "1h")).define(BucketSpec("b", 50, 1, "1h"))
    for table in (mine, theirs):
        table.set_time(120 * 10**9)
    other = BucketCore(theirs, BucketSpec("other", 7, 1, "1h"))
    assert bucket.take("key", 20).remaining == 30
    assert bucket.take_many(["key"] * 2, 10).remaining.tolist() == [20, 10]
    assert other.counters()["keys"] == 0
    assert bucket.counters()["keys"] == 1


def test_a_bucket_that_another_process_defined_anew_can_be_reset(path: str) -> None:
    _file, mine = opened(path, virtual=True)
    _other, theirs = opened(path, virtual=True)
    bucket = BucketCore(mine, BucketSpec("b", 200, 1, "1h"))
    bucket.take("key", 20)
    BucketCore(theirs, BucketSpec("b", 100, 1, "1h"))
    assert bucket.reset("key") == 20


# -- the owner of each epoch, over all processes of a node


def named(path: str, *names: str) -> int:
    """A life in which peers of these names have taken three tokens each; the level at its end."""
    file, table = opened(path)
    bucket = BucketCore(table, SPEC)
    bucket.take("key", 5)
    for number, name in enumerate(names, 1):
        table.nodes.name_node(number, name)
        place = table.epochs.origin(number, 100 + number)
        columns = [(place, 1, 3, 0)]
        assert BucketReplica(bucket).adopt(
            *bucket.hash("key"), bucket.debt("key") or 0, True, columns
        )
    level = bucket.peek("key").remaining
    table.sharing.unclaim()
    del bucket, table
    file.close()
    return level


def owners(table: Table) -> set[tuple[str, int]]:
    names = table.nodes.node_names()
    return {(names[node], epoch) for _, node, epoch, _ in table.epochs.origins() if node}


def test_names_and_numbers_stay_with_the_epochs(path: str) -> None:
    level = named(path, "b", "c")
    _file, table = opened(path)
    assert owners(table) == {("b", 101), ("c", 102)}
    assert level == BucketCore(table, SPEC).peek("key").remaining
    again = Table(max_keys=64)
    again.nodes.name_node(0, "a" * 200)
    again.nodes.name_node(1023, "\U0001f984" * 200)
    assert again.nodes.node_names() == {0: "a" * 200, 1023: "\U0001f984" * 200}
    again.nodes.name_node(1023, "")
    assert again.nodes.node_names() == {0: "a" * 200}


@pytest.mark.parametrize(
    ("node", "name", "wrong"),
    [
        (0, "x" * 801, "at most 800 bytes"),
        (1024, "x", "below 1024"),
        (0, "b", "has a name already"),
    ],
)
def test_names_that_cannot_be_given(node: int, name: str, wrong: str) -> None:
    table = Table(max_keys=64)
    table.nodes.name_node(0, "a")
    with pytest.raises(CrdtbucketError, match=wrong):
        table.nodes.name_node(node, name)


def test_an_epoch_whose_owner_is_not_known_is_removed_and_the_level_stays(path: str) -> None:
    level = named(path, "b", "c")
    file, table = opened(path)
    bucket = BucketCore(table, SPEC)
    assert len(bucket.columns("key")) == 3
    table.nodes.name_node(1, "")  # the name is lost
    del table, bucket
    file.close()
    _file, table = opened(path)
    bucket = BucketCore(table, SPEC)
    table.verify()
    assert owners(table) == {("c", 102)}
    assert len(bucket.columns("key")) == 2
    assert bucket.peek("key").remaining == level
    assert table.epochs.origin(2, 101)  # the peer that sends it names its owner


@pytest.mark.parametrize("names", [(), ("b",)])
def test_a_node_that_begins_again_and_again_finds_room_for_its_epoch(
    path: str, names: tuple[str, ...]
) -> None:
    named(path, *names)
    for life in range(520):
        file, table = opened(path)
        bucket = BucketCore(table, SPEC)
        assert bucket.take(f"often {life % 50}")
        if not life % 100:
            table.verify()
        table.sharing.unclaim()
        del bucket, table
        file.close()
    _file, table = opened(path)
    table.verify()
    assert len(table.epochs.origins()) <= (450 if names else 2)
    assert owners(table) == {(name, 101 + i) for i, name in enumerate(names)}
