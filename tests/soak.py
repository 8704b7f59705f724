"""Simulated runs from many seeds: python -m tests.soak --seeds N [--start S] [--jobs J].

Prints progress, and for a seed that fails what broke and the command that runs it again.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulated.long import LONG
from tests.simulated.run import play

CHUNK = 50


def attempt(seed: int) -> str | None:
    """What went wrong with a seed, or None."""
    try:
        play(seed)
    except Exception:  # noqa: BLE001 - whatever breaks is what a soak looks for
        return traceback.format_exc()
    return None


def attempt_many(seeds: range) -> list[tuple[int, str]]:
    return [(seed, error) for seed in seeds if (error := attempt(seed)) is not None]


def failures(start: int, count: int, jobs: int) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """(seeds done, failures among the last ones) while it goes on."""
    chunks = [range(s, min(s + CHUNK, start + count)) for s in range(start, start + count, CHUNK)]
    done = 0
    with ProcessPoolExecutor(jobs) as pool:
        for chunk, found in zip(chunks, pool.map(attempt_many, chunks), strict=True):
            done += len(chunk)
            yield done, found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--long", action="store_true", help="the traces that last an hour instead")
    options = parser.parse_args(arguments)
    if options.long:
        for name, trace in LONG.items():
            trace()
            print(f"{name}: holds", flush=True)
        return 0
    broken = 0
    for done, found in failures(options.start, options.seeds, options.jobs):
        for seed, error in found:
            broken += 1
            print(f"seed {seed}:\n{error}")
            print(f"again: python -m tests.soak --seeds 1 --start {seed} --jobs 1")
        print(f"{done} of {options.seeds} seeds, {broken} failed", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
