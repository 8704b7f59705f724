"""One member with the secret does anything: what it can add and deny is bounded."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from crdtbucket.base.clock import NS_PER_SECOND as SECOND
from crdtbucket.mesh.protocol import anti_entropy, wire
from crdtbucket.mesh.protocol.anti_entropy import differs
from crdtbucket.mesh.protocol.entries import Entry, write
from crdtbucket.mesh.protocol.introductions import PLACES
from crdtbucket.mesh.protocol.member_directory import DIALS
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.bad_member import BadMember, entry

C, R = 100, 20
SPEC = BucketSpec("api", C, R)


def mesh_of(size: int, spec: BucketSpec = SPEC, max_keys: int = 10_000) -> SimulatedMesh:
    mesh = SimulatedMesh("ABCDEFGH"[:size], [spec], latency=0.01, seed=3, max_keys=max_keys)
    mesh.advance(2.0)
    return mesh


def linked(mesh: SimulatedMesh, name: str = "bad", epoch: int = 2**40 + 7) -> BadMember:
    bad = BadMember(mesh, name, epoch)
    bad.link(*(one for one, node in mesh.nodes.items() if node.up))
    mesh.advance(1.0)
    return bad


def admitted(
    mesh: SimulatedMesh,
    names: str,
    seconds: float,
    evil: Callable[[int], None] = lambda step: None,
    key: str = "k",
) -> int:
    """Tokens that these nodes admit, each offering many times the limit."""
    total = 0
    for step in range(round(seconds / 0.02)):
        total += sum(mesh[name].take_burst("api", key, 8, 1) for name in names)
        evil(step)
        mesh.advance(0.02)
    return total


# ---- epochs and names ----


def test_invented_epochs_take_no_place_of_honest_nodes() -> None:
    mesh, draw = mesh_of(4), random.Random(1)
    bad = linked(mesh)
    for name in "ABCD":
        for many in (500, 300, 100, 1, 1, 1):
            invented = [(f"x{draw.randrange(8)}", draw.getrandbits(62) + 1) for _ in range(many)]
            assert bad.try_to_send(name, **tables(bad, name, invented)) == ""
    for name in "AB":  # each needs a place for its new epoch, at every node
        mesh.restart(name)
        mesh.advance(3.0)
    assert len(mesh["D"].table.epochs.origins()) < 400
    for name in "ABCD":
        others = set("ABCD") - {name}
        states = {
            one: mesh[name].node.members.status(mesh[name].node.links[one], bad.local(name))
            for one in others
        }
        assert set(states.values()) == {"alive"}
    assert mesh["C"].node.members.bounded.counts()["bad"]["epochs"] > 500
    assert admitted(mesh, "ABCD", 5.0) <= 1.02 * (C + R * 5)
    mesh["A"].take("api", "other", 10)
    mesh.advance(1.0)
    assert [mesh[name].columns("api", "other") for name in "BCD"] == [{"A": (10, 0)}] * 3


def tables(bad: BadMember, name: str, origins: list[tuple[str, int]]) -> dict[str, object]:
    version = bad.seq.get(name, 0) + 1
    announced = wire.AnnouncedTables(version, tuple(origins), bad.definitions(name))
    return {"tables": announced, "tables_version": version}


def test_who_has_not_used_up_its_part_finds_room_soon() -> None:
    """Alone, a peer may fill all places; the next one gets what is beyond its part."""
    mesh = mesh_of(1)
    first, second = BadMember(mesh, "first", 11), BadMember(mesh, "second", 13)
    first.link("A")
    first.announce("A", [("x", 1000 + i) for i in range(500)])
    assert len(mesh["A"].table.epochs.origins()) == 2 + PLACES
    second.link("A")
    for _ in range(8):
        second.announce("A", [("honest", 77), ("honest", 78)])
        mesh.advance(0.5)
    epochs = {epoch for _, _, epoch, _ in mesh["A"].table.epochs.origins()}
    assert {77, 78} <= epochs
    assert set(mesh["A"].node.members.bounded.counts()) == {"first", "second"}


def test_an_epoch_advertised_under_a_wrong_name_is_its_owners_when_it_is_linked() -> None:
    mesh = mesh_of(2)
    bad = linked(mesh)
    for name in "AB":
        bad.announce(name, [("x", 4711)])
    owner = BadMember(mesh, "owner", 4711)
    owner.link("A")
    key = mesh["A"].bucket("api").hash("k")
    owner.state("A", key, 10**9, [("owner", 4711, 1, 30, 0)])
    assert mesh["A"].columns("api", "k") == {"owner": (30, 0)}
    # B holds it under the wrong name; that A says otherwise does not make the frame of A bad.
    mesh["A"].take("api", "k", 5)
    mesh.advance(1.0)
    assert mesh["B"].columns("api", "k")["A"] == (5, 0)


def test_a_peer_that_goes_on_under_ever_new_epochs_fills_its_own_part() -> None:
    mesh = mesh_of(3)
    bad = linked(mesh)
    refused = 0
    for epoch in range(10**6, 10**6 + 600):
        refused += bad.try_to_send("A", epoch=epoch) != ""
    assert refused > 400
    assert len(mesh["A"].table.epochs.origins()) < 200
    mesh.restart("B")
    mesh.advance(3.0)
    assert mesh["A"].node.members.status(mesh["A"].node.links["B"], bad.local("A")) == "alive"


def test_a_peer_that_relays_invented_epochs_goes_on_under_a_new_one() -> None:
    """Each node announces all epochs that it knows, so the parts of honest peers fill up as well:
    what B received must not make A refuse the epoch under which B runs."""
    mesh, draw = mesh_of(4), random.Random(1)
    bad = linked(mesh)
    for name in "ABCD":
        bad.announce(name, [("x", draw.getrandbits(62) + 1) for _ in range(500)])
    for number in range(8):
        mesh["B"].take("api", f"k{number}", 10)
        mesh.advance(1.0)
        mesh["B"].table.epochs.open(number + 1)
    mesh["B"].take("api", "last", 10)
    mesh.advance(1.0)
    assert [mesh[name].columns("api", "last") for name in "ACD"] == [{"B": (10, 0)}] * 3


def test_an_observer_fills_its_own_part() -> None:
    mesh = mesh_of(3)
    node = mesh["A"]
    for batch in range(8):
        invented = tuple(("o", 1 + 500 * batch + i) for i in range(500))
        announced = wire.AnnouncedTables(1, invented, tuple(node.table.definitions.all()))
        frame = wire.Frame(
            epoch=9, to_epoch=0, seq=1, sent=0, tables=announced, payload=bytes(16) + b"\0\0\0\0"
        )
        node.node.observe(wire.encode(frame), node.local_ns(mesh.now_ns))
    assert len(node.table.epochs.origins()) <= 3 + PLACES // 2
    mesh.advance(1.5)
    assert node.node.members.bounded.counts()["an observer"]["epochs"] > 3000


# ---- the running epoch ----


def test_the_running_epoch_is_not_given_up_for_what_one_peer_says() -> None:
    mesh = mesh_of(3)
    mesh["A"].take("api", "k", 5)
    mesh.advance(1.0)
    bad, table = linked(mesh), mesh["A"].table
    key, before = mesh["A"].bucket("api").hash("k"), table.epochs.running
    for step in range(100):
        bad.state("A", key, 10**9, [("A", before, 2**31 + step, 100, 0)])
        mesh.advance(0.05)
    assert table.epochs.running == before
    assert mesh["A"].node.members.bounded.counts()["bad"]["own_epoch"] == 100


def test_two_peers_that_agree_are_believed_once_in_a_while() -> None:
    """So it is after the image of a machine was reverted."""
    mesh = mesh_of(2)  # of three peers
    mesh["A"].take("api", "k", 5)
    mesh.advance(1.0)
    table, key = mesh["A"].table, mesh["A"].bucket("api").hash("k")
    both = linked(mesh), linked(mesh, "bad too", 2**41 + 7)
    seen = {table.epochs.running}
    for step in range(100):
        for bad in both:
            bad.state("A", key, 10**9, [("A", table.epochs.running, 2**31 + step, 100, 0)])
        seen.add(table.epochs.running)
        mesh.advance(1.0)
    assert len(seen) == 3


# ---- debts ----


def stating(
    mesh: SimulatedMesh, bad: BadMember, names: str, key: tuple[int, int]
) -> Callable[[int], None]:
    """In answer to all that it sees, the bad member shows every column, and says: full."""

    def evil(step: int) -> None:
        for name in names:
            if bad.columns(key):
                bad.state(name, key, 1, bad.columns(key))

    return evil


@pytest.mark.parametrize("crashed", ["", "B"])
def test_of_two_members_each_lowers_debts_by_one_ceiling_and_two_fifths(crashed: str) -> None:
    """Nobody else can agree. Without the bound it is all that is asked for: forty times the limit,
    also for who is left of two when the other one has crashed."""
    mesh = mesh_of(1 + len(crashed))
    for name in crashed:
        mesh.crash(name)
    mesh.advance(30.0)
    bad, ceiling = linked(mesh), 2 * C
    evil = stating(mesh, bad, "A", mesh["A"].bucket("api").hash("k"))
    total = admitted(mesh, "A", 10.0, evil)
    assert total <= 1.4 * (C + R * 10) + ceiling
    assert mesh["A"].node.members.bounded.counts()["bad"]["debt"] > 10


@pytest.mark.parametrize("honest", ["AB", "ABCD"])
def test_debts_that_one_peer_states_lower_add_a_fifth_at_most(honest: str) -> None:
    """Without the bound it is a hundred times the limit."""
    mesh = mesh_of(len(honest))
    bad = linked(mesh)
    evil = stating(mesh, bad, honest, mesh["A"].bucket("api").hash("k"))
    admitted(mesh, honest, 1.0)  # the burst at the start
    mesh.advance(10.0)
    total = admitted(mesh, honest, 10.0, evil)
    assert total <= 1.2 * (C + R * 10) + C * 0.1 * len(honest)
    assert all(mesh[name].node.members.bounded.counts()["bad"]["debt"] > 10 for name in honest)
    for name in honest:
        adopted = mesh[name].node.members.bounded.adopted()
        assert adopted["bad"] > 2 * sum(adopted[one] for one in adopted.keys() - {"bad"})


@pytest.mark.parametrize("speaks", [False, True])
@pytest.mark.parametrize("cut_off", [False, True])
def test_who_is_silent_is_one_member_more(speaks: bool, cut_off: bool) -> None:
    """Of two members each believes the other: a third one that was silent on its link, or sent
    frames but no round, wiped every debt; and so did one beside a node that was cut off."""
    mesh = mesh_of(2, BucketSpec("api", 100, 1, "1h"))
    bad, key = linked(mesh), mesh["A"].bucket("api").hash("k")
    mesh["A"].take("api", "k", 90)
    mesh.advance(1.0)
    if cut_off:
        mesh.partition("A", "B")
    for _ in range(60):
        mesh.advance(0.5)
        if speaks:
            bad.send("A")
    bad.state("A", key, 1, bad.columns(key))
    assert mesh["A"].peek("api", "k").remaining <= 10 + 20 / 3


def test_whom_a_relay_alone_sees_is_no_member_that_could_answer() -> None:
    """The hub is the only peer of a leaf, whatever members it advertises: else the debts of a leaf
    would stay too high."""
    mesh = mesh_of(1, BucketSpec("api", 100, 1, "1h"))
    bad, key = linked(mesh), mesh["A"].bucket("api").hash("k")
    mesh["A"].take("api", "k", 90)
    mesh.advance(1.0)
    listed = [("bad", bad.epoch, 1, 1, 0), ("x", bad.epoch + 1, 1, 1, 0)]
    for number in (1, 2):
        bad.state("A", key, 1, listed, round=number, parts=1, ages=((bad.epoch + 1, 0),))
        mesh.advance(1.0)
    assert len(mesh["A"].table.nodes.relayed_members()) == 1
    bad.state("A", key, 1, bad.columns(key))
    assert mesh["A"].peek("api", "k").remaining >= 90


def test_invented_members_take_nothing_from_what_is_guaranteed() -> None:
    """They take all there is. What is left is half of an equal part of three, not of 43."""
    mesh = mesh_of(2, BucketSpec("api", 10, 10))
    bad, got = linked(mesh), 0
    key, absurd = mesh["A"].bucket("api").hash("k"), (0xFFFF, 0xFFFF)
    names = [f"x{i:02}" for i in range(40)]
    ages = tuple((bad.epoch + 1 + i, 0) for i in range(40))
    for step in range(120):
        rows = [(x, epoch, 1, step // 5, 0) for x, (epoch, _) in zip(names, ages, strict=True)]
        rows.insert(0, ("bad", bad.epoch, 1, 1, 0))
        for name in "AB":
            bad.state(name, key, 10**12, rows, absurd, absurd, round=step + 1, parts=1, ages=ages)
            passed = mesh[name].take_burst("api", "k", 4, 1)
            got += passed if step >= 60 else 0
        mesh.advance(0.2)
    assert len(mesh["A"].table.nodes.relayed_members()) == 40
    assert mesh["A"].node.members.bounded.counts()["bad"]["rates"] == 120
    assert got >= 0.9 * 12 * 10 / 3


def test_refunds_of_what_was_never_charged_are_worth_nothing() -> None:
    """The bad member takes far beyond the ceiling of debt, and refunds all of it, again and
    again."""
    mesh = mesh_of(4)
    bad, key, taken = linked(mesh), mesh["A"].bucket("api").hash("k"), 0
    admitted(mesh, "ABCD", 1.0)
    mesh.advance(10.0)

    def evil(step: int) -> None:
        nonlocal taken
        taken += 10**6
        for name in "ABCD":
            for refunded in (taken - 10**6, taken):
                bad.state(name, key, 10**12, [("bad", bad.epoch, 1, taken, refunded)])

    assert admitted(mesh, "ABCD", 10.0, evil) <= 1.2 * (C + R * 10) + C * 0.4


def test_a_peer_that_lacks_refunds_lowers_no_debt() -> None:
    """More was taken than is charged, and all of it was refunded, of which a part counts. An honest
    peer knows the takes alone: what it owes, less all that was refunded, says nothing."""
    mesh = mesh_of(3, BucketSpec("api", 100, 1, "1h", max_debt=100))
    bad, key = linked(mesh), mesh["A"].bucket("api").hash("k")
    hour, takes = 3600 * SECOND, ("bad", bad.epoch, 1, 10**6)
    for name, owed in (("A", 200), ("B", 150)):
        bad.state(name, key, owed * hour, [(*takes, 0)])
    bad.state("A", key, 200 * hour, [(*takes, 10**6)])
    before = mesh["A"].bucket("api").debt("k")
    assert before
    mesh["B"].bucket("api").settle("k", 1)
    mesh.advance(1.0)
    assert mesh["A"].columns("api", "k")["B"] == (1, 0)
    assert mesh["A"].bucket("api").debt("k") == pytest.approx(before, rel=1e-3)


def test_what_a_member_took_while_nobody_asked_is_given_back_up_to_one_capacity() -> None:
    """It was refilled. Without the bound all of that is given out at once."""
    mesh = mesh_of(2)
    bad, key, taken, refunded = linked(mesh), mesh["A"].bucket("api").hash("k"), 0, 0

    def evil(step: int) -> None:
        nonlocal refunded
        refunded = min(taken, refunded + 8)
        for name in "AB":
            bad.state(name, key, 10**12, [("bad", bad.epoch, 1, taken, refunded)])

    for _ in range(2):
        for _ in range(60):
            taken += R // 2
            for name in "AB":
                bad.state(name, key, 10**9, [("bad", bad.epoch, 1, taken, refunded)])
            mesh.advance(0.5)
        assert admitted(mesh, "AB", 4.0, evil) <= 1.02 * (C + R * 4) + C
        taken, refunded = taken + 1, taken + 1
        mesh.advance(5.0)


def test_what_was_never_charged_is_remembered_of_each_key() -> None:
    """Two keys of a large table shared one record, and each forgot what the other one had there:
    refunds gave back all that was asked for."""
    mesh = mesh_of(1, max_keys=70_000)
    bucket = mesh["A"].bucket("api")
    bad, _ = linked(mesh), linked(mesh, "other", 2**41)
    for number in range(2**16 + 1):
        bucket.take(f"{number}", 1)
    first, last = bucket.hash("0"), bucket.hash(f"{2**16}")
    for taken in range(10**6, 10**7, 10**6):
        bad.state("A", first, 10**12, [("bad", bad.epoch, 1, taken, taken - 10**6)])
        bad.state("A", last, 10**12, [("bad", bad.epoch, 1, taken, 0)])
        bad.state("A", first, 10**12, [("bad", bad.epoch, 1, taken, taken)])
    assert (bucket.debt("0") or 0) >= (2 * C - 0.2 * C) * SECOND / R


@pytest.mark.parametrize(("waited", "worth"), [(19, False), (21, True)])
def test_what_was_never_charged_is_held_against_refunds_for_as_long_as_a_bucket_fills(
    waited: int, worth: bool
) -> None:
    """Takes here keep the key owing all the while, at first all that it can owe."""
    mesh = mesh_of(2, BucketSpec("api", 100, 10, max_debt=100))
    bad, node = linked(mesh), mesh["A"]
    key = node.bucket("api").hash("k")
    node.bucket("api").settle("k", 200)
    bad.state("A", key, 10**12, [("bad", bad.epoch, 1, 1_000, 0)])
    for _ in range(waited):
        mesh.advance(1.0)
        bad.send("A")
        node.bucket("api").settle("k", 10)
    before = node.bucket("api").debt("k") or 0
    bad.state("A", key, 1, [("bad", bad.epoch, 1, 1_000, 100)])
    lowered = before - (node.bucket("api").debt("k") or 0)
    assert (lowered > 5 * 10**9) is worth


def test_two_peers_that_agree_lower_a_debt() -> None:
    mesh = mesh_of(1)
    mesh["A"].take("api", "k", 90)
    key, own = mesh["A"].bucket("api").hash("k"), mesh["A"].table.epochs.running
    peers = [BadMember(mesh, name, 100 + at) for at, name in enumerate(("one", "two", "three"))]
    for peer in peers:
        peer.link("A")
    mesh.advance(1.0)  # 70 are owed
    column = mesh["A"].bucket("api").columns("k")
    ((generation, taken, refunded),) = column.values()
    shown = [("A", own, generation, taken, refunded)]
    for peer, tokens, left in ((0, 10, 35), (0, 10, 35), (1, 30, 70), (0, 10, 70), (2, 10, 90)):
        peers[peer].state("A", key, tokens * 10**9 // R, shown)
        assert mesh["A"].peek("api", "k").remaining == pytest.approx(left, abs=1)


@pytest.mark.parametrize(
    ("apart", "gone", "left"), [(30, False, 60), (31, False, 15), (30, True, 15)]
)
def test_two_peers_agree_on_a_lower_debt_that_say_so_within_half_a_minute_and_are_connected(
    apart: int, gone: bool, left: int
) -> None:
    """The first alone lowers it by its part of the budget."""
    mesh = mesh_of(1, BucketSpec("api", 100, 1, "1h"))
    mesh["A"].take("api", "k", 90)
    key, own = mesh["A"].bucket("api").hash("k"), mesh["A"].table.epochs.running
    peers = [BadMember(mesh, name, 100 + at) for at, name in enumerate(("one", "two", "three"))]
    for peer in peers:
        peer.link("A")
    ((generation, taken, refunded),) = mesh["A"].bucket("api").columns("k").values()
    shown = [("A", own, generation, taken, refunded)]
    hour = 3600 * 10**9
    peers[0].state("A", key, 10 * hour, shown)
    assert mesh["A"].peek("api", "k").remaining == 15
    for _ in range(apart):
        mesh.advance(1.0)
        for peer in peers:
            peer.send("A")
    if gone:
        mesh["A"].node.disconnected("one", peers[0].local("A"))
    peers[1].state("A", key, 40 * hour, shown)
    assert mesh["A"].peek("api", "k").remaining == left


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("members", [1, 2, 3])
def test_an_observer_lowers_no_debt(members: int, peer: bool) -> None:
    """It does not agree with a peer, either: a bad member may show the members' secret as one."""
    mesh = mesh_of(members)
    mesh["A"].take("api", "k", 90)
    node, key = mesh["A"], mesh["A"].bucket("api").hash("k")
    bad = BadMember(mesh)
    ((generation, taken, refunded),) = node.bucket("api").columns("k").values()
    row = [("A", node.table.epochs.running, generation, taken, refunded)]
    if peer:
        bad.link("A")
        BadMember(mesh, "of which nothing comes", 100).link("A")
        bad.state("A", key, 1, row)
    before = mesh["A"].peek("api", "k").remaining
    assert (before > 10) is peer
    for _ in range(20):
        values = tables(bad, "A", [(name, epoch) for name, epoch, *_ in row])
        payload = write(Entry(*key, 0, 1, ((0, generation, taken, refunded),)))
        frame = wire.Frame(epoch=9, to_epoch=0, seq=1, sent=0, payload=payload, **values)  # type: ignore[arg-type]
        node.node.observe(wire.encode(frame), node.local_ns(mesh.now_ns))
    assert mesh["A"].peek("api", "k").remaining == before


