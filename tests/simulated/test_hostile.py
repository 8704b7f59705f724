"""Each act of a hostile member stays within the bounds; and a missing bound is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.mesh.protocol.own_epoch import OwnEpoch
from crdtbucket.mesh.protocol.own_name import OwnName
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.pruning import Pruner
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.bounded import Bounded
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.lies import ACTS
from tests.simulated.plan import Event, Phase, Plan
from tests.simulated.run import Run, play, run
from tests.simulated.view import Broken


def plan_of(kind: str, times: int = 20, seconds: float = 4.0) -> Plan:
    """Three honest nodes, and a fourth member that does this again and again."""
    lies = [Event(0.5 + 3 * i / times, "lie", (kind, i)) for i in range(times)]
    return replace(draw(1, plain=tuple(DIMENSIONS)), events=tuple(lies), seconds=seconds)


@pytest.mark.parametrize("kind", ACTS)
def test_the_bounds_hold_whatever_is_stated(kind: str) -> None:
    oracle = run(plan_of(kind)).oracle
    assert isinstance(oracle, Bounded)
    assert oracle.strict


def test_the_guaranteed_share_is_that_of_calls_that_come_in_small_bursts() -> None:
    """It saves up a twentieth of the capacity: of the calls of 0.4 s, one passes at a time."""
    plan = replace(
        draw(1, plain=tuple(DIMENSIONS)),
        nodes=("n0", "n1"),
        linked=(("n0", "n1"),),
        clocks=((0.0, 0.0),) * 2,
        phases=(Phase(0.0, 0.5, (0.5, 0.5)),),
        main=BucketSpec("main", 1_000_000, 1_000_000),
        cost=30_000,
        events=(Event(15.0, "lie", ("generations", 3930474554)),),
        seconds=60.0,
    )
    run(plan)


def test_refunds_that_an_honest_peer_does_not_know_yet_lower_nothing() -> None:
    """It was asked for more than is charged, and all of that is given back: with what an older
    frame of an honest peer says of the takes, that looked like the agreement of two."""
    plan = replace(
        draw(1, plain=tuple(DIMENSIONS)),
        phases=(Phase(0.0, 20.0, (0.0, 1.0, 0.0)),),
        storm=(1, 10.0),
        cost=5,
        events=(
            Event(1.021, "lie", ("takes", 78924815)),
            Event(1.042, "lie", ("refunds", 3958590271)),
        ),
        seconds=2.0,
    )
    run(plan)


def test_of_two_honest_nodes_neither_stops_for_a_silent_member_that_claims_its_name() -> None:
    """Of the two members that each knew one was linked, and that was not most of them."""
    play(776656)


@pytest.mark.slow
def test_who_has_ended_and_may_only_be_cut_off_is_charged_what_relays_state_of_it() -> None:
    """Of the members that it had invented most were missing, so nobody could take it for dead. It
    had stated other counts to each node, and these passed them on, as far as it may take them."""
    plain = {*DIMENSIONS} - {"size", "gossip", "bucket", "hostile"}
    plan = draw(1351383, plain, {*range(20)} - {2, 4, 18})
    assert [event.args[0] for event in plan.events] == ["ages", "members", "late"]
    run(plan)


@pytest.mark.slow
def test_what_relays_state_of_the_dead_is_charged_until_their_epochs_have_tombstones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each node had other counts of them. Without tombstones the bucket never fills again."""
    play(1795814)
    plain = {*DIMENSIONS} - {"lied", "bad"}
    plan = draw(1795814, plain, {*range(16)} - {2, 3, 4, 6, 7, 8, 10})
    run(plan)
    monkeypatch.setattr(Pruner, "step", lambda *args, **options: None)
    with pytest.raises(Broken, match="recovered"):
        run(plan)


def test_what_a_node_counts_that_was_not_met_yet_may_be_stated_by_others() -> None:
    """Its first frame is under way for two seconds, and after one it counts as silent."""
    plan = draw(1181821)
    for seconds, strict in ((2.0, False), (0.5, True)):
        oracle = run(replace(plan, slow=((("n0", "n1"), seconds),))).oracle
        assert isinstance(oracle, Bounded)
        assert oracle.strict == strict


def test_a_hostile_member_is_believed_within_its_bounds() -> None:
    """What it says of itself counts, so its acts do come."""
    played = Run(plan_of("takes", times=1))
    played.mesh.advance(2.0)
    played.do_lie("takes", 0)
    seen = [node.columns("main", "key")["bad"][0] for node in played.mesh.nodes.values()]
    assert min(seen) > 0


def _with_tombstones(
    pruner: Pruner, link: PeerState, epochs: tuple[int, ...], running: set[int], now: int
) -> None:
    """Believes tombstones even of running epochs."""
    pruner._add_tombstones([*epochs], now)


BROKEN = {
    "epoch": ("running epoch", OwnEpoch, "believed", lambda *_: True),
    "name": ("name", OwnName, "established", lambda *_: False),
    "columns": ("tombstones", Pruner, "advertised", _with_tombstones),
}
"""By rule: what the member sends, and the bound that is removed."""


@pytest.mark.parametrize("rule", BROKEN)
def test_a_bound_that_is_gone_is_found(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, owner, name, instead = BROKEN[rule]
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(Broken, match=f"^{rule}: "):
        run(plan_of(kind))


def test_a_level_that_lies_raise_is_found() -> None:
    """The nodes take twice what one bucket gives, as if they believed that nothing is owed."""
    played = Run(plan_of("debts"))
    played.mesh.advance(1.0)
    node = played.mesh["n0"]
    with pytest.raises(Broken, match=r"alone|admitted"):
        played.oracle.took(node, ("main", "key"), 300, 1, 300)
