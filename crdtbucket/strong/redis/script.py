"""Calls of the Redis script as finished bytes, and its answers, checked; no connection here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from crdtbucket._core import store_call
from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import InvalidSpec, RedisReplyError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.lua import LuaScript

SCRIPT = LuaScript.load("script.lua")
SOURCE, SHA = SCRIPT.source, SCRIPT.sha

MOST_TOKENS = 2**52
"""Capacity and max_debt together: sums with costs and counts stay exact in the script's doubles."""
MOST_EMISSION_P = 2**51
MOST_COUNT = 2**53
MOST_SECONDS = 2**62 // NS_PER_SECOND
DEFAULT_RETENTION_MS = 3_600_000


class ScriptStatus(IntEnum):
    """The result of a call, with the numbers that the script uses."""

    DENIED = 0
    ALLOWED = 1
    """Admitted, or settled when the cost was 0."""
    UNKNOWN = 2
    """The caller must send the whole entry: what it has taken cannot be charged without comparing
    levels, or Redis has no record of it. Nothing was changed."""
    FENCED = 3
    """A later connection of the caller has asked since; nothing was changed."""


ALLOWED, UNKNOWN, FENCED = ScriptStatus.ALLOWED, ScriptStatus.UNKNOWN, ScriptStatus.FENCED
"""Used on every decision, since on Python 3.11 an attribute of an enumeration costs a call."""


@dataclass(frozen=True, slots=True)
class Column:
    """The counts of one process for a key in one `generation`: `taken` and `refunded` tokens."""

    owner: bytes
    """The process that counts; see `owner_name`."""
    generation: int
    taken: int
    refunded: int
    home: bytes = b""
    """The region of the process, where Redis is replicated; empty when it is not known."""


@dataclass(slots=True)  # not frozen: that would take four times as long to make, on every decision
class ScriptCall:
    """One call on the Redis key `key`: the caller's column, then a cost to take, or 0 to settle.

    `fence` numbers the connections of the process; `debt_ns` is the debt of the caller's level.
    `others` are the columns of the other processes that the caller knows; with them, the entry is
    whole, and its level may be adopted. None for a plain call. `beats` is what is known of the
    other regions where Redis is replicated, see `RegionBeats.words`.
    """

    key: bytes
    cost: int
    owner: bytes
    fence: int
    generation: int
    taken: int
    refunded: int
    debt_ns: int
    others: tuple[Column, ...] | None = None
    beats: bytes = b""


class ScriptAnswer(NamedTuple):
    """The answer of the script: the debt in ns, rounded up, and the caller's record as it is now.

    `columns` are those of all records when the call was whole, in no order; else empty. `hold_ns`
    is the refill that silent regions are taken to have used: no debt, but a denied caller waits
    for it too.
    """

    status: ScriptStatus
    debt_ns: int
    taken: int
    refunded: int
    columns: tuple[Column, ...] = ()
    hold_ns: int = 0


_STATUS = tuple(ScriptStatus)  # indexing is quicker than calling the enumeration
_new = tuple.__new__  # as is this than calling the class, for one made on every decision
_OWNER = re.compile(rb"([0-9a-f]{16}):(.{1,800})", re.DOTALL)

# Numbers that change from call to call have a fixed width: one formatting makes them all, and one
# length shows that each is in its range.
_CALL = (
    b"$10\r\n%010d\r\n$10\r\n%010d\r\n"  # fence generation
    b"$16\r\n%016d\r\n$16\r\n%016d\r\n$10\r\n%010d\r\n$9\r\n%09d\r\n"  # taken refunded s ns
)
_COLUMN = b"$10\r\n%010d\r\n$16\r\n%016d\r\n$16\r\n%016d\r\n"
_CALL_SIZE = len(_CALL % ((0,) * 6))
_COLUMN_SIZE = len(_COLUMN % ((0,) * 3))
_WORDS = 18
"""The number of words of a plain call: the command, the script, the number of keys, the key, and 14
arguments."""


