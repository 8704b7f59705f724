"""Anti-entropy: digests of quiet keys over ranges of hashes find what rounds missed.

A node goes over all hashes in `PERIOD_NS`, or in as many rounds as there are slices. A peer whose
own digest of a slice differs answers with its items (hash, fingerprint, debt); then each sends what
the other lacks or has differently.
"""

from __future__ import annotations

import struct
from typing import Any

from crdtbucket._core import Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.rounds import Outbox

PERIOD_NS = 10_000_000_000
SLICE = 1024
"""Entries of a slice, about."""
MOST_PLACES = 2**19
"""The most places of the table, used or not, that one slice covers."""
MOST_ITEMS = 2048
"""Items in an answer; what a slice holds beyond that is compared in a later pass."""
MOST_COMPARED = 65_536
"""If a peer's digest covers more entries here, this node does not answer it, since no frame may
hold up the event loop. The peer holds few entries in that range, so it will answer the narrower
digests that this node sends."""
TOLERANCE_NS = 1_000_000_000
"""Debts of an entry that differ by less count as equal: they were measured at different times."""
LAST = 2**64 - 1
_ITEM = struct.Struct("<QQQQ")
MOST_BYTES = MOST_ITEMS * _ITEM.size
"""Items of one frame beyond this many bytes are ignored, and hashes beyond half of it."""


def next_digest(table: Table, link: PeerState, now: int) -> dict[str, Any]:
    """The next digest for this link, as fields of a frame; empty when none is due."""
    if now < link.digest_due:
        return {}
    # Counted by the keys that are held, not by those that owe: otherwise, when few keys owe, one
    # slice would be the whole table.
    slices = 1 + max(len(table) // SLICE, table.max_keys // MOST_PLACES)
    first = link.digest_from
    last = min(LAST, first + (LAST + 1) // slices)
    count, total, debt, _ = table.outbox.digest(first, last)
    link.digest_due = now + PERIOD_NS // slices
    link.digest_from = (last + 1) % (LAST + 1)
    if last == LAST:
        link.passes += 1
    return {"digest": (first, last, count, total, min(debt, 2**64 - 1))}


def respond(table: Table, out: Outbox, link: PeerState, frame: wire.Frame, now: int) -> list[bytes]:
    """The frames that answer a frame of this peer about a range: its digest, its items, or the
    hashes that it asks for."""
    frames: list[bytes] = []
    digest = frame.digest
    if digest is not None and not is_wide(table, *digest[:2]) and differs(table, digest):
        first, last = digest[:2]
        payload = items(table, first, last)
        kind = wire.ITEMS
        frames.append(out.frame(link, now, payload=payload, payload_kind=kind, items=(first, last)))
    if frame.payload_kind == wire.ITEMS and frame.items and not is_wide(table, *frame.items):
        send, want = compare(table, *frame.items, frame.payload)
        frames += out.entries(link, send, now)
        if want:
            frames.append(out.frame(link, now, payload=want, payload_kind=wire.WANT))
    elif frame.payload_kind == wire.WANT:
        frames += out.entries(link, wanted(table, frame.payload), now)
    return frames


def is_wide(table: Table, first: int, last: int) -> bool:
    """Whether a range covers more of this table than this node examines for one frame."""
    part = (last - first + 1) / (LAST + 1)
    return part * len(table) > MOST_COMPARED or part * table.max_keys > 2 * MOST_PLACES


def left_out(table: Table, frame: wire.Frame) -> int:
    """How much of the request in a frame exceeds what this node examines for one frame."""
    if frame.digest is None and frame.payload_kind == wire.ENTRIES:
        return 0
    asked = [frame.digest[:2]] if frame.digest is not None else []
    asked += [frame.items] if frame.payload_kind == wire.ITEMS and frame.items else []
    most = {wire.ITEMS: MOST_BYTES, wire.WANT: MOST_BYTES // 2}.get(frame.payload_kind)
    too_long = most is not None and len(frame.payload) > most
    return sum(is_wide(table, *one) for one in asked) + too_long


def differs(table: Table, digest: tuple[int, int, int, int, int]) -> bool:
    """Whether this table has another digest of that range."""
    first, last, count, total, debt = digest
    mine, my_total, my_debt, _ = table.outbox.digest(first, last)
    return mine != count or my_total != total or abs(my_debt - debt) > TOLERANCE_NS * max(1, count)


def items(table: Table, first: int, last: int) -> bytes:
    """Items of the range, to compare."""
    return table.outbox.digest_items(first, last, MOST_ITEMS)[:MOST_BYTES]


def compare(table: Table, first: int, last: int, theirs: bytes) -> tuple[list[int], bytes]:
    """Compares the items of a peer with those here. Returns the entries that the peer lacks or has
    differently, and the hashes of those to ask it for."""
    known = {
        (lo, hi): (print_, debt) for lo, hi, print_, debt in _ITEM.iter_unpack(theirs[:MOST_BYTES])
    }
    send, want = [], bytearray()
    for lo, hi, print_, debt in _ITEM.iter_unpack(items(table, first, last)):
        other = known.pop((lo, hi), None)
        if other is None:
            send.append(table.find(lo, hi))
        elif other[0] != print_ or abs(other[1] - debt) > TOLERANCE_NS:
            send.append(table.find(lo, hi))
            want += lo.to_bytes(8, "little") + hi.to_bytes(8, "little")
    for lo, hi in known:
        # Keys that are full or not quiet here are sent and asked for as well: the answers of a
        # third node may come in every round and bring nothing new, so that the key is never quiet
        # here.
        send.append(table.find(lo, hi))
        want += lo.to_bytes(8, "little") + hi.to_bytes(8, "little")
    return [entry for entry in send if entry >= 0], bytes(want)


def wanted(table: Table, hashes: bytes) -> list[int]:
    """Entries with these hashes that are held here."""
    found = (table.find(lo, hi) for lo, hi in struct.iter_unpack("<QQ", hashes[: MOST_BYTES // 2]))
    return [entry for entry in found if entry >= 0]
