"""One side of a cut gives up a member that goes on taking behind it, and adds a tombstone to its
epoch. What was taken there is charged on both sides once the cut is over, and pruned in the end."""

from __future__ import annotations

from itertools import combinations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.network import Network

QUICK = BucketSpec("quick", 10, 10)
HOUR = BucketSpec("b", 1000, 1000, "1h")
LARGE, SMALL = "ABE", "CX"
CUT_S = 70.0
"""The large side gives X up after 10 s of resets, or 20 s of silence; 30 s later it has its
tombstone."""


class Cut:
    """X takes behind a cut, and is gone or another process when that is over."""

    def __init__(self, spec: BucketSpec, how: str, *, without: tuple[str, ...] = ()) -> None:
        """`how`: "resets"; or "silent" for longer than `forget_after`, where connections stay as
        they are, or "times out"; or "one way" to the large side is silent. The pairs `without` are
        not linked."""
        names = LARGE + SMALL
        linked = [a + b for a, b in combinations(names, 2) if a + b not in without]
        options = {"latency": 0.02, "gossip_interval": 0.5, "seed": 1}
        options["forget_after"] = 900.0 if how == "resets" else 20.0
        self.mesh = Network(names, [QUICK, spec], linked=map(tuple, linked), **options)
        self.mesh.advance(2.0)
        self.mesh["X"].take("quick", "k", 5)
        self.mesh.advance(2.0)
        self.epoch = self.mesh["X"].table.epochs.running
        pairs = [(a, b) for a in LARGE for b in SMALL if a + b in linked]
        back = [(b, a) for a, b in pairs]
        if how == "resets":
            self.mesh.reset_pairs(pairs)
        else:
            ways = back if how == "one way" else pairs + back
            self.mesh.cut_ways(ways, times_out=how == "times out")
        self.mesh.advance(1.0)

    def take(self, tokens: int) -> None:
        assert self.mesh["X"].take("b", "k", tokens).allowed
        self.mesh.advance(2.0)

    def end(self, how: str) -> None:
        """X leaves, is killed, or starts again with a snapshot."""
        memory = b"".join(self.mesh["X"].node.memory.snapshot())
        if how == "leaves":
            self.mesh.leave("X")
        else:
            self.mesh.die("X", ends=True)
        self.mesh.advance(2.0)
        if how == "begins anew":
            self.mesh.back("X", memory)

    def levels(self) -> dict[str, int]:
        live = {name: node for name, node in self.mesh.nodes.items() if node.up}
        return {name: node.peek("b", "k").remaining for name, node in live.items()}

    def pruned(self) -> set[str]:
        """Nodes at which the epoch has a tombstone."""
        return {
            name
            for name, node in self.mesh.nodes.items()
            if any(one == self.epoch and gone for _, _, one, gone in node.table.epochs.origins())
        }

    def heal(self, seconds: float = 15.0) -> None:
        self.mesh.mend_all()
        self.mesh.advance(seconds)


def charged(cut: Cut) -> bool:
    """Whether every node owes what X has taken, once."""
    return all(695 <= level <= 730 for level in cut.levels().values())


@pytest.mark.parametrize("end", ["leaves", "is killed", "begins anew"])
@pytest.mark.parametrize("how", ["resets", "times out", "silent"])
def test_what_a_member_took_behind_a_cut_is_charged_whatever_became_of_it(
    how: str, end: str
) -> None:
    cut = Cut(HOUR, how)
    cut.take(300)
    cut.end(end)
    cut.mesh.advance(CUT_S)
    assert cut.pruned() == {*LARGE}
    cut.heal()
    assert charged(cut), cut.levels()
    given = 300 + cut.mesh["A"].take_burst("b", "k", 1000, 1)
    assert given <= HOUR.capacity + HOUR.rate_per_second * cut.mesh.now_ns / 1e9


