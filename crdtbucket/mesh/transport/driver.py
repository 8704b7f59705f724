"""Calls the protocol machine when it wants to be called, from the event loop's timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.mesh.links.counters import LOG, Refusals
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.rounds import Frames

# Between two ticks, so that a protocol that always wants to be called at once cannot own the loop.
TICK_GAP_S = 0.001
# Until the next tick, after one that raised.
TICK_RETRY_S = 1.0


class Driver:
    """One timer, always set to the node's next tick."""

    def __init__(
        self,
        node: MeshNode,
        clock_ns: Callable[[], int],
        refusals: Refusals,
        send: Callable[[Frames], None],
    ) -> None:
        """`send` is called with the frames that a tick returns."""
        self._node = node
        self._clock = clock_ns
        self._refusals = refusals
        self._send = send
        self._timer: asyncio.TimerHandle | None = None
        self._tick_at: int | None = None
        self._earliest = 0.0
        self._wake_pending = False
        self._running = False

    def start(self) -> None:
        """Begins; the node wakes this driver from now on."""
        self._loop = asyncio.get_running_loop()
        self._running = True
        self._node.set_waker(self._wake)
        self.schedule()

    def stop(self) -> None:
        """No tick comes after this."""
        self._running = False
        self._node.set_waker(None)
        if self._timer is not None:
            self._timer.cancel()

    def schedule(self) -> None:
        """Asks the node for its next tick again; cheap when that has not moved."""
        if not self._running:
            return
        now = self._clock()
        at = self._node.next_tick(now)
        if at == self._tick_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._tick_at = at
        due = self._loop.time() + max(0, at - now) / NS_PER_SECOND
        self._timer = self._loop.call_at(max(due, self._earliest), self._tick)

    def _tick(self) -> None:
        self._tick_at = None
        self._earliest = self._loop.time() + TICK_GAP_S
        try:
            self._send(self._node.tick(self._clock()))
        except Exception:  # noqa: BLE001 - logged; one bug must not end the gossip
            LOG.exception("a bug in the mesh protocol; it is called again in %g s", TICK_RETRY_S)
            self._refusals.add("internal", "a tick met a bug")
            self._earliest = self._loop.time() + TICK_RETRY_S
        self.schedule()

    def _wake(self) -> None:
        """Any thread may call it, often; the loop is woken once."""
        if self._wake_pending:
            return
        self._wake_pending = True
        try:
            self._loop.call_soon_threadsafe(self._woken)
        except RuntimeError:
            # The loop was closed between a take in another thread and here: nothing is left to do.
            LOG.debug("woken after the loop was closed")

    def _woken(self) -> None:
        self._wake_pending = False
        self.schedule()
