"""Answers to observers, which read the counts of this node, may send columns, and are not members.
The node keeps no state about an observer. It asks for entries by a range of hashes (`RANGE`) or by
the hashes (`WANT`), and sends entries (`ENTRIES`); each frame gets one answer. Its statements are
believed like those of a relay: never about a node that is connected here, and only as far as the
limit allows.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable
from typing import Any

from crdtbucket._core import Merged, Table
from crdtbucket.errors import WireError
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.anti_entropy import LAST
from crdtbucket.mesh.protocol.entry_merger import EntryMerger
from crdtbucket.mesh.protocol.introductions import OBSERVERS
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.roster import Admits, Roster

SLICE = 1024
"""An answer has about so many entries."""
LOOKS = 65_536
"""About how many keys are looked at for one answer, since perhaps few of the held keys owe."""
_ITEM = struct.Struct("<QQ16x")
_HASH = struct.Struct("<QQ")


class Observers:
    """Answers the frames of authenticated observers. Times are local ns."""

    def __init__(
        self, table: Table, roster: Roster, members: Membership, merger: EntryMerger
    ) -> None:
        self._table, self._roster = table, roster
        self._members, self._merger = members, merger

    def answer(self, data: bytes, me: NodeInfo, now: int, *, writes: bool) -> bytes:
        """The answer to a frame, of the node `me`. `writes`: it may bring entries. Raises WireError
        on a bad one, which then has changed nothing."""
        frame = wire.decode(data)
        size, most = len(frame.payload), wire.MAX_OBSERVER_PAYLOAD
        if size > most:
            raise WireError(f"an observer's payload of {size} bytes, at most {most}")
        if frame.payload_kind == wire.ENTRIES and not writes:
            raise WireError("entries of one who may only look")
        if frame.payload_kind == wire.ENTRIES:
            admits = self._members.introductions.by(OBSERVERS)
            evicted = self._evicted()
            merged = _merge(self._table, self._roster, frame, admits)
            self._merger.count(merged, OBSERVERS, now)
            without_room = merged.dropped + self._evicted() - evicted
            result = merged.merged, merged.refused_columns, without_room
            values: dict[str, Any] = {"merge_result": result}
        else:
            values = _look_up(self._table, self._roster, frame)
            values["members"] = self._members.advertised(me, now)["members"]
            values["config"] = self._members.updates.config
        return wire.encode(
            wire.Frame(
                epoch=self._table.epochs.running,
                to_epoch=frame.epoch,
                seq=frame.seq,
                sent=now,
                ack=frame.seq,
                **values,
            )
        )

    def _evicted(self) -> int:
        """The keys that were evicted although they owed something."""
        count: int = self._table.stats()["evicted_indebted"]
        return count


def _look_up(table: Table, roster: Roster, frame: wire.Frame) -> dict[str, Any]:
    """The entries that a frame asks for, as fields of the answer: those in the order of hashes that
    fit, and how far they go. A range gives the indebted ones, hashes any that are held."""
    if frame.payload_kind == wire.RANGE and frame.items is not None:
        first, last = frame.items
        following = table.outbox.digest(first, last, SLICE, True, LOOKS)[3]
        last = following - 1 if following else last
        found: Iterable[tuple[int, int]] = _ITEM.iter_unpack(
            table.outbox.digest_items(first, last, SLICE, True, LOOKS)
        )
    else:
        first, last = 0, LAST
        found = _HASH.iter_unpack(frame.payload)
    hashes = sorted((hi, table.find(lo, hi)) for lo, hi in found)
    held = [(hi, entry) for hi, entry in hashes if entry >= 0]
    tables, positions = roster.announced()
    payload, upto, _ = table.outbox.encode_entries(
        array("I", [entry for _, entry in held]), 0, positions, wire.MAX_PAYLOAD
    )
    if upto < len(held):
        last = held[upto][0] - 1
    tombstones = tuple(epoch for _, _, epoch, gone in table.epochs.origins() if gone)
    return {
        "payload": payload,
        "tables_version": tables.version,
        "tables": tables,
        "items": (min(first, last), last),
        "tombstones": tombstones[: wire.MAX_TOMBSTONES] or None,
    }


def _merge(table: Table, roster: Roster, frame: wire.Frame, admits: Admits) -> Merged:
    """Merges the entries of a frame. Raises WireError, and changes nothing, when it is malformed.

    They are merged as if they came from this node itself, so that no column and no rates belong to
    the observer.
    """
    if frame.tables is None:
        raise WireError("an observer's entries come with their tables")
    resolved = roster.resolve(frame.tables, admits)
    return table.inbox.merge(
        frame.payload,
        resolved.definitions,
        resolved.origins,
        node=0,
        epoch=table.epochs.running,
        at=table.now(),
        newer=False,
        reopen=False,
    )
