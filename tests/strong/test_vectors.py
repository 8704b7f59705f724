"""The merge rule is written in C, Lua and Python: all three compute the golden file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crdtbucket._core import BucketCore, BucketReplica, Table
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.reconcile.merging import HeldKey, merge_key
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.script import Arguments, Column, ScriptCall, read_owner
from tests.strong import backends
from tests.strong.backends import TimedRedis
from tests.strong.redis_server import PROGRAMS

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "docs/vectors/merge.json").read_text())
SPEC = BucketSpec("b", GOLDEN["capacity"], 1, max_debt=GOLDEN["max_debt"])
TOKEN_NS = 1_000_000_000
Holder = dict[str, Any]
Merge = Callable[[Holder, Holder], Holder]


def test_the_file_is_what_its_command_writes() -> None:
    subprocess.run([sys.executable, "docs/vectors.py", "--check"], cwd=ROOT, check=True)
    assert (GOLDEN["version"], len(GOLDEN["cases"])) == (1, 200)


def in_python(held: Holder, sent: Holder) -> Holder:
    holders = [
        HeldKey(
            {read_owner(o.encode())[::-1]: tuple(c) for o, c in one["columns"].items()}, one["debt"]
        )
        for one in (held, sent)
    ]
    found = merge_key(holders, SPEC.capacity, SPEC.capacity + SPEC.max_debt)
    columns = {f"{epoch:016x}:{node}": list(c) for (node, epoch), c in found.columns.items()}
    return {"debt": found.debt, "columns": columns}


def in_c(held: Holder, sent: Holder) -> Holder:
    table = Table(max_keys=16, virtual=True, hash_key=bytes(16), grace=0.0, epoch=2**63)
    roster = Roster(table, "self")
    bucket = BucketCore(table, SPEC)
    opened = BucketReplica(bucket).open_call("k")  # which makes the entry
    assert opened is not None
    for one in (held, sent):
        columns = []
        for owner, column in one["columns"].items():
            epoch, node = read_owner(owner.encode())
            columns.append((table.epochs.origin(roster.node(node), epoch), *column))
        assert BucketReplica(bucket).adopt(*opened[:2], one["debt"] * TOKEN_NS, True, columns)
    names = roster.names()
    found = {
        f"{epoch:016x}:{names[node]}": list(column)
        for (node, epoch), column in bucket.columns("k").items()
        if node != 0
    }
    debt = bucket.debt("k")
    assert debt is not None
    return {"debt": debt / TOKEN_NS, "columns": found}


def in_lua(redis: TimedRedis) -> Merge:
    arguments = Arguments(SPEC, SPEC.max_debt)

    def merge(held: Holder, sent: Holder) -> Holder:
        redis.flush()
        for one in (held, sent):
            own, *others = (Column(o.encode(), *c) for o, c in one["columns"].items())
            debt = one["debt"] * TOKEN_NS
            call = ScriptCall(
                b"k", 0, own.owner, 1, own.generation, own.taken, own.refunded, debt, tuple(others)
            )
            answer = redis.run(arguments, call)
        columns = {c.owner.decode(): [c.generation, c.taken, c.refunded] for c in answer.columns}
        return {"debt": answer.debt_ns / TOKEN_NS, "columns": columns}

    return merge


@pytest.fixture(scope="module", params=["c", "python", *PROGRAMS])
def merge(request: pytest.FixtureRequest) -> Iterator[Merge]:
    if request.param in PROGRAMS:
        with backends.timed(request.param) as redis:
            yield in_lua(redis)
    else:
        yield in_c if request.param == "c" else in_python


def test_every_case_of_the_golden_file(merge: Merge) -> None:
    for number, case in enumerate(GOLDEN["cases"]):
        found = merge(case["held"], case["sent"])
        assert found["columns"] == case["merged"]["columns"], number
        if case["level"]:
            assert found["debt"] == case["merged"]["debt"], number
