"""Finds the primaries: it asks sentinels, or nodes of a cluster, and remembers which server
answers."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence

from crdtbucket.base.address import Address
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import server_access
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.topology import (
    ALL_SLOTS,
    PATIENCE_S,
    Primary,
    Topology,
    ask_sentinel,
    asking,
    cluster_layout,
)

MOST_KNOWN = 1_000
"""The most nodes of a cluster that are remembered."""


class Locator:
    """Finds the primaries, and asks again whenever they may have changed."""

    def __init__(self, config: RedisConfig, tls: ssl.SSLContext | None) -> None:
        """`tls`: from `tls_context`."""
        self._config = config
        self._tls = tls
        self._order: tuple[Address, ...] = config.target.addresses

    def renew(self, config: RedisConfig, tls: ssl.SSLContext | None) -> None:
        """The credentials are those of `config`, and certificates those of `tls`, from now on; from
        any thread."""
        self._config, self._tls = config, tls

    async def locate(self) -> Topology:
        """Finds out where the primaries are now.

        The one that answered well last is asked first, then the sentinels or nodes of the settings,
        then the nodes that the cluster had last; those that were silent last time come after the
        others. Each has `connect_timeout` to connect and the same again for each question. The next
        one is asked when one has failed, or says nothing for `PATIENCE_S`; the first good answer is
        used. Those that have failed are asked again after every `PATIENCE_S` in which the others
        say nothing, since a failover may have ended meanwhile. Raises `RedisUnavailable` with every
        reason.
        """
        target = self._config.target
        if not (target.master or target.cluster):
            return Topology((Primary(target.addresses[0], ALL_SLOTS),))
        failures: dict[Address, RedisUnavailable] = {}
        found = await self._first(self._order, failures)
        silent = {who for who, failure in failures.items() if failure.kind == "timed_out"}
        if found is None:
            # sorted keeps the order of those that are alike
            self._order = tuple(sorted(self._order, key=silent.__contains__))
            raise self._nobody(list(failures.values()))
        who, layout = found
        known = dict.fromkeys((who, *target.addresses, *layout.nodes[:MOST_KNOWN]))
        self._order = tuple(sorted(known, key=silent.__contains__))
        return layout

    async def _first(
        self, order: Sequence[Address], failures: dict[Address, RedisUnavailable]
    ) -> tuple[Address, Topology] | None:
        """The first good answer, and the server that gave it; servers that failed are added to
        `failures`."""
        asked: dict[asyncio.Task[Topology], Address] = {}
        following, again = deque(order), list[Address]()
        try:
            while following or asked:
                if following:
                    who = following.popleft()
                    asked[asyncio.create_task(self._ask(who))] = who
                done, _ = await asyncio.wait(
                    asked, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
                )
                if not (done or following):
                    following.extend(again)
                    again.clear()
                for task in done:
                    answered = asked.pop(task)
                    try:
                        return answered, task.result()
                    except RedisUnavailable as error:
                        failures[answered] = error
                        if error.kind != "timed_out":  # else the two could go on for ever
                            again.append(answered)
            return None
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, who: Address) -> Topology:
        config, tls = self._config, self._tls
        if config.target.master:
            return await ask_sentinel(who, config.target.master, config, tls)
        return await asking(who, server_access(config, tls), config.connect_timeout, cluster_layout)

    def _nobody(self, failures: Sequence[RedisUnavailable]) -> RedisUnavailable:
        target = self._config.target
        kinds = {failure.kind for failure in failures}
        reasons = "; ".join(str(failure) for failure in failures)
        whom = "node knows a cluster"
        if target.master:
            whom = f"sentinel names a primary {target.master!r}"
        kind = kinds.pop() if len(kinds) == 1 else "down"
        return RedisUnavailable(f"no {whom}: {reasons}", kind)
