"""Whether the message engine of a mesh is there, what it allows, and which nodes are at it."""

from __future__ import annotations

import asyncio
import random
import socket
from urllib.parse import urlsplit

from crdtbucket.base.address import Address
from crdtbucket.config import Config
from crdtbucket.doctor.diagnosis import Diagnosis, note, ok, reach, wrong
from crdtbucket.doctor.peer_examination import all_of, examine_peer
from crdtbucket.errors import MeshError
from crdtbucket.mesh.engines.engine_caller import ANNOUNCED_S, EngineCaller
from crdtbucket.mesh.engines.engines import engine_of
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.reconcile.observer import Observer

PORTS = {"nats": 4222, "redis": 6379}


async def examine_engine(config: Config, mesh: MeshConfig, timeout: float) -> list[Diagnosis]:
    """Each server by itself, then the engine as the node of the file, then every node that
    announces itself there. `timeout` (s) bounds each step but the wait for announcements."""
    kind, found = mesh.transport, []
    for server in mesh.servers:
        parts = urlsplit(server)
        address = Address(parts.hostname or "", parts.port or PORTS[kind])
        way = reach(f"engine {address}", address, None, timeout, _explain)
        found += [step async for step in way]
    subject, node = f"engine {kind}", config.node or "doctor"
    try:
        caller = EngineCaller(engine_of(mesh, node, random.Random()), mesh, node)
    except MeshError as error:
        return [*found, wrong(subject, error)]
    try:
        why = await caller.enter(timeout)
    finally:
        await caller.close()
    if why:
        return [*found, wrong(subject, why)]
    text = f"lets node {node!r} in, publish under its name, and receive from its peers"
    return [*found, ok(subject, text), *await _peers(config, mesh, timeout)]


async def _peers(config: Config, mesh: MeshConfig, timeout: float) -> list[Diagnosis]:
    name = f"doctor@{socket.gethostname()}"[:100]
    engine = EngineCaller(engine_of(mesh, name, random.Random()), mesh, name)
    async with Observer(config, mesh, name, timeout, engine) as caller:
        if why := await engine.enter(timeout):
            text = (
                f"peers cannot be asked under the name {name!r} ({why}); "
                "`crdtbucket status` shows them as each node sees them"
            )
            return [note("mesh", text)]
        nodes = await engine.nodes()
        calls = [examine_peer(f"peer {one}", one, caller, config) for one in nodes]
        found = all_of(await asyncio.gather(*calls))
    if not nodes:
        return [note("mesh", f"no node announced itself within {ANNOUNCED_S:g} s")]
    return found


def _explain(error: Exception) -> str:
    why = str(error) or "no answer in time"
    return f"cannot be reached ({why}): start it, or correct mesh.servers"
