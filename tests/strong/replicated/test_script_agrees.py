"""The script for a replicated Redis and its model in fractions agree on real servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.beats import Beat, RegionBeat, RegionBeats
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments
from crdtbucket.strong.redis.script import Column, ScriptCall, owner_name
from tests.strong.histories import BEYOND, KEY, OWNERS, Process, small, specs, tokens
from tests.strong.redis_server import PROGRAMS, Server
from tests.strong.replicated.examples import HOUR_US, on_examples
from tests.strong.replicated.region_model import Hash, Known, Run, expires_ms
from tests.strong.replicated.region_server import RegionServer

NAMES = ("A", "B", "C")
START_US = 1_700_000_000_000_000


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RegionServer]:
    with Server(program=request.param) as one, contextlib.closing(RegionServer(one)) as members:
        yield members


class Member:
    """One region's member as the model has it, and every state of its key."""

    def __init__(self, name: str, offset_us: int) -> None:
        self.name, self.offset_us = name.encode(), offset_us
        self.held: Hash = {}
        self.log: list[Hash] = [{}]
        self.copies: dict[bytes, Hash] = {}
        self.known: dict[bytes, Known] = {}
        self.own_stamp_us = 0

    @property
    def key(self) -> bytes:
        return KEY + b"@" + self.name

    def keep(self, held: Hash) -> None:
        self.held = held
        self.log.append(held)


class Both:
    """Three members, each call on the server and on the model."""

    def __init__(
        self, server: RegionServer, definitions: list[Any], offsets: list[int], forget_ms: int
    ) -> None:
        self.server = server
        server.flush()
        self.now_us = START_US
        self.members = [Member(n, o) for n, o in zip(NAMES, offsets, strict=True)]
        self.processes = [Process(one) for one in OWNERS]
        self.forget_us = forget_ms * 1000
        self.definitions = [
            [
                ReplicatedArguments(spec, spec.max_debt, Regions(n, NAMES), retention, forget_ms)
                for n in NAMES
            ]
            for spec, retention in definitions
        ]
        self.definition = 0
        self.made: list[tuple[int, ScriptCall]] = []

    def run(self, ops: list[Any]) -> None:
        for name, *values in ops:
            getattr(self, name)(*values)

    # ---- what replication and losses do ----

    def put(self, at: Member, region: bytes, fields: Hash) -> None:
        if region == at.name:
            at.keep(fields)
        else:
            at.copies[region] = fields
        self.server.put(at.name, KEY + b"@" + region, fields)

    def copy(self, at: int, of: int, back: int) -> None:
        """A state of a member's key, the newest for -1, comes to another one, or back to it."""
        log = self.members[of].log
        self.put(self.members[at], self.members[of].name, log[max(-len(log), back)])

    def torn(self, at: int, of: int, back: int, mask: int) -> None:
        """Only some of its fields."""
        reader, writer = self.members[at], self.members[of]
        log = writer.log
        fields = dict(writer.held if reader is writer else reader.copies.get(writer.name, {}))
        for i, (name, one) in enumerate(sorted(log[max(-len(log), back)].items())):
            if mask >> i % 16 & 1 or (reader is writer and name not in fields):
                fields[name] = one
        self.put(reader, writer.name, fields)

    def flush(self, at: int, copies: bool) -> None:
        member = self.members[at]
        self.put(member, member.name, {})
        if copies:
            for name in list(member.copies):
                self.put(member, name, {})

    def know(self, at: int, of: int, base_us: int, late_us: int) -> None:
        """What callers of a member know of another's beats."""
        member, other = self.members[at], self.members[of]
        if member is not other:
            off = member.offset_us - other.offset_us
            stamp = self.now_us + other.offset_us - late_us
            member.known[other.name] = Known(off + base_us, stamp)
            member.own_stamp_us = self.now_us + member.offset_us

    def time(self, us: int) -> None:
        self.now_us += us

    def step(self, at: int, us: int) -> None:
        """The clock of one member is set."""
        self.members[at].offset_us += us

    def define(self, which: int) -> None:
        self.definition = which

    # ---- what processes do ----

    def spend(self, process: int, count: int) -> None:
        one = self.processes[process]
        one.taken = min(2**52, one.taken + count)

    def give(self, process: int, count: int) -> None:
        one = self.processes[process]
        one.refunded = min(one.taken, one.refunded + count)

    def generation(self, process: int) -> None:
        one = self.processes[process]
        one.generation, one.taken, one.refunded = one.generation + 1, 0, 0

    def fence(self, process: int, up: int) -> None:
        one = self.processes[process]
        one.fence = max(1, one.fence + up)

    def crowd(self, at: int, process: int, size: int, stated: int) -> None:
        first = 1000 * (1 + len(self.made))
        crowd = [Column(owner_name(first + i, "x"), 1, 1 + i, 0, b"B") for i in range(size)]
        self._call(at, process, 0, stated, crowd)

    def share(self, at: int, process: int, cost: int, stated: int, whole: bool) -> None:
        """Sixteenths of the capacity, and of its time."""
        now = self.definitions[self.definition][at]
        self.call(
            at,
            process,
            cost * now.capacity // 16,
            stated * now.capacity * now.q // now.p // 16,
            whole,
        )

    def call(self, at: int, process: int, cost: int, stated: int, whole: bool) -> None:
        others = [
            Column(p.owner, p.generation, p.taken, p.refunded, b"" if i == 3 else NAMES[i].encode())
            for i, p in enumerate(self.processes)
            if i != process and p.taken
        ]
        self._call(at, process, cost, stated, others if whole else None)

    def again(self, back: int) -> None:
        if back < len(self.made):
            self._ask(*self.made[-1 - back])

    def _call(
        self, at: int, process: int, cost: int, stated: int, others: list[Column] | None
    ) -> None:
        one = self.processes[process]
        capacity = self.definitions[self.definition][at].capacity
        call = one.call(KEY, min(cost, capacity), min(stated, BEYOND), others)
        self.made.append((at, call))
        taken, refunded = self._ask(at, call)
        one.taken, one.refunded = max(one.taken, taken), max(one.refunded, refunded)

    def _ask(self, at: int, call: ScriptCall) -> tuple[int, int]:
        self.now_us += 1  # no two generations begin at once
        member = self.members[at]
        made = self.definitions[self.definition][at]
        now = max(0, self.now_us + member.offset_us)
        known = {
            name: RegionBeat(1, one.stamp_us, one.base_us, 1) for name, one in member.known.items()
        }
        call.beats = RegionBeats(made.regions, Beat(1, member.own_stamp_us, 1, known)).words
        run = Run(made, call, now, member.copies, member.own_stamp_us, member.known, self.forget_us)
        expected, written = run.of(member.held)
        before = dict(member.held)
        answer = self.server.run(member.name, made, call, now)
        assert answer._replace(columns=()) == expected._replace(columns=()), (call, before)
        assert len(answer.columns) == len(expected.columns)
        assert set(answer.columns) == set(expected.columns)
        if written is not None:
            member.keep(written)
            assert self.server.expiry_ms() == expires_ms(written, made, now) - now // 1000
        else:
            assert self.server.expiry_ms() is None
        assert self.server.read(member.name, member.key) == member.held
        event(f"status {answer.status.name}")
        for word, happened in (
            ("merged", run.noted),
            ("silent", bool(run.silent)),
            ("credit", run.floor > 0),
            ("another definition", not run.comparable),
        ):
            if happened:
                event(word)
        return answer.taken, answer.refunded


