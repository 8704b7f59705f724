"""Plays the cells in random order, for hours: python -m tests.compositions [--minutes N] [--seed
S]."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.compositions.events import CELLS, EVENTS, FEATURES, cells, play
from tests.compositions.fleet import Fleet
from tests.compositions.load_events import HOSTS, LOADED_EVENTS, loaded_cells
from tests.compositions.loaded import (
    BRIEFLY_S,
    HEAVY,
    LIGHT,
    LONG_S,
    LoadedFleet,
    play_loaded,
)
from tests.compositions.process import Failed

Cell = tuple[str, str, float, float]
"""A feature, an event, the load (0 where tokens are counted one by one), and the seconds for which
a fault lasts under a load."""
ALL = FEATURES | HOSTS
EXACT_CELLS: list[Cell] = [(*names, 0.0, 0.0) for names in (*CELLS, *cells(HOSTS))]
LOADED_CELLS: list[Cell] = [
    (*names, load, apart)
    for names in loaded_cells(ALL)
    for load, apart in itertools.product((HEAVY, LIGHT), (BRIEFLY_S, LONG_S))
]


async def play_cell(cell: Cell, folder: Path) -> None:
    """Plays a cell. Raises what is wrong with it."""
    feature, event, load, apart = cell
    fleet = Fleet(ALL[feature], folder)
    if load:
        await play_loaded(LoadedFleet(fleet, load, apart), LOADED_EVENTS[event])
    else:
        await play(fleet, EVENTS[event])


def main(arguments: list[str] | None = None) -> int:
    """Plays cells until the time is over; the exit status is 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.compositions", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, at least one cell")
    parser.add_argument("--seed", type=int, default=None, help="of the order")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    rng = random.Random(seed)
    end = time.monotonic() + 60 * options.minutes
    played, failed = 0, 0
    while not played or time.monotonic() < end:
        cell = rng.choice(rng.choice((EXACT_CELLS, LOADED_CELLS)))
        with tempfile.TemporaryDirectory(prefix="crdtbucket-cell-") as folder:
            try:
                asyncio.run(play_cell(cell, Path(folder)))
            except Failed as error:
                failed += 1
                print(f"{cell}: {error}", flush=True)
            except Exception:  # noqa: BLE001 - a search for hours goes on whatever breaks
                failed += 1
                print(f"{cell}:\n{traceback.format_exc()}", flush=True)
        played += 1
        print(f"{played} cells, {failed} failed", file=sys.stderr, flush=True)
    print(f"{played} cells, {failed} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
