"""The runtime of a limiter: new, open on an event loop or in a thread, closed for good."""

from __future__ import annotations

import asyncio
import enum
from contextlib import AsyncExitStack, ExitStack

from crdtbucket.base.deadline import off_loop
from crdtbucket.base.forks import Turn, after_fork
from crdtbucket.errors import CrdtbucketError, LimiterClosed, LimiterNotOpen
from crdtbucket.limiter.background import Background, Service, running
from crdtbucket.limiter.local_node import LocalNode
from crdtbucket.limiter.upkeep import Upkeep
from crdtbucket.rollout.in_force import InForce
from crdtbucket.rollout.reload import Reload


class RuntimeState(enum.Enum):
    """The state of a limiter. The value completes "this limiter is ..."."""

    NEW = "not opened"
    OPENING = "being opened"
    ON_LOOP = "open on an event loop"
    IN_THREAD = "open in a thread"
    LEFT_BEHIND = "open in the process that this one was forked from"
    CLOSED = "closed"


UNOPENED = (
    "this limiter is a node of a mesh and is not open, so it would limit alone: decide inside "
    "`async with limiter:`, or `with limiter:` where there is no event loop. Middleware for web "
    "frameworks opens it when the application starts (in tests: `with TestClient(app)`)"
)
FORKED = (
    "this process was forked after the limiter had been opened, whose threads and connections are "
    "the parent's, so it would limit alone: make the limiter before the fork and open it after "
    "that, in each process, with shared= so that all have one table"
)
LOOP_ENDED = (
    "this limiter was opened on an event loop and not closed, and its event loop has ended, so it "
    "would limit alone: decide inside `async with limiter:`, or `with limiter:`, which has a loop "
    "of its own"
)

CLOSED = (
    "the limiter is closed, and none is opened twice: decide before its `with` block ends, or make "
    "another limiter"
)


