"""Sums up the answers that one read of a connection brought, and reports them in one call."""

from __future__ import annotations

from contextlib import AbstractContextManager

from crdtbucket.strong.endpoint_health import EndpointHealth
from crdtbucket.strong.redis.command_batch import Batch
from crdtbucket.strong.window import Window


class ReadTally:
    """Sums up answers before they are reported. Answers to commands that were written together have
    the same latency, and hundreds of them may come in one read, so the mode controller and the
    statistics get them in one call."""

    def __init__(
        self,
        health: EndpointHealth,
        lock: AbstractContextManager[object],
        counters: dict[str, int],
        window: Window,
    ) -> None:
        """`counters`: their "answered" and "late" grow, under the `lock`. `window`: what calls wait
        for."""
        self._health = health
        self._lock = lock
        self._counters = counters
        self._window = window
        self._batch: Batch | None = None
        self._late = False
        self._answers = 0
        self._queued = 0
        self._wrote = False

    def add(self, batch: Batch, *, wrote: bool, late: bool, queued: bool) -> None:
        """An answer to a command of this batch; `wrote` and `late` as of `Controller.answered`.
        `queued`: whether calls waited for the window when it came."""
        if batch is not self._batch or late is not self._late:
            self.tell()
            self._batch, self._late = batch, late
        self._answers += 1
        self._queued += queued
        if wrote:
            self._wrote = True

    def tell(self) -> None:
        """Reports what was added since the last time."""
        if self._batch is None:
            return
        latency, answers, wrote = self._batch.latency_ns, self._answers, self._wrote
        queued = self._queued
        self._batch, self._answers, self._queued, self._wrote = None, 0, 0, False
        with self._lock:
            self._health.observe(latency, answers)
            self._counters["late" if self._late else "answered"] += answers
        if queued:
            self._window.answered(latency, queued)
        self._health.answered(latency, late=self._late, wrote=wrote, answers=answers)
