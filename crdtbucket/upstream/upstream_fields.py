"""Reads from the header fields of an answer the limit of the service that sent it.

Read are `Retry-After`, `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers),
the three fields of its older drafts, `X-RateLimit-*`, and what OpenAI (`x-ratelimit-*-requests`)
and Anthropic (`anthropic-ratelimit-requests-*`) make of them. The service may write anything: a
field that cannot be read says nothing, and no error comes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from itertools import islice

REQUESTS = "requests"
"""The unit of a quota that does not say another."""
MAX_FIELD = 2_048
"""Characters of a field that are read; a longer one says nothing."""
MAX_FIELDS = 256
"""Fields of an answer that are read; clients take tens of thousands."""
MAX_QUOTAS = 64
"""Quotas of an answer that are read."""
MAX_NUMBER = 10**15
OVERLOADED = frozenset({429, 503, 529})
"""Statuses with which `Retry-After` means that the service takes no requests until then."""
LONGEST_S = 366 * 86_400.0
UNIX_TIME = 10**9
"""From this value on, a reset is a time of day (s since 1970), as some services write it."""

_INTEGER = re.compile(r"[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_SPAN = re.compile(r"(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|us|ns|d|h|m|s))")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_STRING = r'"(?:[^"\\]|\\["\\])*"'
_TOKEN = r"[A-Za-z*][\w:/.*%!#$&'+^`|~-]*"
_ITEM = re.compile(rf"\s*({_STRING}|{_TOKEN})")
_VALUE = rf"{_STRING}|{_TOKEN}|-?[0-9.]+|:[^:]*:"
_PARAMETER = re.compile(rf"\s*;\s*([a-z*][a-z0-9_.*-]*)(?:=({_VALUE}))?")
_COMMA = re.compile(r"\s*(?:,|$)")
_X_LEFT = re.compile(r"x-rate-?limit-remaining(?:-([a-z0-9-]+))?")
_ANTHROPIC_LEFT = re.compile(r"anthropic-ratelimit-([a-z0-9-]+)-remaining")


@dataclass(frozen=True)
class UpstreamQuota:
    """One limit of a service, as the service describes it."""

    name: str
    """The name of the policy; "" where the service does not name it."""
    unit: str
    """The unit that the quota counts, such as "requests" or "tokens"."""
    remaining: int
    """The number that is left, 0 to 10^15."""
    reset_s: float | None = None
    """Seconds until more is left, or until all is; None where it is not said."""


@dataclass(frozen=True)
class UpstreamState:
    """The limits of a service, as one answer describes them."""

    quotas: tuple[UpstreamQuota, ...] = ()
    denied: bool = False
    """The service takes no request now: status 429, or 503 or 529 with `Retry-After`."""
    retry_after_s: float | None = None
    """Seconds until the service takes requests again; None where it does not say."""

    def left(self, follows: str) -> UpstreamQuota | None:
        """The smallest of the quotas whose unit or name is `follows`; None without one."""
        found = (one for one in self.quotas if follows in (one.unit, one.name))
        return min(found, key=lambda one: one.remaining, default=None)

    def pause_s(self, follows: str) -> float:
        """Seconds for which a service that denied takes no request; 0 where it does not say."""
        if not self.denied:
            return 0.0
        if self.retry_after_s is not None:
            return self.retry_after_s
        left = self.left(follows)
        return left.reset_s or 0.0 if left is not None and left.remaining == 0 else 0.0


def read_upstream(status: int, fields: Iterable[tuple[str, str]]) -> UpstreamState:
    """What an answer with this status and these header fields says; never raises."""
    lines: dict[str, str] = {}
    for name, value in islice(fields, MAX_FIELDS):
        lower = name.lower()
        lines[lower] = f"{lines[lower]}, {value}" if lower in lines else value
    lines = {name: value for name, value in lines.items() if len(value) <= MAX_FIELD}
    date = _http_date(lines.get("date", ""))
    after = _retry_after(lines, date) if status in OVERLOADED else None
    quotas = [*_standard(lines), *_vendors(lines, date)][:MAX_QUOTAS]
    return UpstreamState(tuple(quotas), status == 429 or after is not None, after)


def _retry_after(lines: dict[str, str], date: datetime | None) -> float | None:
    milliseconds = _number(lines.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1e3, LONGEST_S)
    value = lines.get("retry-after", "").strip()
    seconds = _number(value)
    return min(seconds, LONGEST_S) if seconds is not None else _until(_http_date(value), date)


def _standard(lines: dict[str, str]) -> list[UpstreamQuota]:
    """The structured fields of the IETF's draft."""
    policies = dict(_items(lines.get("ratelimit-policy", "")))
    quotas = []
    for name, parameters in _items(lines.get("ratelimit", "")):
        left = _integer(parameters.get("r", ""))
        if left is not None:
            unit = policies.get(name, {}).get("qu", REQUESTS)
            quotas.append(UpstreamQuota(name, unit, left, _number(parameters.get("t", ""))))
    return quotas


def _vendors(lines: dict[str, str], date: datetime | None) -> list[UpstreamQuota]:
    """Reads the fields of single services: one for each number, in the ways in which they name
    them."""
    quotas = []
    for field, value in lines.items():
        if field == "ratelimit-remaining":
            name, reset = "", "ratelimit-reset"
        elif (found := _X_LEFT.fullmatch(field)) is not None:
            name, reset = found[1] or "", field.replace("remaining", "reset", 1)
        elif (found := _ANTHROPIC_LEFT.fullmatch(field)) is not None:
            name, reset = found[1], f"anthropic-ratelimit-{found[1]}-reset"
        else:
            continue
        left = _integer(value.strip())
        if left is not None:
            reset_s = _reset(lines.get(reset, "").strip(), date)
            quotas.append(UpstreamQuota(name, name or REQUESTS, left, reset_s))
    return quotas


def _items(value: str) -> list[tuple[str, dict[str, str]]]:
    """The members of a list with their parameters, as far as structured fields are needed here;
    none where the value has an error anywhere, as the standard demands."""
    found: list[tuple[str, dict[str, str]]] = []
    place = 0
    while place < len(value):
        item = _ITEM.match(value, place)
        if item is None:
            return []
        place = item.end()
        parameters: dict[str, str] = {}
        while (one := _PARAMETER.match(value, place)) is not None:
            parameters[one[1]] = _bare(one[2] or "")
            place = one.end()
        comma = _COMMA.match(value, place)
        if comma is None:
            return []
        place = comma.end()
        found.append((_bare(item[1]), parameters))
    return found


def _bare(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _integer(text: str) -> int | None:
    return min(int(text), MAX_NUMBER) if _INTEGER.fullmatch(text) else None


def _number(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text.strip()) else None


def _reset(text: str, date: datetime | None) -> float | None:
    """Seconds until a reset: "30", "6m0s", a Unix time or a time as of RFC 3339."""
    seconds = _number(text)
    if seconds is not None and seconds >= UNIX_TIME:
        return None if date is None else _span(seconds - date.timestamp())
    if seconds is not None:
        return _span(seconds)
    parts = _SPAN.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        return _span(sum(float(number) * _UNITS_S[unit] for number, unit in parts))
    try:
        return _until(datetime.fromisoformat(text.replace("Z", "+00:00")), date)
    except ValueError:
        return None


def _until(at: datetime | None, date: datetime | None) -> float | None:
    """Seconds from the answer's own date, so that nobody's clock has to be right."""
    if at is None or date is None or at.tzinfo is None:
        return None
    return _span((at - date).total_seconds())


def _span(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_S)


def _http_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
