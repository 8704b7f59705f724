"""Frames between nodes: `CB`, a version, a msgpack header of numbered fields, a binary payload.

Whatever bytes a peer sends, `decode` gives a `Frame` or raises one `WireError`. Field numbers are
only ever added; a field that this version does not know is ignored, a frame version that it does
not know is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgpack

from crdtbucket.errors import WireError
from crdtbucket.rollout.staged import Status

MAGIC = b"CB"
VERSION = 1
MAX_HEADER = 262_144
"""Bytes of a header at most: the largest tables fit, with all other fields but lists of members."""
MAX_PAYLOAD = 196_608
MAX_FRAME = MAX_HEADER + MAX_PAYLOAD
"""Bytes of a frame at most, its authentication not counted."""
MAX_NAME = 200
MAX_MEMBERS = 256
MAX_ORIGINS = 512
MAX_DEFINITIONS = 4096
MAX_TOMBSTONES = 256
MAX_AGES = 64
MAX_AGE_MS = 65_535
ACK_BITS = 256
_PREFIX = struct.Struct("<2sBBI")
_MALFORMED = (ValueError, TypeError, RecursionError, msgpack.UnpackException)
"""What msgpack raises on bytes that it cannot read; a map as a key is a TypeError."""
_U64 = 2**64 - 1
_I63 = 2**63 - 1

ENTRIES, ITEMS, WANT, RANGE = 0, 1, 2, 3
"""What the payload holds: entries, digest items (32 bytes each), hashes that are asked for (16
bytes each), or nothing: an observer asks for the entries of the range in `items`."""

JOINING, LEAVING, STORE_UNREACHABLE = 1, 2, 4
"""Flags: the sender is warming up; the sender says goodbye; the sender cannot reach the common
store, so that what it takes is counted in the mesh alone."""

Origins = tuple[tuple[str, int], ...]
Definitions = tuple[tuple[int, int, int, int], ...]
Member = tuple[str, str, int, str]
Config = tuple[int, int, int]
Rollout = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class AnnouncedTables:
    """What the positions inside entries mean. Sent until the peer has acknowledged its version."""

    version: int
    origins: Origins
    """(node name, epoch) of each position."""
    definitions: Definitions
    """(name hash, definition hash, q, p) of each: T = q / p ns a token."""


@dataclass(slots=True)
class Frame:
    """One frame. Times are ns of the sender's clock, of which nobody else knows what it shows.

    It is not changed once it is made. A frozen dataclass would say so, and takes ten times as long.
    """

    epoch: int
    to_epoch: int
    seq: int
    sent: int
    echo: int | None = None
    """The newest `sent` that the sender has from the receiver."""
    hold: int = 0
    """How long the sender held that before this frame."""
    ack: int = 0
    """Highest sequence number that the sender has merged from the receiver; `ack_bits` are those
    below it."""
    ack_bits: int = 0
    round: int = 0
    """Number of the round that this frame is a part of, 0 for none."""
    part: int = 0
    parts: int = 0
    """Parts of the round when it is complete, else 0."""
    flags: int = 0
    tables_version: int = 0
    tables: AnnouncedTables | None = None
    payload_kind: int = ENTRIES
    members: tuple[Member, ...] | None = None
    """(name, region, epoch, address) of the members that the sender knows."""
    unseen: tuple[str, ...] | None = None
    """Members among these that the sender does not see itself."""
    digest: tuple[int, int, int, int, int] | None = None
    """(first, last, entries, sum of fingerprints, sum of debts in ns) of a range of hashes."""
    items: tuple[int, int] | None = None
    """The range that a payload of items covers; between a node and an observer: the range of which
    entries are asked for, or that the entries of an answer cover."""
    tombstones: tuple[int, ...] | None = None
    """Tombstones: dead epochs whose columns count no more."""
    merge_result: tuple[int, int, int] | None = None
    """What became of the entries of an observer: how many were merged, how many columns were
    refused, and for how much there was no room."""
    config: Config | None = None
    """Which configuration the sender runs: its version, its hash, and the stage of its roll-out."""
    rollout: Rollout | None = None
    """How far the newest version is that the sender has: its version, its hash, the number of
    changes, the status, the stage."""
    ages: tuple[tuple[int, int], ...] | None = None
    """(epoch, ms, rounded up) of members that the receiver does not see: how old the newest update
    of each is here. What the sender knows of them comes with this round at the latest."""
    wall: int | None = None
    """What the sender's wall clock showed at `sent`, ns since 1970."""
    payload: bytes = b""


