"""A peer that is silent for good: the credit for it denies no call."""

from __future__ import annotations

from functools import partial
from itertools import combinations, pairwise

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import NAMES, SECOND, TRACE, debts, drive, levels, mesh_of, total
from tests.simulated.network import Network

SPEC = BucketSpec("b", 500, 100)


def denied(result: dict[str, tuple[int, int, float]]) -> int:
    return sum(refused for _, refused, _ in result.values())


def test_a_joiner_beside_a_dead_peer_denies_nothing() -> None:
    """It keeps no credit for the dead one, states the debt that all have, and spends nobody's."""
    mesh = mesh_of(5, SPEC, down=["E"])
    drive(mesh, dict.fromkeys("ABCD", 15.0), 20.0)
    mesh.crash("A")
    mesh.restart("E")
    assert denied(drive(mesh, dict.fromkeys("BCDE", 15.0), 90.0)) == 0


@pytest.mark.parametrize("late", [0.0, 0.7])
@pytest.mark.parametrize("gossip", [0.1, 1.0])
def test_a_late_sender_beside_a_node_that_is_cut_off_denies_nothing(
    late: float, gossip: float
) -> None:
    """D is cut off; E has started anew, keeps no credit for it, and is itself silent now and then:
    what is kept for D must not be spent by E's return."""
    mesh = mesh_of(5, SPEC, gossip_interval=gossip)
    demand = dict.fromkeys("ABCE", 12.0)
    drive(mesh, {**demand, "D": 12.0}, 20.0)
    cut = [way for name in "ABCE" for way in ((name, "D"), ("D", name))]
    mesh.drop_frames(*cut)
    result = denied(drive(mesh, demand, 30.0))
    mesh.restart("E")
    for _ in range(10):
        result += denied(drive(mesh, demand, 5.0))
        if late:
            mesh.drop_frames(*(("E", n) for n in "ABC"))
            result += denied(drive(mesh, demand, late))
            mesh.heal()
            mesh.drop_frames(*cut)
    assert result == 0


@pytest.mark.parametrize(("capacity", "load", "gossip"), [(50, 0.5, 1.0), (20, 0.6, 0.3)])
def test_a_bucket_that_holds_less_than_silent_peers_ask_for_in_three_rounds(
    capacity: int, load: float, gossip: float
) -> None:
    """Rounds are slow, so the near horizon is longer than an empty bucket takes to fill: what the
    others took before that has been refilled."""
    mesh = mesh_of(5, BucketSpec("b", capacity, 100), gossip_interval=gossip)
    parts = {"A": 10.0, "B": 20.0, "C": 30.0, "D": 20.0, "E": 20.0}
    demand = {name: load * part for name, part in parts.items()}
    drive(mesh, demand, 30.0)
    mesh.partition({"A", "B"}, {"C", "D", "E"})
    assert denied(drive(mesh, demand, 60.0)) == 0


@pytest.mark.parametrize("times_out", [False, True])
@pytest.mark.parametrize("seconds", [30.0, 90.0])
@pytest.mark.parametrize(("size", "gossip"), [(2, 0.1), (4, 0.1), (4, 1.0)])
def test_a_light_load_is_not_denied_after_a_partition(
    size: int, gossip: float, seconds: float, times_out: bool
) -> None:
    """The takes of each side are sent before they are no longer predicted, even if the key is full,
    and even if the silence is longer than the log of versions is kept. Links end meanwhile, or
    stay."""
    names, half = NAMES[:size], size // 2
    spec, linked = BucketSpec("b", 10, 10), list(combinations(names, 2))
    mesh = Network(names, [spec], linked=linked, latency=0.02, seed=1, gossip_interval=gossip)
    demand = dict.fromkeys(names, 2.5 / size)
    drive(mesh, demand, 20.0)
    ways = [w for one in names[:half] for two in names[half:] for w in ((one, two), (two, one))]
    mesh.cut_ways(ways, times_out=times_out)
    assert denied(drive(mesh, demand, seconds)) == 0
    mesh.mend(ways, resets=False)
    assert denied(drive(mesh, demand, 15.0)) == 0


