"""What a node reads that others wrote, or that it wrote itself earlier: hellos, orders, kept files.

Part of `tests.outside`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from crdtbucket._core import Table
from crdtbucket.base.packing import pack
from crdtbucket.errors import MeshError, WireError
from crdtbucket.limiter.override_file import OverrideFile
from crdtbucket.mesh.links import hello
from crdtbucket.mesh.links.command_orders import CommandBook, CommandOrder
from crdtbucket.mesh.links.ejections import Ejections, EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.order_book import OrderBook
from crdtbucket.mesh.links.override_book import OverrideBook
from crdtbucket.mesh.links.override_orders import SHARDS, OverrideOrder
from crdtbucket.mesh.links.override_spread import OverrideSpread
from crdtbucket.mesh.links.signed_orders import packed
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.state_file import CheckedFile
from crdtbucket.rollout.staged import Position, Status
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong import previous_epoch
from crdtbucket.strong.kept_quotas import KeptQuotas
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.shares import ALONE
from crdtbucket.testing import SimulatedMesh

NS = 1_000_000_000
PLACE = tempfile.TemporaryDirectory(prefix="crdtbucket-outside-")
OPERATOR = NodeKey.make()
OPERATORS = [OPERATOR.fingerprint]
AFTER_S = (0.1, 0.3, 1.0, 3.0, 20.0, 1000.0)
"""Seconds after which a node is checked that has met another one."""


class Outside(NamedTuple):
    """One reader, and good inputs to begin with."""

    read: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]


def mesh(seed: int = 1) -> SimulatedMesh:
    """A mesh of two nodes that have met."""
    nodes = SimulatedMesh(["A", "B"], [BucketSpec("b", 100, 7)], seed=seed, latency=0.001)
    nodes.advance(0.01)
    return nodes


# ---- hellos ----


def read_hello(data: bytes) -> None:
    """Reads the first message of a process that a node then meets; its peers must be able to read
    what the node sends."""
    try:
        info = hello.decode(data).info
    except WireError:
        return
    one = mesh()["A"]
    begin = one.table.now()
    try:
        one.node.connected(info, begin)
    except MeshError:  # it has the name of this node
        return
    for seconds in AFTER_S:
        now = begin + round(seconds * NS)
        one.table.set_time(now)
        for _, frame in one.node.tick(now):
            wire.decode(frame)
        one.node.fleet(now)
        if seconds == 1.0:
            one.node.disconnected(info.name, now)


def _hellos() -> Iterator[bytes]:
    keys = hello.PublicKeys(bytes(range(32)), bytes(32))
    info = NodeInfo("C", "eu", 2**63 + 1, "10.0.0.1:7946", 5 * NS, True, 1_800_000_000 * NS)
    said = hello.Hello(info, 7, bytes(32), bytes(8), (bytes(8), b"12345678"))
    yield said.encode()
    yield said.encode()[:-11]  # before the role
    yield replace(said, role=hello.Role.OBSERVER, keys=keys).encode()
    for name in ("n" * 200, "é" * 100):
        yield replace(said, keys=keys, info=replace(info, name=name, region=name)).encode()


# ---- orders ----


class Linked:
    """A link that is also the table of links, with itself as the only one."""

    peer = NodeInfo("C", "", 7, "", 0)

    def offer(self, data: bytes, kind: int) -> None:
        """Receives an answer, and drops it."""

    def all(self) -> list[Linked]:
        """The links."""
        return [self]


def _books() -> list[OrderBook[Any]]:
    return [book(OPERATORS, "mesh") for book in (Ejections, CommandBook, OverrideBook)]


def read_orders(data: bytes) -> None:
    """Reads orders that a member passes on; the first byte chooses their kind."""
    kind, body = data[0] % 4 if data else 0, data[1:]
    if kind < 3:
        with contextlib.suppress(WireError):
            for order in _books()[kind].merge(body, lambda why: None):
                order.in_words().encode()
        return
    asyncio.run(_pass_on(body))


async def _pass_on(body: bytes) -> None:
    forged: list[WireError] = []
    tasks: list[Any] = []
    link: Any = Linked()
    background: Any = SimpleNamespace(spawn=tasks.append)
    spread = OverrideSpread(
        OverrideBook(OPERATORS, "mesh"), link, background, lambda _, error: forged.append(error)
    )
    with contextlib.suppress(WireError):
        spread.receive(link, body)
    for task in tasks:
        await task


def _signed() -> Iterator[list[Any]]:
    yield [EjectOrder.sign(OPERATOR, "mesh", "b", 1, ejected=True)]
    yield [
        CommandOrder.reset(OPERATOR, "mesh", "api", "k", 5),
        CommandOrder.rollout(OPERATOR, "mesh", Position(2, 3, 0, Status.RUNNING, 1), 6),
    ]
    yield [OverrideOrder.sign(OPERATOR, "mesh", "api", "ké", 1, limit) for limit in ("5/s", None)]


def _orders() -> Iterator[bytes]:
    for kind, orders in enumerate(_signed()):
        yield bytes([kind]) + packed(orders)
        # Until a signature is checked, rows may contain anything.
        rows = [list(order.row()) for order in orders]
        for row, place in itertools.product(rows, range(4)):
            yield bytes([kind]) + pack([[*row[:place], 2**63, *row[place + 1 :]]])
    yield b"\3" + pack(("digests", bytes([1]) * 8 * SHARDS))
    yield b"\3" + pack(("ask", 3))
    yield b"\3" + pack(("orders", [order.row() for order in orders], 3, 0, 1))


# ---- kept files ----


def _restored(data: bytes) -> None:
    one = mesh(seed=2)["A"]
    try:
        one.node.memory.restore(data)
    except MeshError:
        assert not len(one.table), "a part of what was refused is there"


def _epoch_before(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        previous_epoch.load(data)


def _commands(data: bytes) -> None:
    CommandBook(OPERATORS, "mesh", _kept(data))


def _overrides(data: bytes) -> None:
    path = _kept(data).path
    os.chmod(path, 0o600)
    OverrideFile(str(path)).exchange([], OverrideBook(OPERATORS, "mesh"))


def _quotas(data: bytes) -> None:
    _one_process(_kept(data))


def _one_process(file: CheckedFile) -> None:
    """Grants something of a quota, and leaves the rest to the next process."""
    table = Table(max_keys=16, hash_key=bytes(16))
    kept = KeptQuotas(table, "a")
    quota = Quota(table, BucketSpec("b", 9, 1), Fraction(1), fleet=False, kept=kept)
    kept.begin(file)
    quota.take("k", 1, ALONE)
    kept.end()


def _kept(data: bytes) -> CheckedFile:
    path = Path(PLACE.name, "kept")
    path.write_bytes(data)
    return CheckedFile(path, "remove it")


KEPT = (_restored, _epoch_before, _commands, _overrides, _quotas)


def read_kept(data: bytes) -> None:
    """Reads a file of `state_dir`; the first byte says which."""
    with contextlib.suppress(MeshError):
        KEPT[data[0] % len(KEPT) if data else 0](data[1:])


def _files() -> Iterator[bytes]:
    nodes = mesh()
    for key in range(3):
        nodes["A"].take("b", f"key {key}", 40)
        nodes["B"].take("b", f"key {key}", 30)
        nodes.advance(0.2)
    head, *pieces, last = nodes["A"].node.memory.snapshot()
    yield b"\0" + b"".join((head, *pieces, last))
    yield b"\0" + b"".join((head[:-1], b"\x92", *pieces, *pieces, last))
    rows, servers = ((1, 2, 3, 4),), (("10.0.0.1:6379", "run"),)
    yield b"\1" + previous_epoch.dump(previous_epoch.PreviousEpoch(rows, servers))
    _, commands, overrides = _signed()
    yield b"\2" + packed(commands)
    book = OverrideBook(OPERATORS, "mesh")
    file = Path(PLACE.name, "overrides")
    for order in overrides:
        OverrideFile(str(file)).exchange([order], book)
    yield b"\3" + file.read_bytes()
    running = pack((1, 3, None))
    yield b"\4" + running
    for _ in range(2):
        _one_process(left := _kept(running))
        yield b"\4" + (running := left.path.read_bytes())


MESH = {
    "hello": Outside(read_hello, _hellos),
    "orders": Outside(read_orders, _orders),
    "kept": Outside(read_kept, _files),
}
