"""Examines one peer, over any carrier: its proof, its configuration, its clock, and its name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.config import Config
from crdtbucket.doctor.diagnosis import Diagnosis, Level, note, ok, wrong
from crdtbucket.reconcile.observed_node import ObservationFailed, ObservedNode
from crdtbucket.reconcile.observer import Observer

CLOCK_WATCHED_S = 0.5
DRIFT_PPM = 1_000
"""Two clocks may run apart by so much; see docs/model.md."""
SLACK_NS = 2_000_000
"""The time that may pass between reading a clock and sending (ns)."""
Examined = tuple[list[Diagnosis], "ObservedNode | None"]
"""The results, and the node that answered."""


async def examine_peer(subject: str, address: str, caller: Observer, config: Config) -> Examined:
    """Calls the node at an address and compares it with the file."""
    try:
        peer = await caller.call(address)
    except ObservationFailed as error:
        return [wrong(f"{subject} handshake", error)], None
    level, text = compare_configs(config, peer.config)
    key = f" and its key, {peer.fingerprint}" if peer.fingerprint else ""
    found = [
        ok(f"{subject} handshake", f"node {peer.name!r} proves the secret{key}"),
        Diagnosis(f"{subject} configuration", level, text),
        await _clock(subject, peer),
    ]
    return found, peer


def all_of(
    examined: Sequence[Examined],
    node: str | None = None,
    own: int | None = None,
    own_address: str = "",
) -> list[Diagnosis]:
    """The results about all peers, and about peers that share a name with each other or with the
    file's `node`. `own`: the instance of that node, where it answers at `own_address`."""
    found: list[Diagnosis] = []
    names: dict[str, ObservedNode] = {}
    for steps, peer in examined:
        found += steps
        if peer is not None and peer.name == node:
            if peer.instance != own:
                found.append(_own_name(peer, own is not None, own_address))
        elif peer is not None:
            other = names.setdefault(peer.name, peer)
            if other.instance != peer.instance:
                found.append(_one_name(peer, other))
    return found


def compare_configs(config: Config, theirs: tuple[int, int, int] | None) -> tuple[Level, str]:
    """How what a node runs (version, hash, stage) compares with the file: a level, and words."""
    if theirs is None:
        return "note", "it runs no file, so nobody knows whether its limits are the same"
    version, content, stage = theirs
    runs = f"version {version}, hash {content:016x}" + (f", stage {stage}" if stage else "")
    if f"{content:016x}" == config.hash:
        return "ok", f"it runs the same, {runs}"
    here = f"this file is version {config.version}, hash {config.hash}"
    if version == config.version:
        return "wrong", f"it runs {runs}, and {here}: give both one file, or raise version here"
    return "note", f"it runs {runs}, and {here}"


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
    """By how much (ns) a clock has moved more than drift and the network explain; 0 if it has
    not."""
    slack = (second[0] - first[0]) * DRIFT_PPM // 1_000_000 + SLACK_NS
    ahead, behind = second[1] - first[2], first[1] - second[2]
    return max(0, ahead - slack, behind - slack)


def _one_name(peer: ObservedNode, other: ObservedNode) -> Diagnosis:
    return wrong(
        f"peer {peer.address} name",
        f"{peer.name!r} is the name of the process at {other.address}, too: give every process a "
        "node name of its own",
    )


def _own_name(peer: ObservedNode, answers: bool, own_address: str) -> Diagnosis:
    subject, advice = f"peer {peer.address} name", "give every process a node name of its own"
    whose = f"{peer.name!r} is the name of this node"
    if answers:
        return wrong(subject, f"{whose}, and another process runs under it there: {advice}")
    return note(
        subject,
        f"{whose}, which does not answer at {own_address}: unless it is this node that answers "
        f"there, as behind a published port, {advice}",
    )
