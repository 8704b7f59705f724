"""Several processes that serve the same addresses over one shared table.

The first process binds the addresses, forks the workers, passes signals on to them, and starts
another worker in place of one that has died. It serves nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from crdtbucket.base.counted import counted
from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.server.listening import UNIX, CannotListen, Listening
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.serving import ENDING, SidecarServer, serve
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.http.server.worker_folder import worker_folder
from crdtbucket.limiter.facade import Limiter

LOG = logging.getLogger("crdtbucket.http")
PASSED_ON = (*ENDING, signal.SIGHUP)
AGAIN_S = 5
"""Seconds after which a worker that could not start is started again, while others serve."""


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Runs an event loop: that of uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def run_workers(count: int, make: Callable[[], Limiter], settings: ServeSettings) -> int:
    """Serves with `count` workers until SIGTERM or SIGINT; returns the exit status. `make` is
    called in each worker, for a limiter with a shared table. Raises `CannotListen`."""
    if settings.grpc is not None:
        _check_shareable(settings.grpc)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(worker_folder())
        addresses = [
            [stack.enter_context(contextlib.closing(one)) for one in _bound(address, count)]
            for address in settings.listen
        ]
        workers = [
            Worker(Siblings(folder, index, count), [one[index] for one in addresses])
            for index in range(count)
        ]
        return WorkerPool(workers, make, settings).run()


def _bound(address: str, count: int) -> list[Listening]:
    """An address for each worker: the kernel divides the connections among sockets of one port;
    a Unix socket is one, from which all workers accept."""
    first = Listening(address, shared=True)
    return [first, *(first.again() for _ in range(count - 1))]


def _check_shareable(address: str) -> None:
    """Raises `CannotListen` where each worker cannot bind the address of gRPC for itself."""
    if address.startswith(UNIX) or address.endswith(":0"):
        raise CannotListen(
            f"--grpc {address} with --workers: each worker listens for itself, so name a port, "
            "such as 127.0.0.1:8081"
        )
    # SO_REUSEPORT would let a second server have the port, too.
    Listening(address, option="--grpc").close()


@dataclass(eq=False)
class Worker:
    """One place of a worker: what it listens on, and the process that has the place now."""

    siblings: Siblings
    listening: list[Listening]
    process: int = 0
    has_served: bool = False
    """Whether a process in this place has served."""

    @property
    def _private(self) -> Path:
        return Path(self.siblings.address.removeprefix(UNIX))

    @property
    def serves(self) -> bool:
        """Whether the process has begun to serve."""
        return self._private.exists()

    def ended(self) -> None:
        """The process has ended."""
        self.process = 0
        self._private.unlink(missing_ok=True)


class WorkerPool:
    """The workers of a server, in the process that forks them."""

    def __init__(
        self, workers: list[Worker], make: Callable[[], Limiter], settings: ServeSettings
    ) -> None:
        self._workers = workers
        self._make = make
        self._settings = settings
        self._ending = False
        self._status = 0
        # Workers notice by the end of this pipe that this process is gone, however it ended.
        self._alive, self._life = os.pipe()

    def run(self) -> int:
        """Runs until all workers have ended. Returns the exit status."""
        waited = {*PASSED_ON, signal.SIGCHLD, signal.SIGALRM}
        signal.pthread_sigmask(signal.SIG_BLOCK, waited)
        try:
            for worker in self._workers:
                self._start(worker)
            LOG.info("%s", counted(len(self._workers), "worker"))
            while any(worker.process for worker in self._workers):
                number = signal.sigwait(waited)
                if number == signal.SIGCHLD:
                    self._reap()
                elif number == signal.SIGHUP:
                    self._signal(signal.SIGHUP)
                elif number == signal.SIGALRM:
                    self._start_missing()
                else:
                    self._end()
        finally:
            signal.alarm(0)  # without the block it would end this process
            signal.pthread_sigmask(signal.SIG_UNBLOCK, waited)
            os.close(self._alive)
            os.close(self._life)
        return self._status

    def _start(self, worker: Worker) -> None:
        process = os.fork()
        if process == 0:
            os.close(self._life)
            self._serve(worker)
        worker.process = process

    def _serve(self, worker: Worker) -> NoReturn:
        """Serves in the child, and never returns to what the first process was doing."""
        status = 1
        try:
            os.setpgrp()  # a terminal's Ctrl-C reaches the first process alone, which passes it on
            # The other signals stay blocked, as they would end it before `serve` handles them.
            unblocked = {signal.SIGCHLD, signal.SIGALRM}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, unblocked)
            for other in self._workers:
                for one in other.listening if other is not worker else ():
                    one.socket.close()
            limiter = self._make()
            server = SidecarServer(limiter, self._settings, worker.siblings, worker.listening)
            run_loop(serve(server, limiter, until_closed=self._alive))
            status = 0
        except CrdtbucketError as error:
            # It could not start, or could not save its state at its end.
            LOG.critical("a worker ends: %s", error)
        except BaseException:
            LOG.exception("a bug in a worker")
            raise
        finally:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(status)

    def _reap(self) -> None:
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            for worker in self._workers:
                if worker.process == process:
                    self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: Worker, status: int) -> None:
        process, served = worker.process, worker.serves
        worker.ended()
        if self._ending:
            self._status = self._status or abs(status)
        elif served or status == 0:  # 0: it served, and somebody asked it to end
            LOG.error("worker %d ended with status %d: another one starts", process, status)
            worker.has_served = True
            self._start(worker)
        elif worker.has_served and any(one.serves for one in self._workers):
            # The cause, such as a changed file, only matters at a start: the other workers are not
            # affected.
            for address in worker.listening:
                address.pause()
            LOG.error(
                "worker %d ended with status %d at its start: another one starts in %d s, and the "
                "others go on",
                process,
                status,
                AGAIN_S,
            )
            signal.alarm(AGAIN_S)
        else:  # another one would end as well
            LOG.critical("worker %d ended with status %d at its start", process, status)
            self._status = abs(status) or 1
            self._end()

    def _start_missing(self) -> None:
        for worker in self._workers:
            if not worker.process and not self._ending:
                self._start(worker)

    def _end(self) -> None:
        self._ending = True
        for worker in self._workers:
            for one in worker.listening:
                one.close()
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            if worker.process:
                os.kill(worker.process, number)
