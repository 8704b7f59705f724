"""Keeps the quotas of an outage over the ends of a node's processes: what one process has granted
binds the next one."""

from __future__ import annotations

import logging
import os

from crdtbucket._core import BucketCore, BucketReplica, Table
from crdtbucket.base.packing import pack, unpack
from crdtbucket.errors import MeshError
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.mesh.state_file import CheckedFile

LOG = logging.getLogger("crdtbucket.strong")
FORMAT = 1


class KeptQuotas:
    """The table of quotas of one node, from `begin` to `end`. Without a file nothing is kept.

    A process that ends in order writes its table to the file. While it runs, the file says only
    that a process is running. A process that finds this at its start knows that the one before was
    killed, and not what that has granted: it begins with empty quotas, which refill from then on.
    So nothing is written when tokens are granted, and no clock has to outlive the machine: a time
    is used only within the boot in which it was read.
    """

    def __init__(self, table: Table, node: str) -> None:
        """`table`: of the quotas alone, in which nothing is defined yet by this process; `node`:
        the name of this node."""
        self.empty_since: int | None = None
        """When (local ns) every key that the table does not hold had an empty quota; None: never,
        as far as is known."""
        self.nodes = 1
        """How many processes shared the limits when that was last noted, here or by an earlier
        process."""
        self.shared = table.shared
        """Whether the quotas are in a table that other processes of the host share."""
        self._used = self.shared and bool(table.definitions.current())
        self._table = table
        self._node = node
        self._file: CheckedFile | None = None

    @property
    def kept(self) -> bool:
        """Whether what earlier processes have granted binds this one."""
        return self._file is not None or self._used

    def begin(self, file: CheckedFile) -> None:
        """Before anything is granted: restores what the last process has left in `file`. Raises
        `MeshError`."""
        data = file.load()
        if data is not None:
            try:
                self._restore(data)
            except (ValueError, TypeError, MeshError) as error:
                raise file.damaged(error) from error
        file.save(pack((FORMAT, self.nodes, None)))
        self._file = file

    def note(self, nodes: int) -> None:
        """So many processes share the limits by now: the next process reckons with them until Redis
        has told it. Writes the file if the number has changed. Raises `MeshError`."""
        if self._file is not None and nodes != self.nodes:
            self._file.save(pack((FORMAT, nodes, None)))
            self.nodes = nodes

    def end(self) -> None:
        """Nothing is granted any more: saves the quotas. If that fails, the next process begins
        with empty ones, as after a crash."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            now, since = self._table.now(), self.empty_since
            pieces = snapshot.dump(self._table, Roster(self._table, self._node))
            refilled = None if since is None else now - since
            left = (snapshot.this_boot(), now, refilled, b"".join(pieces))
            file.save(pack((FORMAT, self.nodes, left)))
        except MeshError as error:
            LOG.error("%s: in an outage of Redis the next process begins with empty quotas", error)

    def open_key(self, core: BucketCore, key: str | bytes) -> None:
        """To be called before a quota of a key is used: if the table does not hold the key, it owes
        what may have been granted before this process, less what was refilled since."""
        if self.empty_since is None or BucketReplica(core).own(*core.hash(key)) is not None:
            return
        spec, passed = core.spec, max(0, self._table.now() - self.empty_since)
        debt = spec.capacity - passed * spec.refill_rate // spec.interval_ns
        if debt > 0:
            core.settle(key, debt)

    def _restore(self, data: bytes) -> None:
        form, *rest = unpack(data)
        now = self._table.now()
        try:
            if form != FORMAT:
                raise snapshot.OtherFormat("another version has written them")
            nodes, left = rest
            if type(nodes) is not int or nodes < 1:
                raise ValueError("its number of processes is none")
            self.nodes = nodes
            if left is None:
                raise snapshot.OtherFormat("the last process did not end in order")
            boot, made, refilled, saved = left
            if type(made) is not int or type(refilled) not in (int, type(None)):
                raise ValueError("its times are no whole numbers")
            # Another epoch: this process, or another fork of its parent, may have saved them.
            self._table.epochs.open(int.from_bytes(os.urandom(8), "little") | 1)
            snapshot.load(self._table, Roster(self._table, self._node), saved)
        except snapshot.OtherFormat as error:
            self.empty_since = now
            LOG.info(
                "%s: the quotas of %s for an outage of Redis begin empty, and refill",
                error,
                self._node,
            )
            return
        self._table.inbox.settle_suspects(False)  # of another boot: as if they were saved now
        if refilled is not None:
            age = snapshot.age_ns(boot, made, snapshot.this_boot(), now)
            self.empty_since = now - refilled - (age or 0)
