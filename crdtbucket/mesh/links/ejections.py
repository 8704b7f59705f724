"""The orders of operators about members: which are ejected from the mesh, and which key a name has
from now on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from crdtbucket.errors import WireError
from crdtbucket.mesh.identity_settings import is_fingerprint
from crdtbucket.mesh.links.node_key import NodeKey, fingerprint_of
from crdtbucket.mesh.links.order_book import OrderBook
from crdtbucket.mesh.links.signed_orders import SignedOrder

MAX_ORDERS = 256
"""Subjects about which there is an order, readmitted ones too."""
MAX_SUBJECT = 255
About = tuple[str, bool]
"""A subject, and whether an order is about its key: one order of each kind holds."""


@dataclass(frozen=True)
class EjectOrder(SignedOrder):
    """An order of an operator: to eject a node or a key, to admit it again, or to bind a name to
    another key."""

    PURPOSE: ClassVar[bytes] = b"crdtbucket mesh order 1 "
    MOST: ClassVar[int] = MAX_ORDERS
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
        fingerprint of that. Otherwise as `sign`."""
        return cls(name, counter, to, b"", b"").signed_with(key, mesh_name)

    @property
    def about(self) -> About:
        """The node or key that the order is about."""
        return self.subject, isinstance(self.said, str)

    @property
    def ejected(self) -> bool:
        """Whether it ejects its subject."""
        return self.said is True

    @property
    def rank(self) -> tuple[int, bool, str]:
        """Of two orders about the same subject the higher one holds; with equal counters the one
        that ejects."""
        return self.counter, self.ejected, self.said if isinstance(self.said, str) else ""

    def in_words(self) -> str:
        """The order in words, for people."""
        if isinstance(self.said, str):
            what = f"has the key {self.said} in"
        else:
            what = f"is {'ejected from' if self.said else 'admitted again to'}"
        operator = fingerprint_of(self.public)
        return f"{self.subject} {what} the mesh (operator {operator}, counter {self.counter})"

    def is_known(self) -> bool:
        """True: no version knows other orders about members."""
        subject, said = self.subject, self.said
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
        return True


class Ejections(OrderBook[EjectOrder]):
    """The orders about members that hold here."""

    READS = EjectOrder

    @property
    def ejected(self) -> list[str]:
        """Names of nodes and fingerprints of keys, sorted."""
        return sorted(order.subject for order in self.every() if order.ejected)

    @property
    def rebound(self) -> dict[str, str]:
        """Fingerprints of the keys that names have by order."""
        said = {one.subject: one.said for one in self.every() if isinstance(one.said, str)}
        return dict(sorted(said.items()))

    def of(self, name: str, key: bytes | None) -> EjectOrder | None:
        """The order by which this node, or its key, is ejected."""
        if not len(self):
            return None
        for subject in (name,) if key is None else (name, fingerprint_of(key)):
            order = self.about(subject, False)
            if order is not None and order.ejected:
                return order
        return None

    def key_of(self, name: str) -> EjectOrder | None:
        """The order by which this node has another key than it had."""
        return self.about(name, True)

    def _make_room(self, order: EjectOrder) -> str:
        if len(self) < MAX_ORDERS:
            return ""
        return f"there are orders about {MAX_ORDERS} subjects, and no room for more"
