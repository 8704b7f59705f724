"""Plays five real nodes under faults that a seed draws, and checks what their callers were
answered.

python -m tests.histories [--seconds S] [--runs N] [--seed S]

It prints one line for each run and a table, and writes into a folder a JSON of each run and a
picture of the last one, or of the first that is invalid. The exit status is 1 when one is.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.histories import picture
from tests.histories.checker import Verdict, check, smallest
from tests.histories.history import Finding, History
from tests.histories.plan import KINDS, draw
from tests.histories.run import NETWORKS, NODES, Load, run

HEAD = (
    "seed", "faults", "admitted", "denied", "unanswered", "died", "over", "bound", "again in",
    "valid",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One run and its verdict."""

    seed: int
    history: History
    verdict: Verdict

    @property
    def row(self) -> tuple[str, ...]:
        """Its line of the table."""
        v = self.verdict
        return (
            str(self.seed), str(len(self.history.faults)), str(v.admitted), str(v.denied),
            str(v.indeterminate), str(v.died), f"{v.over:.0f}", f"{v.bound:.0f}",
            f"{v.serve_s:.1f} s", "yes" if v.valid else "NO",
        )  # fmt: skip


def one(seed: int, options: argparse.Namespace) -> Outcome:
    """Plays the plan of a seed, and keeps its history. A run is invalid when a process ends by
    itself or does not do what it is told."""
    load = Load(calls_per_second=options.calls)
    chapters = draw(seed, options.seconds, load.nodes, tuple(options.only or KINDS))
    keep = None if options.logs is None else options.logs / f"{seed}"
    history, told, failed = run(chapters, options.network, seed, load, keep)
    if not options.told:
        print(f"network: {told}", flush=True)
        options.told = True
    verdict = check(history)
    if failed is not None:
        broken = Finding("a process fails", 0.0, str(failed))
        verdict = dataclasses.replace(verdict, findings=(broken, *verdict.findings))
    history.save(
        options.out / f"history-{seed}.json",
        seed=seed, network=told, seconds=options.seconds, findings=[*map(str, verdict.findings)],
    )  # fmt: skip
    return Outcome(seed, history, verdict)


def draw_one(outcome: Outcome, out: Path) -> None:
    """Draws the picture of a run, where matplotlib is installed."""
    path = out / f"history-{outcome.seed}.png"
    title = f"seed {outcome.seed}: {'valid' if outcome.verdict.valid else 'INVALID'}"
    try:
        picture.draw(outcome.history, title, path)
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'crdtbucket[plot]')")
    else:
        print(f"picture: {path}")


def table(rows: list[tuple[str, ...]]) -> str:
    """The rows in columns; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def main(arguments: list[str] | None = None) -> int:
    """Plays and judges as many runs as the options say."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.histories", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of one run, without pauses")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument(
        "--seed", type=int, default=None, help="of the first run; then the next ones"
    )
    parser.add_argument("--network", choices=NETWORKS, default="auto")
    parser.add_argument("--only", choices=KINDS, action="append", help="only faults of this kind")
    parser.add_argument("--calls", type=float, default=25.0, help="of each client, a second")
    parser.add_argument("--out", type=Path, default=Path("build/histories"), help="a folder")
    parser.add_argument("--logs", type=Path, default=None, help="a folder for the nodes' logs")
    options = parser.parse_args(arguments)
    options.told = False
    first = random.SystemRandom().getrandbits(31) if options.seed is None else options.seed
    options.out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for seed in range(first, first + options.runs):
        begin = time.monotonic()
        outcomes.append(outcome := one(seed, options))
        rest = ", ".join(map(" ".join, zip(HEAD[1:], outcome.row[1:], strict=True)))
        print(f"seed {seed}: {rest}; took {time.monotonic() - begin:.0f} s", flush=True)
        for finding in smallest(outcome.verdict.findings):
            print(f"  {finding}", flush=True)
    bad = [outcome for outcome in outcomes if not outcome.verdict.valid]
    print(table([HEAD, *(outcome.row for outcome in outcomes)]))
    draw_one((bad or outcomes[-1:])[0], options.out)
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} runs valid, {NODES} nodes")
    for outcome in bad:
        print(f"again: python -m tests.histories --runs 1 --seed {outcome.seed} "
              f"--seconds {options.seconds:g} --network {options.network}")  # fmt: skip
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
