"""Tells one server, chunk by chunk, what it lacks: what was decided without it, or what it lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from crdtbucket.base.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from crdtbucket.strong.endpoint import Endpoint
    from crdtbucket.strong.store_request import Item

LOG = logging.getLogger("crdtbucket.strong")
CHUNK = 32
"""Keys told at once: few enough that a decision behind them is still quick."""
AGAIN_NS = NS_PER_SECOND // 10
LONGEST_PAUSE_NS = 5 * NS_PER_SECOND
SHARE = 20
"""A pass that leaves something rests for so many times as long as it took."""
PROGRESS_NS = 5 * NS_PER_SECOND


class Resync:
    """The settling of one endpoint's keys. All of it may be repeated, and broken off anywhere."""

    def __init__(self, endpoint: Endpoint, mine: Callable[[Item], bool]) -> None:
        """`mine`: whether a key is decided at this endpoint."""
        self.everything = False
        """The server may have lost what it held: all keys that are not full are to be told."""
        self.at = 0
        """When the next pass may begin (local ns)."""
        self._endpoint = endpoint
        self._ledger = endpoint.ledger
        self._mine = mine

    @property
    def due(self) -> bool:
        """Whether there may be something to tell."""
        return self.everything or bool(self._ledger.unsettled.pending)

    async def settle(self, seconds: float | None = None) -> bool:
        """One pass over all that is due, ended after `seconds`, or when the server falls silent.

        False when it was ended. What was not told stays due.
        """
        everything, self.everything = self.everything, False
        now = self._endpoint.now
        started = now()
        complete = False
        try:
            complete = await self._pass(everything, started, seconds)
        finally:
            self.everything |= everything and not complete
        ended = now()
        if self.due:
            # Of another endpoint, or not answered: looking at all again costs time, too.
            pause = SHARE * (ended - started) if complete else 0
            self.at = ended + min(max(pause, AGAIN_NS), LONGEST_PAUSE_NS)
        return complete

    async def _pass(self, everything: bool, started: int, seconds: float | None) -> bool:
        endpoint, told, said = self._endpoint, 0, started
        for chunk in self._chunks(everything):
            if not await self._tell(chunk):
                return False
            told += len(chunk)
            now = endpoint.now()
            if seconds is not None and now - started >= seconds * NS_PER_SECOND:
                return False
            if now - said >= PROGRESS_NS:
                said = now
                LOG.info("%s: %d keys settled so far", endpoint.address, told)
        if told > CHUNK:
            spent = (endpoint.now() - started) / NS_PER_SECOND
            LOG.info("%s: %d keys settled in %.1f s", endpoint.address, told, spent)
        return True

    def _chunks(self, everything: bool) -> Iterator[list[Item]]:
        unsettled = list(self._ledger.unsettled.pending)
        for start in range(0, len(unsettled), CHUNK):
            yield unsettled[start : start + CHUNK]
        if everything:
            known = set(unsettled)
            for found in self._ledger.unsettled.indebted():
                yield [one for one in found if one not in known]

    async def _tell(self, chunk: list[Item]) -> bool:
        """Whether the server answered to all that it was told."""
        endpoint = self._endpoint
        if endpoint.connection is None:
            return False
        requests = [
            self._ledger.settle(*item, endpoint.fence) for item in chunk if self._mine(item)
        ]
        sent = [endpoint.send(request) for request in requests if request is not None]
        if not sent:
            await asyncio.sleep(0)  # a long table must not hold up decisions
            return True
        before = endpoint.counters["answered"]
        await asyncio.wait(sent)
        return endpoint.counters["answered"] - before >= len(sent)


__all__ = ["Resync"]
