"""Whether the message engine of a mesh is there, lets this node in, and lets it speak and hear."""

from __future__ import annotations

import asyncio
import random
from urllib.parse import urlsplit

from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.doctor.diagnosis import Diagnosis, note, ok, wrong
from crdtbucket.doctor.reach import reach
from crdtbucket.errors import MeshError
from crdtbucket.mesh.engines.engine import Engine
from crdtbucket.mesh.engines.engines import engine_of
from crdtbucket.mesh.mesh_config import MeshConfig

PORTS = {"nats": 4222, "redis": 6379}


class FirstWord:
    """The listener of an engine that waits for the first thing which it says."""

    def __init__(self) -> None:
        self.said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """"" when it is connected; else why it is not."""

    def engine_up(self, server: str) -> None:
        """It is connected."""
        self._say("")

    def engine_down(self, why: str) -> None:
        """It is not."""
        self._say(why or "it does not answer")

    def arrived(self, sender: str, data: bytes) -> None:
        """Not for this one."""

    def announced(self, sender: str, data: bytes) -> None:
        """Not for this one."""

    def nobody(self, name: str) -> None:
        """Not for this one."""

    def _say(self, why: str) -> None:
        if not self.said.done():
            self.said.set_result(why)


async def examine_engine(mesh: MeshConfig, node: str, timeout: float) -> list[Diagnosis]:
    """Each server by itself, then the engine as `node`. `timeout` (s) bounds each step."""
    kind, found = mesh.transport, []
    for server in mesh.servers:
        parts = urlsplit(server)
        address = Address(parts.hostname or "", parts.port or PORTS[kind])
        way = reach(f"engine {address}", address, None, timeout, _explain)
        found += [step async for step in way]
    subject = f"engine {kind}"
    try:
        engine = engine_of(mesh, node, random.Random())
    except MeshError as error:
        return [*found, wrong(subject, error)]
    try:
        found.append(await _enter(engine, subject, node, timeout))
    finally:
        await engine.stop()
    text = "peers of an engine cannot be asked from outside: the status of each node shows them"
    return [*found, note("mesh", text)]


async def _enter(engine: Engine, subject: str, node: str, timeout: float) -> Diagnosis:
    first = FirstWord()
    engine.start(first)
    await asyncio.wait({first.said}, timeout=timeout)
    if not first.said.done():
        text = f"no answer within {timeout:g} s: is it overloaded, or a firewall between?"
        return wrong(subject, text)
    why = first.said.result()
    if why:
        return wrong(subject, f"{why}: start it, or correct mesh.servers and mesh.credentials")
    try:
        why = await within(timeout, engine.verify())
    except asyncio.TimeoutError:
        why = f"no answer within {timeout:g} s: is it overloaded?"
    if why:
        return wrong(subject, why)
    return ok(subject, f"lets node {node!r} in, publish under its name, and hear its peers")


def _explain(error: Exception) -> str:
    why = str(error) or "no answer in time"
    return f"cannot be reached ({why}): start it, or correct mesh.servers"


__all__ = ["examine_engine"]
