"""Measures one server by its answers: its mode, its latency, its failures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.forks import ForkLock
from crdtbucket.base.histogram import Histogram
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.mode_controller import Change, Controller
from crdtbucket.strong.controller.outage import Failure
from crdtbucket.strong.redis.login import explained
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.server_link import ServerLink

LOG = logging.getLogger("crdtbucket.strong")


class HealthListener(Protocol):
    """Is called when answers show that a server has changed."""

    def mode_changed(self, change: Change) -> None:
        """The endpoint has a new mode."""

    def server_is_replica(self) -> None:
        """The server takes no writes."""


class EndpointHealth:
    """Reports the answers of one endpoint to its mode controller, and counts them."""

    def __init__(
        self,
        link: ServerLink,
        controller: Controller,
        now: Callable[[], int],
        lock: ForkLock,
        listener: HealthListener,
    ) -> None:
        """`now`: local ns without the time for which the process was stopped; see `Endpoint`.
        `lock`: the ledger's lock. Threads report answers too, and must do so one at a time, so that
        the time does not go back."""
        self.controller = controller
        self.now = now
        self._lock = lock
        self._link = link
        self._listener = listener
        self._latency = Histogram()
        self._failed: dict[str, int] = {}
        self._complained = ""
        self._slow = self._held = False
        """Whether it was logged that answers are slow, or that `least_return_gap` keeps a server
        that works from strong mode."""
        self._mode_ns: dict[Mode, int] = {}
        self._mode_since = now()
        self._reason = ""
        """Why the present mode was taken, with the figures that decided."""
        self._switches = 0

    @property
    def mode(self) -> Mode:
        """The mode in which decisions are made at this endpoint now."""
        return self.controller.mode

    @property
    def mode_without_store(self) -> Mode:
        """The mode of a decision that the server does not make."""
        return self.mode if self.mode is not Mode.STRONG else Mode.FALLBACK

    def asked(self) -> None:
        """A request is about to be sent."""
        self.controller.asked(self.now())

    def observe(self, latency_ns: int, answers: int = 1) -> None:
        """Counts the latency of answers. Call it under the lock of the ledger."""
        self._latency.add(latency_ns, answers)

    def answered(
        self, latency_ns: int, *, late: bool, wrote: bool = True, answers: int = 1
    ) -> None:
        """A good answer came; `late`, `wrote` and `answers` as of `Controller.answered`."""
        change = self._told(
            self.controller.answered, latency_ns, late=late, wrote=wrote, answers=answers
        )
        if change is not None or self.controller.slow is not self._slow:
            self.note(change)

    def answered_by_thread(
        self, latency_ns: int, wrote: bool, on_loop: Callable[[Callable[[], None]], None]
    ) -> None:
        """A request of a thread was answered in time. `on_loop` runs the consequences on the event
        loop. Call it under the lock of the ledger."""
        self._latency.add(latency_ns)
        change = self.controller.answered(self.now(), latency_ns, wrote=wrote)
        if change is not None or self.controller.slow is not self._slow:
            on_loop(lambda: self.note(change))

    def timed_out(self) -> None:
        """A request passed its deadline without an answer."""
        self.note(self._told(self.controller.timed_out))

    def fail(self, failure: Failure, why: str) -> None:
        """A request certainly got no good answer."""
        self._failed[failure.value] = self._failed.get(failure.value, 0) + 1
        if failure is Failure.AUTH and why != self._complained:
            self._complained = why  # logged once: only a person can mend it
            LOG.error("%s", why)
        else:
            LOG.debug("%s: %s", self._link.address, why)
        self.note(self._told(self.controller.failed, failure, why))

    def refused(self, error: RedisErrorReply, latency_ns: int, *, late: bool) -> None:
        """The server answered with an error, which was not redirected. `late`: after the
        deadline."""
        if error.code == "NOSCRIPT":  # the server is well, and only lacks the script
            self.answered(latency_ns, late=late)
        else:
            self.fail(Failure(error.kind), explained(self._link.address, error))
        if error.code == "READONLY":
            self._listener.server_is_replica()

    def moved(self) -> None:
        """The endpoint has another server: what was measured of the old one no longer counts."""
        self._told(self.controller.moved)

    def tick(self) -> None:
        """Looks at what the passing of time alone has changed."""
        self.note(self._told(self.controller.tick))

    def next_tick(self, now: int) -> int | None:
        """When `tick` is to be called, or a probe may be due (ns); None: not before something else
        happens."""
        with self._lock:
            return self.controller.next_tick(now)

    def probe(self) -> bool:
        """Claims the probe that is due, for one caller. Returns whether there is one. Logs once if
        the server works, and only `least_return_gap` keeps it from strong mode."""
        with self._lock:
            now = self.now()
            due, found = self.controller.probe(now), self.controller.outlook(now)
        if found is not None and found.held and not self._held:
            self._held = True
            LOG.warning(
                "Redis %s: it answers well, but stays in %s for %.1f s more, as least_return_gap "
                "holds it after several switches of mode: see above why they came, and set "
                "least_return_gap lower if more switches are better than a longer time in %s",
                self._link.address, self.mode, found.gap_ns / NS_PER_SECOND, self.mode,
            )  # fmt: skip
        return due

    def _told(
        self, report: Callable[..., Change | None], *args: Any, **named: Any
    ) -> Change | None:
        """Reports to the controller."""
        with self._lock:
            return report(self.now(), *args, **named)

    def note(self, change: Change | None) -> None:
        """Passes a change of mode on, and logs when the server becomes slow or is so no longer."""
        if self.controller.slow is not self._slow:
            self._slow = not self._slow
            if change is None:
                self._log_slowness()
        if change is not None:
            now = self.now()
            spent = self._mode_ns.get(change.before, 0) + now - self._mode_since
            self._mode_ns[change.before] = spent
            self._mode_since, self._reason, self._held = now, change.reason, False
            self._switches += 1
            self._listener.mode_changed(change)

    def _log_slowness(self) -> None:
        address = self._link.address
        if self._slow:
            why = "an exact answer that is slow is worth more than the quota, the only other rule"
            slowness = self.controller.slowness
            LOG.warning("Redis %s: slow: %s; still strong, because %s", address, slowness, why)
        else:
            LOG.info("Redis %s: no longer slow", address)

    def outlook(self) -> dict[str, Any] | None:
        """For an endpoint that is not strong: for how many `seconds` it has not been, the `reason`,
        and what it still lacks before it is strong again, with the fields of `ReturnOutlook` in
        seconds."""
        with self._lock:
            now = self.now()
            found = self.controller.outlook(now)
        if found is None:
            return None
        alive = found.answering_ns
        return {
            "seconds": max(0, now - self._mode_since) / NS_PER_SECOND,
            "reason": self._reason,
            "answering": None if alive is None else alive / NS_PER_SECOND,
            "steady": found.steady_ns / NS_PER_SECOND,
            "stable_after": found.stable_ns / NS_PER_SECOND,
            "gap": found.gap_ns / NS_PER_SECOND,
        }

    def stats(self) -> dict[str, Any]:
        """Numbers about the answers, for people and metrics."""
        seconds = dict(self._mode_ns)
        seconds[self.mode] = seconds.get(self.mode, 0) + self.now() - self._mode_since
        return {
            "mode": str(self.mode),
            "mode_seconds": {str(mode): ns / NS_PER_SECOND for mode, ns in seconds.items()},
            "switches": self._switches,
            "slow": self.controller.slow,
            "failed": dict(self._failed),
            "latency": self._latency.cumulative(),
            "latency_sum": self._latency.sum_ns / NS_PER_SECOND,
        }
