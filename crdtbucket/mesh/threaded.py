"""A mesh in a thread of its own, for programs without an event loop.

The node then hears and ticks in that thread while the program takes in others; what they share
is the compiled core, whose calls the interpreter's lock serialises.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future

from crdtbucket.clock import now_ns
from crdtbucket.errors import MeshError
from crdtbucket.mesh.node import Node
from crdtbucket.mesh.settings import MeshConfig
from crdtbucket.mesh.transport import Mesh


class ThreadedMesh:
    """Runs a `Mesh` between `start` and `stop`, which block and raise like a plain call."""

    def __init__(
        self, node: Node, config: MeshConfig, clock_ns: Callable[[], int] = now_ns
    ) -> None:
        """Arguments and errors of `Mesh`."""
        self.mesh = Mesh(node, config, clock_ns)
        self._name = f"crdtbucket mesh {node.info.name}"
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ended: Future[None] = Future()

    def start(self) -> None:
        """Returns once it listens; raises `MeshError`, here, when it cannot."""
        if self._thread is not None:
            raise MeshError("this mesh was started before: make a new one")
        started: Future[None] = Future()
        # A daemon: a program that forgets to stop must still be able to end.
        self._thread = threading.Thread(
            target=self._run, args=(started,), name=self._name, daemon=True
        )
        self._thread.start()
        started.result()

    def stop(self) -> None:
        """Leaves the mesh and waits for the thread; raises what went wrong in it."""
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            # The loop may have ended by itself a moment ago; `_ended` then knows why.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._ended.result()

    def _run(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._live(started))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._ended.set_exception(error)
            if not started.done():
                started.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _live(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self.mesh.start()
        started.set_result(None)
        try:
            await self._stop.wait()
        finally:
            await self.mesh.stop()


__all__ = ["ThreadedMesh"]
