"""The wall-clock time, by the clocks of all nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.mesh.protocol.wall_clocks import TOLERATED_NS, wall_moved
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

S = 1_000_000_000


@pytest.mark.parametrize(
    ("ahead", "moved"),
    [
        ([], 0),
        ([500 * S], 0),  # with two clocks it is unknown which is wrong
        ([500 * S, 501 * S], 500 * S),
        ([-500 * S, 501 * S], 0),
        ([0, 0, 10**6 * S], 0),
        ([20 * S, 30 * S, 40 * S], 20 * S),  # two are in the middle: no further than the nearer one
        ([-20 * S, -30 * S, 40 * S], 0),
        ([S, S], 0),
        ([S + 1, S + 1], S + 1),
    ],
)
def test_a_clock_moves_to_the_middle_of_all(ahead: list[int], moved: int) -> None:
    assert wall_moved(ahead) == moved


@given(st.lists(st.integers(-(10**15), 10**15), max_size=9), st.data())
def test_while_most_clocks_are_right_all_nodes_go_by_one_of_these(
    wrong: list[int], data: st.DataObject
) -> None:
    right = data.draw(st.lists(st.integers(0, S), min_size=len(wrong) + 1, max_size=len(wrong) + 5))
    clocks = right + wrong
    for n, own in enumerate(clocks):
        others = clocks[:n] + clocks[n + 1 :]
        then = own + wall_moved([one - own for one in others])
        assert min(right) - TOLERATED_NS <= then <= max(right) + TOLERATED_NS


def test_a_wrong_clock_is_not_called_right_because_a_peer_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A wrong clock of three is known; of two nobody can tell which one is wrong."""
    mesh = SimulatedMesh("ABC", [BucketSpec.calendar("api", 10)], latency=0.01)
    told: list[str] = []

    def told_since(seconds: float) -> list[str]:
        mesh.advance(seconds)
        told[:] = [one.message for one in caplog.records if "wall clock" in one.message]
        caplog.clear()
        return told

    assert told_since(15.0) == []
    mesh["A"].wall_ahead_ns += 3600 * S
    ahead = "A: the wall clock is 3600.0 s ahead of most peers'; calendar quotas go by the peers'"
    assert told_since(15.0) == [ahead]
    mesh.crash("C")
    (alone,) = told_since(60.0)
    assert "no longer compared" in alone
    assert "calendar quotas go by it" in alone
    mesh.restart("C")
    assert told_since(15.0) == [ahead]
    mesh["A"].wall_ahead_ns -= 3600 * S
    assert told_since(15.0) == ["A: the wall clock is as the peers' again"]
