"""Generated histories of calls on one key: what several processes, their network and Redis do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import MAX_SPAN_NS
from crdtbucket.strong.redis.script import MOST_TOKENS, Arguments, Column, ScriptCall, owner_name

KEY = b"crdtbucket:{b:0}"
OWNERS = [owner_name(7 * i + 1, name) for i, name in enumerate(("a", "b/1", "c:c", "dé"))]
RATES = [
    (1, "30d"),
    (1, "1s"),
    (7, "1s"),
    (3, "7s"),
    (100, "1m"),
    (10, "1s"),
    (10**7, "1s"),
    (999_999_937, "1s"),
    (10**9, "1s"),
    (2**51 - 1, "300d"),
    (999_999_999, "299d"),
]
BEYOND = 2**62

small = st.integers(0, 12)
tokens = st.one_of(small, st.integers(0, 2**52), st.sampled_from([2**52, 2**31, 2**52 - 1]))


@st.composite
def specs(draw: Any) -> BucketSpec:
    """A bucket that the script can compute, from one token to 2^52."""
    rate, interval = draw(st.sampled_from(RATES))
    q, p = BucketSpec("b", 1, rate, interval, max_debt=0).emission
    most = min(MOST_TOKENS, (MAX_SPAN_NS - 1) * p // q)
    ceiling = max(1, min(most, draw(st.one_of(st.integers(1, 20), st.integers(1, 2**52)))))
    capacity = draw(st.one_of(st.just(ceiling), st.integers(1, ceiling)))
    return BucketSpec("b", capacity, rate, interval, max_debt=ceiling - capacity)


def definitions() -> st.SearchStrategy[Arguments]:
    """Such a bucket, and for how long its records are kept."""
    retention = st.sampled_from([1, 1_500, 3_600_000])
    return st.builds(lambda spec, ms: Arguments(spec, spec.max_debt, ms), specs(), retention)


owner = st.integers(0, len(OWNERS) - 1)
op = st.one_of(
    st.tuples(st.just("call"), owner, small, tokens, st.booleans()),
    st.tuples(st.just("call"), owner, small, tokens, st.booleans()),
    st.tuples(st.just("share"), owner, st.integers(0, 16), st.integers(0, 16), st.booleans()),
    st.tuples(st.just("spend"), owner, tokens),
    st.tuples(st.just("give"), owner, tokens),
    st.tuples(st.just("generation"), owner),
    st.tuples(st.just("fence"), owner),
    st.tuples(st.just("late"), owner, tokens),
    st.tuples(st.just("again"), st.integers(0, 7)),
    st.tuples(st.just("time"), st.one_of(st.integers(0, 3_000_000), st.integers(0, 2**42))),
    st.tuples(st.just("time"), st.integers(-4_000_000_000, 0)),
    st.tuples(st.just("define"), st.integers(0, 1)),
    st.tuples(st.just("define"), st.integers(0, 1)),
    st.tuples(st.just("crowd"), owner, st.integers(58, 70), tokens),
    st.tuples(st.just("flush")),
    st.tuples(st.just("forget"), owner),
)


@dataclass
class Process:
    """What one process has counted."""

    owner: bytes
    generation: int = 1
    taken: int = 0
    refunded: int = 0
    fence: int = 1

    @property
    def column(self) -> Column:
        return Column(self.owner, self.generation, self.taken, self.refunded)

    def call(
        self, key: bytes, cost: int, debt_ns: int, others: Sequence[Column] | None
    ) -> ScriptCall:
        """What it asks Redis for, with its counts as they are now."""
        known = None if others is None else tuple(others)
        column = self.generation, self.taken, self.refunded
        return ScriptCall(key, cost, self.owner, self.fence, *column, debt_ns, known)


@dataclass
class History:
    """Turns operations into calls; `ask` carries one out and tells taken and refunded."""

    definitions: list[Arguments]
    ask: Callable[[Arguments, ScriptCall], tuple[int, int]]
    move: Callable[[int], None]
    flush: Callable[[], None]
    forget: Callable[[bytes], None]
    processes: list[Process] = field(default_factory=lambda: [Process(one) for one in OWNERS])
    made: list[tuple[Arguments, ScriptCall]] = field(default_factory=list)

    def run(self, ops: list[Any]) -> None:
        now = self.definitions[0]
        for name, *values in ops:
            if name == "define":
                now = self.definitions[values[0]]
            elif name == "time":
                self.move(values[0])
            elif name == "flush":
                self.flush()
            elif name == "forget":
                self.forget(OWNERS[values[0]])
            elif name == "again":
                if values[0] < len(self.made):
                    self.ask(*self.made[-1 - values[0]])
            else:
                self.process(now, name, self.processes[values[0]], values[1:])

    def process(self, now: Arguments, name: str, one: Process, values: list[Any]) -> None:
        if name == "generation":
            one.generation, one.taken, one.refunded = one.generation + 1, 0, 0
        elif name == "fence":
            one.fence += 1
        elif name == "spend":
            one.taken = min(2**52, one.taken + values[0])
        elif name == "give":
            one.refunded = min(one.taken, one.refunded + values[0])
        elif name == "late":  # a call of a connection that has been given up
            one.fence += 1
            self.call(now, one, 0, 0, None)
            one.fence -= 1
            self.call(now, one, min(values[0], now.capacity), 0, None)
            one.fence += 1
        elif name == "crowd":
            first = 1000 * (1 + len(self.made))
            crowd = [Column(owner_name(first + i, "x"), 1, 1 + i, 0) for i in range(values[0])]
            self.call(now, one, 0, values[1], crowd)
        else:
            cost, stated, whole = values
            if name == "share":  # sixteenths of the capacity, and of its time
                cost = cost * now.capacity // 16
                stated = stated * now.capacity * now.q // now.p // 16
            others = [p.column for p in self.processes if p is not one and p.taken]
            self.call(now, one, min(cost, now.capacity), stated, others if whole else None)

    def call(
        self, now: Arguments, one: Process, cost: int, stated: int, others: list[Column] | None
    ) -> None:
        made = one.call(KEY, cost, min(stated, BEYOND), others)
        self.made.append((now, made))
        generation = one.generation
        taken, refunded = self.ask(now, made)
        if one.generation == generation:
            one.taken, one.refunded = max(one.taken, taken), max(one.refunded, refunded)
