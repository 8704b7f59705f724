"""Who was ejected from the mesh: orders that an operator has signed, which nodes pass on.

Of two orders about one subject the one with the higher counter holds, so that an old one that is
played again changes nothing, and all nodes come to the same whatever way orders travel.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from crdtbucket.base.packing import pack, unpack
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.node_key import (
    PUBLIC_BYTES,
    SIGNATURE_BYTES,
    NodeKey,
    fingerprint_of,
    is_signed,
)
from crdtbucket.mesh.state_file import StateFile

MAX_ORDERS = 256
"""Subjects about which there is an order, readmitted ones too."""
MAX_SUBJECT = 255
MAX_COUNTER = 2**63 - 1
_SIGNED = b"crdtbucket mesh order 1 "


@dataclass(frozen=True)
class EjectOrder:
    """What an operator has said about a node or a key."""

    subject: str
    """The name of a node, or the fingerprint of a key."""
    counter: int
    ejected: bool
    """False: it is admitted again."""
    public: bytes
    """The operator's key."""
    signature: bytes

    @classmethod
    def sign(
        cls, key: NodeKey, mesh_name: str, subject: str, counter: int, *, ejected: bool
    ) -> EjectOrder:
        """An order of whoever has `key`. `counter`: above that of every earlier one about
        `subject`, up to 2^63 - 1. Raises `MeshError` for what cannot be ordered."""
        text = _text(mesh_name, subject, counter, ejected)
        order = cls(subject, counter, ejected, key.public, key.sign(text))
        try:
            return next(read_orders(pack([order.row()])))
        except WireError as error:
            raise MeshError(str(error)) from error

    def is_signed(self, mesh_name: str) -> bool:
        """Whether the key that it shows has signed it, for the mesh of this name."""
        text = _text(mesh_name, self.subject, self.counter, self.ejected)
        return is_signed(text, self.signature, self.public)

    def row(self) -> tuple[str, int, bool, bytes, bytes]:
        """As it is sent and kept."""
        return self.subject, self.counter, self.ejected, self.public, self.signature

    def in_words(self) -> str:
        """The order in words, for people."""
        what = "ejected from" if self.ejected else "admitted again to"
        operator = fingerprint_of(self.public)
        return f"{self.subject} is {what} the mesh (operator {operator}, counter {self.counter})"

    def as_text(self) -> str:
        """One word of ASCII."""
        return base64.urlsafe_b64encode(pack([self.row()])).decode()

    @classmethod
    def from_text(cls, text: str) -> EjectOrder:
        """The order in this word. Raises `MeshError`."""
        try:
            orders = list(read_orders(base64.urlsafe_b64decode(text)))
        except (WireError, binascii.Error, ValueError) as error:
            raise MeshError(f"this is no order: {error}") from error
        if len(orders) != 1:
            raise MeshError(f"these are {len(orders)} orders: give one")
        return orders[0]


