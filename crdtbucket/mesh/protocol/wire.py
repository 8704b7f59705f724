"""Frames between nodes: `CB`, a version, a msgpack header of numbered fields, a binary payload.

Whatever bytes a peer sends, `decode` gives a `Frame` or raises one `WireError`. Field numbers are
only ever added; a field that this version does not know is ignored, a frame version that it does
not know is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import Any

import msgpack

from crdtbucket._core import PlainFrames
from crdtbucket.errors import WireError
from crdtbucket.mesh.protocol.frame_checks import (
    FrameCheck,
    bits,
    many,
    printable,
    rising,
    row,
    text,
    whole,
)
from crdtbucket.rollout.staged import Status

MAGIC = b"CB"
VERSION = 2
MAX_HEADER = 262_144
"""Most bytes of a header: the largest tables fit, or the largest lists of members, and all else."""
MAX_PAYLOAD = 196_608
MAX_OBSERVER_PAYLOAD = 32_768
"""Bytes of a payload from an observer at most: its frames are merged and answered in one go."""
MAX_FRAME = MAX_HEADER + MAX_PAYLOAD
"""Bytes of a frame at most, its authentication not counted."""
MAX_NAME = 200
"""Bytes of a name, region or address at most. All lists of members fit into a header then."""
MAX_MEMBERS = 256
MAX_ORIGINS = 512
MAX_DEFINITIONS = 4096
MAX_TOMBSTONES = 256
MAX_AGES = 64
MAX_AGE_MS = 65_535
MAX_SILENT_MS = 2**32 - 1
ACK_BITS = 256
_PREFIX = struct.Struct("<2sBBI")
_MALFORMED = (ValueError, TypeError, RecursionError, msgpack.UnpackException)
"""The errors of msgpack for bytes that it cannot read; a map as a key is a TypeError."""
_U64 = 2**64 - 1
_I63 = 2**63 - 1

ENTRIES, ITEMS, WANT, RANGE = 0, 1, 2, 3
"""What the payload holds: entries, digest items (32 bytes each), hashes that are asked for (16
bytes each), or nothing: an observer asks for the entries of the range in `items`."""

JOINING, LEAVING, STORE_UNREACHABLE, KEEPS_CREDIT = 1, 2, 4, 8
"""Flags: the sender is warming up; the sender says goodbye; the sender cannot reach the common
store, so that what it takes is counted in the mesh alone; the receiver owes at least what the
entries state, since the sender's debts include credit for peers."""

Origins = tuple[tuple[str, int], ...]
Definitions = tuple[tuple[int, int, int, int], ...]
Member = tuple[str, str, int, str]
Config = tuple[int, int, int]
Rollout = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class AnnouncedTables:
    """The meaning of the positions inside entries. A sender repeats it until the peer has
    acknowledged its version."""

    version: int
    origins: Origins
    """(node name, epoch) of each position."""
    definitions: Definitions
    """(name hash, definition hash, q, p) of each: T = q / p ns a token."""


@dataclass
class Frame:
    """One frame. Its times are ns of the sender's clock, which has an origin of its own.

    It is not changed once it is made; a frozen dataclass would enforce that, but takes ten times as
    long. `decode` sets the fields that came and no others: the class has the defaults.
    """

    epoch: int
    to_epoch: int
    seq: int
    sent: int
    echo: int | None = None
    """The newest `sent` that the sender has from the receiver."""
    hold: int = 0
    """How long (ns) the sender held `echo` before it sent this frame."""
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
    """The state of the newest version that the sender has: its number, its hash, the number of
    changes, the status, the stage."""
    ages: tuple[tuple[int, int], ...] | None = None
    """(epoch, ms, rounded up) of members that the receiver does not see: how old the newest
    update of each is here. The receiver gets all that the sender knows of them with this round
    or before."""
    wall: int | None = None
    """The sender's wall clock at `sent`, ns since 1970."""
    mode: int | None = None
    """The mode in which the sender decides, the worst one of its buckets: its place in `MODES`."""
    silent: tuple[tuple[int, int], ...] | None = None
    """(epoch, ms) of peers that were silent before the receiver began: for how long the debts of
    these entries include credit for each of them."""
    payload: bytes = b""


# Append-only: a number never changes its meaning. 0 is never used.
_NUMBERS = {
    "epoch": 1, "to_epoch": 2, "seq": 3, "sent": 4, "echo": 5, "hold": 6, "ack": 7, "ack_bits": 8,
    "round": 9, "part": 10, "parts": 11, "flags": 12, "tables_version": 13, "tables": 14,
    "payload_kind": 15, "members": 16, "unseen": 17, "digest": 18, "items": 19, "tombstones": 20,
    "merge_result": 21, "config": 22, "rollout": 23, "ages": 24, "wall": 25,
    "mode": 26, "silent": 27,
}  # fmt: skip
_DEFAULTS = {f.name: f.default for f in fields(Frame)}


def encode(frame: Frame) -> bytes:
    """The bytes of a frame, fields at their default left out. Raises WireError when it would be too
    large."""
    return encode_fields(vars(frame))


def encode_fields(values: dict[str, Any]) -> bytes:
    """`encode` of the frame with these fields, by name."""
    plain: bytes | None = _PLAIN.write(values)
    return _encode_any(values) if plain is None else plain


