"""Rates as text, such as "100/minute" or "10/s burst 20"."""

from __future__ import annotations

import re

from crdtbucket.base.clipped import clipped
from crdtbucket.base.duration import UNIT_NS, duration_ns, plain_unit, short_unit
from crdtbucket.errors import InvalidSpec

RATE_HINT = (
    'write "<tokens>/<interval>" with an optional burst: "100/minute", "10/s burst 20", '
    '"5 per second", "200 per 2 hours" or "100/15m"'
)

_SEVERAL = re.compile(r"\s*;\s*(?=\d)")
_RATE = re.compile(
    r"(?P<tokens>\d[\d_]{0,30})\s*(?:/|\bper\b)\s*(?P<count>\d{1,20}(?:\.\d{1,20})?)?\s*(?P<unit>[a-z]+)"
    r"(?:\s*[;,]?\s*\bburst\b\s*[=:]?\s*(?P<burst>\d[\d_]{0,30}))?",
    re.ASCII | re.IGNORECASE,
)


def parse_rate(rate: str) -> tuple[int, str, int | None]:
    """(tokens, interval, burst or None) of a rate string; `InvalidSpec` has the grammar."""
    text = plain_unit(rate.strip()) if isinstance(rate, str) else ""
    match = _RATE.fullmatch(text)
    if match is None:
        raise InvalidSpec(f"limit is {clipped(rate)}", _rate_fix(text), "limit")
    unit = match["unit"].lower()
    if unit not in UNIT_NS:
        raise InvalidSpec(f"limit is {clipped(rate)}", _unit_fix(unit), "limit")
    interval = f"{match['count'] or 1}{short_unit(unit)}"
    duration_ns(interval, "limit")
    burst = match["burst"]
    return _tokens(match["tokens"]), interval, None if burst is None else _tokens(burst)


def split_rates(rates: str) -> list[str]:
    """The rates of a text such as "100/hour;10/second". What is no text is left for `parse_rate` to
    refuse."""
    return _SEVERAL.split(rates) if isinstance(rates, str) else [rates]


def _tokens(digits: str) -> int:
    return int(digits.replace("_", ""))


def _rate_fix(rate: str) -> str:
    if len(re.findall(r"/|\bper\b", rate, re.IGNORECASE)) > 1:
        return f"one bucket has one rate, so define a bucket for each (parse_all); {RATE_HINT}"
    if re.match(r"\d+\.\d", rate):
        return f'tokens are whole, so for half a token a second write "1/2s"; {RATE_HINT}'
    return RATE_HINT


def _unit_fix(unit: str) -> str:
    if unit in ("month", "months", "mo", "year", "years", "y"):
        named = ", or give the bucket a calendar" if unit.startswith("mo") else ""
        return f'a {unit} has no fixed length; write days, such as "1000/30d"{named}'
    return f"no unit is {clipped(unit)}; use ms, s, m, h, d or w, or the words for them"
