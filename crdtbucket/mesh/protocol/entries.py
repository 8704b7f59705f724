"""Entries as an observer reads and writes them, one by one; the nodes' own codec is in the core.

The layout is in docs/wire.md. Whatever bytes arrive, the result is entries or one `WireError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from crdtbucket.errors import WireError

REFUNDS, RATES, RELAYED, HIDDEN = 1, 2, 4, 8
MAX_COLUMNS = 512
MAX_AGE_MS = 65_535
MAX_TOKENS = 2**55 - 1
MAX_DEBT_NS = 2**62 - 1
_HEAD = struct.Struct("<QQB")


class Entry(NamedTuple):
    """One key: its hash (low and high half), the position of its bucket's definition, the debt that
    is stated, and the columns by rising owner: its position, generation, taken, refunded."""

    lo: int
    hi: int
    definition: int
    debt_ns: int
    columns: tuple[tuple[int, int, int, int], ...]


def read(payload: bytes, definitions: int, origins: int) -> Iterator[Entry]:
    """The entries of a frame whose tables have that many definitions and origins."""
    at = 0
    while at < len(payload):
        if len(payload) - at < _HEAD.size:
            raise WireError("an entry is cut off")
        lo, hi, flags = _HEAD.unpack_from(payload, at)
        if flags & ~(REFUNDS | RATES | RELAYED | HIDDEN):
            raise WireError("an entry with unknown flags")
        definition, at = _varint(payload, at + _HEAD.size, definitions - 1)
        debt, at = _varint(payload, at, MAX_DEBT_NS)
        if flags & HIDDEN:
            hidden, at = _varint(payload, at, MAX_DEBT_NS)
            if not hidden:
                raise WireError("an entry that hides no debt")
        at += 4 if flags & RATES else 0
        count, at = _varint(payload, at, MAX_COLUMNS)
        columns = []
        owner = -1
        for _ in range(count):
            before, refunded = owner, 0
            owner, at = _varint(payload, at, origins - 1)
            generation, at = _varint(payload, at, 2**32 - 1)
            taken, at = _varint(payload, at, MAX_TOKENS)
            if flags & REFUNDS:
                refunded, at = _varint(payload, at, taken)
            if owner <= before:
                raise WireError("an entry whose columns do not rise")
            columns.append((owner, generation, taken, refunded))
        if flags & RELAYED:
            at = _skip_rates(payload, at, origins)
        yield Entry(lo, hi, definition, debt, tuple(columns))


def _skip_rates(payload: bytes, at: int, origins: int) -> int:
    """The offset behind the rates of nodes that some peer does not see: an observer predicts
    nobody, so it skips them."""
    count, at = _varint(payload, at, MAX_COLUMNS)
    owner = -1
    for _ in range(count):
        before = owner
        owner, at = _varint(payload, at, origins - 1)
        _, at = _varint(payload, at, MAX_AGE_MS)
        at += 4
        if owner <= before or at > len(payload):
            raise WireError("an entry whose relayed rates are malformed")
    if not count:
        raise WireError("an entry that relays no rates")
    return at


def write(entry: Entry) -> bytes:
    """The bytes of one entry, whose columns are sorted."""
    refunds = any(refunded for *_, refunded in entry.columns)
    out = bytearray(_HEAD.pack(entry.lo, entry.hi, REFUNDS if refunds else 0))
    for number in (entry.definition, entry.debt_ns, len(entry.columns)):
        _put(out, number)
    for owner, generation, taken, refunded in entry.columns:
        for number in (owner, generation, taken, *((refunded,) if refunds else ())):
            _put(out, number)
    return bytes(out)


def _put(out: bytearray, number: int) -> None:
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _varint(data: bytes, at: int, most: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            if number > most or (not byte and shift):
                break
            return number, at
        shift += 7
    raise WireError("an entry with a number that is cut off or out of range")
