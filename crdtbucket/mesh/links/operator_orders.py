"""Brings the orders of operators to all nodes: about members, commands, and limits of keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crdtbucket.errors import WireError
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.command_orders import CommandBook, CommandOrder
from crdtbucket.mesh.links.counters import Refusals
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable
from crdtbucket.mesh.links.order_spread import CommandSpread, EjectionSpread
from crdtbucket.mesh.links.override_book import OverrideBook
from crdtbucket.mesh.links.override_spread import OverrideSpread
from crdtbucket.mesh.links.peer_keys import PeerKeys


@dataclass(frozen=True)
class OperatorBooks:
    """The orders of operators that this process keeps. Without arguments operators can order
    nothing."""

    commands: CommandBook = field(default_factory=CommandBook)
    overrides: OverrideBook = field(default_factory=lambda: OverrideBook(()))


class OperatorOrders:
    """Passes the orders of operators on, from `start` to `stop`, on one event loop."""

    def __init__(
        self,
        peer_keys: PeerKeys,
        books: OperatorBooks,
        links: LinkTable,
        refusals: Refusals,
        tasks: BackgroundTasks,
        on_forged: Callable[[Link, WireError], None],
    ) -> None:
        """`peer_keys`: applies orders about members. `on_forged` gets a frame that no honest peer
        sends."""
        self._members = EjectionSpread(peer_keys, links, refusals, tasks)
        self._commands = CommandSpread(books.commands, links, refusals)
        self._overrides = OverrideSpread(books.overrides, links, tasks, on_forged)
        self._on_forged = on_forged
        self._spreads = (self._members, self._commands, self._overrides)

    def start(self) -> None:
        """From now on orders can be given, and are passed on."""
        for one in self._spreads:
            one.start()

    def stop(self) -> None:
        """New limits are no longer sent."""
        self._overrides.stop()

    def change(self, operators: Sequence[str]) -> None:
        """Other operators give orders about members, and commands, from now on."""
        self._members.change(operators)
        self._commands.change(operators)

    def order(self, order: EjectOrder | CommandOrder) -> bool:
        """Brings an order into force here and at all peers; False if it is in force here already.
        Safe from any thread. Raises `MeshError`."""
        if isinstance(order, CommandOrder):
            return self._commands.order(order)
        return self._members.order(order)

    def begin(self, link: Link) -> None:
        """A link has begun: its peer gets all orders in force."""
        for one in self._spreads:
            one.begin(link)

    def receive(self, link: Link, kind: int, data: bytes) -> None:
        """A peer passes orders on. Frames of a kind that only later versions know are ignored."""
        try:
            for one in self._spreads:
                if kind == one.KIND:
                    one.receive(link, data)
        except WireError as error:
            self._on_forged(link, error)

    def look(self) -> None:
        """Sends again what may have been lost, when it is time; called every second or so."""
        for one in self._spreads:
            one.look()
