"""What a hostile observer asks and sends: it is no member, and has no link."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from crdtbucket.errors import WireError
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.entries import Entry
from crdtbucket.testing import SimulatedNode
from tests.bad_member import entry
from tests.simulated.truth import Place

if TYPE_CHECKING:
    from tests.simulated.network import Network

Values = dict[str, object]
MOST_DEBT_NS = 10**12
LAST = 2**64 - 1


def _ranges(node: SimulatedNode, key: tuple[int, int], rng: random.Random) -> Values:
    first, last = rng.choice([(0, LAST), (LAST, 0), (rng.getrandbits(64), rng.getrandbits(64))])
    return {"payload_kind": wire.RANGE, "items": (first, last)}


def _wants(node: SimulatedNode, key: tuple[int, int], rng: random.Random) -> Values:
    known = b"".join(half.to_bytes(8, "little") for half in key)
    return {"payload_kind": wire.WANT, "payload": known * 5 + rng.randbytes(16 * 100)}


def _as_a_member(node: SimulatedNode, key: tuple[int, int], rng: random.Random) -> Values:
    """Fields that only a member may send."""
    epochs = tuple(one.table.epochs.running for one in node._mesh.nodes.values())
    return {
        "tombstones": epochs,
        "members": (("x", "", rng.getrandbits(62) + 1, "x.example:80"),),
        "flags": rng.choice([wire.JOINING, wire.LEAVING, 255]),
        "round": rng.getrandbits(40),
        "parts": 1,
        "ages": tuple((epoch, 0) for epoch in epochs),
        "config": (rng.getrandbits(62), rng.getrandbits(64), 3),
        "digest": (0, LAST, 1, rng.getrandbits(64), rng.getrandbits(64)),
    }


def _noise(node: SimulatedNode, key: tuple[int, int], rng: random.Random) -> Values:
    return {"payload": rng.randbytes(rng.choice([1, 40, 400])), "payload_kind": rng.randrange(9)}


def _tables(node: SimulatedNode, owners: list[tuple[str, int]], entries: list[bytes]) -> Values:
    definitions = tuple(node.table.definitions.all())
    tables = wire.AnnouncedTables(1, tuple(owners), definitions)
    return {"tables": tables, "tables_version": 1, "payload": b"".join(entries)}


def _columns(node: SimulatedNode, key: tuple[int, int], rng: random.Random) -> Values:
    """Columns of members, possible and impossible ones."""
    owners = [(one.name, one.table.epochs.running) for one in node._mesh.nodes.values()]
    taken = rng.choice([1, 50, 10**6, 2**50])
    generation = rng.choice([1, 1, 2, 2**31])
    rows = tuple((at, generation, taken, rng.choice([0, taken])) for at in range(len(owners)))
    debt = rng.choice([1, MOST_DEBT_NS])
    return _tables(
        node, owners, [entry(Entry(*key, 0, debt, rows), rng.choice([None, (0xFFFF, 0xFFFF)]))]
    )


def _debts(node: SimulatedNode, key: tuple[int, int], rng: random.Random) -> Values:
    """An entry that states hardly any debt, with all columns that the node has."""
    names = node.node.roster.names()
    held = node.bucket("main").columns("key")
    owners = [(names[number], epoch) for number, epoch in held]
    rows = tuple((at, *column) for at, column in enumerate(held.values()))
    return _tables(node, owners, [entry(Entry(*key, 0, 1, rows))])


def _keys(node: SimulatedNode, key: tuple[int, int], rng: random.Random) -> Values:
    many, owner = rng.choice([1, 50, 200]), ("x", rng.getrandbits(62) + 1)
    hashes = [(rng.getrandbits(63), rng.getrandbits(63)) for _ in range(many)]
    rows = ((0, 1, 500, 0),)
    return _tables(node, [owner], [entry(Entry(*one, 0, MOST_DEBT_NS, rows)) for one in hashes])


def _epochs(node: SimulatedNode, key: tuple[int, int], rng: random.Random) -> Values:
    many = rng.choice([1, 10, 300, 500])
    owners = [(f"x{rng.randrange(8)}", rng.getrandbits(62) + 1) for _ in range(many)]
    return _tables(node, owners, [])


Observed = Callable[[SimulatedNode, tuple[int, int], random.Random], Values]
OBSERVED: dict[str, Observed] = {
    "ranges": _ranges,
    "wants": _wants,
    "as a member": _as_a_member,
    "noise": _noise,
    "columns": _columns,
    "debts": _debts,
    "keys": _keys,
    "epochs": _epochs,
}
"""The kinds, by the names that a plan uses; the last four bring entries."""


def observe(mesh: Network, place: Place, kind: str, number: int, *, writes: bool) -> None:
    """Sends a frame of such a kind to every running node; what is random in it comes from `number`.
    `writes`: the secret that it has allows it to bring entries."""
    rng = random.Random(number)
    for node in list(mesh.nodes.values()):
        if not node.up or node.suspended_until > mesh.now_ns:
            continue
        local = node.local_ns(mesh.now_ns)
        node.table.set_time(local)
        values = OBSERVED[kind](node, node.bucket(place[0]).hash(place[1]), rng)
        frame = wire.Frame(epoch=1, to_epoch=0, seq=7, sent=local, **values)  # type: ignore[arg-type]
        with suppress(WireError):  # the node may refuse it
            node.node.observe(wire.encode(frame), local, writes=writes)
