"""Chooses the process of a shared table that talks to the peers; another one follows when it
ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Protocol

from crdtbucket._core import Table
from crdtbucket.base.deadline import off_loop
from crdtbucket.base.lasting import lasting
from crdtbucket.errors import MeshError, NodeConflict
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.shared.shared_file import SharedFile

LOG = logging.getLogger("crdtbucket")
ASK_S = 0.2
"""Seconds between two attempts to get the lead, so that a dead leader is replaced within a
second."""
LASTING = 5
"""After so many attempts in a row that fail, about a second, the log says why, and from then on at
most once in so many."""
LOOK_S = 0.01
"""Seconds between two checks whether another process asks for an early flush, or still uses the
table."""
ALL_END_S = 5 * ASK_S
"""How long a leader that ends waits for the other processes to end, too. A process that goes on has
taken the lead well before that, and says goodbye itself when it ends."""
CHECK_S = 10.0
SHOW_S = 1.0
"""Between two writings of what this process knows of the mesh."""
WORK = "leading the processes that share a table"


class LedNode(Protocol):
    """This process's node, as the leadership sees it."""

    def tell_address(self) -> None:
        """The mesh has started."""

    def fail(self) -> None:
        """The mesh could not start: the process that leads next makes another one."""

    def show(self) -> None:
        """Writes what is known of the mesh into the table; called every second."""

    def release(self) -> None:
        """Gives back everything that only one process may hold. It takes as long as the disk
        does."""


class Leadership:
    """A service that runs the mesh while this process has the lead of its table.

    The kernel gives up the lead of a process that dies. The next leader goes on under the same
    epoch and with the same table, so peers see a link that was made again, and nothing that one
    process had not sent is lost.
    """

    def __init__(
        self,
        table: Table,
        file: SharedFile,
        make: Callable[[], MeshNetwork],
        node: LedNode,
    ) -> None:
        """`make` makes the mesh, which is started at once. Nothing runs yet."""
        self._table = table
        self._file = file
        self._make = make
        self._node = node
        self._mesh: MeshNetwork | None = None
        self._task: asyncio.Task[None] | None = None
        self._said, self._failures = "", 0
        """Why it could not lead, as the log has it, and how often in a row it could not."""

    async def start(self) -> None:
        """Leads, or stands by. Raises `MeshError` when it leads and the mesh cannot start."""
        if self._table.sharing.lead():
            await self._begin()
        self._task = asyncio.create_task(lasting(self._stand_by_and_lead, WORK, LOG))

    async def stop(self) -> None:
        """Leaves the mesh if no other process goes on for this node; otherwise gives the lead up to
        one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            if self._mesh is not None:
                await self._mesh.stop(handed_over=not await self._is_last())
                await off_loop(self._node.release)
        finally:
            self._table.sharing.yield_lead()

    async def _is_last(self) -> bool:
        """Whether no other process goes on for this node. The processes of a service end all at
        once, and each sees the others for a moment."""
        until = asyncio.get_running_loop().time() + ALL_END_S
        while not self._file.alone():
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _begin(self) -> None:
        try:
            mesh = await off_loop(self._make)
            await mesh.start()
        except BaseException:
            self._node.fail()
            self._table.sharing.yield_lead()
            raise
        self._mesh = mesh
        self._node.tell_address()

    async def _stand_by_and_lead(self) -> None:
        conflict = NodeConflict(
            "the process that speaks to the peers met another one with this node's name"
        )
        while not self._table.sharing.leading:
            await asyncio.sleep(ASK_S)
            if not self._table.sharing.refused:
                self._table.admit(NodeConflict)
            elif self._table.refusal is None:
                self._table.refuse(conflict)
            if _interpreter_ends():
                return
            if self._table.sharing.lead():
                await self._follow()
        looks = (self._look, self._check, self._show_others)
        await asyncio.gather(*(lasting(one, WORK, LOG) for one in looks))

    async def _follow(self) -> None:
        try:
            await self._begin()
        except MeshError as error:
            # The kernel passes on the lead of a killed process a moment before its locks and ports.
            # So the first failure is no fault yet, and one that lasts is logged once.
            self._failures += 1
            news = self._failures % LASTING == 0 and str(error) != self._said
            level = logging.WARNING if news else logging.DEBUG
            LOG.log(level, "this process cannot lead yet: %s", error)
            if news:
                self._said = str(error)
        except Exception:
            if not _interpreter_ends():  # then it could not start a thread
                raise
        else:
            LOG.info("this process leads now: it speaks to the peers for all that share the table")

    async def _look(self) -> None:
        # A take in this process calls `on_wake` itself; a take in another one only leaves a mark.
        while True:
            await asyncio.sleep(LOOK_S)
            if self._table.outbox.flush_wanted and self._table.on_wake is not None:
                self._table.on_wake()

    async def _show_others(self) -> None:
        while True:
            self._node.show()
            await asyncio.sleep(SHOW_S)

    async def _check(self) -> None:
        while True:
            if self._file.replaced():
                break
            await asyncio.sleep(CHECK_S)
        LOG.error(
            "%s was removed or replaced: processes that start now share nothing with this one; "
            "restart all of them",
            self._file.path,
        )


def _interpreter_ends() -> bool:
    """Whether Python, and with it this process, is ending: it may still close its limiter, but it
    cannot start the threads of a mesh."""
    return not threading.main_thread().is_alive()
