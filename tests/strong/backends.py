"""Two stores behind one protocol: the script on real servers whose time a test sets, and its model.

The script's call of TIME becomes a look at a key that the test writes, and its PEXPIRE a note of
the time to live, by which keys are removed as the test's time passes. All else runs as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import hiredis

from crdtbucket.strong.redis.script import SHA, SOURCE, Arguments, ScriptAnswer, ScriptCall, parse
from tests.strong.redis_server import BOUND, Server
from tests.strong.script_model import Entry, Record, ScriptModel

REPLACED = {
    "redis.call('TIME')": "redis.call('HMGET', 'test:time', 's', 'us')",
    "redis.call('PEXPIRE', key,": "redis.call('HSET', 'test:ttl', key,",
}


def at_test_time(text: str) -> str:
    """This part of the script as it runs at the time of a test."""
    for old, new in REPLACED.items():
        text = text.replace(old, new)
    return text


TIMED = at_test_time(SOURCE)
TIMED_SHA = hashlib.sha1(TIMED.encode(), usedforsecurity=False).hexdigest()
START_US = 1_700_000_000_000_000


class Stored(NamedTuple):
    """All that is stored of a key: the debt in ns as of `at_us`, ns a token, records by owner as
    (generation, taken, refunded, fence, seen_s), and when it expires."""

    at_us: int
    debt: Fraction
    emission: Fraction
    records: dict[bytes, tuple[int, ...]]
    expires_ms: int


class Backend(Protocol):
    now_us: int

    def run(self, arguments: Arguments, call: ScriptCall) -> ScriptAnswer: ...

    def stored(self, key: bytes) -> Stored | None: ...

    def forget(self, key: bytes, owner: bytes) -> None: ...

    def flush(self) -> None: ...

    def snapshot(self) -> Any: ...

    def restore(self, image: Any) -> None: ...


class Line:
    """One connection to a server, for commands and replies."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(BOUND)
        self._socket.connect(str(server.path))
        self._reader = hiredis.Reader()

    def close(self) -> None:
        self._socket.close()

    def talk(self, *commands: bytes) -> list[Any]:
        """The replies to commands that are sent at once; errors among them are values."""
        self._socket.sendall(b"".join(commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                data = self._socket.recv(1 << 16)
                assert data, "the server closed the connection"
                self._reader.feed(data)
            else:
                replies.append(reply)
        return replies

    def ask(self, *words: str | bytes | int) -> Any:
        """The reply to one command; an error is raised."""
        (reply,) = self.talk(hiredis.pack_command(words))
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply


class TimedRedis:
    """A real server with the script, at the time `now_us`."""

    def __init__(self, server: Server) -> None:
        self.now_us = START_US
        self.line = Line(server)
        assert self.line.ask("SCRIPT", "LOAD", TIMED) == TIMED_SHA.encode()
        self._expires: dict[bytes, int] = {}

    def run(self, arguments: Arguments, call: ScriptCall) -> ScriptAnswer:
        self._expire()
        second, us = divmod(self.now_us, 1_000_000)
        command = arguments.command(call)
        assert command.count(SHA.encode()) == 1
        _, _, reply, ttl = self.line.talk(
            hiredis.pack_command(("HSET", "test:time", "s", second, "us", us)),
            hiredis.pack_command(("DEL", "test:ttl")),
            command.replace(SHA.encode(), TIMED_SHA.encode()),
            hiredis.pack_command(("HGET", "test:ttl", call.key)),
        )
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        if ttl is not None:
            self._expires[call.key] = self.now_us // 1000 + int(ttl)
        return parse(reply)

    def stored(self, key: bytes) -> Stored | None:
        self._expire()
        flat = self.line.ask("HGETALL", key)
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if not fields:
            return None
        at_s, at_us, s, ns, rest, q, p = map(int, fields.pop(b"level").split())
        debt = s * 10**9 + ns + Fraction(rest, p)
        records = {owner: tuple(map(int, text.split())) for owner, text in fields.items()}
        return Stored(at_s * 10**6 + at_us, debt, Fraction(q, p), records, self._expires[key])

    def forget(self, key: bytes, owner: bytes) -> None:
        self.line.ask("HDEL", key, owner)

    def flush(self) -> None:
        self.line.ask("FLUSHALL")
        self._expires.clear()

    def snapshot(self) -> Any:
        return {key: self.line.ask("DUMP", key) for key in self._expires}, dict(self._expires)

    def restore(self, image: Any) -> None:
        dumps, expires = image
        self.flush()
        for key, dump in dumps.items():
            if dump is not None:
                self.line.ask("RESTORE", key, 0, dump)
        self._expires = dict(expires)

    def _expire(self) -> None:
        for key, due in list(self._expires.items()):
            if due <= self.now_us // 1000:
                self.line.ask("DEL", key)
                del self._expires[key]


class TimedModel(ScriptModel):
    """The model at the time `now_us`."""

    def __init__(self) -> None:
        self.now_us = START_US
        super().__init__(lambda: self.now_us)

    def stored(self, key: bytes) -> Stored | None:
        entry = self.held(key)
        if entry is None:
            return None
        records = {owner: _counts(record) for owner, record in entry.records.items()}
        return Stored(entry.at_us, entry.debt, entry.emission, records, entry.expires_ms)

    def forget(self, key: bytes, owner: bytes) -> None:
        entry: Entry = self.entries[key]
        entry.records.pop(owner, None)


def _counts(record: Record) -> tuple[int, ...]:
    return record.generation, record.taken, record.refunded, record.fence, record.seen_s


@contextlib.contextmanager
def timed(program: str) -> Iterator[TimedRedis]:
    """A server of its own, for a module."""
    with Server(program=program) as server:
        redis = TimedRedis(server)
        yield redis
        redis.line.close()