def test_a_joiner_under_a_light_load_keeps_credit_for_who_falls_silent_after_it_began() -> None:
    """It owes as much as peers that keep credit for an earlier one, but what they owe includes the
    credit that it keeps as well."""
    mesh, demand = mesh_of(3, TRACE), dict.fromkeys("ABCD", 12.0)
    drive(mesh, dict.fromkeys("ABC", 12.0), 2.0)
    mesh.partition("AB", "C")
    drive(mesh, dict.fromkeys("ABC", 12.0), 3.0)
    mesh.join("D")
    mesh.partition("ABD", "C")
    mesh.advance(2.5)
    drive(mesh, demand, 3.0)
    mesh.partition("AD", "B", "C")
    result = drive(mesh, demand, 15.0)
    assert [denied for _, denied, _ in result.values()] == [0, 0, 0, 0]


def test_a_joiner_that_asks_for_all_leaves_their_part_to_the_silent_and_to_the_polite() -> None:
    """It keeps nothing for a peer that was silent before it began, but those who do say what they
    owe with that, and it owes as much."""
    mesh, polite = mesh_of(3, BucketSpec("b", 100, 50)), {"A": 5.0, "B": 5.0}
    drive(mesh, {**polite, "C": 30.0}, 10.0)
    mesh.partition("AB", "C")
    drive(mesh, polite, 60.0)
    mesh.join("D")
    mesh.partition("ABD", "C")
    mesh.advance(2.0)
    taken = total(drive(mesh, {**polite, "D": 500.0}, 10.0))
    result = drive(mesh, {**polite, "D": 500.0}, 10.0)
    # Of claims of 140 a second, C has 30. At first comes what the bucket holds, and until rates are
    # known there is no share.
    assert taken <= 100 + 10 * 50
    assert total(result) <= 1.05 * 10 * 50 * 110 / 140
    for name in polite:
        allowed, _, starved = result[name]
        assert allowed >= 0.8 * 10 * 5 * 50 / 140
        assert starved <= 2.0


def test_a_ring_with_a_silent_peer_refills_in_time() -> None:
    """What nodes keep for it that know it all the same lifts nobody's debt."""
    names = NAMES[:5]
    linked = [*pairwise(names), (names[-1], names[0])]
    mesh = Network(names, [BucketSpec("b", 100, 50)], linked=linked, latency=0.15, seed=1)
    drive(mesh, dict.fromkeys(names, 2.0), 10.0)
    mesh.cut_ways([w for x in "BD" for w in ((x, "C"), ("C", x))], times_out=False)
    few = dict.fromkeys("ABDE", 2.0)
    drive(mesh, few, 20.0)
    while mesh["A"].take("b", "k").allowed:
        pass
    drive(mesh, few, 4.0)  # 200 tokens, and 40 calls at most
    assert min(mesh[name].peek("b", "k").remaining for name in few) >= 80


def test_a_newcomer_takes_no_more_than_a_bucket_of_its_own_where_nobody_else_asks() -> None:
    """Its demand makes the silent one's share smaller: from then on, also where the key is not
    asked for, and nobody's rate is made."""
    mesh = Network("AB", [BucketSpec("b", 10, 33)], linked=[("A", "B")], latency=0.02, seed=1)
    drive(mesh, {"A": 66.0}, 3.0)
    mesh.die("A", ends=False)
    mesh.advance(2.4)
    mesh.come("D", ("B",), 0.0, 0.0)
    taken = 0
    for k in range(1, 25):
        taken += total(drive(mesh, {"D": 66.0}, 0.1))
        assert taken <= 10 + 33 * 0.1 * k + 2


