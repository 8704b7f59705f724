"""Sends one server, chunk by chunk, what it lacks: decisions made without it, or records that it
lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.counted import counted
from crdtbucket.strong.dispatcher import Dispatcher
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.server_link import ServerLink
from crdtbucket.strong.store_request import Item, SentRequest

LOG = logging.getLogger("crdtbucket.strong")
CHUNK = 32
"""Keys settled at once: few enough that a decision behind them is still quick."""
AGAIN_NS = NS_PER_SECOND // 10
LONGEST_PAUSE_NS = 5 * NS_PER_SECOND
SHARE = 20
"""After a pass that leaves something, the next one waits this many times as long as the pass
took."""
PROGRESS_NS = 5 * NS_PER_SECOND
"""A pass that lasts logs how far it is, so often."""
QUIET_NS = 60 * NS_PER_SECOND
"""While calls are decided without a server that answers, one short pass follows the other for as
long as that lasts: one in this time is logged."""


class Resync:
    """Settles the keys of one endpoint: sends the server what it lacks. All of it may be repeated,
    and stopped anywhere."""

    def __init__(
        self,
        ledger: Ledger,
        link: ServerLink,
        dispatcher: Dispatcher,
        owns: Callable[[Item], bool],
    ) -> None:
        """`owns`: whether a key is decided at this endpoint."""
        self.at = 0
        """When the next pass may begin (local ns)."""
        self._ledger = ledger
        self._link = link
        self._dispatcher = dispatcher
        self._owns = owns
        self.everything_due = False
        """Whether all keys that are not full are to be sent."""
        self._logged: int | None = None
        """When the end of a pass was logged last (local ns)."""

    @property
    def due(self) -> bool:
        """Whether there may be something to send."""
        ledger = self._ledger
        return self.everything_due or bool(ledger.unsettled.pending or ledger.slots.pending)

    def send_everything(self) -> None:
        """The server may have lost what it held: all keys that are not full are to be sent."""
        self.everything_due = True

    async def settle(self, seconds: float | None = None) -> bool:
        """Makes one pass over all keys that are due. It stops after `seconds`, or when the server
        is silent.

        False when it was stopped. What was not settled stays due.
        """
        everything, self.everything_due = self.everything_due, False
        now = self._ledger.table.now
        started = now()
        complete = False
        try:
            complete = await self._pass(everything, started, seconds)
        finally:
            self.everything_due |= everything and not complete
        ended = now()
        if self.due:
            # Some keys belong to another endpoint, or had no answer: looking at them costs time,
            # too.
            pause = SHARE * (ended - started) if complete else 0
            self.at = ended + min(max(pause, AGAIN_NS), LONGEST_PAUSE_NS)
        return complete

    async def _pass(self, everything: bool, started: int, seconds: float | None) -> bool:
        address, settled, logged = self._link.address, 0, started
        for chunk in self._chunks(everything):
            if not await self._settle_chunk(chunk):
                return False
            settled += len(chunk)
            now = self._ledger.table.now()
            if seconds is not None and now - started >= seconds * NS_PER_SECOND:
                return False
            if now - logged >= PROGRESS_NS:
                logged = now
                LOG.info("%s: %s settled so far", address, counted(settled, "key"))
        ended = self._ledger.table.now()
        told = self._logged is not None and ended - self._logged < QUIET_NS
        if settled > CHUNK and (logged > started or not told):
            self._logged, spent = ended, (ended - started) / NS_PER_SECOND
            LOG.info("%s: %s settled in %.1f s", address, counted(settled, "key"), spent)
        return True

    def _chunks(self, everything: bool) -> Iterator[list[Item]]:
        unsettled = self._ledger.unsettled
        pending = list(unsettled.pending)
        for start in range(0, len(pending), CHUNK):
            yield pending[start : start + CHUNK]
        if everything:
            known = set(pending)
            for found in unsettled.not_full():
                yield [one for one in found if one not in known]
        slots = self._ledger.slots
        held = list(slots.held() if everything else ()) + list(slots.pending)
        for start in range(0, len(held), CHUNK):
            yield held[start : start + CHUNK]

    async def _settle_chunk(self, chunk: list[Item]) -> bool:
        """Whether the server answered all requests of a chunk."""
        link, dispatcher = self._link, self._dispatcher
        if link.connection is None:
            return False
        made = [self._settling(item) for item in chunk if self._owns(item)]
        sent = [dispatcher.send(request) for request in made if request is not None]
        if not sent:
            await asyncio.sleep(0)  # a long table must not hold up decisions
            return True
        before = dispatcher.counters["answered"]
        await asyncio.wait(sent)
        return dispatcher.counters["answered"] - before >= len(sent)

    def _settling(self, item: Item) -> SentRequest | None:
        ledger = self._ledger
        if item[0] in ledger.slots:
            return ledger.slots.settle(item)
        return ledger.settle(*item, self._link.fence)