# Append-only: a number never changes its meaning. 0 is never used.
_NUMBERS = {
    "epoch": 1, "to_epoch": 2, "seq": 3, "sent": 4, "echo": 5, "hold": 6, "ack": 7, "ack_bits": 8,
    "round": 9, "part": 10, "parts": 11, "flags": 12, "tables_version": 13, "tables": 14,
    "payload_kind": 15, "members": 16, "unseen": 17, "digest": 18, "items": 19, "tombstones": 20,
    "merge_result": 21, "config": 22, "rollout": 23, "ages": 24, "wall": 25,
}  # fmt: skip
_DEFAULTS = {f.name: f.default for f in fields(Frame)}
_DEFAULT_VALUES: list[Any] = [_DEFAULTS[name] for name in _NUMBERS]
"""A `Frame` has its fields in the order of their numbers, and then the payload."""
_NOT_ZERO = frozenset(name for name in _NUMBERS if _DEFAULTS[name] != 0)
"""Fields of which 0 is written, as it is not their default."""


def encode(frame: Frame) -> bytes:
    """The bytes of a frame, fields at their default left out. Raises WireError when it would be too
    large."""
    return encode_fields(frame.payload, {name: getattr(frame, name) for name in _NUMBERS})


def encode_fields(payload: bytes, values: Mapping[str, Any]) -> bytes:
    """`encode` of a frame with this payload and these fields, without the frame: most of its fields
    would be at their default."""
    header: dict[int, Any] = {
        _NUMBERS[name]: value
        for name, value in values.items()
        if value or (value is not None and name in _NOT_ZERO)
    }
    if bits := values.get("ack_bits"):
        header[8] = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    if (tables := values.get("tables")) is not None:
        header[14] = (tables.version, tables.origins, tables.definitions)
    packed: bytes = msgpack.packb(header)
    if len(packed) > MAX_HEADER or len(packed) + len(payload) + _PREFIX.size > MAX_FRAME:
        raise WireError(f"frame of {len(packed)} + {len(payload)} bytes is too large")
    return _PREFIX.pack(MAGIC, VERSION, 0, len(packed)) + packed + payload


def decode(data: bytes) -> Frame:
    """The frame in `data`, every field checked for type and range. Raises only WireError."""
    if len(data) > MAX_FRAME:
        raise WireError(f"frame of {len(data)} bytes is over {MAX_FRAME}")
    if len(data) < _PREFIX.size:
        raise WireError("frame is cut off")
    magic, version, reserved, size = _PREFIX.unpack_from(data)
    if magic != MAGIC or reserved:
        raise WireError("not a frame of this protocol")
    if version != VERSION:
        raise WireError(f"unknown frame version {version}, this node speaks {VERSION}")
    if size > MAX_HEADER or _PREFIX.size + size > len(data):
        raise WireError("header length is wrong")
    try:
        header = msgpack.unpackb(
            data[_PREFIX.size : _PREFIX.size + size],
            use_list=False,
            raw=False,
            strict_map_key=False,
            max_map_len=64,
            max_array_len=MAX_DEFINITIONS,
            max_str_len=1024,
            max_bin_len=1024,
            max_ext_len=0,
        )
    except _MALFORMED as error:
        raise WireError(f"header is not msgpack: {type(error).__name__}") from None
    if not isinstance(header, dict):
        raise WireError("header is not a map")
    frame = Frame(*_checked(header, data[_PREFIX.size + size :]))
    if frame.parts and not frame.part < frame.parts:
        raise WireError("part is beyond parts")
    if (
        (frame.payload_kind == WANT and len(frame.payload) % 16)
        or (frame.payload_kind == ITEMS and (len(frame.payload) % 32 or frame.items is None))
        or (frame.payload_kind == RANGE and (frame.payload or frame.items is None))
    ):
        raise WireError("payload does not fit its kind")
    return frame


def _checked(header: dict[Any, Any], payload: bytes) -> list[Any]:
    values = [*_DEFAULT_VALUES, payload]
    for number, value in header.items():
        if number in _DECODED:
            place, name, low, high, check = _DECODED[number]
            if check is not None:
                values[place] = check(name, value)
            elif type(value) is int and low <= value <= high:
                values[place] = value
            else:
                raise WireError(f"{name} is out of range")
    if missing := _REQUIRED - header.keys():
        raise WireError(f"{_DECODED[min(missing)][1]} is missing")
    return values


