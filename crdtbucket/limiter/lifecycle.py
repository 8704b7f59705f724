"""The life of a limiter: new, open on an event loop or in a thread, closed for good."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from crdtbucket.errors import CrdtbucketError, LimiterClosed, LimiterNotOpen, NodeConflict
from crdtbucket.limiter.background import Background, Service, running
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.housekeeping import Housekeeping
from crdtbucket.limiter.stats import mesh_stats
from crdtbucket.limiter.tables import Tables
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.rollout.staged import Position, row_of
from crdtbucket.shared.table_file import SharedFile, TableNotes

if TYPE_CHECKING:
    from crdtbucket.mesh.protocol.machine import MeshNode
    from crdtbucket.mesh.transport.network import Mesh
    from crdtbucket.strong.assembly import StrongSide


LOG = logging.getLogger("crdtbucket")


class State(enum.Enum):
    """Where a limiter stands; the value completes "this limiter is ..."."""

    NEW = "not opened"
    OPENING = "being opened"
    ON_LOOP = "open on an event loop"
    IN_THREAD = "open in a thread"
    LEFT_BEHIND = "open in the process that this one was forked from"
    CLOSED = "closed"


UNOPENED = (
    "this limiter is a node of a mesh and is not open, so it would limit alone: decide inside "
    "`async with limiter:`, or `with limiter:` where there is no event loop (the middleware for "
    "web frameworks opens it by itself)"
)
FORKED = (
    "this process was forked after the limiter had been opened, whose threads and connections are "
    "the parent's, so it would limit alone: make the limiter before the fork and open it after "
    "that, in each process, with shared= so that all have one table"
)


class Lifecycle:
    """Starts and stops what runs beside the decisions: the mesh and the housekeeping."""

    def __init__(
        self,
        tables: Tables,
        buckets: Sequence[Bucket],
        *,
        node: str,
        region: str,
        mesh: MeshConfig | None,
        strong: StrongSide | None = None,
        relax: Callable[[], None] | None = None,
    ) -> None:
        """Nothing runs yet. `buckets` may grow. `strong`: the side of those that ask Redis.
        `relax`: see `Housekeeping`."""
        self.state = State.NEW
        self._tables = tables
        self._table = tables.main
        self._buckets = buckets
        self._node = node
        self._region = region
        self._config = mesh
        self._strong = strong
        self._file = tables.file
        self._housekeeping = Housekeeping(tables, self._buckets, alone=mesh is None)
        self._housekeeping.relax = relax
        self._loop: asyncio.AbstractEventLoop | None = None
        self.machine: MeshNode | None = None
        """The protocol of this node, once it was opened with a mesh."""
        self._told: tuple[int, int, int] | None = None
        self._position: Position | None = None
        self.on_rollout: Callable[[tuple[int, int, int, int, int]], None] | None = None
        """Told how far a version is at a peer."""
        self._state: StateDir | None = None
        self._saving = threading.Lock()  # over the state's use: snapshots are written in a thread
        self._mesh: Mesh | None = None
        self._on_loop: AsyncExitStack | None = None
        self._in_thread: Background | None = None
        if mesh is not None:
            tables.refuse(LimiterNotOpen(UNOPENED))
        _all.add(self)

    @property
    def mesh(self) -> Mesh | None:
        """The mesh while it runs."""
        return None if self.state is State.CLOSED else self._mesh

    def tell(self, config: tuple[int, int, int] | None, position: Position | None = None) -> None:
        """Peers are told from now on that this configuration is run (version, hash, stage), and how
        far its roll-out is."""
        self._told, self._position = config, position
        if self.machine is not None:
            self.machine.runs, self.machine.rollout = config, row_of(position)

    async def open_on_loop(self) -> None:
        """Join the mesh on the running event loop. Raises `MeshError`; it may be tried again."""
        self._begin()
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(running(self._services()))
                self._on_loop = stack.pop_all()
            self._tell_address()
        except BaseException:
            self._fail()
            raise
        self._loop = asyncio.get_running_loop()
        self._housekeeping.start_on_loop()
        self._opened(State.ON_LOOP)

    def open_in_thread(self) -> None:
        """Join the mesh in a thread. Raises `MeshError`; it may be tried again."""
        self._begin()
        try:
            services = self._services()
            if services:
                thread = Background(f"crdtbucket mesh {self._node}", services)
                thread.start()
                self._in_thread = thread
            self._tell_address()
        except BaseException:
            self._fail()
            raise
        self._housekeeping.start_thread()
        self._opened(State.IN_THREAD)

    def close(self) -> None:
        """End it, unless it runs on an event loop."""
        state = self.state
        if state in (State.ON_LOOP, State.OPENING):
            raise CrdtbucketError(f"this limiter is {state.value}: await aclose() there")
        if state is State.CLOSED:
            return
        if state is State.LEFT_BEHIND:
            self._leave_to_the_parent()
            return
        self._end()
        if self._in_thread is not None:
            self._in_thread.stop()
        self._release()

    async def aclose(self) -> None:
        """End it, on the event loop on which it runs."""
        if self.state is State.IN_THREAD:
            await asyncio.to_thread(self.close)
            return
        if self.state is not State.ON_LOOP:
            self.close()
            return
        if asyncio.get_running_loop() is not self._loop:
            raise CrdtbucketError("close a limiter on the event loop on which it was opened")
        self._end()
        if self._on_loop is not None:
            await self._on_loop.aclose()
        await asyncio.to_thread(self._release)

    def _begin(self) -> None:
        if self.state is State.CLOSED:
            raise LimiterClosed("this limiter was closed: make a new one")
        if self.state is not State.NEW:
            raise CrdtbucketError(f"this limiter is {self.state.value} already: open it once")
        self._tables.begin_life()
        self.state = State.OPENING

    def left_behind(self) -> None:
        """In the child of a fork: what was open stays the parent's alone."""
        if self.state not in (State.ON_LOOP, State.IN_THREAD, State.OPENING):
            return
        if self._config is None and self._strong is None:
            return  # nothing connects it with others: a copy decides as well as the original
        self.state = State.LEFT_BEHIND
        self._tables.refuse(LimiterNotOpen(FORKED))

    def _leave_to_the_parent(self) -> None:
        # No goodbye, no snapshot, nothing to stop: all of that is the parent's.
        self.state = State.CLOSED
        self._tables.refuse(LimiterClosed("the limiter is closed"))
        self._tables.close()

    def _opened(self, state: State) -> None:
        self.state = state
        self._tables.admit()

    def _end(self) -> None:
        self.state = State.CLOSED
        # First of all: what is taken after the last words to the peers, they would never hear of.
        self._tables.refuse(LimiterClosed("the limiter is closed"))
        self._wake_waiters()
        self._housekeeping.stop()

    def _services(self) -> list[Service]:
        """What is to run beside the decisions, in the order of its start."""
        services: list[Service] = []
        if self._config is not None:
            services.append(self._mesh_service(self._config, self._file))
        if self._strong is not None:
            self._strong.join(self.machine)
            services.append(self._strong)
        return services

    def _mesh_service(self, config: MeshConfig, file: SharedFile | None) -> Service:
        # The network is imported only where there is one.
        from crdtbucket.mesh.transport.network import Mesh

        def make() -> Mesh:
            mesh = Mesh(
                self._protocol(config),
                config,
                self._table.now,
                hash_key=self._table.hash_key,
            )
            mesh.on_conflict = self._name_used
            self._mesh = mesh
            return mesh

        if file is None:
            return make()
        from crdtbucket.shared.leadership import Leadership

        return Leadership(self._table, file, make, self._tell_address, self._show)

    def view(self) -> dict[str, Any] | None:
        """What another process of this node, which leads, shows of the mesh. None in one that leads
        itself, or has no mesh, and before there is any."""
        if self._config is None or self._file is None or self.mesh is not None:
            return None
        from crdtbucket.shared import leader_view

        return leader_view.read(self._table)

    def _show(self) -> None:
        from crdtbucket.shared import leader_view

        mesh, machine = self.mesh, self.machine
        if mesh is not None and machine is not None:
            now = self._table.now()
            leader_view.publish(self._table, mesh_stats(mesh, machine, now), machine.fleet(now))

    def _protocol(self, config: MeshConfig) -> MeshNode:
        from crdtbucket.mesh.protocol.machine import MeshNode

        notes = None if self._file is None else TableNotes(self._table)
        goes_on = notes is not None and bool(notes.read())  # another process began this life
        node = MeshNode(
            self._table,
            config,
            name=self._node,
            region=self._region,
            address=config.advertise or "",
            notes=notes,
        )
        node.on_conflict = self._refused
        node.runs, node.rollout = self._told, row_of(self._position)
        node.members.on_rollout = self.on_rollout
        self.machine = node
        if config.state_dir is not None:
            self._take_state(StateDir(config.state_dir, self._node), node, goes_on=goes_on)
        return node

    def _take_state(self, state: StateDir, node: MeshNode, *, goes_on: bool) -> None:
        state.open()
        self._state = state
        # The epoch of a shared table may be recorded already: by a process that was killed since.
        lives = state.begin_life(self._table.epoch, goes_on=self._file is not None)
        saved = None if goes_on else state.load_snapshot()
        if saved is not None:
            self._restore(saved, node, lives)
        if self._strong is not None:
            self._strong.resume(None if saved is None else state.load_owed(), state.directory)
        self._housekeeping.save = self._save

    def _restore(self, saved: bytes, node: MeshNode, lives: int) -> None:
        from crdtbucket.mesh.snapshot import OtherFormat

        try:
            keys = node.restore(saved)
        except OtherFormat as error:
            LOG.warning(
                "%s starts its life no. %d without memory, as its %s; the next one replaces it. "
                "For a moment it serves its share of each limit, and then hears from its peers",
                self._node,
                lives,
                error,
            )
            return
        LOG.info(
            "%s starts its life no. %d with %d keys of the last one%s",
            self._node,
            lives,
            keys,
            ": the machine has started anew since, so that peers may know better"
            if self._table.suspects
            else "",
        )

    def _save(self) -> None:
        with self._saving:
            if self._state is None or self.machine is None:
                return
            if self._strong is not None:  # first: a key of it that the snapshot lacks is harmless
                self._state.save_owed(self._strong.unsettled_state())
            self._state.save_snapshot(self.machine.snapshot())

    def _release(self) -> None:
        try:
            self._release_state()
        finally:
            self._tables.close()

    def _release_state(self) -> None:
        if self._state is None:
            return
        try:
            self._save()
        finally:
            with self._saving:
                self._state.close()
                self._state = None

    def _fail(self) -> None:
        self.state = State.NEW
        self._mesh = None
        if self._state is not None:
            self._state.close()
            self._state = None

    def _tell_address(self) -> None:
        # Known only now that it listens. ":port" means that no host but this one knows its host.
        mesh, machine = self._mesh, self.machine
        if mesh is not None and machine is not None and not mesh.address.startswith(":"):
            machine.address = mesh.address

    def _name_used(self, conflict: NodeConflict) -> None:
        # Told by a peer, or met: who never was a part of the mesh is the one who came later.
        if self.machine is not None and not self.machine.memory:
            self.machine.refuse(conflict)

    def _refused(self, _: NodeConflict) -> None:
        # The machine has made every decision raise: who waits for tokens must hear it, too.
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        for bucket in self._buckets:
            bucket.waiters.kick_all()


_all: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_all):
        one.left_behind()


os.register_at_fork(after_in_child=_after_fork)


__all__ = ["Lifecycle", "State"]
