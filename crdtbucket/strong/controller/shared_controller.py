"""A mode controller that several threads report to."""

from __future__ import annotations

import threading

from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.mode_controller import (
    Change,
    Controller,
    ControllerSettings,
    Failure,
)


class SharedController(Controller):
    """As `Controller`; each call is whole before the next begins. A `now` may be a little older
    than that of a call before: the time goes on from there."""

    def __init__(
        self, settings: ControllerSettings, now: int, degraded: Mode = Mode.EVENTUAL
    ) -> None:
        super().__init__(settings, now, degraded)
        self._lock = threading.Lock()
        self._now = now

    def _at(self, now: int) -> int:
        self._now = max(self._now, now)
        return self._now

    # `asked` notes one time, and may be called beside any other.

    def answered(
        self,
        now: int,
        latency_ns: int,
        *,
        late: bool = False,
        wrote: bool = True,
        answers: int = 1,
    ) -> Change | None:
        with self._lock:
            return super().answered(
                self._at(now), latency_ns, late=late, wrote=wrote, answers=answers
            )

    def timed_out(self, now: int) -> Change | None:
        with self._lock:
            return super().timed_out(self._at(now))

    def failed(self, now: int, failure: Failure, why: str = "") -> Change | None:
        with self._lock:
            return super().failed(self._at(now), failure, why)

    def moved(self, now: int) -> None:
        with self._lock:
            super().moved(self._at(now))

    def tick(self, now: int) -> Change | None:
        with self._lock:
            return super().tick(self._at(now))

    def next_tick(self, now: int) -> int | None:
        with self._lock:
            return super().next_tick(now)

    def probe(self, now: int) -> bool:
        with self._lock:
            return super().probe(self._at(now))
