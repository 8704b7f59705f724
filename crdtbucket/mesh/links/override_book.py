"""The limits that operators have given to keys: of all orders about a key the newest one.

Of two orders about one key the higher counter holds, so that an old one that is played again
changes nothing, and all nodes come to the same whatever way orders travel. Orders are counted in
shards, whose digests tell two nodes where they differ.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from crdtbucket.base.fork_lock import ForkLock
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.node_key import fingerprint_of
from crdtbucket.mesh.links.override_orders import SHARDS, OverrideOrder, Row
from crdtbucket.mesh.links.signed_orders import check_operator

MAX_OVERRIDES = 100_000
"""Keys about which there is an order, those whose limit was taken away included."""
SORTED_ONE_BY_ONE = 100
MOST_FRESH = 1_000
"""New orders that are kept to be sent; of more the digests tell."""


class OverrideBook:
    """The orders about limits that hold here. From any thread."""

    def __init__(
        self,
        operators: Iterable[str] | None = None,
        mesh_name: str = "",
        changed: Callable[[list[OverrideOrder]], None] | None = None,
    ) -> None:
        """`operators`: fingerprints of the keys whose orders hold; None: without a mesh no order
        has to be signed. `changed` gets each new order, under `lock`."""
        self.lock = ForkLock(threading.RLock)
        self._operators = None if operators is None else frozenset(operators)
        self._mesh_name = mesh_name
        self._changed = changed
        self._on_fresh: Callable[[], None] | None = None
        self._rows: dict[tuple[str, str], Row] = {}
        """Plain tuples of plain values: the garbage collector does not go over them."""
        self._shards: list[dict[tuple[str, str], None]] = [{} for _ in range(SHARDS)]
        self._digests = [0] * SHARDS
        self._fresh: deque[OverrideOrder] = deque(maxlen=MOST_FRESH)
        """Those that are to be sent to peers at once."""
        self._sorted: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def digests(self) -> tuple[int, ...]:
        """What each shard holds, in 64 bits; 0: nothing."""
        return tuple(self._digests)

    def subscribe(self, on_fresh: Callable[[], None] | None) -> None:
        """`on_fresh` is called, in any thread, when there is something to send at once."""
        self._on_fresh = on_fresh

    def change(self, operators: Iterable[str]) -> None:
        """Other operators give orders from now on; what holds does so until this process ends."""
        if self._operators is not None:
            self._operators = frozenset(operators)

    def about(self, bucket: str, key: str) -> OverrideOrder | None:
        """The order about a key."""
        row = self._rows.get((bucket, key))
        return None if row is None else OverrideOrder(*row)

    def shard(self, number: int) -> list[OverrideOrder]:
        """The orders of a shard."""
        with self.lock:
            return [OverrideOrder(*self._rows[about]) for about in self._shards[number]]

    def every(self) -> list[OverrideOrder]:
        """All orders."""
        with self.lock:
            return [OverrideOrder(*row) for row in self._rows.values()]

    def listed(self, bucket: str | None, after: tuple[str, str], most: int) -> list[OverrideOrder]:
        """Up to `most` limits that are given, of one bucket or of all, by bucket and key, from the
        first one after `after` on."""
        with self.lock:
            found: list[OverrideOrder] = []
            first = after if bucket is None or after > (bucket, "") else (bucket, "")
            for at in range(bisect_right(self._sorted, first), len(self._sorted)):
                about = self._sorted[at]
                if len(found) == most or (bucket is not None and about[0] != bucket):
                    break
                row = self._rows[about]
                if row[3] is not None:  # its limit
                    found.append(OverrideOrder(*row))
            return found

    def take(self, order: OverrideOrder) -> bool:
        """Has an order hold from now on, and sent to peers; False where it holds already.

        Raises `MeshError` for one that no operator has signed, one that is older than what holds,
        and when there is no room.
        """
        if self._operators is not None:
            if not order.public:
                raise MeshError(
                    "in a mesh the order has to be signed with the key of an operator: "
                    "`crdtbucket overrides set --key FILE` signs it"
                )
            check_operator(order, self._operators, self._mesh_name)
        with self.lock:
            held = self.about(*order.about)
            if held is not None and order.rank <= held.rank:
                if order.rank == held.rank:
                    return False
                raise MeshError(
                    f"a later order holds: {held.in_words()}: sign one with a counter above that"
                )
            if held is None and len(self._rows) >= MAX_OVERRIDES:
                raise MeshError(
                    f"there are orders about {MAX_OVERRIDES} keys, those whose limit was taken "
                    "away included, and no room for more: change the limit of one of these, or "
                    "let a function or globs say the limits"
                )
            self._hold([order])
            self._send_at_once([order])
            return True

    def merge(self, rows: object) -> list[OverrideOrder]:
        """Takes what a peer passes on; returns what is new.

        Orders of operators that this node does not know are left out: its file may be older, or
        newer. Raises `WireError` for a forged one.
        """
        new, forged = [], ""
        for order in OverrideOrder.read(rows):
            held = self.about(*order.about)
            if held is not None and order.rank <= held.rank:
                continue
            if fingerprint_of(order.public) not in (self._operators or ()):
                continue
            if not order.is_signed(self._mesh_name):
                forged = f"an override of key {order.key!r} that its operator has not signed"
                break
            new.append(order)
        new = self._hold_those_that_fit(new)
        if forged:
            raise WireError(forged)
        return new

    def recall(self, orders: Sequence[OverrideOrder], *, send: bool) -> None:
        """Takes what this node had checked and kept, perhaps in another process; `send`: to peers,
        too, at once. What no operator of today has signed holds no more."""
        known = self._operators
        kept = [one for one in orders if known is None or fingerprint_of(one.public) in known]
        if len(kept) < len(orders):
            LOG.warning(
                "no operator of mesh.operator_keys has signed %d of the %d limits of keys that "
                "were kept: these hold no more",
                len(orders) - len(kept),
                len(orders),
            )
        with self.lock:
            new = self._hold_those_that_fit(kept)
            if send and new:
                self._send_at_once(new)

    def fresh(self) -> list[OverrideOrder]:
        """What is to be sent to peers at once; each order once."""
        with self.lock:
            fresh = list(self._fresh)
            self._fresh.clear()
            return fresh

    def _send_at_once(self, orders: Iterable[OverrideOrder]) -> None:
        self._fresh.extend(orders)
        if self._on_fresh is not None:
            self._on_fresh()

    def _hold_those_that_fit(self, orders: Iterable[OverrideOrder]) -> list[OverrideOrder]:
        newest: dict[tuple[str, str], OverrideOrder] = {}
        added = 0
        with self.lock:
            for order in orders:
                held = newest.get(order.about) or self.about(*order.about)
                if held is not None and order.rank <= held.rank:
                    continue
                if held is None:
                    if len(self._rows) + added >= MAX_OVERRIDES:
                        LOG.error("no room for the order that %s", order.in_words())
                        continue
                    added += 1
                newest[order.about] = order
            new = list(newest.values())
            if new:
                self._hold(new)
        return new

    def _hold(self, orders: list[OverrideOrder]) -> None:
        added = []
        for order in orders:
            shard, about = order.shard, order.about
            held = self.about(*about)
            if held is None:
                added.append(about)
            else:
                self._digests[shard] ^= held.digest
            self._rows[about] = order.row()
            self._shards[shard][about] = None
            self._digests[shard] ^= order.digest
        if len(added) > SORTED_ONE_BY_ONE:
            self._sorted.extend(added)
            self._sorted.sort()
        else:
            for about in added:
                insort(self._sorted, about)
        if self._changed is not None:
            self._changed(orders)
