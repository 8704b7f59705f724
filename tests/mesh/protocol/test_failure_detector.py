"""What the end of a connection proves, rule by rule; see tests/simulated/test_deaths.py for whole
meshes."""

from __future__ import annotations

from crdtbucket.mesh.protocol.ended_connection import RECENT_NS, EndedConnection
from crdtbucket.mesh.protocol.failure_detector import Places, is_majority
from crdtbucket.mesh.protocol.member_directory import may_see

SECOND = 10**9
PERIOD = 10 * SECOND


def test_calls_must_be_refused_for_the_whole_time() -> None:
    ending = EndedConnection(0)
    assert not ending.refused_for(PERIOD, PERIOD)  # nobody has called
    ending.dialed(SECOND, refused=True)
    assert not ending.refused_for(PERIOD, PERIOD - 1)
    assert ending.refused_for(PERIOD, PERIOD)


def test_a_call_that_nobody_answers_starts_the_time_anew() -> None:
    ending = EndedConnection(0)
    ending.dialed(SECOND, refused=True)
    ending.dialed(4 * SECOND, refused=False)
    ending.dialed(5 * SECOND, refused=True)
    assert not ending.refused_for(PERIOD, 14 * SECOND - 1)
    ending.dialed(13 * SECOND, refused=True)
    assert ending.refused_for(PERIOD, 14 * SECOND)


def test_the_last_refusal_must_be_recent() -> None:
    ending = EndedConnection(0)
    ending.dialed(SECOND, refused=True)
    assert ending.refused_for(PERIOD, SECOND + RECENT_NS)
    assert not ending.refused_for(PERIOD, SECOND + RECENT_NS + 1)


def test_a_place_is_empty_until_somebody_takes_it_or_its_time_is_over() -> None:
    places = Places(100)
    places.taken("a")
    assert set(places.empty(0)) == set()
    for name, now in (("a", 0), ("b", 10), ("c", 20)):
        places.left_empty(name, now)
    assert set(places.empty(20)) == {"a", "b", "c"}
    places.taken("b")
    assert set(places.empty(20)) == {"a", "c"}
    places.taken("d")
    assert set(places.empty(120)) == {"c"}
    assert set(places.empty(121)) == set()


def test_more_than_half_must_be_heard_or_one_alone_be_missing() -> None:
    decided = {(heard, missing) for heard in (1, 2, 3) for missing in (1, 2, 3)
               if is_majority(heard, missing)}  # fmt: skip
    assert decided == {(1, 1), (2, 1), (3, 1), (3, 2)}


def test_who_has_told_nothing_may_hear_anybody() -> None:
    assert may_see(None, (), "a")
    assert may_see({"a", "b"}, ("b",), "a")
    assert not may_see({"a", "b"}, ("b",), "b")
    assert not may_see({"a"}, (), "c")
