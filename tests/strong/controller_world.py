"""Callers, a server and a mode controller in virtual time, without a loop, a clock or a socket."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.mode_controller import Change, Controller
from crdtbucket.strong.controller.outage import Failure

MS = 1_000_000
S = 1_000 * MS
DEADLINE_NS = 50 * MS

Outcome = int | Failure | None
"""A latency in ns, a failure that shows after 1 ms, or silence for ever."""
Server = Callable[[int], Outcome]


class ControllerWorld:
    """Drives a controller as an endpoint does: with deadlines, late answers, probes and ticks that
    are due."""

    def __init__(
        self,
        server: Server,
        settings: ControllerSettings | None = None,
        degraded: Mode = Mode.EVENTUAL,
    ) -> None:
        self.server = server
        self.controller = Controller(settings or ControllerSettings(), 0, degraded)
        self.now = 0
        self.changes: list[Change] = []
        self.probes: list[int] = []
        self.open_probes = self.most_open_probes = 0
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, when: int, what: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, arguments))

    def callers(self, gap_ns: int, start: int, end: int) -> None:
        """Schedules a call each `gap_ns`, which asks the server only while the mode is strong."""
        for when in range(start, end, gap_ns):
            self.at(when, self._call)

    def run(self, end: int) -> list[Change]:
        """Plays up to `end`; returns the changes so far."""
        while True:
            due = self.controller.next_tick(self.now)
            first = self._events[0][0] if self._events else end
            if due is not None and due <= min(first, end) and due > self.now:
                self.now = due
                self._note(self.controller.tick(due))
                self._probe()
            elif self._events and first <= end:
                self.now, _, what, arguments = heapq.heappop(self._events)
                what(*arguments)
                self._probe()
            else:
                self.now = end
                return self.changes

    @property
    def modes(self) -> list[Mode]:
        return [change.after for change in self.changes]

    @property
    def times(self) -> list[int]:
        return [change.at_ns for change in self.changes]

    def _call(self) -> None:
        if self.controller.mode is Mode.STRONG:
            self._ask(probe=False)

    def _probe(self) -> None:
        if self.controller.probe(self.now):
            self.probes.append(self.now)
            self.open_probes += 1
            self.most_open_probes = max(self.most_open_probes, self.open_probes)
            self._ask(probe=True)

    def _ask(self, *, probe: bool) -> None:
        now, outcome = self.now, self.server(self.now)
        self.controller.asked(now)
        if isinstance(outcome, Failure):
            self.at(now + MS, self._failed, outcome, probe)
        elif outcome is not None and outcome <= DEADLINE_NS:
            self.at(now + outcome, self._answered, outcome, False, probe)
        else:
            self.at(now + DEADLINE_NS, self._timed_out, probe)
            if outcome is not None:
                self.at(now + outcome, self._answered, outcome, True, False)

    def _answered(self, latency: int, late: bool, probe: bool) -> None:
        self.open_probes -= probe
        self._note(self.controller.answered(self.now, latency, late=late))

    def _timed_out(self, probe: bool) -> None:
        self.open_probes -= probe
        self._note(self.controller.timed_out(self.now))

    def _failed(self, failure: Failure, probe: bool) -> None:
        self.open_probes -= probe
        self._note(self.controller.failed(self.now, failure))

    def _note(self, change: Change | None) -> None:
        if change is not None:
            self.changes.append(change)


def within_budget(times: Sequence[int], gap_ns: int) -> bool:
    """Whether there are at most 2 k + 1 switches in any k gaps: of any 2 k + 2, the first and the
    last are k gaps apart."""
    return all(
        times[i + 2 * k + 1] - times[i] >= k * gap_ns
        for k in range(1, len(times) // 2)
        for i in range(len(times) - 2 * k - 1)
    )


def good_until(when: int, then: Outcome, until: int = 1 << 62, latency: int = MS) -> Server:
    """A server that answers in `latency` ns, except as `then` from `when` to `until`."""
    return lambda now: then if when <= now < until else latency
