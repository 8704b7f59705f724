"""Prints one table; the exit status is 1 when a figure misses its bound. Figures that need a server
which is not installed are skipped.

python -m tests.chaos [--calls N] [--only NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable

from tests.chaos import cancelled, engine, exact, outage, regional_load, slots, switches
from tests.chaos.figure import Figure, Progress
from tests.server_process import NotInstalled, end_by_signals

LOG = logging.getLogger("crdtbucket.chaos")
Part = Callable[[int, Progress], AsyncIterator[Figure]]
PARTS: dict[str, Part] = {
    "exact": exact.figures,
    "cancelled": cancelled.figures,
    "switches": switches.figures,
    "outage": outage.figures,
    "cluster": slots.figures,
    "regions": regional_load.figures,
    "nats": engine.figures,
}


async def measure(names: list[str], calls: int, progress: Progress) -> list[Figure]:
    found = []
    for name in names:
        begin = time.monotonic()
        try:
            found += [figure async for figure in PARTS[name](calls, progress)]
        except NotInstalled as error:
            progress(f"{name}: skipped, {error}")
        except Exception as error:
            LOG.exception("%s", name)
            found.append(Figure(name, "a figure", repr(error), False))
        progress(f"{name}: {time.monotonic() - begin:.0f} s")
    return found


def table(found: list[Figure]) -> str:
    rows = [("figure", "wanted", "measured", "ok")]
    rows += [(f.name, f.wanted, f.measured, "yes" if f.ok else "NO") for f in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000, help="decisions under faults")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part of the table")
    parser.add_argument("--log", default="ERROR", help="level of what the library logs")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log, stream=sys.stderr, format="%(asctime)s %(message)s")

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    found = asyncio.run(measure(options.only or list(PARTS), options.calls, progress))
    print(table(found))
    return int(not all(figure.ok for figure in found))


if __name__ == "__main__":
    end_by_signals()
    sys.exit(main())
