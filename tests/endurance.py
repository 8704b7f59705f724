"""Five real nodes for hours: keys that churn, a fault a minute, a reload every ten minutes.

python -m tests.endurance [--hours H]

Prints a line a minute and a verdict, and writes JSON. The exit status is 1 when memory grows, when
a process opens more and more files, or when a pause finds what `python -m tests.histories` would.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.compositions.process import Failed
from tests.histories.checker import check, smallest
from tests.histories.cluster import Cluster, Node, descriptors, resident_bytes
from tests.histories.plan import CUTS, FORGETFUL, KINDS, LONG, Blow, cut, draw_blow
from tests.histories.run import NETWORKS, NODES, befall, network
from tests.server_process import end_by_signals

MINUTE_S, RELOAD_MINUTES, SETTLE_MINUTES = 60.0, 10, 15
MOST_MB_AN_HOUR = 1.0
MOST_MORE_FILES = 4
"""How many more files may be open: for a dial or a snapshot that is under way."""
CHUNK = 250
"""Keys that a node is asked for at a time."""
MB = 1e6


@dataclass(frozen=True)
class Sample:
    """One node at one pause."""

    minute: float
    node: int
    pid: int
    resident: int
    """Resident bytes, including free ones that its allocator keeps."""
    used: int
    """Resident bytes after it has given free ones back."""
    files: int
    live: int = 0
    """Bytes that malloc has given out, or 0 where it cannot tell."""

    @property
    def judged(self) -> int:
        """The bytes that must not grow: those that malloc has given out, as a table has its full
        size from the start. `used` also grows when the same amount is spread over more pages."""
        return self.live or self.used


@dataclass(frozen=True)
class Settings:
    """The load of the nodes."""

    hours: float
    keys: int
    """The number of different keys that are asked for, again and again."""
    keys_per_second: int
    """Keys a second that all nodes together are asked for."""


class Endurance:
    """The run and its samples."""

    def __init__(self, cluster: Cluster, settings: Settings, seed: int) -> None:
        self.samples: list[Sample] = []
        self.slowest = 0.0
        self._cluster, self._settings = cluster, settings
        self._random = random.Random(seed)
        self._next = 0
        self.churned = 0
        self.left: dict[int, int] = {}
        """By node, the objects that only the garbage collector found at the end."""

    async def play(self) -> None:
        """Plays minute after minute. Raises `Failed` when a process does not do what it is told."""
        cluster, minute = self._cluster, 0
        async with cluster.running():
            await cluster.pause()
            churning = asyncio.create_task(self._churn())
            try:
                while cluster.now() < self._settings.hours * 3600 and not churning.done():
                    cluster.resume()
                    cluster.history.pauses[-1].resumed = cluster.now()
                    minute += 1
                    await self._minute(minute)
            finally:
                churning.cancel()
                ended = await asyncio.gather(churning, return_exceptions=True)
            if isinstance(ended[0], Exception):
                raise ended[0]
            for node in cluster.nodes:
                self.left[node.number] = (await node.process.ask("collect"))["left"]

    async def _minute(self, minute: int) -> None:
        cluster = self._cluster
        begin = cluster.now()
        blow = self._blow(minute)
        await asyncio.sleep(self._random.uniform(5.0, 30.0))
        await befall(cluster, blow, self._random)
        if minute % RELOAD_MINUTES == 0:
            await cluster.reload()
        await asyncio.sleep(max(0.0, begin + MINUTE_S - cluster.now()))
        pause = await cluster.pause()
        cluster.history.reads.clear()  # the pause says more
        for node in cluster.nodes:
            await self._look(cluster.now() / MINUTE_S, node)
        linked, agreed = (
            "never" if at is None else f"{at - pause.healed:.1f} s"
            for at in (pause.served, pause.agreed)
        )
        last = self.samples[-len(cluster.nodes) :]
        print(
            f"minute {minute}: {blow}; linked in {linked}, agreed in {agreed}; "
            f"{self.churned:,} keys churned; MB "
            + " ".join(f"{one.used / MB:.1f}" for one in last)
            + f" used, {max(one.resident for one in last) / MB:.1f} held at most"
            + "; files "
            + " ".join(str(one.files) for one in last),
            flush=True,
        )

    def _blow(self, minute: int) -> Blow:
        """A fault that ends within the minute. The longest cuts come first, since a table grows by
        what it cannot send. Only the last node is ever killed: the memory of the others is followed
        from beginning to end."""
        nodes = len(self._cluster.nodes)
        last = nodes - 1
        if minute <= len(CUTS):
            shape = CUTS[minute - 1]
            return Blow(shape, cut(shape, nodes, self._random), "", (), LONG[1], 1.0)
        blow = draw_blow(self._random, nodes, KINDS, set())
        struck = (last,) if blow.strike in FORGETFUL else blow.nodes
        return replace(blow, rest=1.0, nodes=struck)

    async def _look(self, minute: float, node: Node) -> None:
        """Takes a sample without a garbage collection before it: objects in circles of references
        count as used, since they may stay for long where a process makes few objects."""
        pid = node.pid
        held, files = resident_bytes(pid), descriptors(pid)
        async with node.asking:
            live = (await node.process.ask("give_back"))["live"]
        used = resident_bytes(pid)
        self.samples.append(Sample(minute, node.number, pid, held, used, files, live))

    async def _churn(self) -> None:
        """Asks for keys once each, and for the same ones only much later again."""
        cluster, settings = self._cluster, self._settings
        while True:
            node = cluster.nodes[self._next // CHUNK % len(cluster.nodes)]
            if self._serves(node):
                async with node.asking:
                    if self._serves(node):  # it may have been closed meanwhile
                        count = {"first": self._next, "count": CHUNK}
                        await cluster.ask(node, "churn", bucket="churn", **count)
                self._next = (self._next + CHUNK) % settings.keys
                self.churned += CHUNK
            await asyncio.sleep(CHUNK / settings.keys_per_second)

    def _serves(self, node: Node) -> bool:
        return self._cluster.calling and node.life is not None and not node.stopped


def lives(samples: Sequence[Sample], after: float) -> dict[int, list[Sample]]:
    """By node, the samples since that minute, if it has been the same process."""
    out: dict[int, list[Sample]] = {}
    for one in samples:
        if one.minute >= after:
            out.setdefault(one.node, []).append(one)
    return {node: row for node, row in out.items() if len({one.pid for one in row}) == 1}


def slope(samples: Sequence[Sample]) -> float:
    """MB an hour by which memory grows: the median slope between any two samples. What held more
    than ever, in the longest cut so far, may stay that large: such a step weighs less than steady
    growth."""
    return statistics.median(
        (later.judged - one.judged) / MB / (later.minute - one.minute) * 60
        for one, later in itertools.combinations(samples, 2)
    )


def verdict(samples: Sequence[Sample], after: float) -> list[str]:
    """What is wrong with memory and descriptors after that minute, when the tables are warm."""
    wrong = []
    for node, row in lives(samples, after).items():
        half = len(row) // 2
        if len(row) > 1 and (grown := slope(row)) >= MOST_MB_AN_HOUR:
            wrong.append(f"node {node} grows by {grown:.2f} MB an hour after minute {after:g}")
        early, late = (max(one.files for one in part) for part in (row[: half + 1], row[half:]))
        if late > early + MOST_MORE_FILES:
            wrong.append(f"node {node} opens more and more files: {early} and then {late}")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Plays, prints and judges."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--keys", type=int, default=1_000_000, help="that are churned through")
    parser.add_argument("--keys-per-second", type=int, default=500, help="of all nodes together")
    parser.add_argument("--settle", type=float, default=SETTLE_MINUTES,
                        help="minutes after which memory may grow no more")  # fmt: skip
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--network", choices=NETWORKS, default="auto")
    parser.add_argument("--out", type=Path, default=Path("build/endurance.json"), help="a file")
    options = parser.parse_args(arguments)
    if options.out.is_dir():
        parser.error(f"--out {options.out} is a folder: name the file that is written at the end")
    seed = random.SystemRandom().getrandbits(31) if options.seed is None else options.seed
    # Processes that are started from now on take small objects from malloc as well: Python's own
    # allocator does not return an arena of a megabyte while one object is left in it.
    os.environ["PYTHONMALLOC"] = "malloc"
    settings = Settings(options.hours, options.keys, options.keys_per_second)
    between, told = network(options.network, NODES, seed)
    print(f"seed {seed}; network: {told}", flush=True)
    wrong = []
    with tempfile.TemporaryDirectory(prefix="crdtbucket-endurance-") as folder:
        cluster = Cluster(Path(folder), between, nodes=NODES, seed=seed, calls_per_second=5.0)
        run = Endurance(cluster, settings, seed)
        try:
            asyncio.run(run.play())
        except Failed as failed:
            wrong.append(f"a process fails: {failed}")
    judged = check(cluster.history)
    wrong += [*map(str, smallest(judged.findings)), *verdict(run.samples, options.settle)]
    followed = lives(run.samples, options.settle)
    grown = {node: slope(row) for node, row in followed.items() if len(row) > 1}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps(
            {
                "seed": seed, "network": told, **asdict(settings), "settle": options.settle,
                "wrong": wrong, "mb_an_hour": grown, "left": run.left, "admitted": judged.admitted,
                "samples": [asdict(one) for one in run.samples],
            }
        )
        + "\n"
    )  # fmt: skip
    if not grown:
        print(f"memory: not judged, the run was over before minute {options.settle:g}")
    for node, found in grown.items():
        first, last = (followed[node][i] for i in (0, -1))
        print(f"memory of node {node}: {found:+.2f} MB an hour after minute {options.settle:g}; "
              f"{first.judged / MB:.2f} MB, then {last.judged / MB:.2f}, "
              f"on pages of {first.used / MB:.2f} and {last.used / MB:.2f}; "
              f"left to the collector at the end: {run.left.get(node, 0):,}")  # fmt: skip
    print(f"{len(cluster.history.pauses)} pauses, {judged.admitted} takes admitted, "
          f"{run.churned:,} keys churned: {'holds' if not wrong else 'BROKEN'}")  # fmt: skip
    for one in wrong:
        print(f"  {one}")
    return int(bool(wrong))


if __name__ == "__main__":
    end_by_signals()
    sys.exit(main())
