"""Passes an operator's orders on to all linked peers, and ends the links that they forbid."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable
from crdtbucket.mesh.links.peer_keys import PeerKeys
from crdtbucket.mesh.links.session import Kind, Reason

REPEAT_S = 10.0
"""Orders are sent again so often: a carrier, or a queue that is full, may lose one."""
WAIT_S = 5.0
"""For how long another thread waits until an order was taken."""


class OrderSpread:
    """Sends every linked peer every order, when its link begins and when one is new."""

    def __init__(self, peer_keys: PeerKeys, links: LinkTable[Link], tasks: BackgroundTasks) -> None:
        """`peer_keys`: where orders hold. `tasks`: in which links are closed."""
        self._peer_keys = peer_keys
        self._ejections = peer_keys.ejections
        self._links = links
        self._tasks = tasks
        self._sent_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """From now on orders can be given, and are passed on."""
        self._loop = asyncio.get_running_loop()

    def send_all(self, link: Link) -> None:
        """Sends a link that has begun every order."""
        if len(self._ejections):
            link.offer(self._ejections.encode(), Kind.ORDERS)

    def order(self, order: EjectOrder) -> bool:
        """Has an order hold here and at all peers, from any thread; False where it holds here
        already. Raises `MeshError`: see `Ejections.take`."""
        if self._loop is None or self._loop.is_closed():
            raise MeshError("the mesh of this node does not run")
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            return self._take(order)

        async def there() -> bool:
            return self._take(order)

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(WAIT_S)

    def receive(self, data: bytes) -> None:
        """A peer passes orders on. Raises `WireError` for a forged one."""
        new = self._ejections.merge(data)
        if new:
            self._carry_out(new)

    def look(self) -> None:
        """Sends all orders again when it is time; called every second or so."""
        now = asyncio.get_running_loop().time()
        if len(self._ejections) and now - self._sent_at >= REPEAT_S:
            self._send(now)

    def _take(self, order: EjectOrder) -> bool:
        taken = self._ejections.take(order)
        if taken:
            self._carry_out([order])
        return taken

    def _carry_out(self, orders: Sequence[EjectOrder]) -> None:
        for order in orders:
            LOG.warning("%s", order.in_words())
        for link in self._links.all():
            against = self._peer_keys.order_against(link.identity)
            if against is not None:
                reason = Reason.EJECTED if against.ejected else Reason.KEY
                self._tasks.spawn(link.close(reason, against.in_words()))
        self._send(asyncio.get_running_loop().time())

    def _send(self, now: float) -> None:
        self._sent_at = now
        data = self._ejections.encode()
        for link in self._links.all():
            link.offer(data, Kind.ORDERS)
