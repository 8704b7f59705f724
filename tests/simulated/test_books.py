"""What the books of a run count as lost, and when a column may shrink."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.books import Books
from tests.simulated.drawing import draw
from tests.simulated.network import Network
from tests.simulated.plan import Event
from tests.simulated.view import Broken, View

PLACE = ("main", "key")
SHRUNK = pytest.raises(Broken, match=r"^columns: ")
EVICTED = 120.0
"""A key that was full is evicted after so long without a link, in seconds."""


def lost(*, linked: bool, apart: float, silent: bool = True) -> float:
    """The lost part of 10 tokens that A alone has taken, when they have been there for so long."""
    pause = Event(0.0, "pause", ("B", EVICTED, 0.0))
    plan = replace(draw(0), nodes=("A", "B"), linked=(("A", "B"),), loss=(0.0, 0.0, 0.0))
    mesh = Network("AB", [BucketSpec("main", 100, 1)], linked=["AB"] if linked else [], seed=1)
    events = (pause,) if silent else ()
    plan = replace(plan, main=mesh.specs[0], clocks=((0.0, 0.0), (0.0, 0.0)), events=events)
    books = Books(plan, mesh, View(plan, mesh))
    if silent:
        books.happens("pause", pause.args)
    assert mesh["A"].take(*PLACE, 10)
    books.book(mesh["A"], PLACE, 10, 0)
    mesh.advance(2.0)
    nodes = [mesh["A"], mesh["B"]]
    books.lost(nodes, PLACE)
    mesh.advance(apart - 2.0)
    return books.lost(nodes, PLACE)


@pytest.mark.parametrize(("apart", "forgotten"), [(3.0, 0.0), (EVICTED, 10.0)])
def test_what_one_process_alone_has_counted_is_lost_with_its_key(
    apart: float, forgotten: float
) -> None:
    assert lost(linked=False, apart=apart) == forgotten


def test_what_others_have_counted_is_not_lost() -> None:
    assert lost(linked=True, apart=EVICTED) == 0


def test_what_nobody_could_miss_is_not_lost() -> None:
    """Nothing was silent: a key of which the others do not know is not evicted."""
    assert lost(linked=False, apart=EVICTED, silent=False) == 0


@pytest.mark.parametrize(
    ("cut", "ends", "interval", "apart", "found"),
    [
        (True, True, 1.0, 11.0, nullcontext()),
        (True, True, 1.0, 9.0, SHRUNK),
        (True, True, 2.0, 15.0, SHRUNK),
        (True, False, 1.0, 11.0, SHRUNK),
        (False, True, 1.0, 11.0, SHRUNK),
    ],
)
def test_only_a_withdrawn_tombstone_explains_that_a_column_shrinks(
    cut: bool, ends: bool, interval: float, apart: float, found: AbstractContextManager[object]
) -> None:
    """B has counted 10 tokens of A, and at the next look only 5: a node that was cut off may have
    brought these, once A had ended and the others had pruned its columns."""
    plan = replace(draw(0), gossip_interval=interval)
    mesh = Network("ABC", [BucketSpec("main", 100, 1, "1h")], linked=["AB", "BC"], seed=1)
    books = Books(plan, mesh, View(plan, mesh))
    assert mesh["A"].take(*PLACE, 10)
    books.book(mesh["A"], PLACE, 10, 0)
    mesh.advance(2.0)
    if cut:
        mesh.cut_ways([("B", "C"), ("C", "B")], times_out=False)
    books.happens("cut", ())
    books.look(mesh["B"], PLACE, admitted=False)
    if ends:
        mesh.die("A", ends=True)
    mesh.advance(apart)
    shown = dict.fromkeys(books.columns(mesh["B"], PLACE), (1, 5, 0))
    with pytest.MonkeyPatch.context() as patch, found:
        patch.setattr(Books, "columns", lambda *_: shown)
        books.look(mesh["B"], PLACE, admitted=False)