def _encode_any(values: dict[str, Any]) -> bytes:
    assert values.keys() <= _DEFAULTS.keys(), "a field that frames do not have"
    header = {
        number: values[name]
        for name, number in _NUMBERS.items()
        if name in values and (values[name] or values[name] != _DEFAULTS[name])  # 0 or None
    }
    if acked := header.get(_NUMBERS["ack_bits"]):
        header[_NUMBERS["ack_bits"]] = acked.to_bytes((acked.bit_length() + 7) // 8, "little")
    tables: AnnouncedTables | None = values.get("tables")
    payload: bytes = values.get("payload", b"")
    if tables is not None:
        header[_NUMBERS["tables"]] = (tables.version, tables.origins, tables.definitions)
    packed: bytes = msgpack.packb(header)
    if len(packed) > MAX_HEADER or len(packed) + len(payload) + _PREFIX.size > MAX_FRAME:
        raise WireError(f"frame of {len(packed)} + {len(payload)} bytes is too large")
    return _PREFIX.pack(MAGIC, VERSION, 0, len(packed)) + packed + payload


def decode(data: bytes) -> Frame:
    """The frame in `data`, every field checked for type and range. Raises only WireError."""
    plain = _PLAIN.read(data)
    frame = Frame.__new__(Frame)
    frame.__dict__ = _decode_any(data) if plain is None else plain
    if frame.parts and not frame.part < frame.parts:
        raise WireError("part is beyond parts")
    if (
        (frame.payload_kind == WANT and len(frame.payload) % 16)
        or (frame.payload_kind == ITEMS and (len(frame.payload) % 32 or frame.items is None))
        or (frame.payload_kind == RANGE and (frame.payload or frame.items is None))
    ):
        raise WireError("payload does not fit its kind")
    return frame


def _decode_any(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_FRAME:
        raise WireError(f"frame of {len(data)} bytes is over {MAX_FRAME}")
    if len(data) < _PREFIX.size:
        raise WireError("frame is cut off")
    magic, version, reserved, size = _PREFIX.unpack_from(data)
    if magic != MAGIC or reserved:
        raise WireError("not a frame of this protocol")
    if version != VERSION:
        raise WireError(
            f"frame version {version}, this node speaks {VERSION}: upgrade the older node"
        )
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
    return {**_checked(header), "payload": data[_PREFIX.size + size :]}


def _checked(header: dict[Any, Any]) -> dict[str, Any]:
    values = {}
    for number, value in header.items():
        if number in _DECODED:
            name, check = _DECODED[number]
            values[name] = check(name, value)
    if missing := _REQUIRED - values.keys():
        raise WireError(f"{min(missing)} is missing")
    return values


_u64, _epoch, _natural = whole(0, _U64), whole(1, _U64), whole(0, _I63)
_positive, _short = whole(1, _I63), whole(0, 65_535)
_name, _shown = text(MAX_NAME), printable(MAX_NAME)
_table_rows = row(
    _epoch,
    many(MAX_ORIGINS, row(_name, _epoch)),
    many(MAX_DEFINITIONS, row(_u64, _u64, _positive, _positive)),
)


def check_tables(name: str, value: object) -> AnnouncedTables:
    """Checks an untrusted (version, origins, definitions), the field `name`. Raises WireError."""
    version, origins, definitions = _table_rows(name, value)
    if len({epoch for _, epoch in origins}) != len(origins):
        raise WireError("an epoch stands twice")
    return AnnouncedTables(version, origins, definitions)


_RANGES = {
    "epoch": (1, _U64), "to_epoch": (0, _U64), "seq": (1, _I63), "sent": (-_I63, _I63),
    "echo": (-_I63, _I63), "hold": (0, _I63), "ack": (0, _I63), "round": (0, _I63),
    "part": (0, 65_535), "parts": (0, 65_535), "flags": (0, 255), "tables_version": (0, _U64),
    "payload_kind": (0, 3), "wall": (0, _I63),
}  # fmt: skip
_CHECKS: dict[str, FrameCheck] = {
    **{name: whole(*limits) for name, limits in _RANGES.items()},
    "ack_bits": bits(ACK_BITS),
    "tables": check_tables,
    "members": many(MAX_MEMBERS, row(_shown, _shown, _epoch, _shown)),
    "unseen": many(MAX_MEMBERS, _shown),
    "digest": rising(row(_u64, _u64, _u64, _u64, _u64)),
    "items": rising(row(_u64, _u64)),
    "tombstones": many(MAX_TOMBSTONES, _epoch),
    "merge_result": row(_natural, _natural, _natural),
    "config": row(_natural, _u64, _short),
    "rollout": row(_natural, _u64, _natural, whole(0, max(Status)), _short),
    "ages": many(MAX_AGES, row(_epoch, whole(0, MAX_AGE_MS))),
    "mode": whole(0, 255),
    "silent": many(MAX_AGES, row(_epoch, whole(0, MAX_SILENT_MS))),
}
_DECODED = {number: (name, _CHECKS[name]) for name, number in _NUMBERS.items()}
_REQUIRED = frozenset(("epoch", "to_epoch", "seq", "sent"))
_PLAIN = PlainFrames(
    _PREFIX.pack(MAGIC, VERSION, 0, 0)[:4],
    MAX_FRAME,
    [(_NUMBERS[name], name, *limits, _DEFAULTS[name]) for name, limits in _RANGES.items()]
    + [
        (_NUMBERS["ack_bits"], "ack_bits", 0, ACK_BITS // 8, 0),
        (_NUMBERS["ages"], "ages", 0, MAX_AGE_MS, None),
    ],
    bits=_NUMBERS["ack_bits"],
    pairs=_NUMBERS["ages"],
)
"""Frames of numbers and few ages alone, which nearly all are."""
