"""Kills processes that share a table at random: python -m tests.kills [--kills N] [--seed S].

After each kill the table must verify, every key must decide at once, and another process must lead.
At the end no token is missing whose caller got its answer, and none is counted that nobody took,
but for one more at each kill.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from crdtbucket import BucketSpec
from crdtbucket._core import BucketCore, Table
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.shared.table_file import open_table

WORKERS = 4
"""Rows of the account: three processes that are killed, and this one."""
KEYS = 16
LIMIT = 20_000
AT_ONCE_S = 20.0
"""Seconds within which even a busy machine does what should happen at once."""
KEPT = BucketSpec("kept", 1 << 20, 1, "1h", max_debt=0)
HARD = BucketSpec("hard", LIMIT, 1, "1h", max_debt=0)
FLOOD = [BucketSpec("flood", 100 + i, 1000) for i in range(2)]


class Account:
    """What each process was answered, in memory that outlives it: the tokens taken and given back
    of each key, and those of the hard limit."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * WORKERS * (2 * KEYS + 1))
        self._cells = memoryview(self._memory).cast("q")

    def add(self, row: int, cell: int, tokens: int = 1) -> None:
        self._cells[row * (2 * KEYS + 1) + cell] += tokens

    def total(self, cell: int) -> int:
        return sum(self._cells[row * (2 * KEYS + 1) + cell] for row in range(WORKERS))


@dataclass
class Process:
    """One process that uses the table at random."""

    table: Table
    account: Account
    row: int
    rng: random.Random
    seen: int = 0
    buckets: dict[str, BucketCore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for spec in (KEPT, HARD, FLOOD[0]):
            self.buckets[spec.name] = BucketCore(self.table, spec)

    def take(self, key: int) -> None:
        decision = self.buckets["kept"].take(f"kept {key}")
        if not decision:
            return
        self.account.add(self.row, key)
        if self.rng.random() < 0.2:
            self.account.add(self.row, KEYS + key)  # noted before: the answer may be lost
            back = self.buckets["kept"].refund(decision)
            self.account.add(self.row, KEYS + key, back - 1)

    def take_hard(self) -> None:
        if self.buckets["hard"].take("all"):
            self.account.add(self.row, 2 * KEYS)

    def flood(self) -> None:
        keys = [f"flood {self.rng.randrange(5000)}" for _ in range(40)]
        self.buckets["flood"].take_many(keys)

    def keep_up(self) -> None:
        if self.table.sharing.lead() or self.rng.random() < 0.1:
            self.table.outbox.collect()
            self.table.outbox.trim(self.table.outbox.version)
        self.table.sweep(200)

    def redefine(self) -> None:
        if self.table.definitions.free > 1000:  # slots are used again after a minute
            self.buckets["flood"].define(self.rng.choice(FLOOD))

    def open_epoch(self) -> None:
        if len(self.table.epochs.origins()) < 200:
            self.table.epochs.open(self.rng.getrandbits(63) | 1)

    def act(self) -> None:
        deeds: list[tuple[float, Callable[[], None]]] = [
            (0.4, lambda: self.take(self.rng.randrange(KEYS))),
            (0.3, self.flood),
            (0.2, self.keep_up),
            (0.08, self.take_hard),
            (0.01, self.redefine),
            (0.01, self.open_epoch),
        ]
        weights = [weight for weight, _deed in deeds]
        self.rng.choices(deeds, weights)[0][1]()


class Fleet:
    """The processes, their table, and what must hold after each kill."""

    def __init__(self, path: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.account = Account()
        self.file = SharedFile(path)
        self.table = open_table(self.file, max_keys=512, hash_key=None, owner="kills")
        self.here = Process(self.table, self.account, WORKERS - 1, self.rng)
        for key in range(KEYS):  # so that none is ever full, and evicted with its counts
            for _ in range(10):
                self.here.buckets["kept"].take(f"kept {key}")
                self.account.add(WORKERS - 1, key)
        self.pids = [self._start(row) for row in range(WORKERS - 1)]
        self.kills = 0

    def _start(self, row: int) -> int:
        seed = self.rng.getrandbits(64)
        pid = os.fork()
        return pid or self._work(row, seed)

    def _work(self, row: int, seed: int) -> NoReturn:
        try:
            process = Process(self.table, self.account, row, random.Random(seed))
            while True:
                process.act()
        except BaseException as error:  # noqa: BLE001 - the parent sees that it ended by itself
            print(f"a worker failed: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)

    def kill_one(self) -> None:
        time.sleep(self.rng.expovariate(1000.0))  # what it does at that moment is left to chance
        row = self.rng.randrange(len(self.pids))
        victim = self.pids[row]
        os.kill(victim, signal.SIGKILL)
        _pid, status = os.waitpid(victim, 0)
        assert os.WIFSIGNALED(status), "a worker ended by itself"
        self.kills += 1
        self._check(victim)
        self.pids[row] = self._start(row)

    def _check(self, victim: int) -> None:
        start = time.monotonic()
        self.table.verify()
        for key in range(KEYS):
            self.here.take(key)
        while self.table.sharing.leader in (0, victim):
            if self.table.sharing.lead():
                self.table.sharing.yield_lead()
                break
            assert time.monotonic() - start < AT_ONCE_S, "nobody leads"
        assert time.monotonic() - start < AT_ONCE_S, "a key is stuck"

    def close(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.kills += len(self.pids)
        self.table.verify()
        self._settle()
        assert self.table.sharing.workers() == [os.getpid()]
        assert self.file.alone()

    def _settle(self) -> None:
        """Compares every token of the kept keys, and of the hard limit."""
        slack = 0
        for key in range(KEYS):
            columns = self.here.buckets["kept"].columns(f"kept {key}").values()
            taken, refunded = (sum(column[i] for column in columns) for i in (1, 2))
            told, back = self.account.total(key), self.account.total(KEYS + key)
            assert told <= taken, f"key {key}: {told - taken} tokens are lost"
            assert refunded <= back, f"key {key}: {refunded - back} tokens came back twice"
            slack += (taken - told) + (back - refunded)
        assert slack <= 3 * self.kills, f"{slack} tokens that nobody knows of, {self.kills} kills"
        while self.here.buckets["hard"].take("all"):
            self.account.add(WORKERS - 1, 2 * KEYS)
        columns = self.here.buckets["hard"].columns("all").values()
        assert sum(column[1] for column in columns) == LIMIT
        assert LIMIT - self.kills <= self.account.total(2 * KEYS) <= LIMIT


def run(kills: int, seed: int, progress: bool = False) -> tuple[int, int]:
    """Makes the kills; returns their number, and how often the table had to be repaired."""
    directory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=directory) as place:
        fleet = Fleet(os.path.join(place, "table"), seed)
        while fleet.kills < kills:
            fleet.kill_one()
            if progress and fleet.kills % 500 == 0:
                print(f"{fleet.kills} kills, {fleet.table.sharing.repairs} repairs", flush=True)
        fleet.close()
        repairs = fleet.table.sharing.repairs
        fleet.file.close()
        return fleet.kills, repairs


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    kills, repairs = run(options.kills, options.seed, progress=True)
    print(f"{kills} kills, {repairs} repairs: every token is accounted for")
    return 0


if __name__ == "__main__":
    sys.exit(main())
