"""Reads a trace of LLM calls: `TIMESTAMP,ContextTokens,GeneratedTokens`, one call a row."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from crdtbucket.base.clipped import clipped
from crdtbucket.simulator.run_settings import NS
from crdtbucket.simulator.simulation_errors import TraceError

COLUMNS = ("timestamp", "contexttokens", "generatedtokens")
_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
_MAX_TOKENS = 2**53
_MAX_NS = 2**62
"""Times are so close (ns) to the year 2000 that the time between any two fits into 64 bits."""
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,18}))?\s*(Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Trace:
    """Calls in the order of time: ns since the first of them, and tokens (prompt and answer)."""

    times_ns: array[int]
    costs: array[int]

    def __len__(self) -> int:
        return len(self.times_ns)

    @property
    def duration_ns(self) -> int:
        """The time from the first call to the last (ns)."""
        return self.times_ns[-1] if self.times_ns else 0


def read_trace(path: str | Path) -> Trace:
    """Read a trace file row by row; about 16 bytes a call stay in memory.

    Timestamps are dates with times, with or without fractions (kept to the ns), with a blank or a
    `T` between, with or without a time zone (none: UTC), in any order. Extra columns are ignored.
    Raises TraceError with the line of the first row that is none of this.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            return parse_trace(lines, str(path))
    except UnicodeDecodeError as error:
        raise TraceError(str(path), 0, f"the file is not UTF-8 text: {error.reason}") from error
    except OSError as error:
        raise TraceError(str(path), 0, error.strerror or "cannot be read") from error


def parse_trace(lines: Iterable[str], source: str = "trace") -> Trace:
    """Reads a trace from lines of text; see `read_trace`."""
    times, costs = array("q"), array("q")
    for when, cost in _rows(lines, source):
        times.append(when)
        costs.append(cost)
    if not times:
        raise TraceError(source, 0, "there is no call in it")
    if any(times[k] > times[k + 1] for k in range(len(times) - 1)):
        # Stable: calls of the same instant keep the order of the file.
        order = sorted(range(len(times)), key=times.__getitem__)
        times = array("q", (times[k] for k in order))
        costs = array("q", (costs[k] for k in order))
    first = times[0]
    return Trace(array("q", (when - first for when in times)), costs)


def _rows(lines: Iterable[str], source: str) -> Iterator[tuple[int, int]]:
    reader = csv.reader(lines, strict=True)
    places: list[int] | None = None
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if places is None:
                places = _places(row, source, reader.line_num)
            else:
                yield _row(row, places, source, reader.line_num)
    except csv.Error as error:
        raise TraceError(source, reader.line_num, f"not a row of a CSV file: {error}") from error


def _places(header: list[str], source: str, line: int) -> list[int]:
    names = [name.strip().lstrip("\ufeff").lower() for name in header]
    for name, column in zip(COLUMNS, _HEADER.split(","), strict=True):
        if (count := names.count(name)) != 1:  # the line itself may be one of another file
            found = f"{column} {count} times" if count else f"no {column}"
            raise TraceError(source, line, f"the header must be {_HEADER}, and there is {found}")
    return [names.index(name) for name in COLUMNS]


def _row(row: list[str], places: list[int], source: str, line: int) -> tuple[int, int]:
    if len(row) <= max(places):
        raise TraceError(source, line, f"{len(row)} columns where {_HEADER} needs more")
    when, context, generated = (row[place].strip() for place in places)
    try:
        time_ns = parse_time(when)
    except ValueError as error:
        raise TraceError(source, line, str(error)) from error
    return time_ns, _tokens(context, source, line) + _tokens(generated, source, line)


def _tokens(text: str, source: str, line: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > _MAX_TOKENS:
        raise TraceError(
            source, line, f"{clipped(text)} is not a whole number of tokens, 0 to 2^53"
        )
    return int(text)


@lru_cache(maxsize=64)
def _day(text: str) -> int:
    return date.fromisoformat(text).toordinal() * 86_400


def parse_time(text: str) -> int:
    """Nanoseconds of a timestamp from a fixed origin. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{clipped(text)} is not a timestamp such as 2023-11-16 18:15:46.680590")
    day, hour, minute, second, fraction, zone = match.groups()
    hours, minutes, seconds = int(hour), int(minute), int(second)
    # A second of 60 is a leap second, as some clocks write it.
    if hours > 23 or minutes > 59 or seconds > 60:
        raise ValueError(f"{clipped(text)} has no such time of day")
    try:
        total = _day(day) + hours * 3600 + minutes * 60 + seconds
    except ValueError as error:
        raise ValueError(f"{clipped(text)} has no such day: {error}") from error
    nanoseconds = int((fraction or "0").ljust(9, "0")[:9])
    found = (total - _zone_seconds(zone, text) - _ORIGIN) * NS + nanoseconds
    if abs(found) >= _MAX_NS:
        raise ValueError(f"{clipped(text)} is not within 146 years of 2000")
    return found


def _zone_seconds(zone: str | None, text: str) -> int:
    if zone is None or zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"{clipped(text)} has no such time zone")
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


_ORIGIN = _day("2000-01-01")
