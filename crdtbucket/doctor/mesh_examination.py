"""Whether the peers of a configuration can be reached, prove its secret, and run what it says."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

from crdtbucket.base.address import Address, split_address, why_unreachable
from crdtbucket.base.deadline import within
from crdtbucket.config import Config
from crdtbucket.doctor.diagnosis import Diagnosis, note, ok, reach, wrong
from crdtbucket.doctor.peer_examination import Examined, all_of, examine_peer
from crdtbucket.errors import MeshError
from crdtbucket.mesh.mesh_config import DNS_PREFIX, MeshConfig
from crdtbucket.mesh.sockets.discovery import resolve_all
from crdtbucket.mesh.sockets.mesh_tls import dialer_context
from crdtbucket.reconcile.asked_fleet import own_address
from crdtbucket.reconcile.observed_node import ObservationFailed
from crdtbucket.reconcile.observer import Observer


async def examine_mesh(config: Config, mesh: MeshConfig, timeout: float) -> list[Diagnosis]:
    """Every peer of the file. `timeout` (s) bounds each step."""
    try:
        context = dialer_context(mesh)
    except MeshError as error:
        return [wrong("mesh TLS", error)]
    found: list[Diagnosis] = []
    addresses: list[str] = []
    for peer in mesh.peers:
        if not peer.startswith(DNS_PREFIX):
            addresses.append(peer)
            continue
        one, resolved = await _resolved(peer, timeout)
        found.append(one)
        addresses += resolved
    name = f"doctor@{socket.gethostname()}"[:100]
    async with Observer(config, mesh, name, timeout) as caller:
        examined = await asyncio.gather(
            *(_peer(one, caller, config, context, timeout) for one in dict.fromkeys(addresses))
        )
        own, here = None, own_address(mesh)
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
    address: str, caller: Observer, config: Config, context: ssl.SSLContext | None, timeout: float
) -> Examined:
    subject = f"peer {address}"
    way = reach(
        subject,
        Address(*split_address(address)),
        context,
        timeout,
        lambda error: _explain(error, timeout),
    )
    found = [step async for step in way]
    if found[-1].level == "wrong":
        return found, None
    steps, peer = await examine_peer(subject, address, caller, config)
    return [*found, *steps], peer


def _explain(error: Exception, timeout: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}): give the authority that "
            "signed it as mesh.tls.ca"
        )
    if isinstance(error, ssl.SSLError):
        why = error.reason or error
        return f"TLS fails ({why}): has the peer mesh.tls.cert, and an authority that it knows?"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return "the name does not resolve: correct mesh.peers, or the DNS"
    if isinstance(error, OSError) and error.errno is not None:
        why = why_unreachable(error)
        return f"it cannot be reached ({why}): start the node, or correct mesh.peers"
    return f"no answer within {timeout:g} s: is the host up, and no firewall between?"
