"""Reads the answers of nodes, which may be malformed, and says in words what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crdtbucket.cli.answer_values import count_of, list_of, mapping_of, report_of, text_of
from crdtbucket.cli.bucket_limits import differing, read_limits
from crdtbucket.cli.certificate_report import late_certificates
from crdtbucket.cli.config_report import ConfigReport
from crdtbucket.cli.outages import OutageReport, read_rules
from crdtbucket.cli.snapshot_report import SnapshotReport
from crdtbucket.cli.terminal_text import seconds
from crdtbucket.cli.unreached_peers import UnreachedPeers, read_unreached

SILENT = ("suspect", "dead")


@dataclass(frozen=True)
class PeerReport:
    """Another node, as one node sees it; `lag` in seconds, None if unknown."""

    name: str
    state: str
    lag: float | None = None
    config: ConfigReport | None = None
    fingerprint: str = ""
    """The fingerprint of the key that the peer has proved."""


@dataclass(frozen=True)
class RegionReport:
    """Another region of a replicated Redis, as a node sees it; `late` in seconds."""

    name: str
    state: str
    late: float | None = None


@dataclass(frozen=True)
class NodeReport:
    """One node, as it says itself; `modes` of its buckets by their names.

    ready: None where it did not say.
    """

    url: str
    name: str
    region: str = ""
    warming_up: bool = False
    ready: bool | None = None
    not_ready: str = ""
    """Why the node is not ready."""
    config: ConfigReport | None = None
    modes: Mapping[str, str] = field(default_factory=dict)
    redis: Mapping[str, str] = field(default_factory=dict)
    """The mode that each Redis allows, by its address."""
    peers: tuple[PeerReport, ...] = ()
    alone: bool = False
    """Whether the node knows no peer, and its dials made no link."""
    last_failure: str = ""
    """Why the last of these dials made no link."""
    unreached: UnreachedPeers = field(default_factory=UnreachedPeers)
    regions: tuple[RegionReport, ...] = ()
    region_conflict: bool = False
    refused: str = ""
    """Why the node has refused its present file; "" where it has not."""
    halted: str = ""
    """The words for a roll-out that is halted."""
    identity: str = ""
    """The way in which names are bound to nodes; "" where the node did not say."""
    fingerprint: str = ""
    signs: bool = True
    """Whether operators sign commands that affect other nodes, as far as the node said."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """The limits of its buckets in words, by their names."""
    snapshot: SnapshotReport = field(default_factory=SnapshotReport)
    late_certificates: tuple[str, ...] = ()
    """What is wrong with the certificates that it shows."""
    outages: Mapping[str, OutageReport | None] = field(default_factory=dict)
    """What is known of each Redis that does not decide, by its address."""
    rules: Mapping[str, str] = field(default_factory=dict)
    """The words for what callers of a bucket get in fallback, by its name."""
    redis_fault: str = ""
    """Why no Redis is used at all; "" where one is."""

    @classmethod
    def of(cls, url: str, answer: Mapping[str, Any]) -> NodeReport:
        """Reads the report from the answer of `GET /admin/status`."""
        identity = mapping_of(answer.get("identity"))
        return report_of(
            cls,
            answer,
            url=url,
            name=text_of(answer.get("node")) or url,
            ready=answer.get("ready") if isinstance(answer.get("ready"), bool) else None,
            config=ConfigReport.of(answer.get("config"), answer.get("rollout")),
            modes={
                text_of(one.get("name")): text_of(one.get("mode"))
                for one in list_of(answer, "buckets")
            },
            redis={
                text_of(name): text_of(mode)
                for name, mode in mapping_of(answer.get("redis")).items()
            },
            peers=tuple(
                report_of(
                    PeerReport, one, config=ConfigReport.of(one.get("config"), one.get("rollout"))
                )
                for one in list_of(answer, "peers")
            ),
            unreached=read_unreached(answer),
            regions=tuple(
                report_of(RegionReport, one, name=text_of(region))
                for region, one in mapping_of(answer.get("regions")).items()
                if isinstance(one, Mapping)
            ),
            refused=text_of(mapping_of(answer.get("config")).get("fault")),
            halted=_halted(mapping_of(answer.get("rollout"))),
            identity=text_of(identity.get("policy")),
            fingerprint=text_of(identity.get("fingerprint")),
            signs=identity.get("operators") != [],
            limits=read_limits(answer),
            snapshot=report_of(SnapshotReport, answer.get("snapshot")),
            late_certificates=tuple(late_certificates(answer.get("certificates"))),
            outages={
                text_of(name): OutageReport.of(one)
                for name, one in mapping_of(answer.get("outages")).items()
            },
            rules=read_rules(answer),
        )


def _halted(rollout: Mapping[str, Any]) -> str:
    if rollout.get("status") != "halted":
        return ""
    reason = text_of(rollout.get("reason"))
    version = count_of(rollout.get("version"))
    return f"the roll-out of version {version} is halted{f' ({reason})' if reason else ''}"


def faults(nodes: Iterable[NodeReport], max_lag: float) -> list[str]:
    """Each thing that is wrong, as a sentence. max_lag: how old a peer's last update may be, s."""
    nodes = tuple(nodes)
    found = [sentence for node in nodes for sentence in _faults_of(node, max_lag)]
    return [*found, *_split(nodes)]


