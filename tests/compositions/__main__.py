"""The cells in random order, for hours: python -m tests.compositions [--minutes N] [--seed S]."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.compositions.events import CELLS, EVENTS, FEATURES, play
from tests.compositions.fleet import Fleet
from tests.compositions.process import Failed


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
        feature, event = rng.choice(CELLS)
        with tempfile.TemporaryDirectory(prefix="crdtbucket-cell-") as folder:
            try:
                asyncio.run(play(Fleet(FEATURES[feature], Path(folder)), EVENTS[event]))
            except Failed as error:
                failed += 1
                print(f"{feature}, {event}: {error}", flush=True)
            except Exception:  # noqa: BLE001 - a search for hours goes on whatever breaks
                failed += 1
                print(f"{feature}, {event}:\n{traceback.format_exc()}", flush=True)
        played += 1
        print(f"{played} cells, {failed} failed", file=sys.stderr, flush=True)
    print(f"{played} cells, {failed} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
