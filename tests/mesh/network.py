"""Helpers for tests with real sockets: a node that records, and meshes of such nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

from crdtbucket.base.clock import now_ns
from crdtbucket.errors import NodeConflict, WireError
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.waits import eventually


class RecordingNode:
    """A protocol machine that records all calls and sends what a test gives it."""

    def __init__(self, name: str, *, epoch: int = 1, interval_ns: int = 50_000_000) -> None:
        self.info = NodeInfo(name, f"region of {name}", epoch, "", 0)
        self.on_wake: Callable[[], None] | None = None
        self.linked: dict[str, NodeInfo] = {}
        self.events: list[tuple[str, str]] = []
        self.ends: list[tuple[str, bool]] = []
        """The names of disconnected peers, and whether the other side had ended the connection."""
        self.failed_dials: list[tuple[str, str, bool]] = []
        self.frames: list[tuple[str, bytes]] = []
        self.ticks = 0
        self.rounds = True
        self.outbox: list[tuple[str, bytes]] = []
        self.last_words: list[tuple[str, bytes]] = []
        self.answer: Callable[[str, bytes], list[tuple[str, bytes]]] | None = None
        self.addresses: list[str] = []
        self.conflicts: list[NodeConflict] = []
        """The conflicts with other processes that use this name."""
        self._interval_ns = interval_ns
        self._next = now_ns()

    def set_waker(self, wake: Callable[[], None] | None) -> None:
        self.on_wake = wake

    def connected(self, peer: NodeInfo, now: int) -> None:
        if peer.name == self.info.name:
            raise self.duplicate_name(peer, self.info)
        if peer.name in self.linked:
            raise NodeConflict(f"{peer.name} is linked with epoch {self.linked[peer.name].epoch}")
        self.linked[peer.name] = peer
        self.events.append(("connected", peer.name))

    def disconnected(self, name: str, now: int, *, ended: bool) -> None:
        del self.linked[name]
        self.events.append(("disconnected", name))
        self.ends.append((name, ended))

    def dial_failed(self, name: str, address: str, now: int, *, refused: bool) -> None:
        self.failed_dials.append((name, address, refused))

    def parts(
        self, name: str, frame: bytes, now: int
    ) -> Iterator[tuple[list[tuple[str, bytes]], bool]]:
        assert name in self.linked
        if frame == b"bad":
            raise WireError("bad on purpose")
        if frame == b"bug":
            raise ZeroDivisionError("a bug on purpose")
        if frame != b"round":
            self.frames.append((name, frame))
        *first, last = frame.split(b"|")
        for part in first:
            yield [] if self.answer is None else self.answer(name, part), True
        yield [] if self.answer is None else self.answer(name, last), False

    def observe(self, data: bytes, now: int, *, writes: bool) -> bytes:
        if data == b"bad":
            raise WireError("bad on purpose")
        return b"seen " + data

    def tick(self, now: int) -> list[tuple[str, bytes]]:
        self.ticks += 1
        self._next = now + self._interval_ns
        out, self.outbox = self.outbox, []
        rounds = [(name, b"round") for name in self.linked] if self.rounds else []
        return out + rounds

    def next_tick(self, now: int) -> int:
        return now if self.outbox else self._next

    def duplicate_name(self, peer: NodeInfo, me: NodeInfo) -> NodeConflict:
        self.conflicts.append(NodeConflict(f"two processes are called {peer.name}"))
        return self.conflicts[-1]

    def name_reported(self, conflict: NodeConflict, by: str) -> None:
        self.conflicts.append(conflict)

    def leave(self, now: int) -> Iterator[list[tuple[str, bytes]]]:
        yield self.last_words

    def known_addresses(self) -> list[str]:
        return self.addresses

    def send(self, name: str, frame: bytes) -> None:
        """Lets the transport send this frame soon."""
        self.outbox.append((name, frame))
        if self.on_wake is not None:
            self.on_wake()


def config(*peers: str, **settings: object) -> MeshConfig:
    """Settings of a node on a free port of loopback; with a secret unless they say otherwise."""
    settings.setdefault("secret", "a secret of these tests")
    return MeshConfig(listen="127.0.0.1:0", peers=peers, **settings)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(*meshes: MeshNetwork) -> AsyncIterator[None]:
    """Starts these in order, and stops all of them at the end."""
    started: list[MeshNetwork] = []
    try:
        for mesh in meshes:
            await mesh.start()
            started.append(mesh)
        yield
    finally:
        await asyncio.gather(*(mesh.stop() for mesh in started))


@contextlib.asynccontextmanager
async def pair(
    a: RecordingNode, b: RecordingNode, settings_a: object = None, settings_b: object = None
) -> AsyncIterator[tuple[MeshNetwork, MeshNetwork]]:
    """Two linked nodes; `b` has called `a`."""
    mesh_a = MeshNetwork(a, config(**(settings_a or {})))  # type: ignore[arg-type]
    async with running(mesh_a):
        mesh_b = MeshNetwork(b, config(mesh_a.address, **(settings_b or {})))  # type: ignore[arg-type]
        async with running(mesh_b):
            await eventually(lambda: b.info.name in a.linked and a.info.name in b.linked)
            yield mesh_a, mesh_b


async def read_until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def say(mesh: MeshNetwork, said: bytes, *, and_end: bool = False) -> None:
    """Connects as a stranger, sends this, and stays until the node ends the connection."""
    host, port = mesh.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(said)
    if and_end:
        writer.write_eof()
    await asyncio.wait_for(read_until_closed(reader), 60)
    writer.close()
