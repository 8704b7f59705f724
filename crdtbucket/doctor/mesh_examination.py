"""Examines the peers of a configuration: whether each can be reached, proves the secret, and runs
the same configuration; and the message engine, where there is one: whether it is there and what it
allows."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

from crdtbucket.base.address import Address, split_address, why_unreachable
from crdtbucket.base.deadline import within
from crdtbucket.base.file_shortage import fix_of
from crdtbucket.base.own_certificates import late_renewal
from crdtbucket.config import Config
from crdtbucket.doctor.diagnosis import Diagnosis, note, ok, reach, wrong
from crdtbucket.doctor.host_examination import in_use, port_fault
from crdtbucket.doctor.peer_examination import Examined, all_of, examine_peer
from crdtbucket.errors import MeshError
from crdtbucket.mesh.engines.engine_caller import ANNOUNCED_S, EngineCaller
from crdtbucket.mesh.engines.engines import engine_of
from crdtbucket.mesh.links.mesh_tls import (
    check_certified,
    dialer_context,
    own_fault,
    tls_fault,
)
from crdtbucket.mesh.mesh_config import DNS_PREFIX, MeshConfig
from crdtbucket.mesh.sockets.discovery import resolve_all
from crdtbucket.reconcile.asked_fleet import own_address
from crdtbucket.reconcile.observed_node import ObservationFailed
from crdtbucket.reconcile.observer import Observer

PORTS = {"nats": 4222, "redis": 6379}


async def examine_mesh(config: Config, mesh: MeshConfig, timeout: float) -> list[Diagnosis]:
    """Every peer of the file; or its message engine, and every node that announces itself there.
    `timeout` (s) bounds each step but the wait for announcements."""
    name = f"doctor@{socket.gethostname()}"[:100]
    of_way = _sockets if mesh.transport == "sockets" else _engine
    return await of_way(config, mesh, name, timeout)


async def _sockets(config: Config, mesh: MeshConfig, name: str, timeout: float) -> list[Diagnosis]:
    try:
        context = dialer_context(mesh)
    except MeshError as error:
        return [wrong("mesh TLS", error)]
    found: list[Diagnosis] = []
    if fault := own_fault(mesh) or late_renewal("mesh", mesh.tls_cert):
        found.append(wrong("mesh certificate", fault))
    try:
        if config.node is not None and mesh.identity_policy == "certificate":
            check_certified(mesh, config.node)
    except MeshError as error:
        found.append(wrong("mesh identity", error))
    addresses: list[str] = []
    for peer in mesh.peers:
        if not peer.startswith(DNS_PREFIX):
            addresses.append(peer)
            continue
        one, resolved = await _resolved(peer, timeout)
        found.append(one)
        addresses += resolved
    own, here = None, own_address(mesh)
    runs = in_use(port_fault(mesh.listen))
    async with Observer(config, mesh, name, timeout) as caller:
        examined = await asyncio.gather(
            *(
                _peer(one, caller, config, context, timeout, idle=one == here and not runs)
                for one in dict.fromkeys(addresses)
            )
        )
        if any(peer is not None and peer.name == config.node for _, peer in examined):
            with suppress(ObservationFailed):  # it does not run, or is reached elsewhere
                own = (await caller.call(here)).instance
    found += all_of(examined, config.node, own, here)
    if not mesh.peers:
        found.append(note("mesh", "the file names no peers: this node waits for others to call it"))
    return found


async def _resolved(peer: str, timeout: float) -> tuple[Diagnosis, list[str]]:
    subject = f"peers {peer}"
    host, port = split_address(peer.removeprefix(DNS_PREFIX))
    try:
        addresses = await within(timeout, resolve_all(host, port))
    except (OSError, UnicodeError, asyncio.TimeoutError) as error:
        return wrong(subject, _explain(error, timeout)), []
    return ok(subject, f"resolves to {', '.join(addresses)}"), addresses


async def _peer(
    address: str,
    caller: Observer,
    config: Config,
    context: ssl.SSLContext | None,
    timeout: float,
    *,
    idle: bool,
) -> Examined:
    """`idle`: the address is that of the file's own node, which does not run yet; where all nodes
    have one list of peers, it is in there."""
    subject = f"peer {address}"
    way = reach(
        subject,
        Address(*split_address(address)),
        context,
        timeout,
        lambda error: _explain(error, timeout),
    )
    found = [step async for step in way]
    if idle and found[-1].subject == f"{subject} port" and found[-1].level == "wrong":
        found[-1] = ok(f"{subject} port", "the address of this node itself, which does not run yet")
        return found, None
    if found[-1].level == "wrong":
        return found, None
    steps, peer = await examine_peer(subject, address, caller, config)
    return [*found, *steps], peer


def _explain(error: Exception, timeout: float) -> str:
    if isinstance(error, ssl.SSLError):
        return tls_fault(error)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return "the name does not resolve: correct mesh.peers, or the DNS"
    if isinstance(error, OSError) and error.errno is not None:
        fix = fix_of(error, "start the node, or correct mesh.peers")
        return f"it cannot be reached ({why_unreachable(error)}): {fix}"
    return f"no answer within {timeout:g} s: is the host up, and no firewall between?"


async def _engine(config: Config, mesh: MeshConfig, name: str, timeout: float) -> list[Diagnosis]:
    """Each server by itself, then the engine as the node of the file, then its nodes."""
    kind, found = mesh.transport, []
    for server in mesh.servers:
        parts = urlsplit(server)
        address = Address(parts.hostname or "", parts.port or PORTS[kind])
        way = reach(f"engine {address}", address, None, timeout, _explain_server)
        found += [step async for step in way]
    if fault := late_renewal("mesh", mesh.tls_cert):
        found.append(wrong("engine certificate", fault))
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
    return [*found, ok(subject, text), *await _announced(config, mesh, name, timeout)]


async def _announced(
    config: Config, mesh: MeshConfig, name: str, timeout: float
) -> list[Diagnosis]:
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


def _explain_server(error: Exception) -> str:
    why = str(error) or "no answer in time"
    return f"cannot be reached ({why}): {fix_of(error, 'start it, or correct mesh.servers')}"
