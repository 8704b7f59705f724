"""Whether the peers of a configuration can be reached, prove its secret, and run what it says."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

from crdtbucket.base.address import Address
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.deadline import within
from crdtbucket.base.hashing import shared_key
from crdtbucket.config import Config
from crdtbucket.doctor.diagnosis import Diagnosis, Level, note, ok, wrong
from crdtbucket.doctor.reach import reach
from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.peer_keys import load_for
from crdtbucket.mesh.mesh_config import DNS_PREFIX, MeshConfig, split_address
from crdtbucket.mesh.sockets.discovery import resolve_all
from crdtbucket.mesh.sockets.mesh_tls import dialer_context
from crdtbucket.reconcile.buckets import BucketIndex
from crdtbucket.reconcile.observed_node import ObservationFailed, ObservedNode, Observer

CLOCK_WATCHED_S = 0.5
DRIFT_PPM = 1_000
"""Two clocks may run apart by so much; see docs/model.md."""
SLACK_NS = 2_000_000
"""What the system may take between reading a clock and sending."""


async def examine_mesh(config: Config, mesh: MeshConfig, timeout: float) -> list[Diagnosis]:
    """Every peer of the file. `timeout` (s) bounds each step."""
    try:
        context = dialer_context(mesh)
    except MeshError as error:
        return [wrong("mesh TLS", error)]
    try:
        load_for(mesh)
    except MeshError as error:
        return [wrong("mesh identity", error)]
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
    key = shared_key(mesh, config.redis)
    async with Observer(mesh, BucketIndex(config, mesh), name, timeout, key) as caller:
        examined = await asyncio.gather(
            *(_peer(one, caller, config, context, timeout) for one in dict.fromkeys(addresses))
        )
    names: dict[str, ObservedNode] = {}
    for steps, peer_met in examined:
        found += steps
        if peer_met is not None:
            other = names.setdefault(peer_met.name, peer_met)
            if other.instance != peer_met.instance:
                found.append(_one_name(peer_met, other))
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
) -> tuple[list[Diagnosis], ObservedNode | None]:
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
    try:
        peer = await caller.call(address)
    except ObservationFailed as error:
        return [*found, wrong(f"{subject} handshake", error)], None
    key = f" and its key, {peer.fingerprint}" if peer.fingerprint else ""
    found.append(ok(f"{subject} handshake", f"node {peer.name!r} proves the secret{key}"))
    level, text = compare_configs(config, peer.config)
    found.append(Diagnosis(f"{subject} configuration", level, text))
    found.append(await _clock(subject, peer))
    return found, peer


def compare_configs(config: Config, theirs: tuple[int, int, int] | None) -> tuple[Level, str]:
    """How what a node runs (version, hash, stage) compares with the file: a level, and words."""
    if theirs is None:
        return "note", "it runs no file, so whether its limits are the same cannot be told"
    version, content, stage = theirs
    told = f"version {version}, hash {content:016x}" + (f", stage {stage}" if stage else "")
    if f"{content:016x}" == config.hash:
        return "ok", f"it runs the same, {told}"
    here = f"this file is version {config.version}, hash {config.hash}"
    if version == config.version:
        return "wrong", f"it runs {told}, and {here}: give both one file, or raise version here"
    return "note", f"it runs {told}, and {here}"


async def _clock(subject: str, peer: ObservedNode) -> Diagnosis:
    subject = f"{subject} clock"
    try:
        first = await _offset(peer)
        await asyncio.sleep(CLOCK_WATCHED_S)
        second = await _offset(peer)
    except ObservationFailed as error:
        return wrong(subject, error)
    off = clock_error(first, second)
    if off:
        return wrong(
            subject,
            f"it moved by {off / NS_PER_SECOND:.3f} s against this host's within "
            f"{CLOCK_WATCHED_S:g} s: one of the two hosts is paused or its time source is broken",
        )
    return ok(subject, "it runs as fast as this host's (what time it shows does not matter)")


Offset = tuple[int, int, int]
"""At what time here (ns), and by how much at least and at most (ns) the other clock is ahead."""


async def _offset(peer: ObservedNode) -> Offset:
    before = now_ns()
    await peer.meet()
    after = now_ns()
    return after, peer.clock - after, peer.clock - before


def clock_error(first: Offset, second: Offset) -> int:
    """By how much (ns) a clock moved beyond what drift and the network explain; 0 if it did not."""
    slack = (second[0] - first[0]) * DRIFT_PPM // 1_000_000 + SLACK_NS
    ahead, behind = second[1] - first[2], first[1] - second[2]
    return max(0, ahead - slack, behind - slack)


def _one_name(peer: ObservedNode, other: ObservedNode) -> Diagnosis:
    return wrong(
        f"peer {peer.address} name",
        f"{peer.name!r} is the name of the process at {other.address}, too: give every process a "
        "node name of its own",
    )


def _explain(error: Exception, timeout: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}): give the authority that "
            "signed it as mesh.tls_ca"
        )
    if isinstance(error, ssl.SSLError):
        why = error.reason or error
        return f"TLS fails ({why}): has the peer mesh.tls_cert, and an authority that it knows?"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return "the name does not resolve: correct mesh.peers, or the DNS"
    if isinstance(error, OSError) and error.errno is not None:
        why = os.strerror(error.errno)
        return f"it cannot be reached ({why}): start the node, or correct mesh.peers"
    return f"no answer within {timeout:g} s: is the host up, and no firewall between?"


__all__ = ["clock_error", "compare_configs", "examine_mesh"]