def test_what_a_process_took_alone_behind_a_cut_is_charged_though_it_is_another_one() -> None:
    """Nobody else has counted it: the snapshot has."""
    cut = Cut(HOUR, "resets")
    cut.mesh.leave("C")
    cut.take(300)
    cut.mesh.advance(CUT_S)
    cut.end("begins anew")
    cut.heal()
    assert charged(cut), cut.levels()


@pytest.mark.parametrize("apart", [36.0, 40.0, 44.0, 48.0])
def test_a_tombstone_that_is_a_moment_old_when_the_cut_ends(apart: float) -> None:
    """A node that got it so late cannot know whether a peer has not got it yet or never will."""
    cut = Cut(HOUR, "resets")
    cut.take(300)
    cut.end("is killed")
    cut.mesh.advance(apart - 5.0)
    cut.heal(25.0)
    assert charged(cut), cut.levels()


def test_who_dies_just_before_the_end_of_a_cut_is_not_believed_dead_of_the_other_side() -> None:
    cut = Cut(HOUR, "resets")
    cut.take(300)
    cut.mesh.advance(CUT_S - 28.0)
    assert cut.pruned() == {*LARGE}
    cut.end("is killed")
    cut.heal(25.0)
    assert charged(cut), cut.levels()


def test_who_is_linked_with_nobody_behind_the_cut_charges_it_as_well() -> None:
    """Of the large side A alone meets C again."""
    cut = Cut(HOUR, "times out", without=("BC", "BX", "EC", "EX", "AX"))
    cut.take(300)
    cut.end("leaves")
    cut.mesh.advance(CUT_S)
    assert cut.pruned() == {*LARGE}
    cut.heal()
    assert charged(cut), cut.levels()


@pytest.mark.parametrize("beside", ["AB", "C"])
def test_a_process_that_began_in_the_cut_charges_it_as_well(beside: str) -> None:
    """On either side of it. The other side meets a newcomer that has run for a minute, or less."""
    cut = Cut(HOUR, "resets")
    cut.take(300)
    cut.end("leaves")
    cut.mesh.come("D", beside, 0.0, 0.0)
    cut.mesh.advance(CUT_S)
    cut.mesh.link("D", "E")
    cut.heal()
    assert charged(cut), cut.levels()


def test_the_last_one_that_counts_it_may_have_begun_in_the_cut() -> None:
    """C, which sent it to D, has left as well; D meets the other side."""
    cut = Cut(HOUR, "resets")
    cut.take(300)
    cut.end("leaves")
    cut.mesh.come("D", "C", 0.0, 0.0)
    cut.mesh.advance(CUT_S)
    cut.mesh.leave("C")
    cut.mesh.link("D", "A")
    cut.heal()
    assert charged(cut), cut.levels()


def test_a_tombstone_is_not_believed_of_who_gets_no_frames_from_here() -> None:
    """C sees A, B and E all the time, and they see nothing of C."""
    cut = Cut(HOUR, "one way")
    cut.take(300)
    cut.end("leaves")
    cut.mesh.advance(CUT_S)
    assert cut.pruned() == {*LARGE}
    cut.heal(25.0)
    assert charged(cut), cut.levels()


def test_the_epoch_is_pruned_once_its_takes_are_refilled() -> None:
    """All prune it together: a node that lacks columns which others have could adopt none of their
    debts."""
    cut = Cut(BucketSpec("b", 100, 100, "60s"), "resets")
    cut.mesh.advance(45.0)
    cut.take(80)
    cut.end("leaves")
    cut.mesh.advance(5.0)
    cut.heal(25.0)
    assert cut.pruned() == set()
    for _ in range(120):
        cut.mesh.advance(1.0)
        assert len(cut.pruned()) in {0, 4}
        for name in (*LARGE, "C"):
            cut.mesh[name].take("b", "k", 1)
    assert len(cut.pruned()) == 4
    assert all(len(cut.mesh[name].columns("b", "k")) == 4 for name in (*LARGE, "C"))