member = st.integers(0, 2)
process = st.integers(0, len(OWNERS) - 1)
back = st.sampled_from([-1, -1, -1, -2, -3, -5, -9])
us = st.one_of(
    st.just(20_000), st.integers(0, 300_000), st.integers(0, 3_000_000), st.integers(0, 2**42)
)
op = st.one_of(
    *[st.tuples(st.just("call"), member, process, small, st.one_of(small, tokens), st.booleans())]
    * 6,
    *[
        st.tuples(
            st.just("share"), member, process, st.integers(0, 16), st.integers(0, 16), st.booleans()
        )
    ]
    * 2,
    *[st.tuples(st.just("copy"), member, member, back)] * 6,
    st.tuples(st.just("torn"), member, member, back, st.integers(0, 2**16 - 1)),
    st.tuples(st.just("flush"), member, st.booleans()),
    *[
        st.tuples(
            st.just("know"),
            member,
            member,
            st.integers(0, 400_000),
            st.one_of(st.integers(0, 400_000), st.integers(0, 100_000_000)),
        )
    ]
    * 2,
    *[st.tuples(st.just("time"), us)] * 4,
    st.tuples(st.just("step"), member, st.integers(-HOUR_US, HOUR_US)),
    st.tuples(st.just("define"), st.integers(0, 1)),
    st.tuples(st.just("spend"), process, tokens),
    st.tuples(st.just("give"), process, tokens),
    st.tuples(st.just("generation"), process),
    st.tuples(st.just("fence"), process, st.integers(-1, 1)),
    st.tuples(st.just("crowd"), member, process, st.integers(58, 70), tokens),
    st.tuples(st.just("again"), st.integers(0, 7)),
)
ordinary = st.builds(
    lambda most, rate, debt: BucketSpec("b", most, rate, max_debt=debt),
    st.integers(1, 20),
    st.integers(1, 7),
    st.sampled_from([0, 20, 10**6]),
)
definition = st.tuples(st.one_of(ordinary, specs()), st.sampled_from([1, 1_500, 3_600_000]))


@on_examples
@given(
    st.lists(definition, min_size=2, max_size=2),
    st.lists(st.integers(-HOUR_US, HOUR_US), min_size=3, max_size=3),
    st.sampled_from([0, 30_000]),
    st.lists(op, min_size=20, max_size=60),
)
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_script_and_its_python_model_answer_and_keep_the_same(
    server: RegionServer, definitions: list[Any], offsets: list[int], forget: int, ops: list[Any]
) -> None:
    Both(server, definitions, offsets, forget).run(ops)
