"""Keeps the limits that operators have given to keys: of all orders about a key only the newest
one. Of two orders about one key the one with the higher counter holds, so that replaying an old one
changes nothing, and all nodes end with the same orders, whatever way these travel. Orders are
divided into shards, whose digests show two nodes where they differ.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.node_key import fingerprint_of
from crdtbucket.mesh.links.order_book import OrderBook, Refused
from crdtbucket.mesh.links.override_orders import SHARDS, OverrideOrder

MAX_OVERRIDES = 100_000
"""Most keys about which there is an order, also those whose limit was taken away."""
MOST_FRESH = 1_000
"""New orders that are kept to be sent; beyond that the digests show them."""


class OverrideBook(OrderBook[OverrideOrder]):
    """The orders about limits that hold here."""

    READS = OverrideOrder

    def __init__(
        self,
        operators: Iterable[str] | None = None,
        mesh_name: str = "",
        changed: Callable[[list[OverrideOrder]], None] | None = None,
    ) -> None:
        """`operators`: fingerprints of the keys whose orders hold; None: without a mesh no order
        has to be signed. `changed` gets each new order, under `lock`."""
        super().__init__(operators or (), mesh_name)
        self._is_signed = operators is not None
        self._changed = changed
        self._on_fresh: Callable[[], None] | None = None
        self._shards: list[dict[tuple[str, str], None]] = [{} for _ in range(SHARDS)]
        self._digests = [0] * SHARDS
        self._fresh: deque[OverrideOrder] = deque(maxlen=MOST_FRESH)
        """The orders that are to be sent to peers at once."""
        self._sorted: list[tuple[str, str]] = []
        self._unsorted: list[tuple[str, str]] = []
        """Keys that came since they were listed last."""

    @property
    def digests(self) -> tuple[int, ...]:
        """A digest of each shard in 64 bits; 0: the shard is empty."""
        return tuple(self._digests)

    def subscribe(self, on_fresh: Callable[[], None] | None) -> None:
        """`on_fresh` is called, in any thread, when there is a new order to send."""
        self._on_fresh = on_fresh

    def shard(self, number: int) -> list[OverrideOrder]:
        """The orders of a shard."""
        with self.lock:
            return [OverrideOrder(*self._rows[about]) for about in self._shards[number]]

    def listed(self, bucket: str | None, after: tuple[str, str], most: int) -> list[OverrideOrder]:
        """Up to `most` of the given limits, of one bucket or of all, sorted by bucket and key,
        beginning after `after`."""
        with self.lock:
            found: list[OverrideOrder] = []
            first = after if bucket is None or after > (bucket, "") else (bucket, "")
            if self._unsorted:
                self._sorted = sorted(self._sorted + self._unsorted)
                self._unsorted.clear()
            for at in range(bisect_right(self._sorted, first), len(self._sorted)):
                about = self._sorted[at]
                if len(found) == most or (bucket is not None and about[0] != bucket):
                    break
                row = self._rows[about]
                if row[3] is not None:  # its limit
                    found.append(OverrideOrder(*row))
            return found

    def take(self, order: OverrideOrder) -> bool:
        """Sends an order to peers as well; otherwise as in `OrderBook`."""
        with self.lock:
            taken = super().take(order)
            if taken:
                self._send_at_once([order])
            return taken

    def recall(self, orders: Sequence[OverrideOrder], *, send: bool) -> None:
        """Takes orders that this node had checked and kept, perhaps in another process; `send`:
        also sends them to peers at once. Orders that no present operator has signed no longer
        hold."""
        kept = orders
        if self._is_signed:
            kept = [one for one in orders if fingerprint_of(one.public) in self.operators]
        if len(kept) < len(orders):
            LOG.warning(
                "no operator of mesh.operator_keys has signed %d of the %d limits of keys that "
                "were kept: these no longer hold",
                len(orders) - len(kept),
                len(orders),
            )
        with self.lock:
            new = self._hold(kept, no_room)
            if send and new:
                self._send_at_once(new)

    def fresh(self) -> list[OverrideOrder]:
        """The new orders, which are to be sent to peers at once; each is returned once."""
        with self.lock:
            fresh = list(self._fresh)
            self._fresh.clear()
            return fresh

    def check_operator(self, order: OverrideOrder) -> None:
        if self._is_signed and not order.public:
            what = "remove BUCKET KEY" if order.limit is None else "set BUCKET KEY LIMIT"
            if self.operators:
                raise MeshError(
                    "in a mesh an operator has to sign this, with a key of mesh.operator_keys: "
                    f"`crdtbucket overrides {what} --key FILE` does"
                )
            raise MeshError(
                "in a mesh an operator has to sign this, and mesh.operator_keys lists none. Run "
                '`crdtbucket identity make ops.pem`; write `operator_keys: ["..."]` with the '
                "fingerprint that it prints below `mesh` in the file of every node, which needs no "
                f"restart; and run `crdtbucket overrides {what} --key ops.pem`"
            )
        if self._is_signed:
            super().check_operator(order)

    def _is_wanted(self, order: OverrideOrder, refused: Refused) -> bool:
        # Not logged: a peer whose file lists other operators may have very many.
        return super()._is_wanted(order, lambda _: None)

    def _send_at_once(self, orders: Iterable[OverrideOrder]) -> None:
        self._fresh.extend(orders)
        if self._on_fresh is not None:
            self._on_fresh()

    def _make_room(self, order: OverrideOrder) -> str:
        if len(self) < MAX_OVERRIDES:
            return ""
        return (
            f"there are orders about {MAX_OVERRIDES} keys, those whose limit was taken "
            "away included, and no room for more: change the limit of one of these, or "
            "let a function or globs say the limits"
        )

    def _put(self, order: OverrideOrder) -> None:
        shard, about = order.shard, order.about
        held = self.about(*about)
        if held is None:
            self._unsorted.append(about)
            self._shards[shard][about] = None
        else:
            self._digests[shard] ^= held.digest
        self._digests[shard] ^= order.digest
        super()._put(order)

    def _took(self, orders: list[OverrideOrder]) -> None:
        if self._changed is not None:
            self._changed(orders)


def no_room(why: str) -> None:
    """Logs an order of a peer, or of another process, that finds no room."""
    LOG.error("no room for the order that %s", why)