def apart(spec: BucketSpec, load: float, how: str) -> Network:
    """Two nodes that do not see each other, and a third that saw both and is killed."""
    linked = [("A", "B"), ("A", "C"), ("B", "C")]
    mesh = Network("ABC", [spec], linked=linked, latency=0.02, gossip_interval=0.1, seed=1)
    drive(mesh, dict.fromkeys("ABC", load), 10.0)
    cut = mesh.reset_pairs if how == "resets" else partial(mesh.cut_ways, times_out=False)
    cut([("B", "C"), ("C", "B")])
    mesh.die("A", ends=True)
    return mesh


@pytest.mark.parametrize("how", ["cut", "resets"])
@pytest.mark.parametrize(("rate", "apart_for", "quiet"), [(100, 60.0, 0.0), (10, 600.0, 3.0)])
def test_a_node_that_begins_anew_between_two_that_do_not_see_each_other_denies_nobody(
    rate: int, apart_for: float, quiet: float, how: str
) -> None:
    """It lacks what both took meanwhile, which has refilled. Of full keys it has to send these
    takes to each of them, whose credit for the other ends with its rounds."""
    mesh, load = apart(BucketSpec("b", 1000, rate), rate / 6, how), rate / 6
    drive(mesh, dict.fromkeys("BC", load), apart_for)
    mesh.back("A", None)
    mesh.advance(quiet)
    assert denied(drive(mesh, dict.fromkeys("ABC", load), 10.0)) == 0
    assert min(levels(mesh).values()) >= 900


def test_what_two_took_beyond_their_credit_counts_when_one_that_begins_anew_relays_it() -> None:
    mesh = apart(BucketSpec("b", 1000, 40), 40 / 6, "cut")
    drive(mesh, dict.fromkeys("BC", 40.0), 150.0)  # three quarters of the limit each
    mesh.back("A", None)
    assert total(drive(mesh, dict.fromkeys("ABC", 40.0), 20.0)) <= 20 * 40 + 0.05 * 1000


@pytest.mark.parametrize("newcomer", [40.0, 200.0])
def test_a_joiner_beside_a_silent_peer_leaves_the_others_their_share(newcomer: float) -> None:
    mesh = mesh_of(3, BucketSpec("b", 100, 50))
    demand = {"A": 40.0, "B": 40.0}
    drive(mesh, {**demand, "C": 40.0}, 5.0)
    mesh.partition("AB", "C")
    drive(mesh, demand, 12.0)
    mesh.join("D")
    mesh.partition("ABD", "C")
    claims = 120.0 + min(newcomer, 100.0)
    for seconds in (10.0, 30.0):
        result = drive(mesh, {**demand, "D": newcomer}, seconds)
        for name in "AB":
            allowed, _, starved = result[name]
            assert allowed >= 0.7 * 50 * seconds * 40.0 / claims
            assert starved < 2.0
    rest = 1 - 40.0 / claims  # what is left to the silent one
    assert total(result) <= 1.05 * 50 * seconds * rest


def test_a_joiner_has_no_more_debt_when_the_others_give_the_silent_one_up() -> None:
    mesh = mesh_of(3, BucketSpec("b", 100, 50), forget_after=30.0)
    drive(mesh, dict.fromkeys("ABC", 40.0), 5.0)
    mesh.partition("AB", "C")
    drive(mesh, dict.fromkeys("AB", 40.0), 12.0)
    mesh.join("D")
    mesh.partition("ABD", "C")
    drive(mesh, dict.fromkeys("ABD", 40.0), 30.0)
    result = drive(mesh, dict.fromkeys("ABD", 40.0), 20.0)
    assert total(result) >= 0.98 * 50 * 20.0
    assert min(allowed for allowed, _, _ in result.values()) >= 0.8 * 50 * 20.0 / 3


