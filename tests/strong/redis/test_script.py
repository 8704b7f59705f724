"""The script's rules: golden cases on real servers, on the model and on the core; its keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import hiredis
import pytest

from crdtbucket._core import BucketReplica
from crdtbucket.mesh.protocol.wire import MAX_ORIGINS
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.redis.script import (
    SHA,
    SOURCE,
    Arguments,
    Column,
    ScriptAnswer,
    ScriptCall,
    ScriptStatus,
    owner_name,
    parse,
)
from tests.core.specs import bucket_of
from tests.strong import backends, golden
from tests.strong.backends import Backend, Line, TimedModel, TimedRedis
from tests.strong.golden import ALLOWED, CASES, DENIED, KEY, NS, PLAIN, A, B, Case
from tests.strong.redis_server import PROGRAMS, Server

STORES = [*PROGRAMS, "model"]
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def call(
    owner: bytes = A, cost: int = 0, taken: int = 0, refunded: int = 0, **more: Any
) -> ScriptCall:
    values = {"fence": 1, "generation": 1, "debt_ns": 0, **more}
    return ScriptCall(KEY, cost, owner, taken=taken, refunded=refunded, **values)


def arguments(case: Case, ask: golden.Ask | None = None) -> Arguments:
    spec = (ask.spec if ask else None) or case.spec
    return Arguments(spec, spec.max_debt, case.retention_ms)


def run(case: Case, store: Backend) -> Iterator[tuple[Any, ScriptAnswer]]:
    """Each step of a case and its answer; the steps of one node as that node makes them."""
    start, taken, refunded = store.now_us, 0, 0
    for step in case.steps:
        store.now_us = start + round(step.at * 1_000_000)
        if isinstance(step, golden.Ask):
            generation, counted, back = step.column
            others = step.others
            made = ScriptCall(
                KEY,
                step.cost,
                step.owner,
                step.fence,
                generation,
                counted,
                back,
                step.stated_ns,
                others,
            )
            yield step, store.run(arguments(case, step), made)
            continue
        cost = step.cost if isinstance(step, golden.Take) else 0
        taken += step.tokens if isinstance(step, golden.Spend) else 0
        refunded += step.tokens if isinstance(step, golden.Refund) else 0
        stated = step.debt_ns if isinstance(step, golden.Spend) else 0
        answer = store.run(arguments(case), call(A, cost, taken, refunded, debt_ns=stated))
        taken += cost if answer.status is ALLOWED else 0
        assert (answer.taken, answer.refunded) == (taken, refunded)
        yield step, answer


def waits(case: Case, cost: int, debt_ns: int) -> int:
    """The wait that a denied caller gets with such an answer."""
    one = bucket_of(case.spec)
    BucketReplica(one).open_call("k", cost)
    denied = BucketReplica(one).close_call(
        "k", cost, allowed=False, taken=0, refunded=0, mode=Mode.STRONG, debt=debt_ns
    )
    wait: int = denied.retry_after_ns
    return wait


def check(case: Case, store: Backend, higher_ns: int = 0) -> None:
    """`higher_ns`: by how much doubles may round a changed debt up."""
    changed = False
    for step, answer in run(case, store):
        if isinstance(step, golden.Ask):
            changed = changed or step.spec is not None
            assert (answer.status, answer.taken, answer.refunded) == (step.status, *step.record)
            assert len(answer.columns) == len(step.columns)
            assert set(answer.columns) == set(step.columns)
        elif isinstance(step, golden.Take):
            assert answer.status is (ALLOWED if step.allowed else DENIED)
            if not step.allowed:
                wait = waits(case, step.cost, answer.debt_ns)
                whole = case.spec.emission[1] == 1
                assert 0 <= wait - step.wait_ns <= (0 if whole else 2)
        assert 0 <= step.debt_ns - answer.debt_ns <= (higher_ns if changed else 0), step


class TestGolden:
    @by_name
    def test_the_script_decides_each_golden_case(self, case: Case, redis: TimedRedis) -> None:
        redis.flush()
        check(case, redis)

    @by_name
    def test_the_python_model_decides_each_golden_case(self, case: Case) -> None:
        check(case, TimedModel(), higher_ns=3)

    @pytest.mark.parametrize("case", [c for c in CASES if c.single], ids=lambda case: case.name)
    def test_the_core_decides_each_golden_case_of_one_process(self, case: Case) -> None:
        one = bucket_of(case.spec)
        slack = len(case.steps) if case.spec.emission[1] != 1 else 0
        latest = None
        for step in case.steps:
            one.table.set_time(round(step.at * NS))
            if isinstance(step, golden.Take):
                decision = one.take("k", step.cost)
                assert decision.allowed is step.allowed
                assert decision.retry_after_ns == step.wait_ns
                latest = decision if decision.allowed else latest
            elif isinstance(step, golden.Refund):
                assert one.refund(latest, step.tokens) == step.tokens
            else:
                assert isinstance(step, golden.Spend)
                assert one.settle("k", step.tokens) == step.tokens
            assert 0 <= step.debt_ns - one.debt("k") <= slack

    def test_every_status_and_step_stands_in_the_table(self) -> None:
        steps = [step for case in CASES for step in case.steps]
        assert {step.status for step in steps if isinstance(step, golden.Ask)} == set(ScriptStatus)
        assert {type(step) for step in steps} == {
            golden.Take,
            golden.Refund,
            golden.Spend,
            golden.Ask,
        }


def test_what_is_timed_differs_in_the_clock_and_the_expiry_alone() -> None:
    assert [SOURCE.count(old) for old in backends.REPLACED] == [1, 2], "at once, and at length"
    assert not any(new in SOURCE for new in backends.REPLACED.values())
    text = backends.TIMED
    for old, new in backends.REPLACED.items():
        text = text.replace(new, old)
    assert text == SOURCE


class TestKeys:
    def ask(self, line: Line, made: ScriptCall, spec: Arguments | None = None) -> Any:
        (reply,) = line.talk((spec or Arguments(PLAIN, 100)).command(made))
        return reply

    @pytest.fixture
    def line(self, server: Server) -> Iterator[Line]:
        line = Line(server)
        line.ask("FLUSHALL")
        assert line.ask("SCRIPT", "LOAD", SOURCE) == SHA.encode()
        yield line
        line.close()

    def test_the_clock_is_the_servers(self, line: Line) -> None:
        before = line.ask("TIME")
        assert parse(self.ask(line, call(cost=100))).debt_ns == NS
        at_s, at_us, *rest = map(int, line.ask("HGET", KEY, "level").split())
        after = line.ask("TIME")
        assert (int(before[0]), int(before[1])) <= (at_s, at_us) <= (int(after[0]), int(after[1]))
        assert rest == [1, 0, 0, 10_000_000, 1]

    def test_refill_goes_by_it(self, line: Line) -> None:
        assert parse(self.ask(line, call(cost=100))).status is ALLOWED
        debts = [NS, *(parse(self.ask(line, call(taken=100))).debt_ns for _ in range(50))]
        assert all(a > b for a, b in itertools.pairwise(debts))

    def test_eval_says_the_same_as_evalsha(self, line: Line) -> None:
        line.ask("SCRIPT", "FLUSH")
        plain = Arguments(PLAIN, 100)
        (reply,) = line.talk(plain.command(call(cost=3)))
        assert str(reply).startswith("NOSCRIPT")
        (reply,) = line.talk(plain.command(call(cost=3), source=True))
        assert parse(reply).taken == 3
        assert parse(self.ask(line, call(cost=3, taken=3))).taken == 6

    @pytest.mark.parametrize("cost", [1, 60, 100])
    def test_a_key_is_kept_until_it_is_full_and_then_for_the_retention(
        self, line: Line, cost: int
    ) -> None:
        kept = Arguments(PLAIN, 100, retention_ms=5_000)
        before = line.ask("TIME")
        answer = parse(self.ask(line, call(cost=cost), kept))
        expires = line.ask("PEXPIRETIME", KEY)
        after = line.ask("TIME")
        ms = [int(s) * 1000 + Fraction(int(us), 1000) for s, us in (before, after)]
        full = Fraction(answer.debt_ns, 1_000_000)
        assert ms[0] + full + 4_999 <= expires <= ms[1] + full + 5_001

    def test_a_call_that_changes_nothing_writes_nothing(self, line: Line) -> None:
        assert parse(self.ask(line, call(cost=0))).debt_ns == 0
        assert line.ask("EXISTS", KEY) == 0
        self.ask(line, call(cost=100))
        held, expires = line.ask("HGETALL", KEY), line.ask("PEXPIRETIME", KEY)
        for made in (call(cost=100, taken=100), call(taken=90), call(B, others=()), call(B, 100)):
            assert parse(self.ask(line, made)).taken in (0, 100)
        assert line.ask("HGETALL", KEY) == held
        assert line.ask("PEXPIRETIME", KEY) == expires

    def test_of_very_many_processes_a_whole_answer_has_those_that_were_named(
        self, line: Line
    ) -> None:
        """And no more others than a table tells apart: an answer without a bound is not read."""
        assert parse(self.ask(line, call(cost=1))).status is ALLOWED
        owners = [owner_name(number, "n") for number in range(99, 3_099)]
        record = f"1 1 0 1 {int(line.ask('TIME')[0])}"
        line.ask("HSET", KEY, *itertools.chain(*((owner, record) for owner in owners)))
        named = tuple(Column(owner, 1, 1, 0) for owner in owners[::10])
        answer = parse(self.ask(line, call(taken=1, others=named)))
        assert answer.columns[0] == Column(A, 1, 1, 0)
        assert answer.columns[1 : 1 + len(named)] == named
        assert len({one.owner for one in answer.columns}) == len(answer.columns)
        assert len(answer.columns) - 1 - len(named) == MAX_ORIGINS

    @pytest.mark.parametrize("others", [None, ()], ids=["plain", "whole"])
    @pytest.mark.parametrize(
        "words",
        [
            ("SET", KEY, "text"),
            ("SADD", KEY, "member"),
            ("HSET", KEY, "name", "of a foreign hash"),
            ("HSET", KEY, A, "1 1 0 1 1"),
            ("HSET", KEY, "level", "1 1 0 0 0 10000000 1", A, "1 1 0 1"),
            ("HSET", KEY, "level", "1 1 0 0 0 10000000 1", A, "1 -1 0 1 1"),
            ("HSET", KEY, "level", "1 1 0 0 0 10000000 1", A, f"1 {10**400} 0 1 1"),
            ("HSET", KEY, "level", "1 1 0 0 0 10000000 1", A, "nan nan nan nan nan"),
            ("HSET", KEY, "level", ""),
            ("HSET", KEY, "level", "1 1 0 0 0 10000000"),
            ("HSET", KEY, "level", "1 1 0 0 0 10000000 1 1"),
            ("HSET", KEY, "level", "1 1 0 0 0 0 1"),
            ("HSET", KEY, "level", "1 1 0 0 0 10000000 0"),
            ("HSET", KEY, "level", "1 1 0 0 7 10000000 7"),
            ("HSET", KEY, "level", "1 1 0 1000000000 0 10000000 1"),
            ("HSET", KEY, "level", "1 1000000 0 0 0 10000000 1"),
            ("HSET", KEY, "level", f"1 1 {10**400} 0 0 10000000 1"),
            ("HSET", KEY, "level", f"1 1 9 0 0 {10**400} 1"),
            ("HSET", KEY, "level", f"{10**400} 1 9 0 0 1 1"),
        ],
        ids=lambda words: " ".join(map(str, words[2:]))[:40],
    )
    def test_what_is_not_ours_is_left_alone(self, line: Line, words: Any, others: Any) -> None:
        line.ask(*words)
        before = line.ask("DUMP", KEY)
        error = self.ask(line, call(cost=1, others=others))
        assert isinstance(error, hiredis.ReplyError)
        assert str(error).startswith("CRDTBUCKET ")
        assert line.ask("DUMP", KEY) == before
        assert line.ask("TTL", KEY) == -1


def test_x_ten_million_a_second_charges_every_token(redis: TimedRedis) -> None:
    spec = golden.BucketSpec("b", 10**6, 10**7)
    made = Arguments(spec, 0)
    redis.flush()
    for i in range(1_000):
        answer = redis.run(made, call(cost=1, taken=i))
        assert answer[:4] == (ALLOWED, 100 * (i + 1), i + 1, 0)
    assert redis.stored(KEY).debt == 100_000


def test_x_with_the_servers_own_clock(server: Server) -> None:
    line = Line(server)
    line.ask("FLUSHALL")
    made = Arguments(golden.BucketSpec("b", 10**9, 10**7), 0)
    line.ask("SCRIPT", "LOAD", SOURCE)
    before = line.ask("TIME")
    replies = line.talk(*[made.command(call(cost=1_000, taken=1_000 * i)) for i in range(1_000)])
    after = line.ask("TIME")
    line.close()
    answers = [parse(reply) for reply in replies]
    assert [one.taken for one in answers] == list(range(1_000, 1_000_001, 1_000))
    elapsed_us = (int(after[0]) - int(before[0])) * 10**6 + int(after[1]) - int(before[1])
    assert 10**8 - 1_000 * elapsed_us <= answers[-1].debt_ns <= 10**8


@pytest.mark.parametrize("name", STORES)
def test_t_a_clock_off_by_an_hour(name: str, request: pytest.FixtureRequest) -> None:
    if name == "model":
        hour_off(TimedModel())
        return
    with backends.timed(name) as redis:
        hour_off(redis)


def hour_off(store: Backend) -> None:
    """An hour ahead gives one full bucket; an hour back takes nothing and freezes nothing."""
    made = Arguments(PLAIN, 100)
    assert store.run(made, call(cost=100)).status is ALLOWED
    store.now_us += 3600 * 10**6
    assert store.run(made, call(cost=100, taken=100)).status is ALLOWED
    assert store.run(made, call(cost=1, taken=200)).status is DENIED
    store.now_us -= 3600 * 10**6
    admitted, taken = 0, 200
    for _ in range(1_000):
        answer = store.run(made, call(cost=1, taken=taken))
        admitted, taken = admitted + answer.status, answer.taken
        store.now_us += 2_000
    assert 199 <= admitted <= 200  # 2 s at 100 a second
    assert taken == 200 + admitted
