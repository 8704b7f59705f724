"""Passes orders of operators on to all linked peers, and makes this node obey them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic

from crdtbucket.base.across import runs_here
from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.command_orders import CommandBook, CommandOrder
from crdtbucket.mesh.links.counters import LOG, Refusals
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable
from crdtbucket.mesh.links.order_book import Order, OrderBook
from crdtbucket.mesh.links.peer_keys import PeerKeys
from crdtbucket.mesh.links.session import Kind, Reason
from crdtbucket.mesh.links.signed_orders import packed

REPEAT_S = 10.0
"""Seconds between repetitions of orders: a carrier, or a queue that is full, may lose one."""
WAIT_S = 5.0
"""Seconds for which another thread waits until an order was taken."""
LEARNS_S = 15.0
"""Seconds after its first link in which a node without memory learns which resets are past."""
MAX_SAID = 256
"""Most different refusals that are logged only once; all are counted as often as they happen."""


class OrderSpread(ABC, Generic[Order]):
    """Sends every linked peer every order, when its link begins and when one is new."""

    KIND: ClassVar[Kind]
    """The kind of the frames that carry the orders."""

    def __init__(self, book: OrderBook[Order], links: LinkTable, refusals: Refusals) -> None:
        """`book`: the orders that hold. `refusals`: counts the orders that are refused."""
        self._book = book
        self._links = links
        self._refusals = refusals
        self._said: set[str] = set()
        self._sent_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """From now on orders can be given, and are passed on."""
        self._loop = asyncio.get_running_loop()

    def begin(self, link: Link) -> None:
        """Sends a link that has begun every order."""
        if len(self._book):
            link.offer(self._book.encode(), self.KIND)

    def order(self, order: Order) -> bool:
        """Brings an order into force here and at all peers; False if it is in force here already.
        Safe from any thread. Raises `MeshError`: see `OrderBook.take`; also if the event loop of
        the mesh does not answer another thread within `WAIT_S`."""
        if self._loop is None or self._loop.is_closed():
            raise MeshError("the mesh of this node does not run")
        if runs_here(self._loop):
            return self._take(order)

        async def there() -> bool:
            return self._take(order)

        claim = asyncio.run_coroutine_threadsafe(there(), self._loop)
        try:
            return claim.result(WAIT_S)
        except concurrent.futures.TimeoutError as error:
            raise MeshError(
                f"{self._links.own_name!r} has not taken the order within {WAIT_S:.0f} s, since "
                "its event loop is busy, and may take it later: find what blocks the loop, and "
                "give the order again, which is obeyed once"
            ) from error

    def receive(self, link: Link, data: bytes) -> None:
        """A peer passes orders on. Raises `WireError` for a forged one."""
        name = link.peer.name
        new = self._book.merge(data, lambda why: self._refused(f"an order from {name}: {why}"))
        if new:
            self._carry_out(new)

    def look(self) -> None:
        """Sends all orders again when it is time; called every second or so."""
        now = asyncio.get_running_loop().time()
        if len(self._book) and now - self._sent_at >= REPEAT_S:
            self._sent_at = now
            self._send(self._book.encode())

    @abstractmethod
    def _obey(self, orders: Sequence[Order]) -> None:
        """Carries new orders out on this node."""

    def _take(self, order: Order) -> bool:
        try:
            taken = self._book.take(order)
        except MeshError as error:
            self._refused(f"an order that was given here: {error}")
            raise
        if taken:
            self._carry_out([order])
        return taken

    def _carry_out(self, orders: Sequence[Order]) -> None:
        for order in orders:
            LOG.warning("%s", order.in_words())
        self._obey(orders)
        self._send(packed(orders))

    def _send(self, data: bytes) -> None:
        for link in self._links.all():
            link.offer(data, self.KIND)

    def _refused(self, text: str) -> None:
        # An honest peer whose file lists other operators repeats their orders for ever.
        again = text in self._said
        if not again and len(self._said) < MAX_SAID:
            self._said.add(text)
        self._refusals.add("order", f"refused {text}", logging.DEBUG if again else logging.WARNING)


class EjectionSpread(OrderSpread[EjectOrder]):
    """Passes orders about members on, and ends the links that they forbid."""

    KIND = Kind.ORDERS

    def __init__(
        self,
        peer_keys: PeerKeys,
        links: LinkTable,
        refusals: Refusals,
        tasks: BackgroundTasks,
    ) -> None:
        """`peer_keys`: where orders hold. `tasks`: in which links are closed."""
        super().__init__(peer_keys.ejections, links, refusals)
        self._peer_keys = peer_keys
        self._tasks = tasks

    def change(self, operators: Sequence[str]) -> None:
        """Other operators give orders from now on."""
        if again := self._book.change(operators):
            self._carry_out(again)

    def _obey(self, orders: Sequence[EjectOrder]) -> None:
        for link in self._links.all():
            against = self._peer_keys.order_against(link.identity)
            if against is not None:
                reason = Reason.EJECTED if against.ejected else Reason.KEY
                self._tasks.spawn(link.close(reason, against.in_words()))


class CommandSpread(OrderSpread[CommandOrder]):
    """Passes commands on. Each reset is obeyed once: a node that does not remember which ones an
    earlier process has obeyed first learns from its peers which ones are past."""

    KIND = Kind.COMMANDS
    _book: CommandBook
    _linked_at: float | None = None

    def start(self) -> None:
        """From now on orders can be given and are passed on; the time of the start is kept."""
        super().start()
        self._started_at = asyncio.get_running_loop().time()

    def begin(self, link: Link) -> None:
        """Sends every order over a link that has begun; the time of the first link is kept."""
        if self._linked_at is None:
            self._linked_at = asyncio.get_running_loop().time()
        super().begin(link)

    def change(self, operators: Sequence[str]) -> None:
        """Other operators give orders from now on."""
        if self._loop is not None and not self._book.operators:  # it followed no orders so far
            self._started_at = self._loop.time()
            self._linked_at = self._started_at if self._links.all() else None
        self._book.change(operators)

    def _learns_for(self) -> float:
        """Seconds for which this node goes on learning."""
        if self._book.remembers:
            return 0.0
        since = self._started_at if self._linked_at is None else self._linked_at
        return max(0.0, since + LEARNS_S - asyncio.get_running_loop().time())

    def _take(self, order: CommandOrder) -> bool:
        learns = self._learns_for()
        if order.position is None and learns:
            raise MeshError(
                "this process has just begun, and learns from its peers which resets are past: "
                f"try again in {learns:.0f} s, or give the order to another node"
            )
        return super()._take(order)

    def _obey(self, orders: Sequence[CommandOrder]) -> None:
        if self._learns_for():
            for past in [one for one in orders if one.position is None]:
                LOG.info("not obeyed, as this process has just begun: %s", past.in_words())
            orders = [one for one in orders if one.position is not None]
        self._book.obey(orders)
