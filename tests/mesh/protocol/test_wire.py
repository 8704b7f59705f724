"""Frames: their bytes stay what they were, and any bytes are a frame or one WireError."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import PlainFrames
from crdtbucket.errors import CrdtbucketError, WireError
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.wire import Frame
from crdtbucket.spec.field_checks import MAX_NAME_LENGTH
from tests.mesh.frames import GOLDEN, kinds

KINDS = kinds()
EARLIER = sorted(path for path in GOLDEN.iterdir() if f".v{wire.VERSION}." not in path.name)
SLOW_S = 0.02
HEADER = {1: 17, 2: 3, 3: 1, 4: 0}


def golden(kind: str) -> bytes:
    return (GOLDEN / f"{kind}.v{wire.VERSION}.bin").read_bytes()


def framed(
    header: Any, payload: bytes = b"", version: int = wire.VERSION, size: int | None = None
) -> bytes:
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    return (
        struct.pack("<2sBBI", b"CB", version, 0, len(packed) if size is None else size)
        + packed
        + payload
    )


def written(frame: Frame) -> bytes:
    """The bytes of a frame; where the core writes it, they are those of the full codec."""
    data = wire.encode(frame)
    assert data == wire._encode_any(vars(frame))
    return data


def read(data: bytes) -> Frame | None:
    """The frame, or None where it is refused; nothing else may happen, and not slowly. Where the
    core reads it, it is that of the full codec."""
    if (plain := wire._PLAIN.read(data)) is not None:
        assert Frame(**plain) == Frame(**wire._decode_any(data))
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()  # of this thread alone: the machine may be busy
        try:
            frame = wire.decode(data)
        except WireError:
            frame = None
        best = min(best, time.thread_time() - start)
        if best < SLOW_S:
            return frame
    raise AssertionError(f"took {best:.3f} s")


# ---- golden files ----


def test_every_golden_file_has_its_kind() -> None:
    current = {path.name for path in GOLDEN.iterdir()} - {path.name for path in EARLIER}
    expected = {f"{kind}.v{wire.VERSION}.bin" for kind in KINDS}
    assert current == expected, "python -m tests.mesh.frames writes the files of new kinds"


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.name)
def test_a_frame_of_an_earlier_version_is_refused_by_both_versions(path: Path) -> None:
    version = path.name.split(".")[1][1:]
    text = f"frame version {version}, this node speaks {wire.VERSION}: upgrade the older node"
    with pytest.raises(WireError, match=text):
        wire.decode(path.read_bytes())


def test_every_field_is_in_a_golden_file() -> None:
    plain = Frame(0, 0, 0, 0)
    kept = {
        name
        for frame in KINDS.values()
        for name, value in vars(frame).items()
        if value != getattr(plain, name)
    }
    every = {field.name for field in dataclasses.fields(Frame)}
    assert kept == every, "a frame of tests/mesh/frames.py has to have each field of `Frame`"
    assert wire._NUMBERS.keys() == every - {"payload"}, "each field of `Frame` has a number"


@pytest.mark.parametrize("kind", KINDS)
def test_golden_bytes_are_read(kind: str) -> None:
    assert wire.decode(golden(kind)) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_golden_bytes_are_written(kind: str) -> None:
    assert written(KINDS[kind]) == golden(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_flip_is_a_frame_or_refused(kind: str) -> None:
    data = golden(kind)
    for place in range(len(data) * 8):
        broken = bytearray(data)
        broken[place // 8] ^= 1 << place % 8
        frame = read(bytes(broken))
        if place < 64:
            assert frame is None  # magic, version, reserved, length
        assert frame is None or read(written(frame)) == frame


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_refused_or_only_loses_payload(kind: str) -> None:
    data, whole = golden(kind), KINDS[kind]
    for size in range(len(data)):
        frame = read(data[:size])
        assert frame is None or dataclasses.replace(frame, payload=whole.payload) == whole


# ---- the frames that the core reads and writes ----


@pytest.mark.parametrize("kind", ["empty-round", "acknowledgements", "entries", "goodbye", "ages"])
def test_the_core_reads_and_writes_what_is_sent_all_the_time(kind: str) -> None:
    fields = wire._PLAIN.read(golden(kind))
    assert fields is not None
    assert wire._PLAIN.write(fields) == golden(kind)


def test_bits_for_which_the_core_has_no_room_are_refused() -> None:
    """More would be written beyond the frame."""
    for size, fits in ((32, True), (33, False)):
        with contextlib.nullcontext() if fits else pytest.raises(CrdtbucketError, match="32 bytes"):
            PlainFrames(b"CB\1\0", 100, [(1, "bits", 0, size, 0)], bits=1, pairs=2)


EDGES = [sign * (2**bits + by) for bits in (0, 7, 8, 15, 16, 31, 32, 63, 64) for by in (-1, 0)
         for sign in (1, -1)]  # fmt: skip


def in_range(low: int, high: int) -> st.SearchStrategy[int]:
    return st.sampled_from([n for n in EDGES if low <= n <= high]) | st.integers(low, high)


NUMBERS = {name: in_range(*limits) for name, limits in wire._RANGES.items()}
NOT_NUMBERS = {
    "ack_bits": st.integers(0, 2**256 - 1) | st.sampled_from([2**255, 2**256, -1]),
    "ages": st.none()
    | st.lists(st.tuples(NUMBERS["epoch"], NUMBERS["part"]), max_size=17).map(tuple),
    "payload": st.binary(max_size=3),
}
WRONG_NUMBERS = st.dictionaries(st.sampled_from([*NUMBERS]), st.sampled_from(EDGES), max_size=1)


@given(st.fixed_dictionaries(NUMBERS, optional=NOT_NUMBERS), WRONG_NUMBERS)
def test_what_the_core_writes_is_what_the_full_codec_writes(
    fields: dict[str, Any], wrong: dict[str, int]
) -> None:
    data = wire._PLAIN.write({**fields, **wrong})
    if data is not None:
        assert data == wire._encode_any({**fields, **wrong})
        read(data)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 1 + max(wire._NUMBERS.values())),
            st.integers(0, 7),
            st.binary(min_size=8, max_size=8),
        ),
        max_size=4,
    ),
    st.binary(max_size=4),
)
def test_numbers_of_any_width_are_read_as_the_full_codec_reads_them(
    more: list[tuple[int, int, bytes]], rest: bytes
) -> None:
    header = msgpack.packb(HEADER)
    for number, kind, value in more:  # in 1, 2, 4 or 8 bytes, without a sign and with one
        header += bytes([number, 0xCC + kind]) + value[: 1 << kind % 4]
    read(framed(bytes([header[0] + len(more)]) + header[1:]))
    read(framed(bytes([header[0] + len(more)]) + header[1:] + rest))


# ---- growth ----


def test_unknown_fields_are_ignored() -> None:
    plain = wire.decode(framed(HEADER))
    assert wire.decode(framed({**HEADER, 62: "new", 63: [1, {"a": 2}], "text": None})) == plain
    assert wire.decode(framed({**HEADER, 0: 5, -1: 5})) == plain


@pytest.mark.parametrize("version", [0, wire.VERSION - 1, wire.VERSION + 1, 255])
def test_unknown_versions_are_refused(version: int) -> None:
    with pytest.raises(WireError, match=f"version {version}"):
        wire.decode(framed(HEADER, version=version))


def test_field_numbers_are_the_known_ones() -> None:
    """A number keeps its meaning for ever: this list may only grow."""
    names = "epoch to_epoch seq sent echo hold ack ack_bits round part parts flags "
    names += "tables_version tables "
    names += "payload_kind members unseen digest items tombstones merge_result config rollout ages"
    names += " wall mode silent"
    known = {name: i + 1 for i, name in enumerate(names.split())}
    assert known == wire._NUMBERS, "the names above get a new field, at their end"


# ---- hostile headers ----

U64 = 2**64 - 1
WRONG: dict[int, list[Any]] = {
    1: [0, -1, U64 + 0.0, True, "1", None, [1], b"1"],
    2: [-1, 0.0, False, None],
    3: [0, -5, 2**63, U64, True],
    4: [2**63, U64, float("nan"), float("inf"), None],
    5: [2**63, True, float("nan")],
    6: [-1, 2**63, 1.5],
    7: [-1, U64, {}],
    8: [1, "x", b"\1" * 33, None],
    9: [-1, True],
    10: [-1, 65_536],
    11: [-1, 65_536, 1.0],
    12: [-1, 256, True],
    13: [-1, None],
    14: [None, [], [1, []], [0, [], []], [1, [], [], []], [1, [["a"]], []], [1, [["a", 0]], []], {},
         [1, [["a", 1], ["b", 1]], []], [1, [["x" * 201, 1]], []], [1, [[5, 1]], []],
         [1, [], [[1, 1, 0, 1]]], [1, [], [[1, 1, 1, 0]]],
         [1, [], [[1, 1, 2**63, 1]]], [1, [], [[1, -1, 1, 1]]],
         [1, [["a", i + 1] for i in range(513)], []], [1, [], [[True, 1, 1, 1]]]],
    15: [-1, 4, True, None],
    16: [None, {}, [1], [["a", "b", 1]], [["a", "b", 0, ""]], [["a", "b", 1, 5]],
         [["a", "b", 1, ""]] * 257],
    17: ["abc", [1], [None], ["x" * 201], ["a"] * 257],
    18: [[], [1, 2, 3, 4], [2, 1, 0, 0, 0], [0, 1, -1, 0, 0], [0, 1, 0, 0, True], 5],
    19: [[1], [2, 1], [0, -1], None, 1],
    20: [[0], [-1], [True], [1] * 257, None, 7],
    21: [[1, 2], [1, 2, -1], [1, 2, True], [1, 2, 3, 4], 5, None],
    22: [[1, 2], [-1, 2, 0], [1, -1, 0], [1, 2, 65_536], [2**63, 2, 0], [1, 2, True], [1, 2, 3, 4],
         5, None],
    23: [[1, 2, 0, 0], [-1, 2, 0, 0, 0], [1, -1, 0, 0, 0], [1, 2, 2**63, 0, 0],
         [1, 2, 0, 4, 0], [1, 2, 0, -1, 0], [1, 2, 0, 0, 65_536], [1, 2, 0, 0, True], None],
    24: [[[0, 1]], [[1, -1]], [[1, 65_536]], [[1, 2.0]], [[1]], [[1, 2, 3]], [[U64 + 1.0, 1]],
         [1, 2], [[1, 1]] * 65, {}, 5, None],
    25: [-1, 2**63, 1.5, True, None],
    26: [-1, 256, 1.0, True, None],
    27: [[[0, 1]], [[1, -1]], [[1, 2**32]], [[1, 2.0]], [[1]], [[1, 2, 3]], [[1, 1]] * 65, 5, None],
}  # fmt: skip


def test_wrong_values_are_known_for_every_field() -> None:
    assert WRONG.keys() == {*wire._NUMBERS.values()}, "a new field has wrong values in `WRONG`"


@pytest.mark.parametrize(("number", "value"), [(n, v) for n, vs in WRONG.items() for v in vs])
def test_wrong_values_are_refused(number: int, value: Any) -> None:
    assert read(framed({**HEADER, number: value})) is None


def test_a_range_that_is_asked_for_is_named_and_alone() -> None:
    asked = Frame(epoch=1, to_epoch=0, seq=1, sent=0, payload_kind=wire.RANGE, items=(0, 5))
    assert wire.decode(written(asked)) == asked
    for wrong in ({"items": None}, {"payload": b"x"}):
        assert read(written(dataclasses.replace(asked, **wrong))) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_every_frame_has_may_not_be_missing(number: int) -> None:
    with pytest.raises(WireError, match="missing"):
        wire.decode(framed({n: v for n, v in HEADER.items() if n != number}))


def nested(opening: bytes, depth: int) -> bytes:
    return b"\x81\x15" + opening * depth


HOSTILE = {
    "empty": b"",
    "not a map": b"\x93\1\2\3",
    "deep lists": nested(b"\x91", 60_000),
    "deep maps": nested(b"\x81\1", 30_000),
    "closed deep lists": nested(b"\x91", 900) + b"\xc0",
    "many empty maps": b"\x81\x15\xdd" + struct.pack(">I", 60_000) + b"\x80" * 60_000,
    "empty maps within the limits": b"\x81\x15\xdc" + struct.pack(">H", 4096) + b"\x80" * 4096,
    "list of 2^32 - 1": b"\x81\x15\xdd\xff\xff\xff\xff",
    "map of 2^32 - 1": b"\xdf\xff\xff\xff\xff",
    "text of 2^32 - 1": b"\x81\x15\xdb\xff\xff\xff\xff",
    "bytes of 2^32 - 1": b"\x81\x15\xc6\xff\xff\xff\xff",
    "extension": b"\x81\x15\xd4\1\0",
    "timestamp": b"\x81\x15\xd6\xff\0\0\0\0",
    "not UTF-8": b"\x81\x15\xa2\xff\xfe",
    "reserved byte": b"\xc1",
    "two objects": msgpack.packb(HEADER) + b"\xc0",
    "key is a list": b"\x81\x91\1\1",
    "key is NaN": b"\x81\xcb\x7f\xf8\0\0\0\0\0\0\1",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers_are_refused(what: str) -> None:
    assert read(framed(HOSTILE[what])) is None


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", "\u202etfel"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_names_of_members_can_be_logged(text: str, place: int) -> None:
    member = ["n", "r", 7, "h:1"]
    assert read(framed({**HEADER, 16: (member,)})) is not None
    member[place] = text
    assert read(framed({**HEADER, 16: (member,)})) is None
    if place == 0:
        assert read(framed({**HEADER, 17: (text,)})) is None


def test_of_a_duplicate_key_one_value_counts_and_is_checked() -> None:
    header = msgpack.packb(HEADER)
    twice = bytes([header[0] + 1]) + header[1:] + b"\3\5"
    assert wire.decode(framed(twice)).seq == 5
    assert read(framed(bytes([header[0] + 1]) + header[1:] + b"\3\0")) is None


def test_a_float_key_is_not_the_field_of_that_number() -> None:
    """A hash of 1.0 is that of 1; the field then is the one that was sent, checked like any."""
    frame = read(framed({1.0: 17, 2: 3, 3: 1, 4: 0}))
    assert frame is None or frame == wire.decode(framed(HEADER))


def test_lengths_that_lie_are_refused() -> None:
    packed = msgpack.packb(HEADER)
    for size in (0, len(packed) - 1, len(packed) + 1, wire.MAX_HEADER + 1, 2**32 - 1):
        assert read(framed(packed, size=size)) is None


def test_sizes_at_their_limits() -> None:
    room = wire.MAX_FRAME - len(framed(HEADER))
    assert read(framed(HEADER, bytes(room))) is not None
    assert read(framed(HEADER, bytes(room + 1))) is None
    with pytest.raises(WireError, match="too large"):
        written(Frame(1, 1, 1, 0, payload=bytes(wire.MAX_FRAME)))


def test_the_largest_tables_fit_with_a_full_payload() -> None:
    most, longest = 2**64 - 1, "n" * MAX_NAME_LENGTH
    tables = wire.AnnouncedTables(
        most,
        tuple((longest, most - i) for i in range(wire.MAX_ORIGINS)),
        tuple((most - i, most - i, 2**63 - 1 - i, 2**62) for i in range(wire.MAX_DEFINITIONS)),
    )
    frame = Frame(
        *(most, most, 2**63 - 1, 2**63 - 1), echo=2**63 - 1, hold=2**63 - 1, ack=2**63 - 1,
        ack_bits=2**256 - 1, round=2**63 - 1, part=65_534, parts=65_535, flags=7,
        tables_version=most, tables=tables, payload=bytes(wire.MAX_PAYLOAD),
    )  # fmt: skip
    assert wire.decode(written(frame)) == frame


@pytest.mark.parametrize("letter", ["n", "\u00e9", "\U0001f600"])
def test_the_largest_lists_of_members_fit_with_a_full_payload(letter: str) -> None:
    """Texts of two hundred letters of four bytes made every frame with all members too large."""
    longest = (letter * MAX_NAME_LENGTH).encode()[: wire.MAX_NAME].decode(errors="ignore")
    frame = Frame(
        *(2**64 - 1, 1, 2**63 - 1, 0), ack_bits=2**256 - 1,
        members=((longest, longest, 2**64 - 1, longest),) * wire.MAX_MEMBERS,
        unseen=(longest,) * wire.MAX_MEMBERS, tombstones=(2**64 - 1,) * wire.MAX_TOMBSTONES,
        ages=((2**64 - 1, wire.MAX_AGE_MS),) * wire.MAX_AGES, payload=bytes(wire.MAX_PAYLOAD),
    )  # fmt: skip
    assert wire.decode(written(frame)) == frame
    one_more: tuple[dict[str, Any], ...]
    one_more = {"unseen": (longest + letter,)}, {"members": (("x", "", 1, longest + letter),)}
    for field in one_more:
        with pytest.raises(WireError, match="short text"):
            wire.decode(written(dataclasses.replace(frame, **field)))


def test_payloads_must_fit_their_kind() -> None:
    assert read(framed({**HEADER, 15: wire.WANT}, bytes(17))) is None
    assert read(framed({**HEADER, 15: wire.ITEMS, 19: (0, 1)}, bytes(33))) is None
    assert read(framed({**HEADER, 15: wire.ITEMS}, bytes(32))) is None


def test_a_part_lies_within_its_parts() -> None:
    assert read(framed({**HEADER, 9: 1, 10: 2, 11: 2})) is None
    assert read(framed({**HEADER, 9: 1, 10: 1, 11: 2})) is not None


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), U64)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 25), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.integers(0, 25), ANYTHING, max_size=12), st.binary(max_size=64))
def test_any_header_is_a_frame_or_refused(header: dict[int, Any], payload: bytes) -> None:
    frame = read(framed({**HEADER, **header}, payload))
    assert frame is None or read(written(frame)) == frame


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert read(data) is None
    read(bytes((*wire.MAGIC, wire.VERSION, 0)) + data)
