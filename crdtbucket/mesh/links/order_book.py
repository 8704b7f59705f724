"""The orders of operators that hold at a node: of all orders about one thing the newest one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.node_key import fingerprint_of
from crdtbucket.mesh.links.signed_orders import SignedOrder, check_operator, packed, unpacked
from crdtbucket.mesh.state_file import StateFile

Order = TypeVar("Order", bound=SignedOrder)


class OrderBook(Generic[Order]):
    """Of two orders about one thing that with the higher counter holds, so that an old one that is
    played again changes nothing, and all nodes come to the same whatever way orders travel."""

    READS: ClassVar[type[SignedOrder]]
    """The kind of orders."""

    def __init__(
        self, operators: Iterable[str] = (), mesh_name: str = "", kept: StateFile | None = None
    ) -> None:
        """`operators`: fingerprints of the keys whose orders hold. `kept`: the file of the orders.
        Raises `MeshError` when that is damaged."""
        self._operators = frozenset(operators)
        self._mesh_name = mesh_name
        self._kept = kept
        self._orders: dict[tuple[Any, ...], Order] = {}
        self.remembers = False
        """Whether it knows the orders that an earlier process of this node has taken."""
        if kept is not None and self._operators:
            self._load(kept)

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def operators(self) -> Collection[str]:
        """Fingerprints of the keys whose orders hold."""
        return self._operators

    def change(self, operators: Iterable[str]) -> None:
        """Other operators give orders from now on; what holds does so until this process ends."""
        before, self._operators = self._operators, frozenset(operators)
        if not before:  # what was ordered meanwhile is not known here
            self.remembers = False

    def about(self, *what: str | bool) -> Order | None:
        """The order about this."""
        return self._orders.get(what)

    def take(self, order: Order) -> bool:
        """Has an order hold from now on, and keeps it; False where it holds already.

        Raises `MeshError` for one that no operator has signed, one that is older than what holds,
        and when there is no room.
        """
        check_operator(order, self._operators, self._mesh_name)
        held = self._orders.get(order.about)
        if held is not None and order.rank <= held.rank:
            if order.rank == held.rank:
                return False
            raise MeshError(_later(held))
        lacks = "" if held is not None else self._make_room(order)
        if lacks:
            raise MeshError(lacks)
        self._orders[order.about] = order
        self._save()
        return True

    def merge(self, data: bytes, refused: Callable[[str], None] = LOG.warning) -> list[Order]:
        """Takes what a peer passes on; returns what is new.

        Orders of operators that this node does not know are left out: its file may be older, or
        newer. So are older ones than hold: a peer may not know yet what holds. `refused` gets each
        in words. Raises `WireError` for a forged one.
        """
        new = []
        # All are checked first: an order that is held and not returned would never be obeyed.
        for order in [one for one in self._read(data) if self._is_wanted(one, refused)]:
            held = self._orders.get(order.about)
            if held is not None and order.rank <= held.rank:  # twice in one frame
                continue
            lacks = "" if held is not None else self._make_room(order)
            if lacks:
                refused(f"{order.in_words()}: {lacks}")
                continue
            self._orders[order.about] = order
            new.append(order)
        if new:
            self._save()
        return new

    def encode(self) -> bytes:
        """All of them, as `merge` takes them."""
        return packed([order for _, order in sorted(self._orders.items())])

    def _is_wanted(self, order: Order, refused: Callable[[str], None]) -> bool:
        held = self._orders.get(order.about)
        if held is not None and order.rank <= held.rank:
            if order.rank < held.rank:
                refused(f"{order.in_words()}: {_later(held)}")
            return False
        if fingerprint_of(order.public) not in self._operators:
            refused(f"{order.in_words()}: no key of mesh.operator_keys of this node")
            return False
        if not order.is_signed(self._mesh_name):
            raise WireError(f"an {order.WHAT} that its operator has not signed: {order.about}")
        return True

    def _make_room(self, order: Order) -> str:
        """Called before `order` is held, which is about something new. Why it cannot be, "" where
        it can."""
        raise NotImplementedError

    @classmethod
    def _read(cls, data: bytes) -> Iterator[Order]:
        return cls.READS.read(unpacked(data))  # type: ignore[return-value]

    def _save(self) -> None:
        if self._kept is None:
            return
        try:
            self._kept.save(self.encode())
        except MeshError as error:  # they hold in this process, and peers have them
            LOG.error("orders of operators are not kept over a restart: %s", error)
            self._forget(self._kept)

    def _forget(self, kept: StateFile) -> None:
        """Called when an order could not be written to `kept`. What stands there may stay: after a
        restart those orders hold, and peers send the others."""

    def _load(self, kept: StateFile) -> None:
        data = kept.load()
        if data is None:
            return
        try:
            orders = list(self._read(data))
        except WireError as error:
            raise MeshError(
                f"{kept} is damaged ({error}): put back a copy, or remove it, and "
                "peers tell this node again what was ordered"
            ) from error
        self.remembers = True
        for order in orders:
            known = fingerprint_of(order.public) in self._operators
            if known and order.is_signed(self._mesh_name):
                self._orders[order.about] = order
            else:
                LOG.warning(
                    "no operator of mesh.operator_keys has signed that %s: it holds no more",
                    order.in_words(),
                )


def _later(held: SignedOrder) -> str:
    return f"a later order holds: {held.in_words()}: sign one with a counter above that"
