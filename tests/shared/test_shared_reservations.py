"""A reservation and a decision belong to their process, even if a child shares the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter, ReservationError
from tests.forks import in_child

KEY = "tenant-42"
SPECS = [BucketSpec("llm", 1_000, 1, "1h"), BucketSpec("web", 100, 1, "1h")]


def left(limiter: Limiter) -> tuple[int, int]:
    llm, web = (limiter.bucket(one.name).peek(KEY).remaining for one in SPECS)
    return llm, web


@pytest.mark.parametrize("shared", [True, False])
def test_a_child_gives_nothing_back_and_charges_nothing(tmp_path: Path, shared: bool) -> None:
    with Limiter(SPECS, shared=tmp_path / "table" if shared else None) as limiter:
        llm = limiter.bucket("llm")
        llm.take(KEY, 500)  # without it a full bucket would hide what comes back twice
        one = llm.reserve(KEY, 200)
        late = llm.reserve(KEY, 100, ttl=1e-9)
        with one, late, limiter.reserve_all([("llm", KEY, 50), ("web", KEY, 30)]) as both:
            llm.reservations.expire()
            assert (left(limiter), llm.reservations.held) == ((250, 70), 2)
            told = in_child(
                lambda: one.__exit__(None, None, None),
                lambda: both.__exit__(None, None, None),
                lambda: late.commit(10),
                lambda: one.commit(10),
                lambda: both.commit(10, 10),
                lambda: (llm.reservations.expire(), llm.reservations.held, left(limiter)),
                lambda: llm.reserve(KEY, 250).__enter__().commit(0),
            )
            refused = f"{ReservationError.__name__}: entered before this process was forked"
            assert [answer[: len(refused)] for answer in told] == [
                *("None", "None"),
                *(refused, refused, refused),
                *("(None, 0, (250, 70))", "None"),
            ]
            assert left(limiter) == (250, 70)
            one.commit(20)
        assert left(limiter) == (480, 100)


@pytest.mark.parametrize("shared", [True, False])
def test_a_refund_in_a_child_gives_nothing_back(tmp_path: Path, shared: bool) -> None:
    with Limiter(SPECS, shared=tmp_path / "table" if shared else None) as limiter:
        llm = limiter.bucket("llm")
        llm.take(KEY, 500)  # without it a full bucket would hide what comes back twice
        one = llm.take(KEY, 200)
        both = limiter.take_all([("llm", KEY, 50), ("web", KEY, 30)])
        told = in_child(
            lambda: llm.refund(one, 150),
            lambda: llm.refund(one),
            lambda: limiter.refund_all(both),
            lambda: left(limiter),
            lambda: llm.refund(llm.take(KEY, 250)),
        )
        assert told == ["0", "0", "0", "(250, 70)", "250"]
        assert left(limiter) == (250, 70)
        assert llm.refund(one, 150) + llm.refund(one) + limiter.refund_all(both) == 280
        assert left(limiter) == (500, 100)