class Arguments:
    """The arguments that are the same in every call on one bucket, as bytes that are made once."""

    script = SCRIPT

    def __init__(
        self, spec: BucketSpec, max_debt: int, retention_ms: int = DEFAULT_RETENTION_MS
    ) -> None:
        """`max_debt` in tokens; `retention_ms` (above 0): how long records outlive a full bucket.

        Raises `InvalidSpec` for the few definitions that the script cannot compute exactly.
        """
        self.capacity, self.max_debt, self.retention_ms = spec.capacity, max_debt, retention_ms
        self.q, self.p = spec.emission
        self.definition = spec.definition_hash
        if self.capacity + max_debt > MOST_TOKENS:
            raise InvalidSpec(
                f"capacity {self.capacity} and max_debt {max_debt} are together above 2^52",
                "lower them, or leave this bucket in eventual mode",
                "capacity",
            )
        if self.p >= MOST_EMISSION_P:
            raise InvalidSpec(
                f"refill_rate is {spec.refill_rate}, which in strong mode must be below 2^51",
                "divide it and refill_interval by the same number",
                "refill_rate",
            )
        if retention_ms <= 0:
            raise InvalidSpec(f"retention is {retention_ms} ms", "make it 1 ms or more")
        self._by_sha = words(b"EVALSHA", self.script.sha.encode(), b"1")
        self._by_source = words(b"EVAL", self.script.source.encode(), b"1")
        self._plain = b"*%d\r\n%b" % (_WORDS, self._by_sha)
        fixed = (self.capacity, max_debt, self.q, self.p, retention_ms)
        self._fixed = words(*(b"%d" % number for number in fixed))

    def command(self, call: ScriptCall, source: bool = False) -> bytes:
        """The bytes of EVALSHA, or with `source` of EVAL, for a server that lacks the script.

        Raises `ValueError` when a number of the call is out of range.
        """
        if not source and call.others is None:
            debt = call.debt_ns
            counts = (call.cost, call.fence, call.generation, call.taken, call.refunded, debt)
            made = store_call(self._plain, call.key, self._fixed, call.owner, counts)
            if made is not None:
                return made
        columns = [column_words(one) for one in call.others or ()]
        return self._encoded(call, source, (call.key,), 4 * len(columns), b"".join(columns))

    def parse(self, reply: object) -> ScriptAnswer:
        """The answer in a reply to one of these. Raises `RedisReplyError` for anything else."""
        return parse(reply)

    def _encoded(
        self, call: ScriptCall, source: bool, keys: Sequence[bytes], count: int, rest: bytes
    ) -> bytes:
        """The bytes of a call on these keys, with so many words after those of a plain call."""
        return b"*%d\r\n%b%b%b%b%b$1\r\n%d\r\n%b" % (
            _WORDS - 1 + len(keys) + count,
            self._by_source if source else self._by_sha,
            words(*keys),
            self._fixed,
            words(b"%d" % call.cost, call.owner),
            call_numbers(call),
            call.others is not None,
            rest,
        )


def parse(reply: object, hold: bool = False) -> ScriptAnswer:
    """The answer in a reply, as hiredis gives it; with a `hold`, that of a replicated Redis.

    Raises `RedisReplyError` for anything else.
    """
    first = 7 if hold else 5
    if type(reply) is not list or (size := len(reply)) < first or (size - first) % 4:
        raise _no_answer(reply)
    status, seconds, ns, taken, refunded = reply if size == 5 else reply[:5]
    if not (
        type(status) is type(seconds) is type(ns) is type(taken) is type(refunded) is int
        and 0 <= status < len(_STATUS)
        and 0 <= seconds <= MOST_SECONDS
        and 0 <= ns < NS_PER_SECOND
        and 0 <= taken <= MOST_COUNT
        and 0 <= refunded <= MOST_COUNT
    ):
        raise _no_answer(reply)
    debt, held = seconds * NS_PER_SECOND + ns, _span(reply, *reply[5:7]) if hold else 0
    columns: tuple[Column, ...] = ()
    if size > first:
        columns = tuple([_read_column(reply, i) for i in range(first, size, 4)])
    return _new(ScriptAnswer, (_STATUS[status], debt, taken, refunded, columns, held))


def _span(reply: object, seconds: object, ns: object) -> int:
    if (
        type(seconds) is not int
        or type(ns) is not int
        or not (0 <= seconds <= MOST_SECONDS and 0 <= ns < NS_PER_SECOND)
    ):
        raise _no_answer(reply)
    return seconds * NS_PER_SECOND + ns


def _read_column(reply: list[Any], start: int) -> Column:
    owner, *counts = reply[start : start + 4]
    if not isinstance(owner, bytes) or _OWNER.fullmatch(owner) is None:
        raise _no_answer(reply)
    whole = [n for n in counts if type(n) is int and 0 <= n <= MOST_COUNT]
    if len(whole) != 3:
        raise _no_answer(reply)
    generation, taken, refunded = whole
    return Column(owner, generation, taken, refunded)


def _no_answer(reply: object) -> RedisReplyError:
    return RedisReplyError(
        f"the script's answer was {clipped(reply)}; is there a Redis of version 7 or newer at this "
        "address, and nothing between that changes replies?"
    )


def call_numbers(call: ScriptCall) -> bytes:
    """Fence, generation, counts and debt of a call, as words. Raises `ValueError` out of range."""
    seconds, ns = divmod(call.debt_ns, NS_PER_SECOND)
    text = _CALL % (
        call.fence,
        call.generation,
        call.taken,
        call.refunded,
        seconds,
        ns,
    )
    if len(text) != _CALL_SIZE:
        raise ValueError(f"{call} has a number out of range, so its bytes would say something else")
    return text


def column_words(column: Column) -> bytes:
    """A column as words. Raises `ValueError` out of range."""
    text = _COLUMN % (column.generation, column.taken, column.refunded)
    if len(text) != _COLUMN_SIZE:
        raise ValueError(f"{column} has a number out of range")
    return words(column.owner) + text


def owner_name(epoch: int, node: str) -> bytes:
    """How Redis calls a process: its epoch (64 bits) as 16 hexadecimal digits, and its node."""
    return b"%016x:%s" % (epoch, node.encode())


def read_owner(owner: bytes) -> tuple[int, str]:
    """Epoch and node of an owner. Raises `RedisReplyError`."""
    match = _OWNER.fullmatch(owner)
    try:
        if match is None or not int(match[1], 16):
            raise ValueError(owner)
        return int(match[1], 16), match[2].decode()
    except ValueError as error:
        raise RedisReplyError(f"{clipped(owner)} names no process of a node") from error


def words(*texts: bytes) -> bytes:
    """Words of a command, as they are sent."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)
