"""Members in memory: scripts compute the same there as on a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crdtbucket.simulator.lua_members import LuaMembers
from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.script import (
    SOURCE,
    Arguments,
    Column,
    ScriptAnswer,
    ScriptCall,
    ScriptStatus,
    owner_name,
    parse,
)

START_US = 1_700_000_000_000_000
KEY = b"crdtbucket:{k}"
OWNER = owner_name(1, "n")
GOLDEN = json.loads((Path(__file__).parents[2] / "docs/vectors/merge.json").read_text())


def asked(
    members: LuaMembers, arguments: Arguments, call: ScriptCall, now_us: int, member: str = "a"
) -> ScriptAnswer:
    return parse(members.run(member, arguments.command(call), SOURCE, now_us))


def a_call(cost: int, taken: int) -> ScriptCall:
    return ScriptCall(KEY, cost, OWNER, 1, 1, taken, 0, 0)


def test_every_case_of_the_golden_file() -> None:
    spec = BucketSpec("b", GOLDEN["capacity"], 1, max_debt=GOLDEN["max_debt"])
    arguments = Arguments(spec, spec.max_debt or 0)
    members = LuaMembers(["a"])
    for number, case in enumerate(GOLDEN["cases"]):
        key = b"k%d" % number
        for one in (case["held"], case["sent"]):
            own, *others = (Column(o.encode(), *c) for o, c in one["columns"].items())
            debt = one["debt"] * 10**9
            call = ScriptCall(
                key, 0, own.owner, 1, own.generation, own.taken, own.refunded, debt, tuple(others)
            )
            answer = asked(members, arguments, call, START_US)
        found = {c.owner.decode(): [c.generation, c.taken, c.refunded] for c in answer.columns}
        assert found == case["merged"]["columns"], number
        if case["level"]:
            assert answer.debt_ns == case["merged"]["debt"] * 10**9, number


def test_a_bucket_refills_with_the_clock_and_is_forgotten_when_its_time_is_over() -> None:
    arguments = Arguments(BucketSpec("b", 10, 1), 10, retention_ms=1_000)
    members = LuaMembers(["a", "b"])
    assert asked(members, arguments, a_call(10, 0), START_US).taken == 10
    assert asked(members, arguments, a_call(1, 10), START_US).status is ScriptStatus.DENIED
    later = START_US + 1_000_000
    assert asked(members, arguments, a_call(1, 10), later).status is ScriptStatus.ALLOWED
    gone = asked(members, arguments, a_call(0, 0), later + 12_000_000)
    assert (gone.taken, gone.debt_ns) == (0, 0)
    assert asked(members, arguments, a_call(0, 0), later, "b").taken == 0


def test_copies_are_of_one_moment_and_are_held_elsewhere_once_they_are_delivered() -> None:
    arguments = Arguments(BucketSpec("b", 10, 1), 10, retention_ms=1_000)
    members = LuaMembers(["a", "b"])
    assert members.changes("a", START_US) == {}
    asked(members, arguments, a_call(3, 0), START_US)
    copies = members.changes("a", START_US)
    assert list(copies) == [KEY]
    assert members.changes("a", START_US) == {}
    asked(members, arguments, a_call(4, 3), START_US)
    members.deliver("b", KEY, copies[KEY], START_US)
    assert members.changes("b", START_US) == {}  # a copy is not sent on
    assert asked(members, arguments, a_call(0, 0), START_US, "b").taken == 3
    assert asked(members, arguments, a_call(0, 0), START_US, "a").taken == 7


def test_an_error_of_a_script_is_reported() -> None:
    members = LuaMembers(["a"])
    with pytest.raises(SimulationError, match="CRDTBUCKET no such thing"):
        members.run("a", command(b"1"), "error({err = 'CRDTBUCKET no such thing'})", START_US)
    with pytest.raises(SimulationError, match="has no command INCR"):
        members.run("a", command(b"2"), "return redis.call('INCR', 'a')", START_US)


def command(sha: bytes) -> bytes:
    return b"*3\r\n$7\r\nEVALSHA\r\n$1\r\n%b\r\n$1\r\n0\r\n" % sha