def read_orders(data: bytes) -> Iterator[EjectOrder]:
    """The orders in these bytes, whatever they are; raises `WireError`. Signatures are not
    looked at."""
    try:
        rows = unpack(data)
    except ValueError as error:
        raise WireError(f"orders: {error}") from error
    if not isinstance(rows, tuple) or len(rows) > MAX_ORDERS:
        raise WireError(f"orders that are no list of up to {MAX_ORDERS}")
    for row in rows:
        if not isinstance(row, tuple) or len(row) < 5:
            raise WireError("an order with too few parts")
        subject, counter, ejected, public, signature = row[:5]  # later versions append
        if (
            not isinstance(subject, str)
            or not 1 <= len(subject.encode(errors="replace")) <= MAX_SUBJECT
            or not subject.isprintable()
        ):
            raise WireError("an order about no name of a node, and no key")
        if type(counter) is not int or not 1 <= counter <= MAX_COUNTER or type(ejected) is not bool:
            raise WireError("an order with an impossible counter")
        if type(public) is not bytes or type(signature) is not bytes:
            raise WireError("an order without a signature")
        if (len(public), len(signature)) != (PUBLIC_BYTES, SIGNATURE_BYTES):
            raise WireError("an order without a signature")
        yield EjectOrder(subject, counter, ejected, public, signature)


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
        self._orders: dict[str, EjectOrder] = {}
        if kept is not None and self._operators:
            self._load(kept)

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def ejected(self) -> list[str]:
        """Names of nodes and fingerprints of keys, sorted."""
        return sorted(subject for subject, order in self._orders.items() if order.ejected)

    def change(self, operators: Iterable[str]) -> None:
        """Other operators give orders from now on; what holds does so until this process ends."""
        self._operators = frozenset(operators)

    def of(self, name: str, key: bytes | None) -> EjectOrder | None:
        """The order by which this node, or its key, is ejected."""
        if not self._orders:
            return None
        for subject in (name, "" if key is None else fingerprint_of(key)):
            order = self._orders.get(subject)
            if order is not None and order.ejected:
                return order
        return None

    def take(self, order: EjectOrder) -> bool:
        """Has an order hold from now on, and keeps it; False where it holds already.

        Raises `MeshError` for one that no operator has signed, one that is older than what holds,
        and when there is no room.
        """
        check_operator(order, self._operators, self._mesh_name)
        held = self._orders.get(order.subject)
        if held is not None and _rank(order) <= _rank(held):
            if (order.counter, order.ejected) == (held.counter, held.ejected):
                return False
            raise MeshError(
                f"a later order holds: {held.in_words()}: sign one with a counter above that"
            )
        if held is None and len(self._orders) >= MAX_ORDERS:
            raise MeshError(f"there are orders about {MAX_ORDERS} subjects, and no room for more")
        self._orders[order.subject] = order
        self._save()
        return True

    def merge(self, data: bytes) -> list[EjectOrder]:
        """Takes what a peer passes on; returns what is new.

        Orders of operators that this node does not know are left out: its file may be older, or
        newer. Raises `WireError` for a forged one.
        """
        new = []
        for order in read_orders(data):
            held = self._orders.get(order.subject)
            if held is not None and _rank(order) <= _rank(held):
                continue
            if fingerprint_of(order.public) not in self._operators:
                continue
            if not order.is_signed(self._mesh_name):
                raise WireError(f"an order about {order.subject} that its operator has not signed")
            if held is None and len(self._orders) >= MAX_ORDERS:
                LOG.error("no room for the order that %s", order.in_words())
                continue
            self._orders[order.subject] = order
            new.append(order)
        if new:
            self._save()
        return new

    def encode(self) -> bytes:
        """All of them, as `merge` takes them."""
        return pack([order.row() for _, order in sorted(self._orders.items())])

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
                "peers tell this node again who is ejected"
            ) from error
        for order in orders:
            known = fingerprint_of(order.public) in self._operators
            if known and order.is_signed(self._mesh_name):
                self._orders[order.subject] = order
            else:
                LOG.warning(
                    "no operator of mesh.operator_keys has signed that %s: it holds no more",
                    order.in_words(),
                )


class SignedOrder(Protocol):
    """An order of any kind."""

    @property
    def public(self) -> bytes:
        """The operator's key."""
        ...

    def is_signed(self, mesh_name: str) -> bool:
        """Whether the key that it shows has signed it, for the mesh of this name."""
        ...


def check_operator(order: SignedOrder, operators: Collection[str], mesh_name: str) -> None:
    """Raises `MeshError` for an order that none of these operators has signed for this mesh.
    `operators`: fingerprints of their keys."""
    operator = fingerprint_of(order.public)
    if operator not in operators:
        raise MeshError(
            f"key {operator} gives no orders here: list it in mesh.operator_keys, on every node"
        )
    if not order.is_signed(mesh_name):
        raise MeshError(
            f"it is not signed for the mesh {mesh_name!r}: somebody has changed it, or it was "
            "signed for another mesh.mesh_name"
        )


def _rank(order: EjectOrder) -> tuple[int, bool]:
    """The rank of an order; of two with one counter the one that ejects holds."""
    return order.counter, order.ejected


def _text(mesh_name: str, subject: str, counter: int, ejected: bool) -> bytes:
    return _SIGNED + pack((mesh_name, subject, counter, ejected))
