"""The system's clock goes forward."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crdtbucket.base.clock import NS_PER_SECOND, boot_id, clock_offset_ns, now_ns
from crdtbucket.spec.mode import Mode


def test_now_never_goes_back() -> None:
    readings = [now_ns() for _ in range(1_000)]
    assert readings == sorted(readings)
    assert readings[-1] > readings[0]


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the kernel has no such clock")
def test_now_is_the_clock_that_counts_sleep() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    now = now_ns()
    assert before <= now <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_mode_is_its_text() -> None:
    assert [str(mode) for mode in Mode] == ["strong", "eventual", "fallback"]
    assert Mode("strong") is Mode.STRONG
    assert f"{Mode.EVENTUAL}" == Mode.EVENTUAL == "eventual"


def test_a_boot_has_one_name() -> None:
    assert boot_id() == boot_id() != b""


def proc(folder: Path, ahead: int) -> str:
    """A /proc of a process whose clock a namespace has moved by so many seconds."""
    for name, text in (
        ("sys/kernel/random/boot_id", "5c794f8d\n"),
        ("self/timens_offsets", f"monotonic           7         0\nboottime  {ahead}  5\n"),
        ("self/ns/time", ""),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "self/ns/time_for_children").unlink(missing_ok=True)
    (folder / "self/ns/time_for_children").hardlink_to(folder / "self/ns/time")
    return str(folder)


def test_clocks_that_differ_have_different_names_even_in_a_namespace_with_the_number_of_another(
    tmp_path: Path,
) -> None:
    """The kernel gives the number of a namespace that has ended to the next one."""
    names = [boot_id(proc(tmp_path, ahead)) for ahead in (0, 3600, -3600, 0)]
    assert len(set(names)) == 3
    assert names[0] == names[3] == b"5c794f8d 5"
    assert clock_offset_ns(proc(tmp_path, -3600)) == -3600 * NS_PER_SECOND + 5


def test_a_clock_of_which_the_system_does_not_tell_has_no_name(tmp_path: Path) -> None:
    folder = proc(tmp_path, 1)
    (tmp_path / "self/ns/time_for_children").unlink()
    (tmp_path / "self/ns/time_for_children").write_text("what is written of is another one")
    assert boot_id(folder) == b""
    assert clock_offset_ns(folder) is None
    (tmp_path / "self/timens_offsets").unlink()
    assert boot_id(proc(tmp_path, 1)) != b""
    (tmp_path / "self/timens_offsets").unlink()
    assert boot_id(folder) == b""
