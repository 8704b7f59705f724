"""The regular work of a store: it stays in the registry of its Redis, looks for primaries that do
not serve, and reports the mode that results."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from crdtbucket.base.deadline import within
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.endpoints import Endpoints
from crdtbucket.strong.redis.registry import Registry
from crdtbucket.strong.store_regions import StoreRegions

LOG = logging.getLogger("crdtbucket.strong")
LOOK_AGAIN_S = 0.25
"""Between two looks at where the primaries are, while one of them does not serve."""
SHORTEST_S = 0.05
"""Between two looks in any case."""


class StoreUpkeep:
    """The upkeep of one store, on its event loop."""

    def __init__(
        self,
        places: Endpoints,
        registry: Registry,
        regions: StoreRegions,
        mode_changed: Callable[[Mode], None],
    ) -> None:
        """`mode_changed` is called with the worst mode of all endpoints, at the start and at every
        change."""
        self._places = places
        self._registry = registry
        self._regions = regions
        self._mode_changed = mode_changed
        self.registered = False
        """Whether the registry was ever reached."""
        self._last_mode: Mode | None = None

    @property
    def mode(self) -> Mode:
        """The worst mode of all endpoints; fallback while none is known, or may be used."""
        return Mode.FALLBACK if self._registry.conflict else self._places.worst_mode

    def report_mode(self) -> None:
        """Notifies the owner when the mode is another one."""
        mode = self.mode
        if mode is not self._last_mode:
            self._last_mode = mode
            self._mode_changed(mode)

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        look = self._places.look
        while True:
            self._places.follow_files()
            await self.register()
            served = self.mode is Mode.STRONG or bool(self._registry.conflict)
            delay = max(SHORTEST_S, self._registry.delay_s) if served else LOOK_AGAIN_S
            with contextlib.suppress(asyncio.TimeoutError):
                await within(delay, look.wait())
            if look.is_set() or not served:
                look.clear()
                await self._places.locate()
                self.report_mode()

    async def register(self) -> None:
        """Writes this process into the registry, when that is due, and reads who else is there."""
        registry, places = self._registry, self._places
        endpoint = places.at(registry.name)
        connection = None if endpoint is None else endpoint.link.connection
        if endpoint is None or connection is None or not registry.due():
            return
        before, self.registered = registry.conflict, True
        if not await registry.beat(connection):
            # Where nobody asks for decisions, this may be the first sign of a failover.
            places.look.set()
        elif registry.conflict != before:
            if registry.conflict:
                LOG.critical("Redis %s is not used: %s", endpoint.address, registry.conflict)
            else:
                LOG.info("Redis %s is used: all processes hash alike now", endpoint.address)
            places.wake()
        await self._regions.claim(places.at)
        self.report_mode()
