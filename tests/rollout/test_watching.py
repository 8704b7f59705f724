"""A watched file: in whatever way its content changes, it is read once, and never in part."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtbucket import ConfigError, Limiter
from crdtbucket.config import source
from crdtbucket.errors import Problem
from crdtbucket.rollout.watching import FileWatch, content_of
from tests.waits import eventually, until

pytestmark = pytest.mark.usefixtures("nobody_handles_hangups")

BUCKET = "services:\n  api:\n    bucket: {capacity: %d, refill_rate: 1, refill_interval: 1d}\n"


class Taker:
    """The configurations that a watch handed on, each as the file was then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken: list[str] = []
        self.error: Exception | None = None
        self.watch = FileWatch(path, self.take, period=0.01)

    def take(self) -> None:
        self.taken.append(self.path.read_text() if self.path.exists() else "none")
        if self.error is not None:
            raise self.error

    def look(self, times: int = 3) -> None:
        for _ in range(times):
            self.watch.look()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "limits.yaml"
    file.write_text("one")
    return file


# ---- looks ----


def test_what_does_not_change_is_not_taken(path: Path) -> None:
    taker = Taker(path)
    taker.look()
    path.write_text("one")
    os.utime(path, (1, 1))
    taker.look()
    assert taker.taken == []


def test_a_new_content_is_taken_once_two_looks_have_seen_it(path: Path) -> None:
    taker = Taker(path)
    path.write_text("tw")
    taker.look(1)
    path.write_text("two")
    taker.look(1)
    assert taker.taken == []
    taker.look(3)
    assert taker.taken == ["two"]
    path.write_text("one")
    taker.look()
    assert taker.taken == ["two", "one"]


@pytest.mark.parametrize(("error", "taken"), [(errno.EMFILE, []), (errno.EACCES, ["one"])])
def test_a_file_that_cannot_be_opened_for_want_of_descriptors_has_not_changed(
    error: int, taken: list[str], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that may not be read is refused, which the log says; it does once it can be read."""
    taker = Taker(path)

    def refuse(_: Path) -> bytes:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patched:
        patched.setattr(source, "beginning_of", refuse)
        taker.look()
    assert taker.taken == taken
    taker.look()
    assert taker.taken == 2 * taken


def test_a_file_that_is_replaced(path: Path) -> None:
    taker = Taker(path)
    for text in ("two", "three"):
        fresh = path.with_name("fresh")
        fresh.write_text(text)
        fresh.replace(path)
        taker.look()
    assert taker.taken == ["two", "three"]


def test_a_mounted_directory_that_is_swapped(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap so: the file is a link through `..data`, which is replaced."""
    for number in range(4):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "limits.yaml").write_text(f"version {number}")
    data, link = tmp_path / "..data", tmp_path / "limits.yaml"
    data.symlink_to("..0")
    link.symlink_to("..data/limits.yaml")
    taker = Taker(link)
    for number in range(1, 4):
        fresh = tmp_path / "..data_tmp"
        fresh.symlink_to(f"..{number}")
        fresh.replace(data)
        taker.look()
    assert taker.taken == ["version 1", "version 2", "version 3"]


def test_a_file_that_is_gone_for_a_moment_is_no_change(path: Path) -> None:
    taker = Taker(path)
    path.unlink()
    taker.look(1)
    path.write_text("one")
    taker.look()
    assert taker.taken == []
    path.unlink()
    taker.look()
    assert taker.taken == ["none"]


def test_what_is_refused_is_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    taker = Taker(path)
    taker.error = ConfigError([Problem("is bad", "fix it", "a"), Problem("is worse", "", "b")])
    with caplog.at_level(logging.ERROR, "crdtbucket"):
        path.write_text("bad")
        taker.look(5)
        assert len(caplog.records) == 1
        message = caplog.records[0].getMessage()
        assert message.startswith(
            f"{path} is refused; the configuration in force stays: 2 problems"
        )
        assert "a: is bad (fix it)" in message
        assert "b: is worse" in message
        taker.error = ZeroDivisionError("a planted bug")
        path.write_text("other")
        taker.look(5)
    assert len(caplog.records) == 2
    assert "planted" in (caplog.records[1].exc_text or "")
    taker.error = None
    path.write_text("good")
    taker.look()
    assert taker.taken == ["bad", "other", "good"]


# ---- its thread, and the signal ----


@pytest.fixture
def running(path: Path) -> Iterator[Taker]:
    taker = Taker(path)
    taker.watch.start()
    yield taker
    taker.watch.stop()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    taker.watch.stop()


def test_it_looks_by_itself(running: Taker) -> None:
    running.path.write_text("two")
    until(lambda: running.taken == ["two"])


def test_a_hangup_takes_it_at_once_even_unchanged(running: Taker) -> None:
    for count in range(1, 4):
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: len(running.taken) == count)  # noqa: B023
    assert running.taken == ["one"] * 3


def test_a_signal_that_the_program_handles_is_left_to_it(path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: seen.append(number))
    taker = Taker(path)
    try:
        taker.watch.start()
        os.kill(os.getpid(), signal.SIGHUP)
        taker.watch.stop()
        assert seen == [signal.SIGHUP]
        assert taker.taken == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_no_signal_is_handled(path: Path) -> None:
    taker = Taker(path)

    def life() -> None:
        taker.watch.start()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        taker.watch.now()
        until(lambda: taker.taken == ["one"])
        taker.watch.stop()

    thread = threading.Thread(target=life)
    thread.start()
    thread.join(60)
    assert taker.taken == ["one"]


# ---- a limiter that watches ----


def write(path: Path, text: str) -> None:
    path.write_text(text)


async def test_a_limiter_follows_its_file_until_it_is_closed(path: Path) -> None:
    write(path, BUCKET % 10)
    limiter = Limiter.from_file(path, watch=True)
    async with limiter:
        bucket = limiter.bucket("api")
        bucket.take("k", 10)
        write(path, BUCKET % 15)
        await eventually(lambda: bucket.spec.capacity == 15)
        assert bucket.peek("k").remaining == 5
        write(path, "services: {api: {bucket: {capacity: none}}}")
        refused = lambda: limiter.stats()["config"]["refused"] == 1  # noqa: E731
        await eventually(refused)
        assert bucket.spec.capacity == 15
        write(path, BUCKET % 20)
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: bucket.spec.capacity == 20)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    assert not [t for t in threading.enumerate() if "watch" in t.name]


def test_a_limiter_in_threads_does_too(path: Path) -> None:
    path.write_text(BUCKET % 10)
    with Limiter.from_file(path, watch=True) as limiter:
        path.write_text(BUCKET % 15)
        until(lambda: limiter.bucket("api").spec.capacity == 15)
    assert not [t for t in threading.enumerate() if "watch" in t.name]


def test_without_being_asked_nothing_is_watched(path: Path) -> None:
    path.write_text(BUCKET % 10)
    with Limiter.from_file(path):
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        assert not [t for t in threading.enumerate() if "watch" in t.name]


def test_a_pipe_is_neither_watched_nor_read_for_a_look() -> None:
    """A pipe can be read once: to look at it would leave nothing for its reader."""
    reader, writer = os.pipe()
    os.write(writer, (BUCKET % 100).encode())
    os.close(writer)
    path = f"/dev/fd/{reader}"
    assert content_of(path) == b""
    with pytest.raises(ConfigError, match=r"is no regular file \(name a file: it is read"):
        Limiter.from_file(path)
    assert os.read(reader, 1_000) == (BUCKET % 100).encode()
    os.close(reader)
