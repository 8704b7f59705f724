"""Real NATS servers for tests: on free ports, alone, in a cluster, or joined by a gateway; and
nodes that are linked there."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode, running
from tests.server_process import ServerProcess
from tests.strong.redis_server import free_port
from tests.waits import eventually

SECRET = "a secret of these tests"
NUMBERS = itertools.count()


class NatsServer(ServerProcess):
    """A NATS server. `lines`: of its configuration, such as `authorization { token: secret }`."""

    def __init__(self, *lines: str) -> None:
        # The places where `make nats`, or the package of Debian, puts it.
        places = f"{os.environ['PATH']}:/usr/sbin:{Path(sys.executable).parent}"
        super().__init__("nats-server", "nats", "make nats", places)
        self.port = free_port()
        self._config = self.folder / "server.conf"
        self._config.write_text("\n".join((f'listen: "127.0.0.1:{self.port}"', *lines)) + "\n")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return self.program, "-c", str(self._config)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket() as line:
            line.settimeout(1.0)
            line.connect(("127.0.0.1", self.port))
            return line.recv(5) == b"INFO "
        return False


def mesh(node: RecordingNode, *servers: NatsServer, credentials: str | None = None) -> MeshNetwork:
    config = MeshConfig(
        transport="nats",
        servers=[server.url for server in servers],
        credentials=credentials,
        secret=SECRET,
    )
    return MeshNetwork(node, config)


async def linked(stack: AsyncExitStack, *meshes: MeshNetwork) -> tuple[MeshNetwork, ...]:
    await stack.enter_async_context(running(*meshes))
    await eventually(lambda: all(len(one.links) == len(meshes) - 1 for one in meshes))
    return meshes


async def frames_go(a: RecordingNode, b: RecordingNode) -> None:
    """Returns when frames go both ways; those that are lost are sent again."""
    new = b"frame %d" % next(NUMBERS)

    def arrived() -> bool:
        there, back = (a.info.name, new) in b.frames, (b.info.name, new) in a.frames
        if not (there or a.outbox):
            a.send(b.info.name, new)
        if not (back or b.outbox):
            b.send(a.info.name, new)
        return there and back

    await eventually(arrived)
