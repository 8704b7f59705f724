"""Which connections a listener accepts, and which one gives way."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from crdtbucket.mesh.links.counters import MeshCounters, Refusals
from crdtbucket.mesh.sockets import admission
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode, config, running
from tests.waits import eventually


class Outsiders:
    """A listener with few places, for which nothing expires, and what outsiders have open there."""

    def __init__(self, mesh: MeshNetwork) -> None:
        self.mesh = mesh
        self.host, _, port = mesh.address.rpartition(":")
        self.port = int(port)
        self.readers: list[asyncio.StreamReader] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def knock(self, source: str) -> None:
        """A connection from this address, which sends nothing."""
        reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=(source, 0))
        self.readers.append(reader)
        self._writers.append(writer)

    async def ended(self, number: int) -> bool:
        """Whether the node has ended a connection that it had accepted, or not."""
        try:
            return await asyncio.wait_for(self.readers[number].read(1), 5) == b""
        except ConnectionResetError:
            return True

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.mesh.counters.refused)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "HANDSHAKE_S", 600.0)
    monkeypatch.setattr(admission, "MAX_UNPROVEN", 4)
    monkeypatch.setattr(admission, "MAX_UNPROVEN_PER_ADDRESS", 3)


async def test_two_addresses_cannot_keep_a_third_out() -> None:
    """They held all places, each for as long as a handshake may take, and then took them again."""
    node = RecordingNode("a")
    async with running(mesh := MeshNetwork(node, config())):
        outsiders = Outsiders(mesh)
        for source in ("127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"):
            await outsiders.knock(source)
        async with running(MeshNetwork(RecordingNode("b"), config(mesh.address))):
            await eventually(lambda: node.linked)
        assert await outsiders.ended(0)  # the oldest one of an address that has most
        assert outsiders.refused["crowded_out"] == 1
        outsiders.close()


async def test_an_address_does_not_crowd_out_others_that_have_as_few() -> None:
    async with running(mesh := MeshNetwork(RecordingNode("a"), config())):
        outsiders = Outsiders(mesh)
        for source in ("127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"):
            await outsiders.knock(source)
        for _ in range(2):
            await outsiders.knock("127.0.0.2")  # it has as many as the others
        await eventually(lambda: outsiders.refused == {"too_many_unproven": 2})
        await outsiders.knock("127.0.0.4")
        await eventually(lambda: outsiders.refused["crowded_out"] == 1)
        await outsiders.knock("127.0.0.4")  # all others have one or two: it has one already
        await eventually(lambda: outsiders.refused["too_many_unproven"] == 3)
        outsiders.close()


async def test_an_address_has_so_many_places_at_most() -> None:
    async with running(mesh := MeshNetwork(RecordingNode("a"), config())):
        outsiders = Outsiders(mesh)
        for _ in range(5):
            await outsiders.knock("127.0.0.2")
        await eventually(lambda: outsiders.refused == {"too_many_from_address": 2})
        outsiders.close()


def test_those_that_have_authenticated_count_among_all_connections() -> None:
    checks = admission.Admission(2, Refusals(MeshCounters()))
    for number in range(6):  # for two peers, and four that have not authenticated
        assert checks.reason_against("127.0.0.9") is None
        connection = mock.Mock(source=f"127.0.0.{number}")
        checks.accepted(connection)
        checks.proven(connection)
    assert checks.reason_against("127.0.0.9") == "too_many_connections"
