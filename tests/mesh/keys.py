"""What a node keeps of keys, in memory."""

from __future__ import annotations

from crdtbucket.errors import MeshError


class KeptKeys:
    """A `KeyStore`."""

    key_file = "the key in memory"
    pins_file = "the pins in memory"
    orders_file = "the orders in memory"

    def __init__(self, pins: bytes | None = None) -> None:
        self.key: bytes | None = None
        self.pins = pins
        self.orders: bytes | None = None
        self.full = False
        """Whether nothing can be saved."""

    def load_key(self) -> bytes | None:
        return self.key

    def save_new_key(self, pem: bytes) -> None:
        assert self.key is None
        self.key = pem

    def load_pins(self) -> bytes | None:
        return self.pins

    def save_pins(self, data: bytes) -> None:
        if self.full:
            raise MeshError("the disk is full")
        self.pins = data

    def load_orders(self) -> bytes | None:
        return self.orders

    def save_orders(self, data: bytes) -> None:
        if self.full:
            raise MeshError("the disk is full")
        self.orders = data
