"""Calls of the Redis script for slots as finished bytes, and its answers, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crdtbucket.base.clipped import clipped
from crdtbucket.errors import RedisReplyError
from crdtbucket.spec.bucket_kinds import MAX_SLOTS
from crdtbucket.strong.redis.lua import LuaScript
from crdtbucket.strong.redis.script import ScriptStatus, words

SLOT_SCRIPT = LuaScript.load("slots.lua")
_BY_SHA = words(b"EVALSHA", SLOT_SCRIPT.sha.encode(), b"1")
_BY_SOURCE = words(b"EVAL", SLOT_SCRIPT.source.encode(), b"1")
_WORDS = 10
"""The number of words of a call without ids: command, script, number of keys, the key, and six
arguments."""
_STATUS = (ScriptStatus.DENIED, ScriptStatus.ALLOWED, ScriptStatus.UNKNOWN)


class SlotRow(NamedTuple):
    """One hold of the caller: its id, the ms until it ends, and the number of its slot."""

    id: bytes
    left_ms: int
    number: int


class SlotCall(NamedTuple):
    """One call on the slots of a Redis key: it frees the holds `gone`, records the holds `live`,
    and asks for a hold `id` of `ttl_ms`.

    `born` is the time at which the record with the caller's holds began, None if it has none.
    `live` are all of its holds, None for a plain call. An empty `id` asks for nothing.
    """

    key: bytes
    slots: int
    born: int | None
    id: bytes = b""
    ttl_ms: int = 0
    gone: Sequence[bytes] = ()
    live: Sequence[SlotRow] | None = None

    def command(self, source: bool = False) -> bytes:
        """The bytes of EVALSHA, or with `source` of EVAL, for a server that lacks the script."""
        live = self.live or ()
        rows = (word for row in live for word in (row.id, b"%d" % row.left_ms, b"%d" % row.number))
        return b"*%d\r\n%b%b" % (
            _WORDS + len(self.gone) + 3 * len(live),
            _BY_SOURCE if source else _BY_SHA,
            words(
                self.key,
                b"%d" % self.slots,
                b"" if self.born is None else b"%d" % self.born,
                self.id,
                b"%d" % self.ttl_ms,
                b"%d" % len(self.gone),
                b"%d" % (self.live is not None),
                *self.gone,
                *rows,
            ),
        )


class SlotAnswer(NamedTuple):
    """The answer of the script: the slot that is held, how many are held, when the first of them is
    free (ms), and when the record began (us of Redis' time; 0 when there is none)."""

    status: ScriptStatus
    number: int
    held: int
    left_ms: int
    born: int


def parse_slots(reply: object) -> SlotAnswer:
    """The answer in a reply, as hiredis gives it. Raises `RedisReplyError` for anything else."""
    if isinstance(reply, list) and len(reply) == 5 and all(type(n) is int for n in reply):
        status, number, held, left, born = reply
        if 0 <= status < len(_STATUS) and 0 <= number < MAX_SLOTS and min(held, left, born) >= 0:
            return SlotAnswer(_STATUS[status], number, held, left, born)
    raise RedisReplyError(
        f"the script for slots was answered with {clipped(reply)}; is there a Redis of version 7 "
        "or newer at this address, and nothing between that changes replies?"
    )