def unprotected(nodes: Iterable[NodeReport]) -> list[str]:
    """Protections that these nodes lack, in sentences."""
    nodes = tuple(nodes)
    named = ", ".join(node.name for node in nodes if node.identity == "off")
    moved = ", ".join(node.name for node in nodes if not node.signs)
    found = []
    if named:
        found.append(
            f"{named}: mesh.identity is off, so whoever has the mesh's secret, or a certificate, "
            "can act as any node"
        )
    if moved:
        found.append(
            f"{moved}: mesh.operator_keys is empty, so any member, and whoever has an admin "
            "token, can move roll-outs"
        )
    return found


def departed(nodes: Iterable[NodeReport]) -> list[str]:
    """Addresses of `mesh.peers` whose nodes have left, in sentences."""
    return [sentence for node in nodes for sentence in node.unreached.notes(node.name)]


def strangers(nodes: Iterable[NodeReport]) -> list[str]:
    """Pairs of nodes that were both asked and do not know each other, in sentences."""
    meshed = [node for node in nodes if node.identity]
    known = [{node.name, *(peer.name for peer in node.peers)} for node in meshed]
    return [
        f"{one.name} and {other.name} do not know each other, so each limits without the other; "
        "`crdtbucket doctor` with the file of one says why"
        for n, one in enumerate(meshed)
        for m, other in enumerate(meshed[:n])
        if one.name not in known[m] and other.name not in known[n]
    ]


def _faults_of(node: NodeReport, max_lag: float) -> Iterable[str]:
    if node.warming_up:
        yield f"{node.name} has no answer from the mesh yet and serves only a part of its share"
    else:
        yield from _own_faults(node)
    for address, mode in node.redis.items():
        if mode != "strong":
            outage = node.outages.get(address)
            words = "" if outage is None else outage.words
            yield f"{node.name}: Redis {address} is slow or out of reach, mode {mode}{words}"
    if node.redis_fault:
        yield f"{node.name}: Redis is not used: {node.redis_fault}"
    for bucket, mode in node.modes.items():
        if mode == "fallback":
            words = node.rules.get(bucket, "")
            yield f"{node.name}: {bucket} is in fallback, the rule for an outage decides{words}"
    yield from _region_faults(node)
    yield from node.snapshot.faults(node.name)
    yield from (f"{node.name}: {fault}" for fault in node.late_certificates)
    if node.refused:
        stays = "the configuration in force stays"
        yield f"{node.name}: its file is refused, and {stays}: {node.refused}"
    if node.halted:
        yield f"{node.name}: {node.halted}"
    silent = {peer.name for peer in node.peers if peer.state in SILENT}
    yield from node.unreached.faults(node.name, said_of=silent, alone=node.alone)
    for peer in node.peers:
        if peer.state in SILENT:
            last_seen = "" if peer.lag is None else f", last seen {seconds(peer.lag)} ago"
            why = node.unreached.reasons_of(peer.name)
            yield f"{node.name}: {peer.name} is {peer.state}{last_seen}{why}"
        elif peer.state == "alive" and peer.lag is not None and peer.lag > max_lag:
            yield f"{node.name}: {peer.name} lags, its last update is {seconds(peer.lag)} old"


def _own_faults(node: NodeReport) -> Iterable[str]:
    if node.ready is False:
        reason = node.not_ready or "it is about to end, or may not serve"
        yield f"{node.name} is not ready: {reason}"
    if node.alone:
        unknown = "none of its calls made a link"
        last = node.last_failure or f"{unknown}: its log says why"
        yield f"{node.name} has no peer: {unknown if node.unreached.known else last}"


def _region_faults(node: NodeReport) -> Iterable[str]:
    for region in node.regions:
        if region.state == "silent":
            late = "" if region.late is None else f", {seconds(region.late)} behind"
            yield f"{node.name}: region {region.name} is silent{late}, its share is held back"
    if node.region_conflict:
        what = "two Redis have one region's name, or regions hash otherwise"
        yield f"{node.name}: {what}: see its log"


def _split(nodes: tuple[NodeReport, ...]) -> Iterable[str]:
    runs: dict[tuple[int, str], dict[str, None]] = {}
    said = {node.name for node in nodes}
    for node in nodes:
        known = [(node.name, node.config)]
        # A node's own report is newer than what others know of it.
        known += [
            (peer.name, peer.config)
            for peer in node.peers
            if peer.name not in said and peer.state not in ("left", "dead")
        ]
        for name, config in known:
            if config is not None:
                runs.setdefault((config.version, config.hash), {})[name] = None
    if len(runs) > 1:
        parts = [
            f"{', '.join(names)} on {ConfigReport(*which).name}"
            for which, names in sorted(runs.items(), reverse=True)
        ]
        yield f"version split: {'; '.join(parts)}"
        yield from differing((node.name, node.limits) for node in nodes)
