"""The limits that operators give to keys while a limiter works: `Limiter.overrides`."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import InvalidKey, InvalidSpec, MeshError
from crdtbucket.limiter.asked_limits import carry_over
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.spec.field_checks import MAX_TOKENS, canonical_name, check_whole
from crdtbucket.spec.globs import MAX_KEY_LENGTH

if TYPE_CHECKING:
    from crdtbucket.limiter.outside_limits import BucketOverrides
    from crdtbucket.limiter.override_file import OverrideFile
    from crdtbucket.mesh.links.override_book import OverrideBook
    from crdtbucket.mesh.links.override_orders import OverrideOrder
    from crdtbucket.rollout.in_force import InForce

LOG = logging.getLogger("crdtbucket")
SUFFIX = "~overrides"
"""The suffix that the file adds to the path of a shared table; see `tables.QUOTA_SUFFIX`."""
READ_AT_ONCE = 65_536
"""Bytes of what other processes have written: some 500 orders, read in a few ms."""


@dataclass(frozen=True)
class GivenLimit:
    """The limit that an operator has given to a key."""

    bucket: str
    key: str
    limit: str
    """The name of a bucket, or a rate."""
    counter: int
    """The counter of the order; by default the time at which it was made, in ms."""


class OperatorOverrides:
    """The limits that operators give to keys of a running limiter. From any thread.

    Orders about limits hold on all nodes of a mesh, and on all processes of a shared table.
    """

    def __init__(self, in_force: InForce, node: str, mesh: MeshConfig | None) -> None:
        """`in_force`: has the buckets. `node`: the name of this one. Raises `MeshError` for a file
        that is damaged."""
        self._outside = in_force.outside
        self._bucket = in_force.bucket
        self._mesh = mesh
        self._path = _path(node, mesh, in_force.tables.file)
        """The file of all processes of this node; None: the limits end with this process."""
        self._file: OverrideFile | None = None
        self._book: OverrideBook | None = None
        self._making = ForkLock()
        self._ordering = ForkLock()  # one order at a time: each charges what the key owed before
        self._unkept: list[OverrideOrder] = []
        self._fault = ""
        self._read_again = False
        """Whether the next `beat` reads the whole file again."""
        self._writing = ForkLock()  # held while the file is used, which may take long
        if self._is_kept:
            len(self.book)  # reads it

    @property
    def book(self) -> OverrideBook:
        """The orders that hold. The modules for them are imported only where there are orders, or a
        mesh."""
        with self._making:
            if self._book is None:
                from crdtbucket.limiter.override_file import OverrideFile
                from crdtbucket.mesh.links.override_book import OverrideBook

                operators = None if self._mesh is None else self._mesh.operator_keys
                name = "" if self._mesh is None else self._mesh.mesh_name
                book = OverrideBook(operators, name, self._follow)
                if self._path is not None:
                    self._file = OverrideFile(self._path)
                    if self._is_kept:
                        book.recall(self._file.exchange((), book), send=False)
                        self._unkept.clear()
                self._book = book
                if self._mesh is not None:
                    book.change(self._mesh.operator_keys)  # see `change`
            return self._book

    @property
    def _is_kept(self) -> bool:
        return self._path is not None and os.path.exists(self._path)

    def set(self, bucket: str, key: str, limit: str) -> bool:
        """Gives a key a limit: the name of a bucket, or a rate. False if the key has it already.
        Only for a limiter without a mesh; in a mesh the order has to be signed: see `give`. Raises
        `InvalidSpec`, `InvalidKey`, `UnknownBucket`, and `MeshError`.
        """
        if limit is None:
            raise InvalidSpec("limit is None", "give a limit, or call remove", "limit")
        return self._order(bucket, key, limit)

    def remove(self, bucket: str, key: str) -> bool:
        """Ends the limit that an operator has given to a key; False if it has none. Raises as
        `set`."""
        return self._order(bucket, key, None)

    def give(self, order: str, about: tuple[str, str] | None = None) -> bool:
        """Takes an order that `crdtbucket overrides` has signed; False if it is in force already.
        All nodes of the mesh follow it. `about`: the bucket and the key that the order must be
        about. Raises as `set`, and `MeshError` if no key of `operator_keys` has signed the order,
        if it is older than the one in force, or if there is no room for it.
        """
        from crdtbucket.mesh.links.override_orders import OverrideOrder

        found = OverrideOrder.from_text(order)
        if about is not None and found.about != (canonical_name(about[0]), about[1]):
            raise MeshError(f"the order is about key {found.key!r} of bucket {found.bucket!r}")
        return self._take(found)

    @property
    def count(self) -> int:
        """The number of keys to which an operator has given a limit."""
        return self._outside.stats()["given"]

    def limit_of(self, bucket: str, key: str) -> str | None:
        """The limit that an operator has given to a key; None if it has none. Raises
        `InvalidKey`, and `UnknownBucket` for what is no name."""
        held = self.book.about(self._about(bucket, key), key)
        return None if held is None else held.limit

    def listed(
        self, bucket: str | None = None, after: tuple[str, str] = ("", ""), most: int = 100
    ) -> list[GivenLimit]:
        """Up to `most` of the given limits, sorted by bucket and key, beginning after the pair
        `after`. Raises `UnknownBucket` and `InvalidSpec`."""
        pair = isinstance(after, (tuple, list)) and [type(one) for one in after] == [str, str]
        if not pair:
            raise InvalidSpec(f"after is {after!r}", "pass a bucket and a key, as texts", "after")
        check_whole("most", most, 0, MAX_TOKENS)
        name = None if bucket is None else self._bucket(bucket).spec.key
        return [
            GivenLimit(order.bucket, order.key, order.limit or "", order.counter)
            for order in self.book.listed(name, after, most)
        ]

    def change(self, mesh: MeshConfig) -> None:
        """The operators are those of this configuration from now on. What new ones have signed
        holds again, as far as it is in the file."""
        before = () if self._mesh is None else self._mesh.operator_keys
        self._mesh = mesh
        self._read_again |= not {*mesh.operator_keys} <= {*before}
        # A reload calls this under a lock for which a thread that makes the book may be waiting. So
        # this does not wait for the book: that thread looks at the operators once more.
        if self._book is not None:
            self._book.change(mesh.operator_keys)

    def beat(self) -> None:
        """Writes what peers have sent to the file, and reads what other processes have written
        there; to be called every second or so."""
        if self._file is None:
            if self._is_kept:
                len(self.book)  # reads the first ones, of another process
            return
        wanted = self._unkept or self._file.changed or self._read_again
        if wanted and self._writing.acquire(blocking=False):  # else another thread is about it
            try:
                if self._read_again:
                    self._read_again = False
                    self._file.begin_again()
                self._exchange(self._file, durable=False)
            finally:
                self._writing.release()

    def _order(self, bucket: str, key: str, limit: str | None) -> bool:
        from crdtbucket.mesh.links.override_orders import OverrideOrder

        name = self._about(bucket, key)
        held = self.book.about(name, key)
        if held is None:
            self._bucket(bucket)  # raises for one that is not there
        if limit == (None if held is None else held.limit):
            return False
        counter = max(time.time_ns() // 1_000_000, 1 if held is None else held.counter + 1)
        return self._take(OverrideOrder(name, key, counter, limit, b"", b"").checked())

    def _about(self, bucket: str, key: str) -> str:
        """The canonical name of the bucket, which need not be defined now. Raises `InvalidKey`, and
        `UnknownBucket` for what is no name."""
        most = MAX_KEY_LENGTH
        if not isinstance(key, str) or not 1 <= len(key.encode(errors="replace")) <= most:
            raise InvalidKey(f"the key is {key!r}: give a text of 1 to {most} bytes in UTF-8")
        return canonical_name(bucket) if isinstance(bucket, str) else self._bucket(bucket).spec.key

    def _take(self, order: OverrideOrder) -> bool:
        left_over = order.limit is None and self.book.about(*order.about) is not None
        if not left_over:
            self._bucket(order.bucket)  # raises for one that is not there
        overrides = self._outside.of(order.bucket)
        if overrides.in_force:
            taken = self._take_and_charge(order, overrides)
        elif left_over:
            taken = self.book.take(order)  # its bucket may come back
        else:
            raise InvalidSpec(
                f"{order.bucket!r} is an override",
                "name the bucket itself, by its plain name",
                "bucket",
            )
        if taken and self._file is not None:
            with self._writing:
                self._exchange(self._file, durable=True)
        return taken

    def _take_and_charge(self, order: OverrideOrder, overrides: BucketOverrides) -> bool:
        self.book.check_operator(order)
        if order.limit is not None:
            overrides.bucket_of(order.limit)  # raises for one that cannot be
        # Under no lock on which others wait: a function may be asked, which takes its time.
        without = overrides.without_order(order.key)
        with self._ordering:
            with self.book.lock:
                before = overrides.given_to(order.key)
                taken = self.book.take(order)
                after = overrides.given_to(order.key)
            if taken:
                carry_over(order.key, before or without, after or without)
        return taken

    def _exchange(self, file: OverrideFile, *, durable: bool) -> None:
        book = self.book
        with book.lock:
            new, self._unkept = self._unkept, []
        try:
            found = file.exchange(new, book, durable=durable, most=READ_AT_ONCE)
        except MeshError as error:  # they hold in this process, and peers have them
            with book.lock:
                self._unkept = new + self._unkept
            if str(error) != self._fault:
                self._fault = str(error)
                LOG.error("limits of keys are not kept over a restart: %s", error)
            return
        self._fault = ""
        with book.lock:
            unkept = len(self._unkept)
            book.recall(found, send=True)
            del self._unkept[unkept:]  # these come from the file

    def _follow(self, orders: list[OverrideOrder]) -> None:
        if self._path is not None:
            self._unkept.extend(orders)
        by_bucket = attrgetter("bucket")
        for bucket, those in groupby(sorted(orders, key=by_bucket), key=by_bucket):
            self._outside.of(bucket).give([(one.key, one.limit) for one in those])


def _path(node: str, mesh: MeshConfig | None, table: SharedFile | None) -> str | None:
    """The file of a node's overrides: in the state directory, or else beside the shared table."""
    if mesh is not None and mesh.state_dir is not None:
        return StateDir(mesh.state_dir, node).overrides_path
    return None if table is None else table.path + SUFFIX
