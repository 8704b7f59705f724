"""Decisions that the script makes at once are the same, and write the same, as without that
shortcut."""

from __future__ import annotations

import hashlib
import random
from importlib.resources import files
from textwrap import indent
from typing import Any

import hiredis

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.script import SHA, SOURCE, Arguments, ScriptCall, owner_name
from tests.strong.backends import START_US, TIMED_SHA, TimedRedis, at_test_time

PART = indent(
    files("crdtbucket.strong.redis").joinpath("repeated.lua").read_text().rstrip("\n"), "  "
)
LONG = at_test_time(SOURCE.replace(PART, ""))
"""The script without what decides at once."""
LONG_SHA = hashlib.sha1(LONG.encode(), usedforsecurity=False).hexdigest()
SECOND, US = divmod(START_US + 500_000, 1_000_000)
OWNER = owner_name(1, "n")
CASES = 3_000
SPECS = [
    BucketSpec("seconds", 10, 1, "1s"),
    BucketSpec("sevenths", 10, 7, "1s"),
    BucketSpec("little more than a ns each", 1_000, 999_999_999, "1s"),
    BucketSpec("more than doubles count", 2**40, 700, "1s"),
]


class Dice:
    """One call on a key as it is held: mostly what is usual, and each part of it now and then what
    is not."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        spec = dice.choice(SPECS)
        self.arguments = Arguments(spec, dice.choice((0, 3, 1_000)), dice.choice((1, 60_000)))
        self.cost = self.mostly(1, 0, 2, 7, spec.capacity, spec.capacity + 1)
        self.generation = dice.choice((1, 2))
        self.taken, self.refunded = dice.randrange(5, 9), dice.randrange(1, 4)
        self.fence = dice.randrange(2, 5)

    def mostly(self, usual: int, *others: int) -> int:
        return self.dice.choice(others) if self.dice.random() < 0.1 else usual

    def near(self, number: int, most: int) -> int:
        return max(0, number + self.mostly(0, *range(-most, most + 1)))

    def level(self) -> str:
        arguments = self.arguments
        q, p = arguments.q, arguments.p
        full, ceiling = arguments.capacity * q, (arguments.capacity + arguments.max_debt) * q
        edge = max(0, full - self.cost * q)
        parts = self.dice.choice((0, edge, edge, full, ceiling, ceiling * 2))
        parts = max(0, parts + self.dice.choice((-p - 1, -p, -1, 0, 0, 1, p - 1, p, p + 1)))
        (s, ns), rest = divmod(parts // p, 10**9), parts % p
        gone = self.mostly(0, -1_000_000, -1, 1, 999_999, 1_000_000, 10**7, 10**13)
        at_s, at_us = divmod(SECOND * 1_000_000 + US - gone, 1_000_000)
        other = self.dice.choice(SPECS).emission if self.dice.random() < 0.1 else (q, p)
        words = [
            at_s,
            self.mostly(at_us, 1_000_000),
            s,
            self.mostly(ns, 10**9),
            self.mostly(rest, p),
        ]
        return " ".join(map(str, (*words, *other)))

    def record(self) -> str:
        known = (self.generation, self.taken, self.refunded, self.fence, SECOND)
        return " ".join(str(self.mostly(one, one - 1, one + 1, 2**53 + 2)) for one in known)

    def call(self, key: bytes) -> ScriptCall:
        fence, generation = self.near(self.fence, 1), self.near(self.generation, 1)
        taken, refunded = self.near(self.taken, 2), self.near(self.refunded, 1)
        stated = self.dice.choice((0, 10**9, 10**12))
        return ScriptCall(key, self.cost, OWNER, fence, generation, taken, refunded, stated)


def outcome(redis: TimedRedis, sha: str, one: Dice, held: tuple[str, ...], call: ScriptCall) -> Any:
    pack = hiredis.pack_command
    *_, reply, stored, ttl = redis.line.talk(
        pack(("DEL", call.key, "test:ttl")),
        pack(("HSET", call.key, *held)),
        one.arguments.command(call).replace(SHA.encode(), sha.encode()),
        pack(("HGETALL", call.key)),
        pack(("HGET", "test:ttl", call.key)),
    )
    fields = dict(zip(stored[::2], stored[1::2], strict=True))
    return str(reply).partition(" script: ")[0], fields, ttl


def test_the_script_decides_at_once_as_it_would_at_length(redis: TimedRedis) -> None:
    assert SOURCE.count(PART) == 1
    redis.flush()
    redis.line.ask("HSET", "test:time", "s", SECOND, "us", US)
    assert redis.line.ask("SCRIPT", "LOAD", LONG) == LONG_SHA.encode()
    dice, seen = random.Random(7), set()
    for _ in range(CASES):
        one = Dice(dice)
        held = ("level", one.level(), OWNER.decode(), one.record())
        call = one.call(b"{k}")
        at_once, at_length = (outcome(redis, sha, one, held, call) for sha in (TIMED_SHA, LONG_SHA))
        assert at_once == at_length, (held, call, one.arguments)
        seen.add(at_length[0][:2])
    assert {"[0", "[1", "[2", "[3"} <= seen, "each status, and errors"
