"""Holds on slots, asked for and released at the primary that decides on their key."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from crdtbucket._core import Decision
from crdtbucket.base.across import run_on, runs_here
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.endpoints import Endpoints
from crdtbucket.strong.local_decisions import took
from crdtbucket.strong.slot_ledger import SlotLedger
from crdtbucket.strong.slot_request import SlotHold, SlotRequest


class StoreSlots:
    """The slots of one process; everything runs on the event loop `loop`."""

    def __init__(
        self, ledger: SlotLedger, places: Endpoints, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.ledger = ledger
        self._places = places
        self._loop = loop
        self._releasing: set[asyncio.Future[Decision | None]] = set()

    async def stop(self) -> None:
        """Waits for the releases that are on their way, each until its deadline."""
        if self._releasing:
            await asyncio.wait(self._releasing)

    async def hold(self, hold: SlotHold) -> Decision:
        """The decision; from any event loop."""
        loop = self._loop
        if asyncio.get_running_loop() is loop:
            return await self._hold(hold)
        return await run_on(loop, self._hold(hold), partial(self._give_back, hold))

    async def _hold(self, hold: SlotHold) -> Decision:
        endpoint = self._places.at(self.ledger.name(hold.item))
        if endpoint is None:
            await asyncio.sleep(0)  # nothing is waited for, so other tasks may run
            return self.ledger.decide_here(hold, Mode.FALLBACK)
        asked = endpoint.dispatcher.queue.submit(partial(self._opened, endpoint, hold))
        if isinstance(asked, Decision):
            return asked
        try:
            decision = await asked
        except asyncio.CancelledError:
            endpoint.dispatcher.abandon(asked, partial(self._give_back, hold))
            raise
        assert decision is not None, "a request with a key ends with a decision"
        return decision

    def _opened(self, endpoint: Endpoint, hold: SlotHold, usable: bool) -> SlotRequest | Decision:
        if usable:
            return self.ledger.open(hold)
        return self.ledger.decide_here(hold, endpoint.health.mode_without_store)

    def release(self, hold: SlotHold) -> None:
        """A hold has ended: Redis learns of it at once, where it answers. From any thread."""
        loop = self._loop
        if runs_here(loop):
            self._release(hold)
        else:
            # A loop that is closed meanwhile leaves it to its ttl.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._release, hold)

    def _give_back(self, hold: SlotHold, decision: Decision) -> None:
        self._release(hold)
        if took(decision):
            hold.search.refund(decision)

    def _release(self, hold: SlotHold) -> None:
        request = self.ledger.release(hold)
        if request is None:
            return
        endpoint = self._places.at(request.call.key)
        if endpoint is not None and endpoint.dispatcher.usable():
            sent = endpoint.dispatcher.send(request)
            self._releasing.add(sent)
            sent.add_done_callback(self._releasing.discard)
        else:
            self.ledger.give_up(request, Mode.FALLBACK)  # it is sent when Redis answers again