def test_a_column_under_a_new_generation_rises_no_faster() -> None:
    mesh = mesh_of(3)
    bad, key = linked(mesh), mesh["A"].bucket("api").hash("k")
    bad.state("A", key, 10**8, [("bad", bad.epoch, 1, 1, 0)])
    for generation in range(2, 6):
        bad.state("A", key, 10**8, [("bad", bad.epoch, generation, 2**50, 0)])
    assert mesh["A"].node.counters["capped_columns"] == 4
    assert mesh["A"].node.members.bounded.counts()["bad"]["capped_columns"] == 4
    mesh.advance(30.0)
    bad.state("A", key, 10**12, [("bad", bad.epoch, 6, 2**50, 0)])
    bucket = mesh["A"].bucket("api")
    assert (bucket.peek("k").remaining, bucket.debt("k")) == (0, 2 * C // R * SECOND)  # the ceiling


def test_a_generation_that_no_eviction_explains_is_left_out() -> None:
    """Else the own counts of the owner, with a lower generation, would not count when it is
    back."""
    mesh = mesh_of(2)
    bad, key = linked(mesh), mesh["B"].bucket("api").hash("k")
    mesh["A"].take("api", "k", 10)
    mesh.advance(1.0)
    epoch, ((generation, *_),) = (
        mesh["A"].table.epochs.running,
        mesh["A"].bucket("api").columns("k").values(),
    )
    mesh.drop_frames(("A", "B"), ("B", "A"))
    mesh["B"].node.disconnected("A", bad.local("B"))
    for ahead in (10**8, 2**32 - 1 - generation):
        bad.state("B", key, 10**9, [("A", epoch, generation + ahead, 1, 0)])
    assert mesh["B"].columns("api", "k") == {"A": (10, 0)}
    assert mesh["B"].node.members.bounded.counts()["bad"]["generations"] == 2
    bad.state("B", key, 10**9, [("A", epoch, generation + 10**6, 20, 0)])  # an eviction or more
    assert mesh["B"].columns("api", "k") == {"A": (20, 0)}


# ---- keys that nobody asked for ----


def owing(mesh: SimulatedMesh, at: str, owner: str, keys: int) -> int:
    """How many of the keys that `owner` took from are known to owe at a node."""
    bucket = mesh[at].bucket("api")
    return sum((bucket.debt(f"{owner}{i}") or 0) > 0 for i in range(keys))


def flood(bad: BadMember, name: str, keys: range, owner: tuple[str, int]) -> None:
    """Debts of invented keys, as large as they can be, from which the owner took."""
    version = bad.seq.get(name, 0) + 1
    announced = wire.AnnouncedTables(version, (owner,), bad.definitions(name))
    payload = b"".join(
        entry(Entry(n, n * 0x9E3779B97F4A7C15 % 2**64, 0, 10**12, ((0, 1, 500, 0),))) for n in keys
    )
    bad.send(name, tables=announced, tables_version=version, payload=payload)


@pytest.mark.parametrize("owner", [("bad", 2**40 + 7), ("invented", 4711)])
def test_debts_of_invented_keys_push_out_their_own(owner: tuple[str, int]) -> None:
    """Without a part for each peer, no debt of an honest node is left."""
    mesh = mesh_of(3, BucketSpec("api", 100, 1), max_keys=200)
    bad = linked(mesh)
    for i in range(20):
        mesh["A"].take("api", f"A{i}", 50)
        mesh["B"].take("api", f"B{i}", 50)
    mesh.advance(1.0)
    for batch in range(10):
        flood(bad, "B", range(1 + 50 * batch, 51 + 50 * batch), owner)
        mesh.advance(0.02)
    for i in range(20):  # there is room for what is new, too
        mesh["C"].take("api", f"C{i}", 50)
    mesh.advance(0.3)
    assert len(mesh["B"].table) == 200
    assert [owing(mesh, "B", one, 20) for one in "ABC"] == [20, 20, 20]
    assert mesh["B"].node.members.bounded.counts()["bad"]["entries"] > 200
    before = mesh["B"].node.counters["dropped"]
    flood(bad, "B", range(1_001, 1_401), owner)  # a sample for each would stall the node
    assert mesh["B"].node.counters["dropped"] == before + 300


@pytest.mark.parametrize(("rates", "held"), [(None, range(150, 151)), ((0x3000,) * 2, range(120))])
def test_rates_of_invented_keys_push_out_full_keys_and_no_debt(
    rates: tuple[int, int] | None, held: range
) -> None:
    """In a table that is too small, where honest keys are asked for every two seconds, and the
    bad member says each second that its callers ask for its own: those pass for wanted ones."""
    mesh = mesh_of(2, max_keys=250)
    bad = linked(mesh)
    bucket = mesh["B"].bucket("api")
    for i in range(20):
        bucket.take(f"low {i}", C)
        bucket.settle(f"low {i}", C)
    for step in range(100):
        for i in range(step % 20, 150, 20):
            assert bucket.take(f"B{i}")
        for i in range(20):
            key = bucket.hash(f"invented {step * 20 % 200 + i}")
            bad.state("B", key, 10**7, [("bad", bad.epoch, 1, 1 + step, 0)], rates)
        mesh.advance(0.1)
        owed = [bucket.debt(f"low {i}") for i in range(20)]
        assert all(owed) or step >= 90  # then they have refilled
    assert mesh["B"].table.stats()["evicted_indebted"] == 0
    assert mesh["B"].table.stats()["evicted_full"] > 1_000
    assert sum(bucket.debt(f"B{i}") is not None for i in range(150)) in held


def test_one_frame_makes_room_for_some_of_its_new_keys_only() -> None:
    """Each costs a sample of the table, and the event loop waits."""
    mesh = mesh_of(1, BucketSpec("api", 100, 1, "1h"), max_keys=12_000)
    for i in range(12_000):
        mesh["A"].take("api", f"A{i}", 50)
    bad = BadMember(mesh)
    bad.link("A")
    flood(bad, "A", range(1, 3_001), ("bad", bad.epoch))
    assert mesh["A"].table.stats()["evicted_indebted"] == 2_048
    assert mesh["A"].node.counters["dropped"] == 952
    assert mesh["A"].node.members.bounded.counts()["bad"] == {
        "frames": 1
    }  # it has no more than its part
    flood(bad, "A", range(3_001, 3_101), ("bad", bad.epoch))
    assert mesh["A"].table.stats()["evicted_indebted"] == 2_148


def test_who_introduces_the_keys_of_others_first_does_not_have_them_go() -> None:
    mesh = mesh_of(3, BucketSpec("api", 100, 1), max_keys=200)
    bad = linked(mesh)
    for i in range(20):
        key = mesh["A"].bucket("api").hash(f"A{i}")
        bad.state("B", key, 10**9, [("bad", bad.epoch, 1, 1, 0)])
        mesh["A"].take("api", f"A{i}", 50)
    mesh.advance(0.3)
    for batch in range(10):
        flood(bad, "B", range(1 + 50 * batch, 51 + 50 * batch), ("bad", bad.epoch))
        mesh.advance(0.02)
    assert owing(mesh, "B", "A", 20) == 20


def test_invented_keys_do_not_use_up_the_quota_of_a_bucket() -> None:
    mesh = mesh_of(3, BucketSpec("api", 100, 1, max_keys=100))
    bad = linked(mesh)
    flood(bad, "B", range(1, 201), ("bad", bad.epoch))
    mesh.advance(0.1)
    assert len(mesh["B"].table) == 100
    taken = [bool(mesh["B"].take("api", f"B{i}", 50)) for i in range(60)]
    assert taken == [True] * 51 + [False] * 9
    assert owing(mesh, "B", "B", 51) == 51


# ---- clocks ----


@pytest.mark.parametrize("seconds", [-5000, 5000])
def test_peers_whose_clocks_jump_together_move_no_level(seconds: int) -> None:
    mesh = mesh_of(2, BucketSpec("api", 1000, 1))
    mesh["A"].take("api", "k", 300)
    mesh.advance(1.0)
    several = [linked(mesh, f"bad{number}", 2**40 + number) for number in range(3)]
    low, high = 1000, 0
    for step in range(150):
        for bad in several:
            moved = 0 if step < 40 else seconds * 10**9
            bad.send("A", sent=bad.local("A") + moved)
        mesh.advance(0.1)
        left = mesh["A"].peek("api", "k").remaining
        low, high = min(low, left), max(high, left)
    assert 700 <= low <= high <= 725
    assert mesh["A"].node.members.bounded.counts()["bad0"]["clock"] > 10


def test_a_round_trip_that_a_peer_invents_makes_no_silent_peer_count_as_seen() -> None:
    """It set the near horizon to its length, and ages below that were too large for a frame: honest
    peers refused each other's rounds."""
    mesh = mesh_of(3)
    mesh.drop_frames(("A", "B"), ("B", "A"))  # C relays, and states ages
    bad = linked(mesh)
    for _ in range(100):
        bad.send("C", echo=bad.local("C") - 5000 * 10**9)
        bad.send("A", echo=bad.local("A") - 5000 * 10**9)
        mesh.advance(1.0)
    assert all(mesh[name].table.nodes.near_ns <= 11 * 10**9 for name in "AC")


@pytest.mark.parametrize(
    "said", [[("A", 0)], [(f"x{number}", 10**6 + number) for number in range(40)]]
)
def test_a_dead_member_that_one_peer_sees_is_forgotten_in_the_end(
    said: list[tuple[str, int]],
) -> None:
    """Or one member is there beside members that no other node sees: then most members are
    missing."""
    mesh = SimulatedMesh("ABC", [SPEC], latency=0.01, seed=3, forget_after=40.0)
    mesh.advance(2.0)
    bad, epoch = linked(mesh), mesh["A"].table.epochs.running
    members = tuple((name, "", number or epoch, "") for name, number in said)
    mesh.crash("A")
    for seconds in (38, 4):
        assert not mesh["B"].node.links["A"].forgotten
        for _ in range(seconds):
            for name in "BC":
                bad.send(name, members=members, unseen=())
            mesh.advance(1.0)
    assert mesh["B"].node.links["A"].forgotten


# ---- addresses ----


def advertised(prefix: str, many: int) -> tuple[wire.Member, ...]:
    return tuple((f"{prefix}{i}", "", 10**6 + i, f"{prefix}{i}.example:80") for i in range(many))


def test_of_the_addresses_that_a_peer_invents_some_are_dialled_at_a_time() -> None:
    mesh = mesh_of(2)
    bad = linked(mesh)
    bad.send("A", members=advertised("x", 250))
    node, dialled, seen = mesh["A"].node, 0, set()
    for _ in range(10):
        at_once = [one for one in node.known_addresses() if one.startswith("x")]
        dialled, seen = max(dialled, len(at_once)), seen | {*at_once}
        mesh.advance(15.0)
    assert dialled == DIALS
    assert len(seen) > 200  # they take turns


@pytest.mark.parametrize("letter", ["n", "\u00e9", "\U0001f600"])
def test_however_long_the_names_are_that_a_peer_invents_rounds_go_on(letter: str) -> None:
    """Two hundred letters of four bytes each, and so a region and an address: after 25 frames every
    round of every node ended with an error, as no frame had room for all members."""
    mesh = mesh_of(3)
    bad, text = linked(mesh), letter * 196
    for ten in range(25):
        numbers = range(10 * ten, 10 * ten + 10)
        members = tuple((f"x{i:03}{text}", text, 10**6 + i, text) for i in numbers)
        origins = [(f"x{i:03}{text}", 10**6 + i) for i in numbers]
        for name in "ABC":
            bad.try_to_send(name, members=members)
            bad.try_to_send(name, **tables(bad, name, origins))
        mesh.advance(0.1)
    assert admitted(mesh, "ABC", 5.0) <= 1.02 * (C + R * 5)
    assert all(set("ABC") <= mesh[name].columns("api", "k").keys() for name in "ABC")


def test_members_that_a_peer_invents_push_out_its_own() -> None:
    mesh = mesh_of(2)
    bad, other = linked(mesh), linked(mesh, "other", 2**41)
    bad.send("A", members=advertised("x", 255))
    other.send("A", members=advertised("y", 40))
    known = mesh["A"].node.members.directory.known
    assert sum(name.startswith("y") for name in known) == 40
    for _ in range(3):
        bad.send("A", members=advertised("z", 255))
    assert sum(name.startswith("y") for name in known) == 40
    assert mesh["A"].node.members.bounded.counts()["bad"]["members"] > 500
    BadMember(mesh, "late", 2**42).link("A")
    assert "late" in known


# ---- frames that cost time ----


def test_a_digest_over_many_keys_is_left_to_the_narrower_digests_of_this_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peer that holds few keys sends one digest over all hashes. It learns what it lacks all
    the same."""
    monkeypatch.setattr(anti_entropy, "MOST_COMPARED", 400)
    monkeypatch.setattr(anti_entropy, "SLICE", 100)
    mesh = mesh_of(2, BucketSpec("api", 100, 1, "1h"))
    mesh["B"].take("api", "few", 5)
    mesh.advance(1.0)
    mesh.drop_frames(("A", "B"), ("B", "A"))
    for number in range(1_000):
        mesh["A"].take("api", f"k{number}", 5)
    mesh.advance(70.0)  # the log is given up, so digests alone bring what is missing
    assert anti_entropy.is_wide(mesh["A"].table, 0, 2**64 - 1)
    assert not anti_entropy.is_wide(mesh["B"].table, 0, 2**64 - 1)
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        anti_entropy,
        "differs",
        lambda table, digest: asked.append(digest) or differs(table, digest),
    )
    bad = linked(mesh)
    before = len(asked)
    bad.send("A", digest=(0, 2**64 - 1, 0, 0, 0))
    bad.send("A", payload_kind=wire.ITEMS, items=(0, 2**64 - 1), payload=bytes(32))
    assert mesh["A"].node.members.bounded.counts()["bad"] == {"digests": 2}
    assert len(asked) == before
    mesh.heal()
    mesh.advance(30.0)
    assert all(mesh["B"].peek("api", f"k{number}").remaining == 95 for number in range(1_000))


def test_a_refund_of_what_was_never_charged_frees_no_slot_of_others() -> None:
    mesh = mesh_of(2, BucketSpec.concurrency("api", 1, ttl="60s"))
    bad, good = linked(mesh), linked(mesh, "good", 101)
    key, full = mesh["A"].bucket("api").hash("k#0"), 60 * SECOND
    before = ("bad", bad.epoch, 1, 5_000, 0)
    bad.state("A", key, SECOND // 10, [before])
    mesh.advance(0.2)
    good.state("A", key, full, [before, ("good", 101, 1, 1_000, 0)])
    bad.state("A", key, 1, [("bad", bad.epoch, 1, 5_000, 1_000), ("good", 101, 1, 1_000, 0)])
    assert (mesh["A"].bucket("api").debt("k#0") or 0) > 0.7 * full  # the rest is its budget
    good.state("A", key, 1, [before, ("good", 101, 1, 1_000, 1_000)])
    assert (mesh["A"].bucket("api").debt("k#0") or 0) < full / 1_000
