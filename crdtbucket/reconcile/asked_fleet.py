"""Whom a run asks: the nodes of the file or of the command line, all that these know, and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from crdtbucket.base.hashing import shared_key
from crdtbucket.config import Config
from crdtbucket.errors import ConfigError, Problem, RedisUnavailable
from crdtbucket.mesh.mesh_config import MeshConfig, split_address
from crdtbucket.mesh.sockets.discovery import providers
from crdtbucket.reconcile.buckets import BucketIndex
from crdtbucket.reconcile.findings import Holder, Report
from crdtbucket.reconcile.observed_node import ObservationFailed, ObservedNode, Observer
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
    """One run over all keys, or until `stopped()`.

    `name`: what nodes write into their logs. `peers`: whom to ask, "host:port"; without them those
    of the file, and every member that they know. `timeout` (s): for each answer. `moved` gets
    the part that is done. Raises `ConfigError` for a file without a mesh; what cannot be reached is
    in the report.
    """
    mesh = config.mesh
    if mesh is None:
        fix = "add mesh: with the secret and the peers of the nodes"
        raise ConfigError([Problem("is missing", fix, "mesh", config.path)])
    if mesh.transport != "sockets":
        fix = "its nodes cannot be asked; where a Redis is the backend of all, they settle with it"
        problem = Problem(
            f"is {mesh.transport}, where nodes have no address", fix, "mesh.transport"
        )
        raise ConfigError([problem])
    buckets = BucketIndex(config, mesh)
    report = Report(dry_run=dry_run)
    async with Observer(mesh, buckets, name, timeout, shared_key(mesh, config.redis)) as caller:
        nodes = await _Meeting(caller, report).meet(mesh, peers)
        redis = await _open_redis(config, buckets, timeout, report)
        try:
            await Reconciliation(report, nodes, redis).run(moved, stopped)
        finally:
            if redis is not None:
                redis.close()
    return report


class _Meeting:
    """Calls nodes, and those that they name."""

    def __init__(self, caller: Observer, report: Report) -> None:
        self._caller, self._report = caller, report
        self._nodes: dict[str, ObservedNode] = {}
        self._called: set[str] = set()

    async def meet(self, mesh: MeshConfig, peers: Sequence[str]) -> list[ObservedNode]:
        """All that could be met, by name; the report has the others."""
        found = [a for one in providers(peers or mesh.peers) for a in await one.addresses()]
        failed = await self._call(found)
        if not peers:
            # The node whose file this is, if it runs here; if not, others name it.
            await self._call([own_address(mesh)])
            while new := self._members():
                failed |= await self._call(new)
        named = {a: n for node in self._nodes.values() for n, a in node.members.items()}
        for address, error in failed.items():
            self._report.holders.append(
                Holder(named.get(address, address), "node", address, error=error)
            )
        self._report_silent(failed)
        return [self._nodes[name] for name in sorted(self._nodes)]

    async def _call(self, addresses: Sequence[str]) -> dict[str, str]:
        """Meets these; errors by address."""
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
        """Members that are known and were not called."""
        known = {n: a for node in self._nodes.values() for n, a in node.members.items()}
        for name, address in sorted(known.items()):
            if name not in self._nodes and address not in failed:
                error = "it was not asked" if address else "nobody knows its address"
                self._report.holders.append(Holder(name, "node", address, error=error))


def own_address(mesh: MeshConfig) -> str:
    """Where the node of this configuration is reached."""
    if mesh.advertise is not None:
        return mesh.advertise
    host, port = split_address(mesh.listen)
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{here}]:{port}" if ":" in here else f"{here}:{port}"


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
        report.holders.append(Holder(redis.name, "redis", error=str(error)))
        return None
    return redis


__all__ = ["own_address", "reconcile"]
