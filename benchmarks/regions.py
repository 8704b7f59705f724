"""What does a call cost the server, in one region of a replicated Redis beside a single server?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import hiredis

from benchmarks.measure import Case, Comparison, Scale
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.beats import Beat, RegionBeat, RegionBeats
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments
from crdtbucket.strong.redis.script import Arguments, ScriptCall, owner_name
from tests.strong.backends import Line
from tests.strong.redis_server import Server

SPEC = BucketSpec("b", 10**9, 2_000, max_debt=10**9)
BATCH, OWNERS, KEYS = 100, 16, 1_000
SECOND = 1_000_000
NOTE = "time in the script, by INFO commandstats; of use on a quiet machine only"


class Calls:
    """Calls of some processes on one or many keys, in batches; all are admitted."""

    def __init__(self, line: Line, arguments: Arguments, keys: int, silent_us: int = 0) -> None:
        self.line, self.arguments, self.keys, self.silent_us = line, arguments, keys, silent_us
        self.made = self.put_times = 0
        self.taken: dict[tuple[bytes, bytes], int] = {}
        line.ask("FLUSHALL")
        line.ask("SCRIPT", "LOAD", arguments.script.source)

    def now_us(self) -> int:
        second, us = self.line.ask("TIME")
        return int(second) * SECOND + int(us)

    def beats(self) -> bytes:
        if not isinstance(self.arguments, ReplicatedArguments):
            return b""
        now, regions = self.now_us(), self.arguments.regions
        one = RegionBeat(1, now - self.silent_us, 0, 1)
        return RegionBeats(regions, Beat(1, now, 1, dict.fromkeys(regions.others, one))).words

    def batch(self) -> None:
        beats, commands = self.beats(), []
        for _ in range(BATCH):
            i = self.made // self.keys % OWNERS
            key, owner = b"{k%d}" % (self.made % self.keys), owner_name(i + 1, f"n{i}")
            taken = self.taken.get((key, owner), 0)
            self.taken[key, owner] = taken + 1
            call = ScriptCall(key, 1, owner, 1, 1, taken, 0, 0, None, beats)
            commands.append(self.arguments.command(call))
            self.made += 1
        for reply in self.line.talk(*commands):
            if self.arguments.parse(reply).status != 1:
                raise AssertionError("a call was denied")

    def put(self, records: int) -> None:
        """Writes copies of all other regions' keys, in which each process has taken one token
        more."""
        assert isinstance(self.arguments, ReplicatedArguments)
        self.put_times += 1
        now = self.now_us()
        version = now // 1000 - 1_577_836_800_000
        commands = []
        for k in range(self.keys):
            for region in self.arguments.regions.others:
                name, words = region.decode(), []
                for i in range(records):
                    counts = f"1 {self.put_times} 0 0 {version} 7 {name} 1 {now // SECOND}"
                    words += [owner_name(i + 100, name), counts]
                debt = f"0 0 0 {self.arguments.q} {self.arguments.p}"
                at = f"{now // SECOND} {now % SECOND}"
                level = f"{at} {debt} 7 {version} {version * records} 1000000 0 {now}|"
                words += ["level", level]
                commands.append(hiredis.pack_command(("HSET", f"{{k{k}}}@{name}", *words)))
        self.line.talk(*commands)

    def cost(self, calls: int, records: int = 0, every: int = 0) -> tuple[float, ...]:
        """Us of the server for a call; copies with `records` records change every so many batches,
        0: never."""
        if records:
            self.put(records)
        for _ in range(max(1, self.keys // BATCH)):
            self.batch()
        self.line.ask("CONFIG", "RESETSTAT")
        for i in range(calls // BATCH):
            if every and i % every == every - 1:
                self.put(records)
            self.batch()
        text = self.line.ask("INFO", "commandstats").decode()
        found = re.search(r"cmdstat_evalsha:.*?usec_per_call=([0-9.]+)", text)
        assert found is not None
        return (float(found[1]),)


def _region(count: int) -> ReplicatedArguments:
    return ReplicatedArguments(SPEC, SPEC.max_debt, Regions("r0", [f"r{i}" for i in range(count)]))


def by_regions(server: Server, scale: Scale) -> Iterator[Comparison]:
    """Yields calls of one hot key, and of many keys."""
    line, one = Line(server), Arguments(SPEC, SPEC.max_debt)
    calls = scale.pick(20_000, 5_000, 200)

    def case(
        label: str, arguments: Arguments, keys: int, silent_us: int = 0, **copies: int
    ) -> Case:
        def run() -> tuple[float, ...]:
            return Calls(line, arguments, keys, silent_us).cost(calls, **copies)

        return Case(label, run)

    try:
        hot = [case("one server", one, 1), case("one region alone", _region(1), 1)]
        cold = [case("one server", one, KEYS), case("one region alone", _region(1), KEYS)]
        for count in (2, 3):
            made = partial(case, arguments=_region(count))
            changing = f"{count} regions, copies of 60 records that change"
            hot.append(made(changing, keys=1, records=60, every=4))
            hot.append(
                made(
                    f"{count} regions, the others silent", keys=1, silent_us=30 * SECOND, records=5
                )
            )
            cold.append(made(f"{count} regions, copies of 10 records", keys=KEYS, records=10))
        yield Comparison("regions: one hot key", ("µs of the server",), hot, note=NOTE)
        yield Comparison(f"regions: {KEYS:,} keys", ("µs of the server",), cold, note=NOTE)
    finally:
        line.close()
