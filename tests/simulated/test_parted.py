"""What arrives unexpectedly at the end of a partition, as the oracle reckons it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from crdtbucket.mesh.protocol.unlinked import UnlinkedMembers
from tests.simulated.drawing import draw
from tests.simulated.network import Network
from tests.simulated.parted import Parted
from tests.simulated.run import play, run
from tests.simulated.view import Broken, View

SECOND = 10**9
LEARNS = 8.0
SEEN_BY_RELAYS = 1767005
"""Two ends of a chain, whose middle ends soon, are linked by a newcomer."""


def unexpected(before: int, tokens: list[int], nodes: str = "AB") -> int:
    """Unexpected at the end: B takes 10 a second for so many seconds, and then these, once a
    second, while it is cut off. `nodes`: the chain that A and B are in."""
    plan = draw(0)
    mesh = Network(nodes, [plan.main], linked=list(map("".join, pairwise(nodes))), seed=1)
    parted, second = Parted(View(plan, mesh), LEARNS), 0
    for second in range(before):
        assert parted.took("B", 10, second * SECOND) == 0
    ways = [way for peer in mesh.peers("B") for way in ((peer, "B"), ("B", peer))]
    mesh.cut_ways(ways, times_out=False)
    parted.happens(second * SECOND)
    for number in tokens:
        second += 1
        assert parted.took("B", number, second * SECOND) == 0
    mesh.mend(ways, resets=False)
    parted.happens(second * SECOND)
    return parted.took("A", 0, second * SECOND)


def test_what_goes_on_as_before_is_expected() -> None:
    assert unexpected(10, [10] * 20) <= 20


def test_a_rate_that_rises_brings_what_is_above_the_old_one() -> None:
    assert 300 <= unexpected(10, [10] * 10 + [40] * 10) <= 320


def test_what_falls_brings_nothing() -> None:
    assert unexpected(10, [0] * 20) == 0


def test_a_rate_of_the_first_calls_is_not_known() -> None:
    assert unexpected(1, [10] * 20) == 200


def test_a_member_that_only_relays_show_is_not_predicted_at_first() -> None:
    assert unexpected(5, [10] * 20, "ACB") == 200
    assert unexpected(10, [10] * 20, "ACB") <= 20
    play(SEEN_BY_RELAYS)


def test_later_a_node_that_does_not_predict_such_a_member_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = draw(SEEN_BY_RELAYS)
    stall, die, flow, come = plan.events
    short = stall._replace(at=LEARNS, args=(3.0, 3.0, stall.args[2]))
    # The one that comes does so when the others know of the death.
    later = (short, die, flow._replace(at=LEARNS + 6.0), come._replace(at=30.0))
    plan = replace(plan, events=later, seconds=42.0)
    run(plan)
    monkeypatch.setattr(UnlinkedMembers, "seen", lambda *args: None)
    with pytest.raises(Broken, match="denied: n2"):
        run(plan)


def test_what_was_taken_while_a_node_stood_still_may_come_at_once_where_tables_are_too_small() -> (
    None
):
    plan = draw(0)
    parted = Parted(View(plan, Network("AB", [plan.main], linked=["AB"], seed=1)), LEARNS)
    assert parted.took("A", 10, SECOND) == 0
    parted.stands_still(3 * SECOND)
    assert [parted.took(name, 10, 2 * SECOND) for name in "ABA"] == [0, 0, 0]
    assert [parted.took("B", 10, 3 * SECOND) for _ in range(2)] == [30, 0]