def check_tables(value: object) -> AnnouncedTables:
    """Checks an untrusted (version, origins, definitions). Raises WireError."""
    return _tables("tables", value)


def _whole(low: int, high: int) -> Any:
    def check(name: str, value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise WireError(f"{name} is out of range")
        return value

    return check


def _text(name: str, value: object, limit: int = MAX_NAME) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise WireError(f"{name} is not a short text")
    return value


def _sequence(name: str, value: object, limit: int) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) > limit:
        raise WireError(f"{name} is not a short list")
    return value


def _row(name: str, value: object, *checks: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) != len(checks):
        raise WireError(f"{name} has a malformed row")
    return tuple([check(name, item) for check, item in zip(checks, value, strict=True)])


_u64 = _whole(0, _U64)
_epoch = _whole(1, _U64)
_age_ms = _whole(0, MAX_AGE_MS)


def _epoch_owner(name: str, row: object) -> tuple[Any, ...]:
    return _row(name, row, _text, _epoch)


def _definition(name: str, row: object) -> tuple[Any, ...]:
    return _row(name, row, _u64, _u64, _whole(1, _I63), _whole(1, _I63))


def _tables(name: str, value: object) -> AnnouncedTables:
    version, origins, definitions = _row(
        name,
        value,
        _whole(1, _U64),
        lambda n, v: _sequence(n, v, MAX_ORIGINS),
        lambda n, v: _sequence(n, v, MAX_DEFINITIONS),
    )
    owners = tuple(_epoch_owner(name, row) for row in origins)
    if len({epoch for _, epoch in owners}) != len(owners):
        raise WireError("an epoch stands twice")
    return AnnouncedTables(version, owners, tuple(_definition(name, row) for row in definitions))


def _ack_bits(name: str, value: object) -> int:
    if not isinstance(value, bytes) or len(value) > ACK_BITS // 8:
        raise WireError(f"{name} is malformed")
    return int.from_bytes(value, "little")


def _members(name: str, value: object) -> tuple[Any, ...]:
    rows = _sequence(name, value, MAX_MEMBERS)
    return tuple([_row(name, row, _text, _text, _epoch, _text) for row in rows])


def _range(name: str, value: object) -> tuple[Any, ...]:
    first, last = _row(name, value, _u64, _u64)
    if first > last:
        raise WireError(f"{name} is not a range")
    return first, last


def _digest(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) != 5:
        raise WireError(f"{name} is malformed")
    return (*_range(name, value[:2]), *_row(name, value[2:], _u64, _u64, _u64))


_BOUNDS = {
    "epoch": (1, _U64),
    "seq": (1, _I63),
    "flags": (0, 255),
    "payload_kind": (0, 3),
    **dict.fromkeys(("to_epoch", "tables_version"), (0, _U64)),
    **dict.fromkeys(("sent", "echo"), (-_I63, _I63)),
    **dict.fromkeys(("hold", "ack", "round", "wall"), (0, _I63)),
    **dict.fromkeys(("part", "parts"), (0, 65_535)),
}
_CHECKS: dict[str, Any] = {
    "ack_bits": _ack_bits,
    "tables": _tables,
    "members": _members,
    "unseen": lambda name, value: tuple(
        _text(name, v) for v in _sequence(name, value, MAX_MEMBERS)
    ),
    "digest": _digest,
    "items": _range,
    "tombstones": lambda name, value: tuple(
        _epoch(name, v) for v in _sequence(name, value, MAX_TOMBSTONES)
    ),
    "merge_result": lambda name, value: _row(name, value, *(_whole(0, _I63),) * 3),
    "config": lambda name, value: _row(name, value, _whole(0, _I63), _u64, _whole(0, 65_535)),
    "rollout": lambda name, value: _row(
        name,
        value,
        _whole(0, _I63),
        _u64,
        _whole(0, _I63),
        _whole(0, max(Status)),
        _whole(0, 65_535),
    ),
    "ages": lambda name, value: tuple(
        _row(name, row, _epoch, _age_ms) for row in _sequence(name, value, MAX_AGES)
    ),
}
_DECODED = {
    number: (number - 1, name, *((0, 0) if name in _CHECKS else _BOUNDS[name]), _CHECKS.get(name))
    for name, number in _NUMBERS.items()
}
_REQUIRED = frozenset(_NUMBERS[name] for name in ("epoch", "to_epoch", "seq", "sent"))
