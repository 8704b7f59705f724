"""The regular work of an open limiter: every second it ends late reservations and evicts unused
keys."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from crdtbucket._core import Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.file_shortage import FileShortage
from crdtbucket.errors import CrdtbucketError
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.tables import Tables

if TYPE_CHECKING:
    from crdtbucket.limiter.local_node import LocalNode

T = TypeVar("T")

LOG = logging.getLogger("crdtbucket")
BUG = "a bug in the limiter's upkeep: please report it with these lines; what failed is tried again"
UNSAVED = (
    "no snapshot is kept: %s; make room there, or make it writable; it is tried again every %d s"
)
MENDED = "the limiter's upkeep no longer fails"
BEAT_S = 1.0
SAVE_NS = 10 * NS_PER_SECOND
SHORTEST_BEAT_S = 0.001
SWEEP_LEAST = 4_096
# The whole table is checked within this many beats, however large it is.
SWEEP_BEATS = 32


class Beating(Protocol):
    """Something that has work to do about every second."""

    def beat(self) -> None:
        """Does what is due."""


class Upkeep:
    """Does the regular work of a limiter, from a task on an event loop or from a thread."""

    def __init__(
        self,
        tables: Tables,
        buckets: Sequence[Bucket],
        node: LocalNode,
        others: Sequence[Beating] = (),
    ) -> None:
        """`buckets` may grow. `others` have a beat of their own, after that of the buckets."""
        self._tables = tables
        self._table = table = tables.main
        self._buckets = buckets
        self._node = node
        self._others = (*others, FileShortage())
        self._saved = table.now()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._saving: asyncio.Future[None] | None = None
        self._faults: dict[tuple[Hashable, ...], type[Exception]] = {}
        """The work that failed when it was last tried, and its error."""
        self._unsaved = ""
        """Why no snapshot is kept, as the log has it."""
        self._places: dict[Table, int] = {}
        """Where to go on in tables whose changes are being collected."""
        self._stop = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    def beat(self) -> float:
        """Does what is due. Returns the seconds to the next beat."""
        if self._tables.cut_off():
            return BEAT_S
        now = self._table.now()
        delay = BEAT_S
        self._tried(self._node.beat)
        for bucket in self._buckets:
            self._tried(bucket.beat)
            due = self._tried(bucket.reservations.expire)
            if due is not None:
                delay = min(delay, max((due - now) / NS_PER_SECOND, SHORTEST_BEAT_S))
        for one in self._others:
            self._tried(one.beat)
        for table in self._tables.deciding():
            mine = self._node.alone or table is not self._table
            if mine and self._tried(self._look_after, table):
                delay = SHORTEST_BEAT_S
        self._tried(self._tables.grow)
        if self._node.saved.directory is not None and now - self._saved >= SAVE_NS:
            self._saved = now
            self._save()
        return delay

    def start_on_loop(self) -> None:
        """Beat on the running event loop until `stop`."""
        self._loop = asyncio.get_running_loop()
        self._beat_on(self._loop)

    def start_thread(self) -> None:
        """Beat in a thread until `stop`."""
        # A daemon: a program that forgets to close its limiter must still be able to end.
        self._stop = stop = threading.Event()
        self._thread = threading.Thread(
            target=self._beat_in_thread, args=(stop,), name="crdtbucket upkeep", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """No beat begins after this. It may be started again."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop.set()
        if self._thread is not None:
            if self._thread.is_alive():  # otherwise it finds out by itself
                self._thread.join()  # ends its lead of a shared table, too
        elif self._node.alone and not self._tables.cut_off():
            self._table.sharing.yield_lead()

    def _look_after(self, table: Table) -> bool:
        """Maintains a table that has no peers. Returns whether it had more changes than one beat
        may handle, so that the next beat is due at once."""
        if table.shared and not table.sharing.lead():
            return False  # another process does
        # Every change counts as sent, so that a key can be evicted when it is full again.
        _, place = table.outbox.collect_some(self._places.pop(table, 0))
        table.outbox.trim(table.outbox.version)
        if place >= 0:
            self._places[table] = place
            return True
        table.sweep(max(SWEEP_LEAST, table.places // SWEEP_BEATS))
        return False

    def _save(self) -> None:
        if self._loop is None:  # in a thread of its own
            self._tried(self._keep)
        elif self._saving is None or self._saving.done():
            self._saving = self._loop.run_in_executor(None, self._tried, self._keep)

    def _keep(self) -> None:
        """Saves, and logs when that begins to fail, or fails for another reason, and when it works
        again: a disk that is full stays full for longer than ten seconds."""
        try:
            self._node.saved.save()
        except CrdtbucketError as error:
            if str(error) != self._unsaved:
                self._unsaved = str(error)
                LOG.error(UNSAVED, error, SAVE_NS // NS_PER_SECOND)
        else:
            if self._unsaved:
                LOG.info("a snapshot is kept again")
            self._unsaved = ""

    def _beat_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._logged_beat(), self._beat_on, loop)

    def _beat_in_thread(self, stop: threading.Event) -> None:
        while not stop.wait(self._logged_beat()):
            pass

    def _logged_beat(self) -> float:
        delay = self._tried(self.beat)
        return BEAT_S if delay is None else delay

    def _tried(self, work: Callable[..., T], *given: Hashable) -> T | None:
        """The result of `work`, or None if it fails. A failure does not end the other upkeep. It is
        logged once, and again only after a success, which is logged, too, or with another type
        of error."""
        task = (work, *given)
        try:
            done = work(*given)
        except Exception as error:  # logged
            if self._faults.get(task) is not type(error):
                LOG.exception(BUG)
            self._faults[task] = type(error)
            return None
        if self._faults.pop(task, None) is not None:
            LOG.info(MENDED)
        return done
