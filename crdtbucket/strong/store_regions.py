"""What a node knows of the regions of a replicated Redis, from all servers of its own region; and
the claim of its own region's name. The claim detects two faults that give out a limit twice: two
servers that are used under one region's name, and regions that hash keys differently."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from crdtbucket._core import Table
from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.deadline import within
from crdtbucket.base.hashing import fingerprint
from crdtbucket.errors import CrdtbucketError
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask
from crdtbucket.strong.redis.regions import Regions

LOG = logging.getLogger("crdtbucket.strong")
WITHIN_NS = 60 * NS_PER_SECOND
"""Another server's name must be found twice within this time: once may be an old copy."""
KEPT_MS = 3_600_000
PATIENCE_S = 0.5


class RegionClaim:
    """Writes into Redis which server belongs to the region and how its nodes hash keys, and reads
    the claim that was there. A server that restarts, or fails over, has a new run id and claims the
    region once. Two servers that are both used under one name overwrite each other's claims again
    and again.
    """

    def __init__(self, prefix: str, regions: Regions, table: Table) -> None:
        self.conflict = ""
        """What is wrong, and what to do; empty while nothing is wrong."""
        base = b"%s{server}" % prefix.encode()
        self.name, *self._others = regions.keys(base)
        self._regions = regions
        self._table = table
        self._print = fingerprint(table.hash_key)
        self._claimed = ""
        self._found: deque[int] = deque(maxlen=2)

    async def make(self, connection: RedisConnection, run_id: str | None) -> None:
        """Claims the region for a server. A failure is left to the next call."""
        if not run_id:
            return  # without a run id it cannot be told from other servers
        try:
            conflict = await within(PATIENCE_S, self._look(connection, run_id))
        except (asyncio.TimeoutError, CrdtbucketError) as error:
            LOG.debug("Redis %s: the region was not claimed: %s", connection.address, error)
            return
        before, self.conflict = self.conflict, conflict
        if conflict and not before:
            LOG.critical("Redis %s: %s", connection.address, conflict)
        elif before and not conflict:
            LOG.info("Redis %s: no region is in conflict with another now", connection.address)

    async def _look(self, connection: RedisConnection, run_id: str) -> str:
        claim = f"{run_id} {self._print}"
        words = (b"SET", self.name, claim, b"PX", KEPT_MS, b"GET")
        found = _parts(await ask(connection, *words))
        if self._claimed == run_id and found and found[0] != run_id:
            self._found.append(self._table.now())
        self._claimed = run_id
        if len(self._found) == 2 and self._table.now() - self._found[0] <= WITHIN_NS:
            return self._second_server(found[0] if found else "")
        for region, name in zip(self._regions.others, self._others, strict=True):
            found = _parts(await ask(connection, b"GET", name))
            if found and found[1] != self._print:
                return self._stranger(region.decode(), found[1])
        return ""

    def _second_server(self, run_id: str) -> str:
        return (
            f"another server (run id {clipped(run_id)}) is used as that of region "
            f"{self._regions.own.decode()!r}, too: of two that write the same keys one loses what "
            "was taken. Give every server a region of its own, or name one server in all files of "
            "a region"
        )

    def _stranger(self, region: str, other: str) -> str:
        return (
            f"nodes of region {region!r} hash keys of buckets otherwise (fingerprint "
            f"{clipped(other)}, here {self._print}), so each region grants the whole of every "
            "limit: give all nodes the same redis.hash_secret or mesh.hash_secret, or none of them"
        )


def _parts(claim: object) -> list[str]:
    """Run id and fingerprint; nothing where no claim stands."""
    parts = claim.decode(errors="replace").split() if isinstance(claim, bytes) else []
    return parts if len(parts) == 2 else []


class StoreRegions:
    """What the servers of this region know of the other regions. Without regions nothing is silent
    or in conflict."""

    def __init__(
        self,
        regions: Regions | None,
        prefix: str,
        table: Table,
        endpoints: Callable[[], Iterable[Endpoint]],
    ) -> None:
        """`regions`: None where all nodes share one Redis. `endpoints`: all servers, as of now."""
        self._claim = None if regions is None else RegionClaim(prefix, regions, table)
        self._endpoints = endpoints

    def is_silent(self, region: str) -> bool:
        """Whether some server of this region gets nothing new of the other one."""
        name = region.encode()
        return any(one.watch and name in one.watch.silent() for one in self._endpoints())

    def states(self) -> dict[str, dict[str, Any]]:
        """The state of each other region, the worst one over all servers; its fields are those of
        `RegionWatch.states`."""
        worst: dict[str, dict[str, Any]] = {}
        for endpoint in self._endpoints():
            states = {} if endpoint.watch is None else endpoint.watch.states()
            for region, one in states.items():
                worst[region] = max(worst.get(region, one), one, key=_lateness)
        return worst

    @property
    def conflict(self) -> str:
        """What is wrong with the names or secrets of regions; empty when nothing is."""
        return "" if self._claim is None else self._claim.conflict

    def nodes_elsewhere(self) -> int:
        """Processes of all other regions, as far as is known."""
        watches = [one.watch for one in self._endpoints() if one.watch is not None]
        return max((one.nodes_elsewhere() for one in watches), default=0)

    async def claim(self, at: Callable[[bytes], Endpoint | None]) -> None:
        """Claims the own region for its server; `at`: where a Redis key is held."""
        endpoint = None if self._claim is None else at(self._claim.name)
        if self._claim is None or endpoint is None or endpoint.link.connection is None:
            return
        await self._claim.make(endpoint.link.connection, endpoint.supervisor.run_id)


def _lateness(one: dict[str, Any]) -> tuple[bool, float]:
    """The value by which the states of a region are compared; an unknown one is the worst."""
    return one["late"] is None, one["late"] or 0.0
