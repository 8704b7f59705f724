"""Restores the state of a node from its state directory at the start, and saves it while the node
runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from crdtbucket._core import Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.counted import counted
from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import MeshError
from crdtbucket.mesh.state_dir import StateDir

if TYPE_CHECKING:
    from crdtbucket.mesh.protocol.node_memory import NodeMemory
    from crdtbucket.strong.strong_side import StrongSide

LOG = logging.getLogger("crdtbucket")


class SavedState:
    """The state directory of a node, from `begin` to `release`. Without one it does nothing."""

    def __init__(self, table: Table, strong: StrongSide | None) -> None:
        """`strong`: the side of the buckets that ask Redis, and may owe it tokens."""
        self.directory: StateDir | None = None
        self._table = table
        self._strong = strong
        self._memory: NodeMemory | None = None
        self._recorded = 0
        """The epoch that this process has recorded, perhaps in a start that failed later."""
        self._saving = ForkLock()  # held while the directory is used: threads save snapshots
        self._saved_at = 0
        """When (ns) the last snapshot was completed; before the first one, when this epoch
        began."""
        self._fault = ""
        """Why the last snapshot could not be written; "" where it was."""

    def begin(
        self, directory: StateDir, memory: NodeMemory, name: str, *, shared: bool, goes_on: bool
    ) -> None:
        """Takes the name of the node, and restores what its last epoch has left.

        `shared`: other processes use the table, and may have recorded its epoch already. `goes_on`:
        one of them began this epoch, so there is nothing to restore. Raises `MeshError`.
        """
        try:
            directory.open()
            self._begin(directory, memory, name, shared=shared, goes_on=goes_on)
        except BaseException:  # such as `KeyboardInterrupt`, before the directory is known here
            self.give_up()
            directory.close()
            raise

    def _begin(
        self, directory: StateDir, memory: NodeMemory, name: str, *, shared: bool, goes_on: bool
    ) -> None:
        with self._saving:  # a snapshot that is saved now would replace the one that is to be read
            self.directory, self._memory = directory, memory
            self._saved_at, self._fault = self._table.now(), ""
            # The epoch of a shared table may be recorded already: by a process that was killed.
            epoch = self._table.epochs.running
            again = epoch == self._recorded and not shared
            epochs = directory.begin_epoch(epoch, handed_over=shared, again=again)
            self._recorded = epoch
            saved = None if goes_on else directory.snapshot.load()
            if saved is not None:
                self._restore(saved, directory, memory, name, epochs)
            if self._strong is not None:
                owed = None if saved is None else directory.owed.load()
                try:
                    self._strong.resume(owed, directory.directory)
                except ValueError as error:
                    raise directory.owed.damaged(error) from error
                if not shared:  # else the quotas are in a file of all processes of the host
                    self._strong.kept_quotas.begin(directory.quotas)

    def save(self) -> None:
        """Saves a snapshot. It takes as long as the disk does. Raises `MeshError`."""
        with self._saving:
            if self.directory is None or self._memory is None:
                return
            try:
                self._write(self.directory, self._memory)
            except MeshError as error:
                self._fault = str(error)
                raise
            self._saved_at, self._fault = self._table.now(), ""

    def stats(self) -> dict[str, Any]:
        """`snapshot_age`: the age (s) of the last complete snapshot, or of this epoch while it has
        none; None where none is kept. `snapshot_fault`: why the last one could not be written; ""
        where it was."""
        if self.directory is None:
            return {"snapshot_age": None, "snapshot_fault": ""}
        age = max(0, self._table.now() - self._saved_at) / NS_PER_SECOND
        return {"snapshot_age": age, "snapshot_fault": self._fault}

    def release(self) -> None:
        """Saves a last snapshot and gives the directory up."""
        if self.directory is None:
            return
        try:
            self.save()
        finally:
            if self._strong is not None:
                self._strong.tell_what_is_kept(self._fault)
            self.give_up()

    def give_up(self) -> None:
        """Gives the directory up: nothing is granted any more. A snapshot that is being saved is
        finished first."""
        with self._saving:
            if self.directory is not None:
                if self._strong is not None:
                    self._strong.kept_quotas.end()
                self.directory.close()
                self.directory = None

    def _write(self, directory: StateDir, memory: NodeMemory) -> None:
        if self._strong is not None:  # first: a key of it that the snapshot lacks is harmless
            directory.owed.save(self._strong.unsettled_state())
            self._strong.note_nodes()
        directory.snapshot.save(*memory.snapshot())

    def _restore(
        self, saved: bytes, directory: StateDir, memory: NodeMemory, name: str, epochs: int
    ) -> None:
        from crdtbucket.mesh.snapshot import OtherFormat

        try:
            memory.restore(saved)
        except OtherFormat as error:
            LOG.warning(
                "%s starts its epoch no. %d without memory, as its %s; the next snapshot replaces "
                "it. For 2 s at most, until its peers send their counts, it serves only its share "
                "of each limit",
                name,
                epochs,
                error,
            )
            return
        except MeshError as error:
            raise MeshError(
                f"{directory.snapshot} cannot be restored ({error}): put back a copy, or remove it "
                "to start without memory"
            ) from error
        LOG.info(
            "%s starts its epoch no. %d with %s of the last one%s",
            name,
            epochs,
            counted(len(self._table), "key"),  # a shared table has kept them
            ": the machine was rebooted since, so the counts of peers may replace them"
            if self._table.inbox.suspects
            else "",
        )
