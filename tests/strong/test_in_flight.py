"""Calls of one node over several connections: they run and are booked in any order, and the books
stay exact."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from crdtbucket._core import BucketReplica
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.redis.script import ScriptAnswer, ScriptStatus
from crdtbucket.strong.store_request import StoreRequest
from tests.strong.backends import TimedModel
from tests.strong.books import KEY, Books, Node

WIDE = BucketSpec("b", 1_000_000, 100)


class Lines:
    """One node with a connection for its loop and one for each of some threads."""

    def __init__(self, threads: int, *, count: bool = True) -> None:
        self.books = Books(TimedModel(), WIDE, count=1)
        self.node: Node = self.books.nodes[0]
        if count:
            self.node.ledger.in_flight.count_by_key()
        self.open: dict[int, tuple[StoreRequest, ScriptAnswer | None]] = {}
        """By line, 0 is the loop's: the call under way, and its answer once the store ran it."""
        self.threads = threads
        self.adrift: list[StoreRequest] = []

    def begin(self, line: int, cost: int) -> None:
        if line in self.open:
            return
        node = self.node
        if not cost:
            ask = node.ledger.settle(node.bucket, node.place, node.fence) if line == 0 else None
        else:
            opened = node.ledger.open(node.bucket, KEY, cost, node.fence, threaded=line > 0)
            assert isinstance(opened, StoreRequest)
            ask = opened
        if ask is not None:
            self.open[line] = ask, None

    def run(self, line: int) -> None:
        if line in self.open and self.open[line][1] is None:
            ask = self.open[line][0]
            answer = self.books.store.run(ask.rules.arguments, ask.call)
            if answer.status is ScriptStatus.FENCED:
                ask.call.fence = self.node.fence
                return
            self.open[line] = ask, answer

    def book(self, line: int) -> None:
        ask, answer = self.open.get(line, (None, None))
        if ask is None or answer is None:
            return
        del self.open[line]
        result = self.node.ledger.book(ask, answer, self.node.fence)
        if isinstance(result, StoreRequest):
            self.open[line] = result, None
        else:
            self.node.got(result)

    def lose(self, line: int) -> None:
        """The line's connection ends; a call that did not run yet may do so later."""
        if line not in self.open:
            return
        ask, answer = self.open.pop(line)
        self.node.got(self.node.ledger.give_up(ask, Mode.FALLBACK))
        self.node.ledger.connection_ended(ask)
        self.node.fence += 1
        if answer is None:
            self.adrift.append(ask)

    def land(self, _: int) -> None:
        if self.adrift:
            ask = self.adrift.pop()
            self.books.store.run(ask.rules.arguments, ask.call)

    def finish(self) -> None:
        for line in list(self.open):
            while line in self.open:
                self.run(line)
                self.book(line)
        self.books.settle_all()


_line = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("begin"), _line, st.integers(0, 5)),
    st.tuples(st.just("begin"), _line, st.integers(1, 5)),
    st.tuples(st.just("run"), _line),
    st.tuples(st.just("book"), _line),
    st.tuples(st.just("book"), _line),
)
lossy = st.one_of(
    steps, steps, steps, st.tuples(st.just("lose"), _line), st.tuples(st.just("land"), _line)
)


def play(ops: list[Any]) -> Lines:
    lines = Lines(3)
    for name, *values in ops:
        getattr(lines, name)(*values)
    return lines


@given(st.lists(steps, min_size=10, max_size=60))
def test_no_order_of_answers_looks_unclaimed(ops: list[Any]) -> None:
    lines = play(ops)
    event("some under way" if lines.open else "none under way")
    lines.finish()
    assert lines.node.ledger.counters["unclaimed_charges"] == 0
    own = BucketReplica(lines.node.bucket).own(*lines.node.place)
    assert own is None or own[1:] == (lines.node.consumed, 0)
    lines.books.check()
    assert lines.node.ledger.unsettled.pending == {}


@given(st.lists(lossy, min_size=10, max_size=60))
def test_lost_calls_of_any_line_are_settled_exactly(ops: list[Any]) -> None:
    lines = play(ops)
    lines.finish()
    while lines.adrift:
        lines.land(0)
    for _ in range(2):
        lines.books.settle_all()
    lines.books.check()
    assert lines.node.ledger.unsettled.pending == {}
    assert lines.node.table.open_tokens == 0


@given(st.lists(lossy, min_size=10, max_size=60))
def test_nothing_is_settled_while_the_store_may_differ(ops: list[Any]) -> None:
    """Once all is quiet, what is not on the list of what is owed is exact without another call."""
    lines = play(ops)
    for line in list(lines.open):
        while line in lines.open:
            lines.run(line)
            lines.book(line)
    lines.adrift.clear()  # they never run
    if not lines.node.ledger.unsettled.pending:
        lines.books.check()


def test_calls_that_began_before_any_thread_are_waited_for() -> None:
    lines = Lines(1, count=False)
    in_flight = lines.node.ledger.in_flight
    lines.begin(0, 3)
    in_flight.count_by_key()
    assert in_flight.unseen == 1
    lines.run(0)
    lines.book(0)
    assert in_flight.unseen == 0


def test_an_answer_beside_others_settles_nothing() -> None:
    """The lost call of 2 tokens is missing in the store, where another's 2 are not booked yet."""
    lines = Lines(3)
    lines.begin(1, 2)
    lines.begin(2, 3)
    lines.begin(3, 2)
    lines.lose(1)
    for line in (3, 2):
        lines.run(line)
    for line in (2, 3):
        lines.book(line)
    assert lines.node.ledger.unsettled.pending != {}
    lines.finish()
    lines.books.check()
