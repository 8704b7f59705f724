"""Keeps the orders of operators that are in force at a node: of all orders about one subject only
the newest one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from crdtbucket.base.forks import ForkLock
from crdtbucket.base.packing import pack
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.node_key import fingerprint_of
from crdtbucket.mesh.links.signed_orders import SignedOrder, unpacked
from crdtbucket.mesh.state_file import CheckedFile

Order = TypeVar("Order", bound=SignedOrder)
Refused = Callable[[str], None]
"""Called for each order that is ignored, with a sentence that says which one, and why."""


class OrderBook(Generic[Order]):
    """Keeps the orders in force at this node. Of two orders about one subject the one with the
    higher counter holds, so that replaying an old one changes nothing, and all nodes end with the
    same orders, whatever way these travel. Safe from any thread."""

    READS: ClassVar[type[SignedOrder]]
    """The kind of orders."""

    def __init__(
        self, operators: Iterable[str] = (), mesh_name: str = "", kept: CheckedFile | None = None
    ) -> None:
        """`operators`: fingerprints of the keys whose orders hold. `kept`: the file of the orders.
        Raises `MeshError` when that is damaged."""
        self.lock = ForkLock()
        self.operators = frozenset(operators)
        """Fingerprints of the keys whose orders hold."""
        self._mesh_name = mesh_name
        self._kept = kept
        self._rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        """Plain tuples of plain values: the garbage collector does not go over them."""
        self.remembers = False
        """Whether it knows the orders that an earlier process of this node has taken."""
        self._unheld: list[Order] = []
        """Orders in the file that hold once their operators may give orders."""
        if kept is not None:
            self._load(kept)

    def __len__(self) -> int:
        return len(self._rows)

    def change(self, operators: Iterable[str]) -> list[Order]:
        """Other operators give orders from now on. Orders that hold go on until this process ends.
        Returns the orders that hold again: they are in the file, and nobody was listed who had
        signed them."""
        before, self.operators = self.operators, frozenset(operators)
        if not before:  # orders may have been given meanwhile that it does not know
            self.remembers = False
        again = [one for one in self._unheld if self._has_operator(one)]
        self._unheld = [one for one in self._unheld if one not in again]
        return self._hold(again, LOG.warning) if again else []

    def about(self, *what: str | bool) -> Order | None:
        """The order about this thing, None where there is none."""
        row = self._rows.get(what)
        return None if row is None else self._order(row)

    def every(self) -> list[Order]:
        """All orders."""
        with self.lock:
            return [self._order(row) for row in self._rows.values()]

    def take(self, order: Order) -> bool:
        """Brings an order into force, also after a restart; False if it is in force already. Raises
        `MeshError` if no operator has signed it, if it is older than the one in force, and when
        there is no room.
        """
        self.check_operator(order)
        with self.lock:
            held = self.about(*order.about)
            if held is not None and order.rank <= held.rank:
                if order.rank == held.rank:
                    return False
                raise MeshError(_later(held))
            lacks = self._place(order)
            if lacks:
                raise MeshError(lacks)
            self._took([order])
            return True

    def merge(self, data: bytes, refused: Refused = LOG.warning) -> list[Order]:
        """Takes the orders that a peer passes on; returns those that are new.

        It ignores orders of operators that this node does not know, since its file may be older, or
        newer, and calls `refused` for each. It also ignores, silently, orders that are older than
        those in force, since a peer that was cut off does not know the newer ones yet. Raises
        `WireError` for a forged one.
        """
        return self.merge_rows(unpacked(data), refused)

    def merge_rows(self, rows: object, refused: Refused) -> list[Order]:
        """Merges orders that were unpacked, as `merge` does."""
        # All are checked before any is added: an order that is in the book but was not returned
        # would never be obeyed.
        wanted = [one for one in self._read(rows) if self._is_wanted(one, refused)]
        return self._hold(wanted, refused)

    def encode(self) -> bytes:
        """All orders, as `merge` takes them."""
        with self.lock:
            rows = sorted(self._rows.items())
        return pack([row for _, row in rows])

    def _read(self, rows: object) -> Iterator[Order]:
        return self.READS.read(rows)  # type: ignore[return-value]

    def _order(self, row: tuple[Any, ...]) -> Order:
        return self.READS(*row)  # type: ignore[return-value]

    def check_operator(self, order: Order) -> None:
        """Raises `MeshError` for an order that none of the operators has signed for this mesh."""
        operator = fingerprint_of(order.public)
        if operator not in self.operators:
            raise MeshError(
                f"key {operator} gives no orders here: list it in mesh.operator_keys, with "
                f'`operator_keys: ["{operator}"]` below `mesh` in the file of every node, which '
                "needs no restart"
            )
        if not order.is_signed(self._mesh_name):
            raise MeshError(
                f"it is not signed for the mesh {self._mesh_name!r}: somebody has changed it, or "
                "it was signed for another mesh.mesh_name"
            )

    def _is_wanted(self, order: Order, refused: Refused) -> bool:
        held = self.about(*order.about)
        if held is not None and order.rank <= held.rank:
            return False
        if fingerprint_of(order.public) not in self.operators:
            refused(f"{order.in_words()}: no key of mesh.operator_keys of this node")
            return False
        if not order.is_signed(self._mesh_name):
            raise WireError(f"an {order.WHAT} that its operator has not signed: {order.about}")
        return True

    def _hold(self, orders: Iterable[Order], refused: Refused) -> list[Order]:
        """Adds the orders for which there is room and that are newer than those in force; returns
        these."""
        new = []
        with self.lock:
            for order in orders:
                held = self.about(*order.about)
                if held is not None and order.rank <= held.rank:  # twice in one frame
                    continue
                lacks = self._place(order)
                if lacks:
                    refused(f"{order.in_words()}: {lacks}")
                else:
                    new.append(order)
            if new:
                self._took(new)
        return new

    def _place(self, order: Order) -> str:
        """Adds an order that is newer than the one in force. Returns the reason if there is no room
        for it, else ""."""
        lacks = "" if order.about in self._rows else self._make_room(order)
        if not lacks:
            self._put(order)
        return lacks

    def _put(self, order: Order) -> None:
        self._rows[order.about] = order.row()

    def _make_room(self, order: Order) -> str:
        """Called before an `order` about a new subject is added. Returns the reason if it cannot be
        added, else ""."""
        raise NotImplementedError

    def _took(self, orders: list[Order]) -> None:
        """Called with the orders that were added."""
        if self._kept is None:
            return
        try:
            self._kept.save(self.encode())
        except MeshError as error:  # they hold in this process, and peers have them
            LOG.error("orders of operators are not kept over a restart: %s", error)
            self._forget(self._kept)

    def _forget(self, kept: CheckedFile) -> None:
        """Called when an order could not be written to `kept`. The content of the file may stay:
        after a restart those orders hold, and peers send the others."""

    def _load(self, kept: CheckedFile) -> None:
        data = kept.load()
        if data is None:
            return
        try:
            orders = list(self._read(unpacked(data)))
        except WireError as error:
            raise kept.damaged(error) from error
        self.remembers = bool(self.operators)
        for order in orders:
            if self._has_operator(order):
                self._rows[order.about] = order.row()
            else:
                self._unheld.append(order)
                LOG.warning(
                    "no operator of mesh.operator_keys has signed that %s: it no longer holds",
                    order.in_words(),
                )

    def _has_operator(self, order: Order) -> bool:
        """Whether one of the operators has signed an order for this mesh."""
        listed = fingerprint_of(order.public) in self.operators
        return listed and order.is_signed(self._mesh_name)


def _later(held: SignedOrder) -> str:
    return f"a later order holds: {held.in_words()}: sign one with a counter above that"
