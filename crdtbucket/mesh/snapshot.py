"""Snapshots of a table: the counts and debts from which a node starts after a restart.

A snapshot names the boot of the machine in which it was made, and the time. Within the same boot
its debts have fallen by just the time since. After another boot its age is unknown: its debts limit
only this node, until a peer has sent its counts, or until it is clear that no peer does
(docs/model.md, "Identity and epochs").
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable

from crdtbucket._core import Table
from crdtbucket.base.clock import boot_id
from crdtbucket.base.file_shortage import fix_of
from crdtbucket.base.packing import pack, pack_list_head, unpack
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.pruning import CROWDED
from crdtbucket.mesh.protocol.roster import Roster

FORMAT = 4
CHUNK = 1 << 20
CHECKSUM_BYTES = 6
"""Those at the end of a snapshot: a checksum of all before it, packed."""
LOG = logging.getLogger("crdtbucket.mesh")


class OtherFormat(MeshError):
    """A snapshot that another version of the library has written."""


def this_boot() -> bytes:
    try:
        return boot_id()
    except OSError as error:  # as when this process may open no more files
        fix = fix_of(error, "mount /proc where this process runs")
        raise MeshError(f"{error.filename} cannot be read ({error.strerror}): {fix}") from error


def dump(table: Table, roster: Roster) -> list[bytes]:
    """All indebted entries with their columns, the meaning of the positions in them, and the time.
    The result comes in pieces, since copying a large table at once would hold up all threads."""
    tables, positions = roster.announced()
    made = table.now()  # before the debts, which then never count as newer than they are
    chunks, place = [], 0
    while place >= 0:
        payload, place, _ = table.outbox.encode_table(place, positions, CHUNK)
        if payload:
            chunks.append(pack(payload))
    first = (FORMAT, table.epochs.running, tables.origins, tables.definitions)
    head = pack_list_head(len(first) + 3) + b"".join(map(pack, first))
    pieces = [head + pack_list_head(len(chunks)), *chunks, pack((this_boot(), made))]
    return [*pieces, checksum(pieces)]


def load(table: Table, roster: Roster, data: bytes, boot: bytes | None = None) -> int:
    """Restores a snapshot into a table that runs under a new epoch. Returns the entries restored;
    `table.inbox.suspects` of them are suspect. If the snapshot has more epochs than a node has room
    for, as after hundreds of starts without meeting a peer, the oldest are left out, but their
    debts stay. Raises OtherFormat if another version of the library wrote it, and MeshError if it
    is not a snapshot; then nothing is restored.
    """
    try:
        form, *rest = unpack(data)
        if type(form) is int and form != FORMAT:
            raise OtherFormat(f"snapshot has format {form}, this version reads {FORMAT}")
        if data[-CHECKSUM_BYTES:] != checksum([memoryview(data)[:-CHECKSUM_BYTES]]):
            raise MeshError("it is damaged: its bytes have another checksum")
        epoch, origins, definitions, chunks, (made_in, made), _ = rest
        if type(form) is not int or type(made_in) is not bytes or type(made) is not int:
            raise MeshError("not a snapshot: its time is none")
        tables = wire.check_tables("tables", (1, origins, definitions))
        if table.epochs.running in (epoch, *(one for _, one in tables.origins)):
            raise MeshError("a snapshot of the running epoch cannot be restored")
        age = age_ns(made_in, made, this_boot() if boot is None else boot, table.now())
        left_out = max(0, len(tables.origins) - CROWDED)
        if left_out:
            text = "of %d epochs in the snapshot the newest %d are kept; what is owed stays"
            LOG.warning(text, len(tables.origins), CROWDED)
        resolved = roster.restore(tables, left_out)
        for chunk in chunks:  # before any of them is restored
            table.inbox.check(chunk, resolved.definitions, resolved.origins)
        return sum(
            table.inbox.restore(chunk, resolved.definitions, resolved.origins, age=age)
            for chunk in chunks
        )
    except (ValueError, TypeError, WireError) as error:
        raise MeshError(f"not a snapshot: {error}") from error


def checksum(pieces: Iterable[bytes | memoryview]) -> bytes:
    """The end of a snapshot of these pieces."""
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return pack(crc.to_bytes(4, "big"))


def age_ns(made_in: bytes, made: int, boot: bytes, now: int) -> int | None:
    """How old (ns) a snapshot is, None when that cannot be known."""
    return now - made if made_in and made_in == boot and made <= now else None
