"""What a node knows of the regions of a replicated Redis, over all servers of its own region, and
the claim of its own region's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from crdtbucket._core import Table
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.redis.region_claim import RegionClaim
from crdtbucket.strong.redis.regions import Regions


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
