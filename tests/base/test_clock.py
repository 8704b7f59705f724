"""The system's clock goes forward; the virtual one goes only where it is sent."""

from __future__ import annotations

import time

import pytest

from crdtbucket.base.clock import VirtualClock, boot_id, now_ns
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


def test_virtual_clock_moves_only_when_told() -> None:
    clock = VirtualClock(5)
    assert (clock(), clock(), clock.now_ns) == (5, 5, 5)
    assert clock.advance(0.1) == 100_000_005
    assert clock.advance_ns(1) == clock() == 100_000_006
    clock.set_ns(200_000_000)
    assert clock() == 200_000_000


def test_virtual_clock_refuses_to_go_back() -> None:
    clock = VirtualClock(10)
    with pytest.raises(ValueError, match="back by 1 ns"):
        clock.set_ns(9)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1.0)
    with pytest.raises(ValueError, match="starts at 0"):
        VirtualClock(-1)
    assert clock() == 10


def test_mode_is_its_text() -> None:
    assert [str(mode) for mode in Mode] == ["strong", "eventual", "fallback"]
    assert Mode("strong") is Mode.STRONG
    assert f"{Mode.EVENTUAL}" == Mode.EVENTUAL == "eventual"


def test_a_boot_has_one_name() -> None:
    assert boot_id() == boot_id() != b""
