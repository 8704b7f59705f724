"""The common base of all orders of operators: a counter, the operator's key, and its signature."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from crdtbucket.base.packing import pack, unpack
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.node_key import (
    PUBLIC_BYTES,
    SIGNATURE_BYTES,
    NodeKey,
    is_signed,
)

MAX_COUNTER = 2**63 - 1
Order = TypeVar("Order", bound="SignedOrder")


class SignedOrder(ABC):
    """The base of frozen dataclasses whose fields are the content of the order, the key and the
    signature, as they are sent and kept. Of two orders about the same subject the one with the
    higher counter holds."""

    __slots__ = ()
    PURPOSE: ClassVar[bytes]
    """A prefix of the signed bytes, so that no order passes for one of another kind."""
    WHAT: ClassVar[str] = "order"
    """The word of messages for such an order."""
    MOST: ClassVar[int]
    """Most orders in one list."""
    UNSIGNED: ClassVar[bool] = False
    """Whether it may lack key and signature."""
    __match_args__: ClassVar[tuple[str, ...]]
    counter: int
    public: bytes
    """The operator's key."""
    signature: bytes

    def row(self) -> tuple[Any, ...]:
        """The fields of the order, as they are sent and kept."""
        return tuple([getattr(self, name) for name in self.__match_args__])

    @property
    @abstractmethod
    def about(self) -> tuple[Any, ...]:
        """The subject of the order; one order about each subject holds."""

    @property
    @abstractmethod
    def rank(self) -> tuple[Any, ...]:
        """Of two orders about the same subject the one with the higher rank holds."""

    @abstractmethod
    def in_words(self) -> str:
        """The order in words, for people."""

    @abstractmethod
    def is_known(self) -> bool:
        """False for an order of a later version; raises `WireError` if no version knows such an
        order. The fields may be anything."""

    @classmethod
    def read(cls: type[Order], rows: object) -> Iterator[Order]:
        """The orders in these rows, whatever they are; raises `WireError`. Signatures are not
        looked at."""
        if not isinstance(rows, tuple) or len(rows) > cls.MOST:
            raise WireError(f"orders that are no list of up to {cls.MOST}")
        size = len(cls.__match_args__)
        for row in rows:
            if not isinstance(row, tuple) or len(row) < size:
                raise WireError("an order with too few parts")
            order = cls(*row[:size])  # later versions append
            if order.is_known():
                order._check_signing()
                yield order

    def is_signed(self, mesh_name: str) -> bool:
        """Whether the key that it shows has signed it, for the mesh of this name."""
        return is_signed(self._text(mesh_name), self.signature, self.public)

    def as_text(self) -> str:
        """The order as one word of ASCII."""
        return base64.urlsafe_b64encode(packed([self])).decode()

    @classmethod
    def from_text(cls: type[Order], text: str) -> Order:
        """The order in this word. Raises `MeshError`."""
        try:
            orders = list(cls.read(decoded(text)))
        except ValueError as error:
            raise MeshError(f"this is no {cls.WHAT}: {error}") from error
        if len(orders) != 1:
            raise MeshError(f"these are {len(orders)} orders: give one")
        return orders[0]

    def checked(self: Order) -> Order:
        """The same order. Raises `MeshError` for an impossible order."""
        try:
            return next(self.read((self.row(),)))
        except WireError as error:
            raise MeshError(str(error)) from error

    def signed_with(self: Order, key: NodeKey, mesh_name: str) -> Order:
        """The same, signed by whoever has `key`. Raises as `checked`."""
        text = self._text(mesh_name)
        return replace(self, public=key.public, signature=key.sign(text)).checked()  # type: ignore[type-var]

    def _check_signing(self) -> None:
        """Raises `WireError` where the counter, the key or the signature has an impossible form."""
        public, signature = self.public, self.signature
        if type(self.counter) is not int or not 1 <= self.counter <= MAX_COUNTER:
            raise WireError("an order with an impossible counter")
        if type(public) is not bytes or type(signature) is not bytes:
            raise WireError("an order without a signature")
        lacks = self.UNSIGNED and not public and not signature
        if not lacks and (len(public), len(signature)) != (PUBLIC_BYTES, SIGNATURE_BYTES):
            raise WireError("an order without a signature")

    def _text(self, mesh_name: str) -> bytes:
        return self.PURPOSE + pack((mesh_name, *self.row()[:-2]))


def packed(orders: Collection[SignedOrder]) -> bytes:
    """These orders in bytes."""
    return pack([order.row() for order in orders])


def decoded(text: str) -> Any:
    """The rows in the text of orders, which may be wrong. Raises `MeshError` for what is no text,
    and `ValueError`."""
    if not isinstance(text, str):
        raise MeshError(f"order is {text!r}: pass the text that crdtbucket has printed")
    return unpacked(base64.urlsafe_b64decode(text))


def unpacked(data: bytes) -> object:
    """The rows in these bytes, which may be anything; raises `WireError`."""
    try:
        return unpack(data)
    except ValueError as error:
        raise WireError(f"orders: {error}") from error
