"""Calls of the script for a replicated Redis, its answers, and the content of a key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import InvalidSpec, RedisReplyError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.lua import LuaScript
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.script import (
    DEFAULT_RETENTION_MS,
    Arguments,
    Column,
    ScriptAnswer,
    ScriptCall,
    column_words,
    words,
)

FORGET_AFTER_MS = 900_000
SILENT_US = 500_000
"""A region is silent when its beats are later than that."""
_NEVER = 2**52
_UNKNOWN_HOME = b"-"
_LEVEL = re.compile(
    rb"(\d{1,16}) (\d{1,6}) (-?\d{1,16}) (\d{1,9}) (\d{1,19}) ([1-9]\d{0,18}) ([1-9]\d{0,18})"
    rb"(?: (\d{1,16}) (\d{1,16}) \d+ \S+ \S+ \d+\|[^\n]*)?"
)
_RECORD = re.compile(rb"(\d{1,16}) (\d{1,16}) (\d{1,16}) \d+ \d+(?: (\d{1,16}) (\S+) \d+ \d+)?")


def beat_words(own_stamp_us: int, others: Sequence[tuple[int, int]]) -> bytes:
    """What a call says of beats: the stamp of the own one, and the base and the stamp of the newest
    one of each other region in its order, in us; a stamp of 0: no beat came."""
    quiet_us = min((base + stamp for base, stamp in others if stamp), default=_NEVER) + SILENT_US
    texts = [b"%d %d" % (quiet_us if own_stamp_us <= quiet_us else 0, own_stamp_us)]
    texts += [b"%d %d" % one for one in others]
    return words(b" ".join(texts))


class ReplicatedArguments(Arguments):
    """The arguments that are the same in every call on one bucket in one region."""

    script = LuaScript.load("replicated.lua")

    def __init__(
        self,
        spec: BucketSpec,
        max_debt: int,
        regions: Regions,
        retention_ms: int = DEFAULT_RETENTION_MS,
        forget_after_ms: int = FORGET_AFTER_MS,
    ) -> None:
        """`forget_after_ms`: how long a silent region is predicted; 0: for as long as it is silent.

        Raises as `Arguments`.
        """
        super().__init__(spec, max_debt, retention_ms)
        if forget_after_ms < 0:
            raise InvalidSpec(f"forget_after is {forget_after_ms} ms", "make it 0 or more")
        self.regions = regions
        keys = 1 + len(regions.others)
        self._by_sha = words(b"EVALSHA", self.script.sha.encode(), b"%d" % keys)
        self._by_source = words(b"EVAL", self.script.source.encode(), b"%d" % keys)
        self._region = words(regions.own, b"%d" % (forget_after_ms * 1000))
        self._no_beats = beat_words(0, [(0, 0)] * len(regions.others))

    def command(self, call: ScriptCall, source: bool = False) -> bytes:
        """The bytes of EVALSHA for this call, or with `source` of EVAL, for a server that lacks the
        script."""
        rest = [self._region, call.beats or self._no_beats]
        for one in call.others or ():
            rest += column_words(one), words(one.home or _UNKNOWN_HOME)
        count = 3 + 5 * len(call.others or ())
        keys = self.regions.keys(call.key)
        return self._encoded(call, source, keys, count, b"".join(rest))

    def parse(self, reply: object) -> ScriptAnswer:
        """Checks and reads an answer of the script, with what it holds back for silent regions.
        Raises `RedisReplyError`."""
        return script.parse(reply, hold=True)


def arguments_of(
    spec: BucketSpec,
    max_debt: int,
    regions: Regions | None,
    retention_ms: int,
    forget_after_ms: int = FORGET_AFTER_MS,
) -> Arguments:
    """The arguments for the script of this Redis; `regions`: None where all nodes share one."""
    if regions is None:
        return Arguments(spec, max_debt, retention_ms)
    return ReplicatedArguments(spec, max_debt, regions, retention_ms, forget_after_ms)


class HeldEntry(NamedTuple):
    """The content of a key: a debt in ns (below 0: credit for silent regions) as of `at_us` of its
    member's clock, in a bucket whose token takes `emission` ns, and the records of all
    processes."""

    at_us: int
    debt: Fraction
    emission: Fraction
    version: int
    """The version of a region's key; 0 in one Redis for all."""
    records: dict[bytes, Column]


def read_entry(fields: Mapping[bytes, bytes]) -> HeldEntry | None:
    """The fields of a key, of a region or of the one Redis; None without a level. Raises
    `RedisReplyError`."""
    if b"level" not in fields:
        return None
    level = _LEVEL.fullmatch(fields[b"level"])
    if level is None:
        raise RedisReplyError(f"{clipped(fields[b'level'])} is no level")
    numbers = map(int, level.groups(b"0"))
    at_s, at_us, debt_s, debt_ns, rest, q, p, level_made, version = numbers
    records = {}
    for owner, text in fields.items():
        if owner in (b"level", b"peers"):
            continue
        record = _RECORD.fullmatch(text)
        if record is None or (record[4] is None) is not (level[8] is None):
            raise RedisReplyError(f"{clipped(text)} is no record")
        generation, taken, refunded, made = map(int, record.groups(b"0")[:4])
        if made == level_made:
            home = b"" if record[5] in (None, _UNKNOWN_HOME) else record[5]
            records[owner] = Column(owner, generation, taken, refunded, home)
    debt = debt_s * NS_PER_SECOND + debt_ns + Fraction(rest, p)
    return HeldEntry(at_s * 1_000_000 + at_us, debt, Fraction(q, p), version, records)
