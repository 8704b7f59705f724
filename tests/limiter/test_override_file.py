"""The file with the limits of keys: processes follow each other, and a crash costs one record."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from crdtbucket.errors import MeshError
from crdtbucket.limiter import override_file as module
from crdtbucket.limiter.override_file import OverrideFile
from crdtbucket.mesh.links.override_book import OverrideBook
from crdtbucket.mesh.links.override_orders import OverrideOrder


def order(key: str, counter: int = 1) -> OverrideOrder:
    return OverrideOrder("api", key, counter, "5/s", b"", b"")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "a.overrides")


def keys(file: OverrideFile, *new: OverrideOrder, **more: Any) -> list[str]:
    book = OverrideBook()
    book.recall(new, send=False)
    found = file.exchange(new, book, **more)
    return [one.key for one in found]


def test_processes_follow_what_the_others_append(path: str) -> None:
    one, two = OverrideFile(path), OverrideFile(path)
    assert not one.changed
    assert keys(one, order("a"), order("b"), durable=True) == []
    assert not one.changed
    assert two.changed
    assert keys(two, order("c")) == ["a", "b"]
    assert keys(one) == ["c"]
    assert keys(one) == keys(two) == []
    assert keys(OverrideFile(path)) == ["a", "b", "c"]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_long_file_is_read_a_part_at_a_time(path: str) -> None:
    for n in range(5):
        keys(OverrideFile(path), order(f"k{n}"))
    late = OverrideFile(path)
    assert keys(late, most=1) == ["k0"]
    assert keys(late, order("own"), most=1) == ["k1"]
    assert keys(late) == ["k2", "k3", "k4", "own"]


@pytest.mark.parametrize("left", [1, 19, 21, 30])
def test_a_record_that_a_crash_cut_off_is_dropped(
    path: str, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    one = OverrideFile(path)
    keys(one, order("a"))
    whole = os.path.getsize(path)
    keys(one, order("b"))
    os.truncate(path, whole + left)
    assert keys(OverrideFile(path), order("c")) == ["a"]
    assert "cut off by a crash" in caplog.text
    assert keys(OverrideFile(path)) == ["a", "c"]


def test_a_damaged_file_is_refused_and_says_what_to_do(path: str) -> None:
    keys(OverrideFile(path), order("a"), order("b"))
    keys(OverrideFile(path), order("c"))
    data = bytearray(Path(path).read_bytes())
    data[30] ^= 1
    Path(path).write_bytes(data)
    with pytest.raises(MeshError, match=r"a\.overrides is damaged .*: put back a copy"):
        keys(OverrideFile(path))
    os.chmod(path, 0o666)
    with pytest.raises(MeshError, match="chmod 600"):
        keys(OverrideFile(path))


def test_a_damaged_length_is_no_record_that_was_cut_off(path: str) -> None:
    for key in "abc":
        keys(OverrideFile(path), order(key))
    data = bytearray(Path(path).read_bytes())
    data[0] ^= 1  # the first record ends far beyond the file, so it says
    Path(path).write_bytes(data)
    with pytest.raises(MeshError, match=r"a\.overrides is damaged .*: put back a copy"):
        keys(OverrideFile(path))
    assert Path(path).read_bytes() == data  # nobody has cut off the others


def test_a_file_that_was_removed_is_written_again_with_all_that_holds(path: str) -> None:
    one, two = OverrideFile(path), OverrideFile(path)
    book = OverrideBook()
    book.recall([order("a"), order("b")], send=False)
    one.exchange([order("a")], book)
    one.exchange([order("b")], book)
    assert keys(two) == ["a", "b"]
    os.remove(path)
    assert one.changed
    assert one.exchange((), book) == []
    assert not one.changed
    assert keys(two) == ["a", "b"]
    os.remove(path)
    book.recall([order("c")], send=False)
    one.exchange((), book)  # a longer file, perhaps under the same inode
    assert keys(two, order("d")) == ["a", "b", "c"]
    assert [found.key for found in one.exchange((), book)] == ["d"]


def test_a_file_that_a_new_process_made_in_the_place_of_a_removed_one_gets_all_that_holds(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, book = OverrideFile(path), OverrideBook()
    book.recall([order("a"), order("b"), order("c")], send=False)
    one.exchange(book.every(), book)
    os.remove(path)
    keys(OverrideFile(path), order("d"))
    write = module._write

    def full(_fd: int, _data: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(MeshError):
        one.exchange((), book)
    monkeypatch.setattr(module, "_write", write)
    assert [found.key for found in one.exchange((), book)] == ["d"]
    size = os.path.getsize(path)
    assert keys(OverrideFile(path)) == ["d", "a", "b", "c"]
    assert one.exchange((), book) == []
    assert os.path.getsize(path) == size


def test_a_file_of_replaced_orders_is_written_anew_and_all_follow(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARE_ORDERS", 10)
    one, two = OverrideFile(path), OverrideFile(path)
    for counter in range(1, 14):
        keys(one, order("a", counter))
    keys(two)
    assert os.path.getsize(path) < 500  # 12 were replaced by one
    keys(one, order("b"))
    assert keys(two, order("c")) == ["b"]
    assert keys(one) == ["c"]
    assert keys(OverrideFile(path)) == ["a", "b", "c"]


def test_what_is_not_read_yet_is_not_lost_when_others_are_replaced(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, other = OverrideFile(path), OverrideFile(path)
    for counter in range(1, 13):
        keys(late, order("a", counter))
    keys(other, order("b"))
    keys(other, order("c"))
    monkeypatch.setattr(module, "SPARE_ORDERS", 10)
    assert keys(late, *(order("a", counter) for counter in range(13, 16)), most=1) == ["b"]
    assert keys(late, order("d")) == ["c", "a", "a", "a"]


def test_a_full_disk_leaves_the_file_as_it_was(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = OverrideFile(path)
    keys(one, order("a"))
    write = module._write

    def full(fd: int, data: bytes) -> NoReturn:
        write(fd, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(MeshError, match="No space left on device: give this process"):
        keys(one, order("b"))
    monkeypatch.setattr(module, "_write", write)
    assert keys(one, order("c")) == []
    assert keys(OverrideFile(path)) == ["a", "c"]


def test_a_full_disk_loses_nothing_that_others_have_appended(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = OverrideFile(path)
    keys(one)
    keys(OverrideFile(path), order("a"))

    def full(_fd: int, _data: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(module, "_write", full)
        with pytest.raises(MeshError, match="No space left on device"):
            keys(one, order("b"))
    assert keys(one, order("b")) == ["a"]


def test_without_room_for_two_files_the_long_one_stays(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SPARE_ORDERS", 10)

    def full(_from: str, _to: str) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    one = OverrideFile(path)
    with monkeypatch.context() as disk:
        disk.setattr(os, "replace", full)
        for counter in range(1, 15):
            keys(one, order("a", counter))
    assert "a.overrides is not written anew: No space left on device" in caplog.text
    assert os.listdir(os.path.dirname(path)) == ["a.overrides"]
    assert keys(OverrideFile(path)) == ["a"] * 14
    keys(one, order("a", 15))
    assert keys(OverrideFile(path)) == ["a"]


def test_a_path_that_cannot_be_reached_is_looked_at_and_says_why(path: str) -> None:
    one = OverrideFile(path)
    keys(one, order("a"))
    folder = os.path.dirname(path)
    os.rename(folder, folder + "2")
    Path(folder).touch()
    assert one.changed
    with pytest.raises(MeshError, match=r"a\.overrides cannot be used"):
        keys(one)
