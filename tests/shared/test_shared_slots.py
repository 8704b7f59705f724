"""Slots of a shared table: the workers of a host have one limit, and none has to release."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter, SlotDenied
from crdtbucket.limiter.slots import SlotBucket
from tests.forks import in_child

KEY = "tenant-42"
SPEC = BucketSpec.concurrency("llm", 2, ttl="1h")


def test_what_a_killed_worker_holds_counts_and_is_given_back_by_nobody(tmp_path: Path) -> None:
    with Limiter([SPEC], shared=tmp_path / "table") as limiter:
        here = limiter.bucket("llm")
        assert isinstance(here, SlotBucket)
        mine = here.slot(KEY).__enter__()
        worker = os.fork()
        if not worker:
            try:
                other = Limiter([SPEC], shared=tmp_path / "table")
                other.bucket("llm").slot(KEY).__enter__()
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGKILL
        assert (here.held(KEY), here.open_slots) == (2, 1)
        with pytest.raises(SlotDenied):
            here.slot(KEY).__enter__()
        mine.release()
        with here.slot(KEY):
            assert here.held(KEY) == 2
        assert here.held(KEY) == 1


def test_a_child_gives_back_no_slot_of_its_parent(tmp_path: Path) -> None:
    with Limiter([SPEC], shared=tmp_path / "table") as limiter:
        here = limiter.bucket("llm")
        assert isinstance(here, SlotBucket)
        mine = here.slot(KEY).__enter__()

        def hold_another() -> int:
            with here.slot(KEY):
                return here.held(KEY)

        assert in_child(mine.release, hold_another) == ["False", "2"]
        assert here.held(KEY) == 1
        assert mine.release()
        assert here.held(KEY) == 0
