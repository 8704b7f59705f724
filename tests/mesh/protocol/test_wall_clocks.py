"""The wall-clock time, by the clocks of all nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.mesh.protocol.wall_clocks import TOLERATED_NS, wall_moved

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
