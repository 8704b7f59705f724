"""Finds the nodes that a run asks, and Redis: nodes of the file or the command line, and those that
they know."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from crdtbucket.base.address import Address, split_address
from crdtbucket.config import Config
from crdtbucket.errors import ConfigError, Problem, RedisUnavailable
from crdtbucket.mesh.engines.engine_caller import ANNOUNCED_S, EngineCaller
from crdtbucket.mesh.engines.engines import engine_of
from crdtbucket.mesh.mesh_config import DNS_PREFIX, MeshConfig
from crdtbucket.mesh.sockets.discovery import Discovered
from crdtbucket.reconcile.buckets import BucketIndex
from crdtbucket.reconcile.findings import Holder, Report
from crdtbucket.reconcile.observed_node import ObservationFailed, ObservedNode
from crdtbucket.reconcile.observer import Observer
from crdtbucket.reconcile.reconciliation import Reconciliation
from crdtbucket.reconcile.records import Records

MOST_NODES = 256


async def reconcile(
    config: Config,
    *,
    name: str,
    peers: Sequence[str] = (),
    timeout: float = 5.0,
    dry_run: bool = False,
    moved: Callable[[float], None] = lambda part: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Makes one run over all keys, or until `stopped()`.

    `name`: what nodes write into their logs, and at an engine the name under which it is asked.
    `peers`: whom to ask, as the transport of the mesh calls nodes; without them those of the file,
    all that announce themselves at the engine, and every member that these know. `timeout` (s): for
    each answer. `moved` gets the part that is done. Raises `ConfigError` for a file without a mesh
    and for wrong `peers`, and `MeshError` for an engine whose client is not installed; what cannot
    be reached is in the report.
    """
    mesh = config.mesh
    if mesh is None:
        fix = "add mesh: with the secret and the peers of the nodes"
        raise ConfigError([Problem("is missing", fix, "mesh", config.path)])
    _check_peers(mesh, peers)
    report = Report(dry_run=dry_run)
    engine = None
    if mesh.transport != "sockets":
        engine = EngineCaller(engine_of(mesh, name, random.Random()), mesh, name)
    async with Observer(config, mesh, name, timeout, engine) as caller:
        meeting = _Meeting(caller, report)
        if engine is None:
            nodes = await meeting.meet(mesh, peers)
        else:
            nodes = await meeting.meet_at(engine, peers, await engine.enter(timeout))
        redis = await _open_redis(config, caller.buckets, timeout, report)
        try:
            await Reconciliation(report, nodes, redis).run(moved, stopped)
        finally:
            if redis is not None:
                redis.close()
    return report


def _check_peers(mesh: MeshConfig, peers: Sequence[str]) -> None:
    kind = mesh.transport
    for peer in peers:
        problem, fix = "", f"give {kind}: and the name of the node"
        if kind != "sockets":
            problem = (
                "" if peer.startswith(f"{kind}:") else "and nodes of an engine have no address"
            )
        else:
            try:
                split_address(peer.removeprefix(DNS_PREFIX))
            except ValueError as error:
                problem, fix = str(error), "write host:port, as the mesh is one of sockets"
        if problem:
            raise ConfigError([Problem(f"is {peer}, {problem}", fix, "--peer")])


class _Meeting:
    """Connects to the nodes that are given, and to those that they name."""

    def __init__(self, caller: Observer, report: Report) -> None:
        self._caller, self._report = caller, report
        self._nodes: dict[str, ObservedNode] = {}
        self._called: set[str] = set()

    async def meet(self, mesh: MeshConfig, peers: Sequence[str]) -> list[ObservedNode]:
        """Connects to the nodes. Returns those that could be reached, by name; the report has the
        others."""
        found = await Discovered(peers or mesh.peers).ask()
        failed = await self._call(found)
        if not peers:
            # The node whose file this is, if it runs here; if not, others name it.
            own = await self._call([own_address(mesh)])
            if not self._nodes:
                failed |= own
        return await self._rest(failed, known=not peers)

    async def meet_at(
        self, engine: EngineCaller, peers: Sequence[str], refused: str
    ) -> list[ObservedNode]:
        """`meet` over an engine. `refused`: why that does not let this observer in; "" where it
        does."""
        found = list(peers)
        if not refused and not found:
            found = await engine.nodes()
            if not found:
                refused = (
                    f"no node announced itself within {ANNOUNCED_S:g} s: are subject_prefix and "
                    "mesh_name those of the nodes?"
                )
        if refused:
            self._report.holders.append(Holder("engine", "node", engine.kind, error=refused))
            return []
        return await self._rest(await self._call(found), known=not peers)

    async def _rest(self, failed: dict[str, str], *, known: bool) -> list[ObservedNode]:
        """Meets the members that nodes know as well, if `known`. All that were met, by name."""
        while known and (new := self._members()):
            failed |= await self._call(new)
        named = {a: n for node in self._nodes.values() for n, a in node.members.items()}
        for address, error in failed.items():
            self._report.holders.append(
                Holder(named.get(address, address), "node", address, error=error)
            )
        self._report_silent(failed)
        return [self._nodes[name] for name in sorted(self._nodes)]

    async def _call(self, addresses: Sequence[str]) -> dict[str, str]:
        """Calls the nodes at these addresses. Returns errors by address."""
        new = [one for one in dict.fromkeys(addresses) if one not in self._called][:MOST_NODES]
        self._called.update(new)
        failed = {}
        calls = (self._caller.call(address) for address in new)
        for address, met in zip(
            new, await asyncio.gather(*calls, return_exceptions=True), strict=True
        ):
            if isinstance(met, ObservationFailed):
                failed[address] = str(met)
            elif isinstance(met, BaseException):
                raise met
            elif self._nodes.setdefault(met.name, met).instance != met.instance:
                failed[address] = f"another process there is called {met.name!r}, too"
        return failed

    def _members(self) -> list[str]:
        """Addresses that were named, of nodes that were not met."""
        named = [item for node in self._nodes.values() for item in node.members.items()]
        return [a for n, a in named if a and n not in self._nodes and a not in self._called]

    def _report_silent(self, failed: dict[str, str]) -> None:
        """Reports the members that are known and were not called."""
        known = {n: a for node in self._nodes.values() for n, a in node.members.items()}
        for name, address in sorted(known.items()):
            if name not in self._nodes and address not in failed:
                error = "it was not asked" if address else "nobody knows its address"
                self._report.holders.append(Holder(name, "node", address, error=error))


def own_address(mesh: MeshConfig) -> str:
    """The address at which the node of this configuration is reached."""
    if mesh.advertise is not None:
        return mesh.advertise
    host, port = split_address(mesh.listen)
    return str(Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port))


async def _open_redis(
    config: Config, buckets: BucketIndex, timeout: float, report: Report
) -> Records | None:
    wanted = any(bucket.arguments is not None for bucket in buckets.by_key.values())
    if config.redis is None or not wanted:
        return None
    redis = Records(config.redis, buckets, timeout)
    try:
        await redis.open()
    except RedisUnavailable as error:
        redis.close()
        address = " ".join(map(str, config.redis.target.addresses))
        report.holders.append(Holder(redis.name, "redis", address, error=str(error)))
        return None
    return redis
