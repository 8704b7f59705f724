"""What operators have said of the members: who is ejected from the mesh, and which key a name has
from now on. Nodes pass these orders on.

Of two orders about one subject the one with the higher counter holds, so that an old one that is
played again changes nothing, and all nodes come to the same whatever way orders travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.identity_settings import is_fingerprint
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.node_key import NodeKey, fingerprint_of
from crdtbucket.mesh.links.signed_orders import (
    SignedOrder,
    check_operator,
    check_signing,
    packed,
    unpacked,
)
from crdtbucket.mesh.state_file import StateFile

MAX_ORDERS = 256
"""Subjects about which there is an order, readmitted ones too."""
MAX_SUBJECT = 255
About = tuple[str, bool]
"""A subject, and whether an order is about its key: one order of each kind holds."""


@dataclass(frozen=True)
class EjectOrder(SignedOrder):
    """What an operator has said about a node or a key."""

    PURPOSE: ClassVar[bytes] = b"crdtbucket mesh order 1 "
    WHAT: ClassVar[str] = "order"
    subject: str
    """The name of a node, or the fingerprint of a key."""
    counter: int
    said: bool | str
    """Whether it is ejected; or the fingerprint of the key that the name has from now on."""
    public: bytes
    signature: bytes

    @classmethod
    def sign(
        cls, key: NodeKey, mesh_name: str, subject: str, counter: int, *, ejected: bool
    ) -> EjectOrder:
        """An order of whoever has `key` to eject a node or a key, or to admit it again. `counter`:
        above that of every earlier one about `subject`, up to 2^63 - 1. Raises `MeshError` for what
        cannot be ordered."""
        return cls(subject, counter, ejected, b"", b"").signed_with(key, mesh_name)

    @classmethod
    def rebind(
        cls, key: NodeKey, mesh_name: str, name: str, counter: int, *, to: str
    ) -> EjectOrder:
        """An order of whoever has `key` that a node has another key from now on. `to`: the
        fingerprint of that. As `sign` else."""
        return cls(name, counter, to, b"", b"").signed_with(key, mesh_name)

    @property
    def about(self) -> About:
        """What it is about."""
        return self.subject, isinstance(self.said, str)

    @property
    def ejected(self) -> bool:
        """Whether it ejects its subject."""
        return self.said is True

    @property
    def rank(self) -> tuple[int, bool, str]:
        """The higher one of two about the same holds; of two with one counter that which ejects."""
        return self.counter, self.ejected, self.said if isinstance(self.said, str) else ""

    def row(self) -> tuple[str, int, bool | str, bytes, bytes]:
        """As it is sent and kept."""
        return self.subject, self.counter, self.said, self.public, self.signature

    def in_words(self) -> str:
        """The order in words, for people."""
        if isinstance(self.said, str):
            what = f"has the key {self.said} in"
        else:
            what = f"is {'ejected from' if self.said else 'admitted again to'}"
        operator = fingerprint_of(self.public)
        return f"{self.subject} {what} the mesh (operator {operator}, counter {self.counter})"

    @classmethod
    def read(cls, rows: object) -> Iterator[EjectOrder]:
        """The orders in these rows, whatever they are; raises `WireError`. Signatures are not
        looked at."""
        if not isinstance(rows, tuple) or len(rows) > MAX_ORDERS:
            raise WireError(f"orders that are no list of up to {MAX_ORDERS}")
        for row in rows:
            if not isinstance(row, tuple) or len(row) < 5:
                raise WireError("an order with too few parts")
            subject, counter, said, public, signature = row[:5]  # later versions append
            if (
                not isinstance(subject, str)
                or not 1 <= len(subject.encode(errors="replace")) <= MAX_SUBJECT
                or not subject.isprintable()
            ):
                raise WireError("an order about no name of a node, and no key")
            if isinstance(said, str):
                if not is_fingerprint(said) or is_fingerprint(subject):
                    raise WireError("an order that gives no key to the name of a node")
            elif type(said) is not bool:
                raise WireError("an order that says nothing")
            check_signing(counter, public, signature, unsigned=False)
            yield cls(subject, counter, said, public, signature)


def read_orders(data: bytes) -> Iterator[EjectOrder]:
    """The orders in these bytes, as `EjectOrder.read`."""
    return EjectOrder.read(unpacked(data))


class Ejections:
    """The orders that hold here."""

    def __init__(
        self, operators: Iterable[str] = (), mesh_name: str = "", kept: StateFile | None = None
    ) -> None:
        """`operators`: fingerprints of the keys whose orders hold. `kept`: the file of the orders.
        Raises `MeshError` when that is damaged."""
        self._operators = frozenset(operators)
        self._mesh_name = mesh_name
        self._kept = kept
        self._orders: dict[About, EjectOrder] = {}
        if kept is not None and self._operators:
            self._load(kept)

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def ejected(self) -> list[str]:
        """Names of nodes and fingerprints of keys, sorted."""
        return sorted(order.subject for order in self._orders.values() if order.ejected)

    @property
    def rebound(self) -> dict[str, str]:
        """Fingerprints of the keys that names have by order."""
        said = {order.subject: order.said for order in self._orders.values()}
        return {name: key for name, key in sorted(said.items()) if isinstance(key, str)}

    def change(self, operators: Iterable[str]) -> None:
        """Other operators give orders from now on; what holds does so until this process ends."""
        self._operators = frozenset(operators)

    def of(self, name: str, key: bytes | None) -> EjectOrder | None:
        """The order by which this node, or its key, is ejected."""
        if not self._orders:
            return None
        for subject in (name, "" if key is None else fingerprint_of(key)):
            order = self._orders.get((subject, False))
            if order is not None and order.ejected:
                return order
        return None

    def key_of(self, name: str) -> EjectOrder | None:
        """The order by which this node has another key than it had."""
        return self._orders.get((name, True))

    def take(self, order: EjectOrder) -> bool:
        """Has an order hold from now on, and keeps it; False where it holds already.

        Raises `MeshError` for one that no operator has signed, one that is older than what holds,
        and when there is no room.
        """
        check_operator(order, self._operators, self._mesh_name)
        held = self._orders.get(order.about)
        if held is not None and order.rank <= held.rank:
            if order.rank == held.rank:
                return False
            raise MeshError(
                f"a later order holds: {held.in_words()}: sign one with a counter above that"
            )
        if held is None and len(self._orders) >= MAX_ORDERS:
            raise MeshError(f"there are orders about {MAX_ORDERS} subjects, and no room for more")
        self._orders[order.about] = order
        self._save()
        return True

    def merge(self, data: bytes) -> list[EjectOrder]:
        """Takes what a peer passes on; returns what is new.

        Orders of operators that this node does not know are left out: its file may be older, or
        newer. Raises `WireError` for a forged one.
        """
        new = []
        for order in read_orders(data):
            held = self._orders.get(order.about)
            if held is not None and order.rank <= held.rank:
                continue
            if fingerprint_of(order.public) not in self._operators:
                continue
            if not order.is_signed(self._mesh_name):
                raise WireError(f"an order about {order.subject} that its operator has not signed")
            if held is None and len(self._orders) >= MAX_ORDERS:
                LOG.error("no room for the order that %s", order.in_words())
                continue
            self._orders[order.about] = order
            new.append(order)
        if new:
            self._save()
        return new

    def encode(self) -> bytes:
        """All of them, as `merge` takes them."""
        return packed([order for _, order in sorted(self._orders.items())])

    def _save(self) -> None:
        if self._kept is None:
            return
        try:
            self._kept.save(self.encode())
        except MeshError as error:  # they hold in this process, and peers have them
            LOG.error("orders of operators are not kept over a restart: %s", error)

    def _load(self, kept: StateFile) -> None:
        data = kept.load()
        if data is None:
            return
        try:
            orders = list(read_orders(data))
        except WireError as error:
            raise MeshError(
                f"{kept} is damaged ({error}): put back a copy, or remove it, and "
                "peers tell this node again what was ordered"
            ) from error
        for order in orders:
            known = fingerprint_of(order.public) in self._operators
            if known and order.is_signed(self._mesh_name):
                self._orders[order.about] = order
            else:
                LOG.warning(
                    "no operator of mesh.operator_keys has signed that %s: it holds no more",
                    order.in_words(),
                )
