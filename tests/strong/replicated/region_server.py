"""Members of a replicated Redis on one real server, whose time a test sets; each has its own
keyspace.

The test replicates by itself: it writes fields of the key of one member to the copy of another.
"""

from __future__ import annotations

from fractions import Fraction

import hiredis

from crdtbucket.strong.redis.beats import BeatArguments, RegionBeats
from crdtbucket.strong.redis.lua import LuaScript
from crdtbucket.strong.redis.replicated import ReplicatedArguments
from crdtbucket.strong.redis.script import ScriptAnswer, ScriptCall
from tests.strong.backends import REPLACED, Line
from tests.strong.redis_server import Server
from tests.strong.replicated.region_model import LEVEL, NS, PEERS, Hash, Level, Peers, Record


def timed(script: LuaScript) -> LuaScript:
    """The script with the time of the test in place of that of the server."""
    source = script.source
    for old, new in REPLACED.items():
        source = source.replace(old, new)
    return LuaScript.of(source)


class RegionServer:
    """The server; its keys are prefixed with the member that holds them, `b"A/"`."""

    def __init__(self, server: Server) -> None:
        self.line = Line(server)
        self._scripts = {}
        for script in (ReplicatedArguments.script, BeatArguments.script):
            one = timed(script)
            assert self.line.ask("SCRIPT", "LOAD", one.source) == one.sha.encode()
            self._scripts[script.sha] = one.sha.encode()

    def close(self) -> None:
        self.line.close()

    def flush(self) -> None:
        self.line.ask("FLUSHALL")

    def _run(self, script: LuaScript, command: bytes, now_us: int) -> object:
        second, us = divmod(now_us, 1_000_000)
        sha = script.sha.encode()
        assert command.count(sha) == 1
        _, _, reply = self.line.talk(
            hiredis.pack_command(("HSET", "test:time", "s", second, "us", us)),
            hiredis.pack_command(("DEL", "test:ttl")),
            command.replace(sha, self._scripts[script.sha]),
        )
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def run(
        self, member: bytes, arguments: ReplicatedArguments, call: ScriptCall, now_us: int
    ) -> ScriptAnswer:
        """One call on a member; its key is named without the member."""
        there = ScriptCall(
            member + b"/" + call.key,
            call.cost,
            call.owner,
            call.fence,
            call.generation,
            call.taken,
            call.refunded,
            call.debt_ns,
            call.others,
            call.beats,
        )
        reply = self._run(arguments.script, arguments.command(there), now_us)
        return arguments.parse(reply)

    def expiry_ms(self) -> int | None:
        """The time to live that the last call set."""
        ttl = self.line.ask("HVALS", "test:ttl")
        return int(ttl[0]) if ttl else None

    def beat(self, arguments: BeatArguments, nodes: int, now_us: int) -> RegionBeats:
        reply = self._run(arguments.script, arguments.command(nodes), now_us)
        return arguments.parse(reply)

    def read(self, member: bytes, key: bytes) -> Hash:
        flat = self.line.ask("HGETALL", member + b"/" + key)
        return dict(map(parsed, flat[::2], flat[1::2]))

    def put(self, member: bytes, key: bytes, fields: Hash) -> None:
        """Writes all that replication has brought of a key."""
        name = member + b"/" + key
        self.line.ask("DEL", name)
        if fields:
            flat = [word for item in fields.items() for word in written(*item)]
            self.line.ask("HSET", name, *flat)


def written(name: bytes, one: object) -> tuple[bytes, bytes]:
    """A field of the model as the server has it."""
    if isinstance(one, Level):
        s, left = divmod(one.debt, NS)
        ns = left.__floor__()
        words = [*divmod(one.at_us, 10**6), s, ns, (left - ns) * one.p, one.q, one.p]
        words += [one.made, one.version, one.sum, one.offered, repr(one.reserve)]
        far = "".join(f"{name.decode()} {used} {when} " for name, used, when in one.far)
        return name, f"{' '.join(map(str, words))} {one.born}|{far}".encode()
    if isinstance(one, Peers):
        merged = "".join(f" {name.decode()} {version} {at}" for name, version, at in one.merged)
        return name, f"{one.made}{merged}".encode()
    assert isinstance(one, Record)
    generation, taken, refunded, base, version, made, home, fence, seen = one
    words = [generation, taken, refunded, base, version, made, home.decode(), fence, seen]
    return name, " ".join(map(str, words)).encode()


def parsed(name: bytes, text: bytes) -> tuple[bytes, Level | Peers | Record]:
    """A field as the model has it."""
    if name == LEVEL:
        numbers, _, far = text.partition(b"|")
        s, us, debt_s, ns, rest, q, p, made, version, total, offered, reserve, born = (
            numbers.split()
        )
        debt = int(debt_s) * NS + int(ns) + Fraction(int(rest), int(p))
        items = far.split()
        kept = sorted(
            (items[i], int(items[i + 1]), int(items[i + 2])) for i in range(0, len(items), 3)
        )
        at_us = int(s) * 10**6 + int(us)
        counts = map(int, (q, p, made, version, total, offered))
        return name, Level(at_us, debt, *counts, float(reserve), int(born), tuple(kept))
    if name == PEERS:
        made, *items = text.split()
        merged = sorted(
            (items[i], int(items[i + 1]), int(items[i + 2])) for i in range(0, len(items), 3)
        )
        return name, Peers(int(made), tuple(merged))
    generation, taken, refunded, base, version, made, home, fence, seen = text.split()
    counts = map(int, (generation, taken, refunded, base, version, made))
    return name, Record(*counts, home, int(fence), int(seen))