class Runtime:
    """Owns the services that run beside the decisions: the mesh, the side of Redis, upkeep, the
    watch on the file. It starts and stops them, and refuses decisions while they do not run.
    """

    def __init__(
        self,
        in_force: InForce,
        node: LocalNode,
        reload: Reload,
        upkeep: Upkeep,
    ) -> None:
        """Nothing runs yet."""
        self.state = RuntimeState.NEW
        self._in_force = in_force
        self._tables = tables = in_force.tables
        self._node = node
        self._strong = in_force.strong
        self._reload = reload
        self._upkeep = upkeep
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_loop: AsyncExitStack | None = None
        self._watch: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self._in_thread: Background | None = None
        if not node.alone:
            tables.refuse(LimiterNotOpen(UNOPENED))
        after_fork(self, Turn.LIMITERS, Runtime.forked)

    async def open_on_loop(self) -> None:
        """Joins the mesh on the running event loop. Raises `MeshError`; it may be tried again."""
        self._check_new()
        self._on_loop = AsyncExitStack()
        try:
            self._begin()
            mesh = self._node.identity.mesh
            # A snapshot may have a million keys.
            restores = mesh is not None and mesh.state_dir is not None
            services = await off_loop(self._services) if restores else self._services()
            await self._on_loop.enter_async_context(running(services))
            self._node.tell_address()
            self._loop = asyncio.get_running_loop()
            if not self._decides_alone:
                self._watch = self._loop.create_task(self._watch_loop())
            self._upkeep.start_on_loop()
            self._opened(RuntimeState.ON_LOOP)
        except BaseException:  # such as the caller's cancellation, or `KeyboardInterrupt`
            try:
                await self._on_loop.aclose()
            finally:
                self._fail()
            raise

    def open_in_thread(self) -> None:
        """Joins the mesh in a thread. Raises `MeshError`; it may be tried again."""
        self._check_new()
        try:
            self._begin()
            services = self._services()
            if services:
                name = f"crdtbucket mesh {self._node.identity.node}"
                self._in_thread = Background(name, services)
                self._in_thread.start()
            self._node.tell_address()
            self._upkeep.start_thread()
            self._opened(RuntimeState.IN_THREAD)
        except BaseException:  # such as `KeyboardInterrupt`
            self._fail()
            raise

    def close(self) -> None:
        """Ends everything, unless it runs on an event loop."""
        state = self.state
        if state in (RuntimeState.ON_LOOP, RuntimeState.OPENING):
            raise CrdtbucketError(f"this limiter is {state.value}: await aclose() there")
        if state is RuntimeState.CLOSED:
            self._reload.stop_watch()  # another thread that closed it could not
            return
        if state is RuntimeState.LEFT_BEHIND:
            self._leave_to_the_parent()
            return
        try:
            self._end()
            try:
                if self._in_thread is not None:
                    self._in_thread.stop()
            finally:
                self._release()
        finally:
            self._reload.stop_watch()

    async def aclose(self) -> None:
        """Ends everything, on the event loop on which it runs."""
        if self.state is RuntimeState.IN_THREAD:
            try:
                await asyncio.to_thread(self.close)
            finally:
                self._reload.stop_watch()  # again: only this thread ends a signal handler
            return
        if self.state is not RuntimeState.ON_LOOP and (
            self._closing is None or self._closing.done()
        ):
            self.close()
            return
        if asyncio.get_running_loop() is not self._loop:
            raise CrdtbucketError("close a limiter on the event loop on which it was opened")
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close_on_loop())
        # It goes on when the caller is cancelled: otherwise the node's name would stay locked.
        await asyncio.shield(self._closing)

    async def _watch_loop(self) -> None:
        """Refuses decisions once the loop ends, which cancels all of its tasks."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self.state is RuntimeState.ON_LOOP:
                self._tables.refuse(LimiterNotOpen(LOOP_ENDED))

    async def _close_on_loop(self) -> None:
        try:
            self._end()
            try:
                if self._on_loop is not None:
                    await self._on_loop.aclose()
            except BaseException:  # such as the end of the loop
                self._release()
                raise
            await asyncio.to_thread(self._release)
        finally:
            self._reload.stop_watch()

    def forked(self) -> None:
        """Called in the child of a fork: everything that was open belongs to the parent alone."""
        open_states = (RuntimeState.ON_LOOP, RuntimeState.IN_THREAD, RuntimeState.OPENING)
        if self.state not in open_states:
            return
        if self._decides_alone:
            return  # a copy decides as well as the original
        self.state = RuntimeState.LEFT_BEHIND
        self._tables.refuse(LimiterNotOpen(FORKED))

    @property
    def _decides_alone(self) -> bool:
        """Whether nothing connects this limiter with others."""
        return self._node.alone and self._strong is None

    def _check_new(self) -> None:
        if self.state is RuntimeState.CLOSED:
            raise LimiterClosed("this limiter was closed: make a new one")
        if self.state is not RuntimeState.NEW:
            raise CrdtbucketError(f"this limiter is {self.state.value} already: open it once")

    def _begin(self) -> None:
        self._tables.begin_epoch()
        self.state = RuntimeState.OPENING

    def _services(self) -> list[Service]:
        """The services that run beside the decisions, in the order of their start."""
        services: list[Service] = []
        mesh = self._node.service(self._reload.rollout)
        if mesh is not None:
            services.append(mesh)
        if self._strong is not None:
            self._strong.join(self._node.machine)
            services.append(self._strong)
        return services

    def _opened(self, state: RuntimeState) -> None:
        self._reload.start_watch()
        self.state = state
        self._tables.admit()

    def _fail(self) -> None:
        """Ends all that the opening has begun, wherever that was left: it may be tried again."""
        self.state = RuntimeState.NEW
        if not self._node.alone:
            self._tables.refuse(LimiterNotOpen(UNOPENED))
        with ExitStack() as stack:  # goes on with the next when one raises; the last comes first
            stack.callback(self._node.fail)
            if self._in_thread is not None:
                stack.callback(self._in_thread.end)
            if self._watch is not None:
                stack.callback(self._watch.cancel)
            stack.callback(self._upkeep.stop)
            stack.callback(self._reload.stop_watch)
        self._in_thread = self._watch = self._loop = None

    def _end(self) -> None:
        self.state = RuntimeState.CLOSED
        # This comes first: peers would never learn of tokens that are taken after the last message
        # to them.
        self._tables.refuse(LimiterClosed(CLOSED))
        self._node.end()
        self._in_force.wake_waiters()
        self._upkeep.stop()
        if self._watch is not None:
            self._watch.cancel()

    def _release(self) -> None:
        try:
            self._node.release()
        finally:
            self._tables.close()

    def _leave_to_the_parent(self) -> None:
        # No goodbye, no snapshot, nothing to stop: all of that is the parent's.
        self.state = RuntimeState.CLOSED
        self._node.end()
        self._tables.refuse(LimiterClosed(CLOSED))
        self._tables.close()
        self._reload.stop_watch()
