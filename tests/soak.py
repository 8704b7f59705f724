"""Plays simulated runs from many seeds: python -m tests.soak --seeds N [--start S] [--jobs J].

It prints progress, and the seed from which an interrupted run can go on. For a seed that fails it
prints the error, the smallest plan that fails in the same way, and the command that runs it again.
Many seeds are played by a compiled copy of this checkout, unless --interpreted is given.

--seed N shows and runs one plan, with the dimensions of --plain as plain as they can be and without
the events of --drop.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from crdtbucket.simulator.batch import end_with_the_parent
from tests.compiled import compiled_copy, run_in
from tests.simulated.drawing import draw
from tests.simulated.long import LONG
from tests.simulated.run import play
from tests.simulated.shrink import failure, shrink

CHUNK = 25
WORTH_COMPILING = 5000
"""From this many seeds on, compiling takes less time than it saves."""


def attempt(seed: int) -> str | None:
    """The error of a seed, or None."""
    try:
        play(seed)
    except Exception:  # noqa: BLE001 - a soak looks for any error
        return traceback.format_exc()
    return None


def attempt_many(seeds: range) -> list[tuple[int, str]]:
    logging.getLogger("crdtbucket").addHandler(logging.NullHandler())
    gc.freeze()  # the collector need not look at what is imported
    gc.disable()
    found = []
    for seed in seeds:
        if (error := attempt(seed)) is not None:
            found.append((seed, error))
        gc.collect()  # a run is large, and is not needed any more
    return found


def failures(start: int, count: int, jobs: int) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Yields (seeds done, failures among the last ones) while it goes on."""
    chunks = [range(s, min(s + CHUNK, start + count)) for s in range(start, start + count, CHUNK)]
    done = 0
    with ProcessPoolExecutor(jobs, initializer=end_with_the_parent) as pool:
        found_in = pool.map(attempt_many, chunks)
        for chunk, found in zip(chunks, found_in, strict=True):
            done += len(chunk)
            yield done, found


def one(seed: int, plain: tuple[str, ...], dropped: tuple[int, ...]) -> int:
    """Shows a plan and runs it."""
    logging.getLogger("crdtbucket").addHandler(logging.NullHandler())
    print(draw(seed, plain, dropped))
    found = failure(seed, plain, dropped)
    print("holds" if found is None else found.error)
    return 0 if found is None else 1


def report(seed: int, error: str) -> None:
    """Prints a failing seed, and its plan when that is made small."""
    print(f"seed {seed}:\n{error}")
    small = shrink(seed)
    if small is None:
        print(f"again: python -m tests.soak --seed {seed}")
        return
    print(draw(seed, small.plain, small.dropped))
    print(f"{small.error}\nagain: {small.command}")


def in_copy(arguments: list[str]) -> int:
    """Does the same in a compiled copy."""
    with compiled_copy() as place:
        command = (sys.executable, "-m", "tests.soak", *arguments, "--interpreted")
        return run_in(place, *command).returncode


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, help="shows and runs the plan of this one")
    parser.add_argument(
        "--plain", default="", help="its dimensions that are plain, comma-separated"
    )
    parser.add_argument("--drop", default="", help="numbers of its events that do not happen")
    parser.add_argument("--long", action="store_true", help="the traces that last an hour instead")
    parser.add_argument("--interpreted", action="store_true", help="plays the files as they are")
    options = parser.parse_args(arguments)
    if options.long:
        for name, trace in LONG.items():
            trace()
            print(f"{name}: holds", flush=True)
        return 0
    if options.seed is not None:
        plain = tuple(filter(None, options.plain.split(",")))
        dropped = tuple(int(i) for i in options.drop.split(",") if i)
        return one(options.seed, plain, dropped)
    if options.seeds >= WORTH_COMPILING and not options.interpreted:
        return in_copy(sys.argv[1:] if arguments is None else arguments)
    broken, began = 0, time.monotonic()
    for done, found in failures(options.start, options.seeds, options.jobs):
        for seed, error in found:
            broken += 1
            report(seed, error)
        pace = done / (time.monotonic() - began)
        left = options.seeds - done
        rest = f"; the rest: --start {options.start + done} --seeds {left}" if left else ""
        print(f"{done} of {options.seeds} seeds, {broken} failed, {pace:.1f}/s{rest}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