def test_a_light_load_beside_a_silent_peer_is_denied_to_no_newcomer() -> None:
    mesh = mesh_of(3, SPEC)
    drive(mesh, dict.fromkeys("ABC", 20.0), 5.0)
    mesh.partition("AB", "C")
    drive(mesh, dict.fromkeys("AB", 20.0), 30.0)
    mesh.join("D")
    mesh.partition("ABD", "C")
    assert denied(drive(mesh, dict.fromkeys("ABD", 20.0), 60.0)) == 0


@pytest.mark.parametrize("size", [2, 4])
def test_calls_that_move_to_the_other_side_of_a_partition_deny_nothing_at_its_end(
    size: int,
) -> None:
    """As when a region fails over to one that was not asked before: nobody knows a rate at which it
    takes. All would be denied for as long as an empty bucket takes to fill."""
    spec, names = BucketSpec("b", 1000, 100), NAMES[:size]
    mesh = Network(names, [spec], linked=combinations(names, 2), latency=0.02, seed=1)
    one, other = names[: size // 2], names[size // 2 :]

    def demand(there: float) -> dict[str, float]:
        each = {**dict.fromkeys(one, 1 - there), **dict.fromkeys(other, there)}
        return {name: 100 * part / size for name, part in each.items()}

    drive(mesh, demand(0.0), 30.0)
    mesh.cut_ways([way for a in one for b in other for way in ((a, b), (b, a))], times_out=False)
    drive(mesh, demand(0.0), 5.0)
    drive(mesh, demand(0.8), 60.0)
    mesh.mend_all()
    assert denied(drive(mesh, demand(0.8), 8.0)) <= 1


@pytest.mark.parametrize(("size", "seconds"), [(2, 60.0), (2, 200.0), (4, 60.0)])
def test_calls_that_move_to_a_side_that_was_asked_for_less_deny_nothing_at_the_end(
    size: int, seconds: float
) -> None:
    """Each side keeps credit for the other by what that was asked for before: one too little, the
    other too much, and what it keeps hides what it owes by itself."""
    spec, names = BucketSpec("b", 200, 20), NAMES[:size]
    mesh = Network(names, [spec], linked=combinations(names, 2), latency=0.02, seed=1)
    one, other = names[: size // 2], names[size // 2 :]

    def demand(there: float) -> dict[str, float]:
        each = {**dict.fromkeys(one, 1 - there), **dict.fromkeys(other, there)}
        return {name: 0.8 * 20 * 2 * part / size for name, part in each.items()}

    drive(mesh, demand(0.2), 20.0)
    mesh.cut_ways([way for a in one for b in other for way in ((a, b), (b, a))], times_out=False)
    drive(mesh, demand(0.2), 5.0)
    drive(mesh, demand(0.8), seconds)
    mesh.mend_all()
    assert denied(drive(mesh, demand(0.8), 8.0)) <= 1


@pytest.mark.parametrize("size", [3, 5])
def test_who_were_all_cut_off_from_each_other_are_denied_nothing_at_the_end(size: int) -> None:
    """Each sees the others one after the other, when more was asked for than it keeps for them."""
    mesh, names = mesh_of(size), NAMES[:size]
    drive(mesh, dict.fromkeys(names, 80 / size), 10.0)
    mesh.partition(*names)
    drive(mesh, dict.fromkeys(names, 90 / size), 20.0)
    mesh.heal()
    assert denied(drive(mesh, dict.fromkeys(names, 90 / size), 10.0)) == 0


@pytest.mark.parametrize("seconds", [20.0, 100.0])
@pytest.mark.parametrize("size", [2, 4])
def test_a_burst_at_the_end_of_a_partition_is_charged_where_a_light_load_was_known(
    size: int, seconds: float
) -> None:
    """It is made behind the credit for the other side, so that who makes it advertises no debt."""
    spec, names = BucketSpec("b", 200, 20), NAMES[:size]
    mesh = Network(names, [spec], linked=combinations(names, 2), latency=0.02, seed=1)
    light, one, other = dict.fromkeys(names, 8.0 / size), names[: size // 2], names[size // 2 :]
    drive(mesh, light, 30.0)
    mesh.cut_ways([way for a in one for b in other for way in ((a, b), (b, a))], times_out=False)
    drive(mesh, light, seconds)
    assert mesh["A"].take_burst("b", "k", 200) >= 190
    mesh.mend_all()
    mesh.advance(2.0)
    assert max(levels(mesh).values()) <= 60  # 10 were left, and 40 are refilled


@pytest.mark.parametrize(
    ("spec", "gossip", "every"),
    [
        (BucketSpec("b", 100, 100), 1.0, 0.5),
        (BucketSpec("b", 100, 33), 3.0, 1.0),
        (BucketSpec("b", 60, 100), 0.1, 0.5),
    ],
)
def test_bursts_get_their_part_from_a_bucket_that_fills_before_a_peer_counts_as_silent(
    spec: BucketSpec, gossip: float, every: float
) -> None:
    """What a silent peer takes in the near horizon is held back. Of a bucket that fills within that
    time, most has been refilled; with all of it held back each side gets three quarters of its
    part."""
    mesh = Network(
        "AB", [spec], linked=[("A", "B")], latency=0.02, jitter=0.0, seed=3, gossip_interval=gossip
    )
    asked = round(spec.rate_per_second * every)

    def bursts(seconds: float) -> dict[str, int]:
        got = dict.fromkeys("AB", 0)
        for _ in range(round(seconds / every)):
            for name in got:
                got[name] += mesh[name].take_burst("b", "k", asked, 1)
            mesh.advance(every)
        return got

    bursts(20.0)
    mesh.cut_ways([("A", "B"), ("B", "A")], times_out=False)
    bursts(10.0)
    part = spec.rate_per_second * 30.0 / 2
    got = bursts(30.0)
    assert all(0.9 * part <= one <= 1.1 * part for one in got.values()), (got, part)


@pytest.mark.parametrize("load", [0.6, 0.95])
@pytest.mark.parametrize("met", [True, False])
def test_who_meets_after_a_long_time_owes_nothing_that_was_refilled(met: bool, load: float) -> None:
    """Two nodes that have run apart for so long that neither remembers the other, or that have
    never met: what each has taken in all its life was refilled long ago."""
    mesh = Network("AB", [BucketSpec("b", 100, 10)], linked=(), forget_after=30.0, seed=1)
    demand = dict.fromkeys("AB", 5.0 * load)
    if met:
        mesh.link("A", "B")
        drive(mesh, demand, 10.0)
        mesh.cut_ways([("A", "B"), ("B", "A")], times_out=True)
    drive(mesh, demand, 200.0)
    if met:
        mesh.mend_all()
    else:
        mesh.link("A", "B")
    assert denied(drive(mesh, demand, 20.0)) == 0
    mesh.advance(1.0)
    assert min(mesh[name].peek("b", "k").remaining for name in "AB") >= 80


def test_what_two_took_beyond_the_refill_before_they_met_is_owed() -> None:
    mesh = Network("AB", [BucketSpec("b", 100, 10)], linked=(), seed=1)
    drive(mesh, dict.fromkeys("AB", 9.0), 30.0)
    mesh.link("A", "B")
    mesh.advance(2.0)
    assert max(mesh[name].peek("b", "k").remaining for name in "AB") <= 0


def test_bursts_of_two_before_they_met_are_owed_with_one_refill() -> None:
    """A single call has no rate that would explain what it took; that it is owed does."""
    mesh = Network("AB", [BucketSpec("b", 1000, 17)], linked=(), latency=0.02, seed=1)
    for name in "AB":
        assert mesh[name].take("b", "k", 1000)
        mesh.advance(6.0)
    mesh.link("A", "B")
    mesh.advance(3.0)
    for name in "AB":
        assert mesh[name].peek("b", "k").debt >= (2000 - 17 * 15) * 10**9 // 17


@pytest.mark.parametrize("apart_for", [30.0, 120.0])
@pytest.mark.parametrize("gossip", [1.0, 5.0])
def test_who_never_knew_a_silent_peer_does_not_get_what_a_hub_keeps_for_it(
    gossip: float, apart_for: float
) -> None:
    """The bucket was full whenever the hub sent it, so the leaf B has not seen that C asks for it.
    Otherwise all that B takes counts as taken by C, from the room that is kept for it, and B gets
    far more than the limit."""
    mesh = Network(
        "ABC", [BucketSpec("b", 100, 10)], linked=["AB", "AC"], latency=0.02, gossip_interval=gossip
    )
    drive(mesh, {"C": 5.0}, 60.0)
    mesh.cut_ways([("A", "C"), ("C", "A")], times_out=False)
    mesh.advance(apart_for)
    assert total(drive(mesh, {"B": 100.0}, 60.0)) <= 100 + 60 * 10 + 1


def test_clocks_that_run_apart_make_no_newcomer_of_who_has_begun_with_the_others() -> None:
    """C is cut off before the first round. By the age that the slow clock of B shows at the end, B
    seems to have begun after A was last seen, and without what C keeps for A."""
    names, drift = NAMES[:3], {"B": -500.0, "C": 200.0}
    linked, spec = list(combinations(names, 2)), BucketSpec("b", 400, 1)
    mesh = Network(
        names, [spec], linked=linked, latency=0.02, gossip_interval=10.0, clock_drift_ppm=drift
    )
    mesh["A"].take("b", "other", 100)
    mesh.advance(1.0)
    ways = [way for one in "AB" for way in ((one, "C"), ("C", one))]
    mesh.cut_ways(ways, times_out=True)
    mesh.advance(200.0)
    mesh["A"].take("b", "k", 300)
    mesh["C"].take("b", "k", 100)
    mesh.advance(50.0)
    mesh.mend(ways, resets=False)
    mesh.advance(40.0)
    owed = debts(mesh).values()
    assert max(owed) - min(owed) < 0.001 * mesh.now_ns


@pytest.mark.parametrize("how", ["cut", "paused"])
@pytest.mark.parametrize("second", ["the same node", "another one", "the one that was silent"])
@pytest.mark.parametrize(
    ("size", "rate", "load", "silence"),
    [(2, 333, 0.9, 5.0), (2, 100, 0.9, 30.0), (3, 333, 0.3, 30.0), (4, 333, 0.9, 30.0)],
)
def test_a_burst_beside_a_silent_peer_is_owed_by_all_when_that_one_is_seen_again(
    size: int, rate: int, load: float, silence: float, second: str, how: str
) -> None:
    """All were asked for a light load. The burst went into the room that was kept for the silent
    peer, which took nothing. A full bucket was given out again, by the same node, too."""
    mesh = mesh_of(size, BucketSpec("b", 1_000, rate))
    *live, silent = NAMES[:size]
    light = dict.fromkeys(NAMES[:size], load * rate / size)
    drive(mesh, light, 20.0)
    if how == "cut":
        mesh.partition([silent], live)
    else:
        mesh.suspend(silent, silence + 0.3)
    drive(mesh, dict.fromkeys(live, load * rate / size), silence)
    first = mesh["A"].take_burst("b", "k", 2_000)
    assert first >= 700
    mesh.advance(0.3)
    mesh.heal()
    mesh.advance(0.4)
    other = {"the same node": "A", "another one": live[-1]}.get(second, silent)
    admitted = first + mesh[other].take_burst("b", "k", 2_000)
    assert admitted <= 1_000 + 0.7 * rate + 50


@pytest.mark.parametrize(
    ("size", "silence", "rests"),
    [(2, 70.0, 2.0), (2, 70.0, 4.0), (2, 100.0, 3.0), (3, 100.0, 4.0), (3, 150.0, 2.0)],
)
def test_a_burst_on_a_key_that_rests_is_owed_by_all_when_a_silent_peer_is_seen_again(
    size: int, silence: float, rests: float
) -> None:
    """Nobody asks for the key after the burst, so no round comes to it, and the first entry of the
    silent peer, which has taken nothing, ends the credit. Others took over what was advertised
    without the burst: some node was full, or nearly so, for up to ten seconds."""
    names, rate = NAMES[:size], 20
    mesh = mesh_of(size, BucketSpec("b", 1_000, rate))
    drive(mesh, dict.fromkeys(names, 0.6 * rate / size), 20.0)
    mesh.partition(names[:-1], names[-1:])
    drive(mesh, dict.fromkeys(names[:-1], 0.6 * rate / size), silence)
    admitted = mesh["A"].take_burst("b", "k", 2_000)
    assert admitted >= 900
    mesh.advance(rests)
    mesh.heal()
    for after in (0.4, 4.0):
        mesh.advance_to(round((20.0 + silence + rests + after) * SECOND))
        left = 1_000 - admitted + (rests + after) * rate
        assert max(levels(mesh).values()) <= left + 20


@pytest.mark.parametrize("cut", [11.25, 12.0, 12.75, 13.5])
def test_at_the_end_of_a_silence_a_node_admits_no_more_than_a_bucket_of_its_own(
    cut: float,
) -> None:
    """It took out of the room for the others until just before, and its next round is seconds
    away."""
    mesh = SimulatedMesh(["A", "B", "C"], [BucketSpec("b", 100, 100)], gossip_interval=3.0, seed=1)
    for _ in range(60):
        mesh.advance(0.5)
        for name in "ABC":
            mesh[name].take_burst("b", "k", 15)
    mesh.partition("A", "B", "C")
    mesh.advance(30.0)
    level = 100
    for i in range(100):
        if i == round(cut / 0.25):
            mesh.heal()
        mesh.advance(0.25)
        level = min(100, level + 25) - mesh["A"].take_burst("b", "k", 1, 75) * 75
        assert level >= 0


@pytest.mark.parametrize("silent", ["B", "BC"])
def test_a_burst_is_owed_as_soon_as_a_silent_peer_is_back_and_remembers_nothing(
    silent: str,
) -> None:
    """It brings no entry, and its first round ends the credit for it."""
    spec = BucketSpec("b", 100, 20)
    mesh = Network("ABC", [spec], linked=combinations("ABC", 2), latency=0.001, seed=1)
    drive(mesh, dict.fromkeys("ABC", 6.0), 20.0)
    for name in silent:
        mesh.die(name, ends=False)
    mesh.advance(9.0)
    level = 100.0
    for i in range(160):
        if i == 20:
            for name in silent:
                mesh.back(name, None)
        mesh.advance(0.05)
        level = min(100, level + 1) - mesh["A"].take_burst("b", "k", 100)
        assert level >= -1


def test_what_is_settled_in_a_silence_is_owed_when_it_ends() -> None:
    mesh = _with_room_for_one_that_is_gone(BucketSpec("b", 100, 20))
    began = mesh.now_ns
    assert mesh["A"].bucket("b").settle("k", 100) == 100
    mesh.back("B", None)
    while mesh["A"].bucket("b").credit("k"):
        mesh.advance(0.01)
    assert mesh["A"].take_burst("b", "k", 100) <= 20 * (mesh.now_ns - began) / SECOND + 1


def _with_room_for_one_that_is_gone(spec: BucketSpec) -> Network:
    """Two nodes, of which one ends without a word, until the other keeps a bucket free for it."""
    mesh = Network("AB", [spec], linked=[("A", "B")], latency=0.001, seed=1)
    rate = spec.rate_per_second
    drive(mesh, {"A": rate / 10, "B": 0.8 * rate}, 20.0)
    mesh.die("B", ends=False)
    mesh.advance(1.4 * 100 / rate)
    return mesh
