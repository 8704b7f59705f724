"""A member of a simulated mesh that has the secret and sends whatever frames a test wants."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from crdtbucket.errors import WireError
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.entries import RATES, REFUNDS, RELAYED, Entry, read
from crdtbucket.testing import SimulatedMesh

Column = tuple[str, int, int, int, int]
"""Name and epoch of the owner, generation, tokens taken and refunded."""
EPOCH = 2**40 + 7


class BadMember:
    """A member that is linked with nodes of a mesh under a name of its own. What it sends arrives
    at once; the nodes take it for a member that sees them."""

    up = False  # the mesh makes no links for it
    epochs = 1

    def __init__(self, mesh: SimulatedMesh, name: str = "bad", epoch: int = EPOCH) -> None:
        self.mesh, self.name, self.epoch = mesh, name, epoch
        self.seq: dict[str, int] = {}
        self.newest: dict[str, wire.Frame] = {}
        """The newest frame of each node."""
        self.came: dict[str, int] = {}
        """When the newest frame of each node arrived."""
        self.tables: dict[str, wire.AnnouncedTables] = {}
        self.known: dict[tuple[int, int], dict[tuple[str, int], tuple[int, int, int]]] = {}
        """By key: the newest counts of each column that have arrived."""
        mesh.nodes[name] = self  # type: ignore[assignment]

    @property
    def node(self) -> BadMember:
        return self

    @property
    def links(self) -> dict[str, object]:
        return {}

    def link(self, *names: str, age_ns: int = 0, address: str = "") -> None:
        """Opens a link to each of these nodes."""
        for name in names:
            node, local = self.mesh[name], self.local(name)
            node.table.set_time(local)
            info = NodeInfo(self.name, "", self.epoch, address, age_ns)
            node.node.connected(info, local)
            node._wake()

    def local(self, name: str) -> int:
        """The clock of a node."""
        return self.mesh[name].local_ns(self.mesh.now_ns)

    def arrive(self, source: str, epochs: int, data: bytes) -> None:
        """A frame of a node arrives."""
        frame = self.newest[source] = wire.decode(data)
        self.came[source] = self.mesh.now_ns
        if frame.tables is not None:
            self.tables[source] = frame.tables
        if not frame.payload or frame.payload_kind != wire.ENTRIES or source not in self.tables:
            return
        tables = self.tables[source]
        for one in read(frame.payload, len(tables.definitions), len(tables.origins)):
            columns = self.known.setdefault((one.lo, one.hi), {})
            for owner, generation, taken, refunded in one.columns:
                columns[tables.origins[owner]] = (generation, taken, refunded)

    def send(self, name: str, **values: object) -> None:
        """Sends a frame to a node, which receives it now; it acknowledges what has arrived. Raises
        as the node does."""
        node, local = self.mesh[name], self.local(name)
        newest = self.newest.get(name)
        self.seq[name] = self.seq.get(name, 0) + 1
        fields: dict[str, object] = {
            "epoch": self.epoch,
            "to_epoch": node.table.epochs.running,
            "seq": self.seq[name],
            "sent": local,
            "echo": None if newest is None else newest.sent,
            "hold": 0 if newest is None else self.mesh.now_ns - self.came[name],
            "ack": 0 if newest is None else newest.seq,
            "ack_bits": 2**256 - 1,
            **values,
        }
        node.table.set_time(local)
        data = wire.encode(wire.Frame(**fields))  # type: ignore[arg-type]
        self.mesh.send(node, node.node.receive(self.name, data, local))
        node._wake()

    def try_to_send(self, name: str, **values: object) -> str:
        """Does as `send`; returns the text of the error with which the node refuses the frame."""
        try:
            self.send(name, **values)
        except WireError as error:
            return str(error)
        return ""

    def announce(self, name: str, origins: Sequence[tuple[str, int]]) -> None:
        """Announces these owners to a node."""
        version = self.seq.get(name, 0) + 1
        tables = wire.AnnouncedTables(version, tuple(origins), self.definitions(name))
        self.send(name, tables=tables, tables_version=version)

    def definitions(self, name: str) -> tuple[tuple[int, int, int, int], ...]:
        """The newest definition of each bucket of a node."""
        return tuple({row[0]: row for row in self.mesh[name].table.definitions.all()}.values())

    def state(
        self,
        name: str,
        key: tuple[int, int],
        debt_ns: int,
        columns: Iterable[Column],
        rates: tuple[int, int] | None = None,
        relayed: tuple[int, int] | None = None,
        **values: object,
    ) -> None:
        """Sends an entry of the first bucket. `relayed`: the present rates of all owners but this
        member."""
        listed = list(columns)
        owners = tuple((name, epoch) for name, epoch, *_ in listed)
        version = self.seq.get(name, 0) + 1
        tables = wire.AnnouncedTables(version, owners, self.definitions(name))
        rows = tuple((place, *column[2:]) for place, column in enumerate(listed))
        others = [place for place, (_, epoch) in enumerate(owners) if epoch != self.epoch]
        told = [] if relayed is None else [(place, 0, *relayed) for place in others]
        payload = entry(Entry(*key, 0, debt_ns, rows), rates, told)
        self.send(name, tables=tables, tables_version=version, payload=payload, **values)

    def columns(self, key: tuple[int, int]) -> list[Column]:
        """All columns of a key that have arrived."""
        return [(*owner, *column) for owner, column in self.known.get(key, {}).items()]


def entry(
    one: Entry,
    rates: tuple[int, int] | None = None,
    relayed: Sequence[tuple[int, int, int, int]] = (),
) -> bytes:
    """The bytes of an entry. `rates`: the fast and the slow rate of the sender, as they are packed.
    `relayed`: of others, the place of the owner, the age (ms), and its two rates."""
    refunds = any(refunded for *_, refunded in one.columns)
    flags = (REFUNDS if refunds else 0) | (RATES if rates is not None else 0)
    flags |= RELAYED if relayed else 0
    out = struct.pack("<QQB", one.lo, one.hi, flags)
    out += varint(one.definition) + varint(one.debt_ns)
    if rates is not None:
        out += struct.pack("<HH", *rates)
    out += varint(len(one.columns))
    for owner, generation, taken, refunded in one.columns:
        numbers = (owner, generation, taken, *((refunded,) if refunds else ()))
        out += b"".join(map(varint, numbers))
    if relayed:
        out += varint(len(relayed))
        for place, age_ms, fast, slow in relayed:
            out += varint(place) + varint(age_ms) + struct.pack("<HH", fast, slow)
    return out


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
