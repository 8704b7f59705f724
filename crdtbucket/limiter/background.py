"""Services in a thread of their own, for programs without an event loop.

Frames are received and sent in that thread while the program takes tokens in others. What the
threads share is the compiled core, whose calls the interpreter's lock serialises.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from typing import Protocol

from crdtbucket.errors import CrdtbucketError


class Service(Protocol):
    """A service that runs on an event loop from `start` to `stop`."""

    async def start(self) -> None:
        """Returns once it serves; raises when it cannot."""

    async def stop(self) -> None:
        """Ends it in an orderly way, also where `start` was left halfway by an exception."""


@contextlib.asynccontextmanager
async def running(services: Sequence[Service]) -> AsyncIterator[None]:
    """Starts services in order and stops them in reverse order, however the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        for service in services:
            stack.push_async_callback(service.stop)
            await service.start()
        yield


class Background:
    """Runs services between `start` and `stop`, which block and raise like a plain call."""

    def __init__(self, name: str, services: Sequence[Service]) -> None:
        """`name` is the thread's."""
        self._name = name
        self._services = services
        self._thread: threading.Thread | None = None
        self._end: Future[None] = Future()
        """Cancelled when the services are to end, even while they start."""
        self._ended: Future[None] = Future()

    def start(self) -> None:
        """Returns once all services run. If one cannot start, raises its error in the calling
        thread. When anything else is raised, such as `KeyboardInterrupt`, `end` is to be called."""
        if self._thread is not None:
            raise CrdtbucketError("this thread was started before: make a new one")
        started: Future[None] = Future()
        # A daemon: a program that forgets to stop must still be able to end.
        self._thread = threading.Thread(
            target=self._run, args=(started,), name=self._name, daemon=True
        )
        self._thread.start()
        started.result()

    def stop(self) -> None:
        """Stops the services and waits for the thread; raises what went wrong in it."""
        if self._thread is not None:
            self.end()
            self._ended.result()

    def end(self) -> None:
        """`stop` in whatever state `start` was left; it raises nothing that went wrong before."""
        self._end.cancel()
        # A thread that is not alive yet finds out by itself that it is to end.
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()

    def _run(self, started: Future[None]) -> None:
        try:
            if not self._end.cancelled():
                asyncio.run(self._live(started))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._ended.set_exception(error)
            if not started.done():
                started.set_exception(error)
        else:
            self._ended.set_result(None)
            started.cancel()  # nobody waits for it, unless a service has cancelled itself

    async def _live(self, started: Future[None]) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "asyncio.run made one"

        def cancel(_: Future[None]) -> None:
            # The loop may have ended by itself a moment ago; `_ended` then knows why.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)

        self._end.add_done_callback(cancel)
        with contextlib.suppress(asyncio.CancelledError):
            async with running(self._services):
                started.set_result(None)
                await loop.create_future()
