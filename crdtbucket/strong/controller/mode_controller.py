"""Decides in which mode an endpoint's buckets are: strong, eventual or fallback.

::

                 too slow for the whole window
       +--------+ --------------------------> +----------+
       | strong |                             | eventual |
       +--------+ <-------------------------- +----------+
         |    ^    quick for `stable_after`       |    ^
  outage |    |                            outage |    | answers for `stable_after`,
         v    |                                   v    | but slowly
       +----------------------------------------------------+
       |                      fallback                      |
       +----------------------------------------------------+

There is one `Controller` for each Redis endpoint. Its methods are called with the outcome of every
request; it has no clock and does no I/O.

**Too slow**: the quantile of the answers in the window has been over the limit for a whole window,
and also is in the last fifth of it. A time-out is a slow answer. **Alone**, where `degraded` is
fallback, there is no eventual mode to go to, and an exact answer that is slow is worth more than a
small quota: strong stays, and `slow` says so, until the quantile has been within the limit for
`stable_after`. Strong is left only when more than half of the calls of a whole window pass their
deadline, and the return asks for a quantile of the answers within the deadline.

**Outage**: no answer at all for `outage_after` while calls are open, or only failures over a span
of at least `outage_after`, or three refusals at least 50 ms apart. A server whose answers come late
is slow, not gone, for as long as one comes within every `outage_after`.

**How soon**, under traffic: an outage is found `outage_after` and one gap between two requests
after its first request; slowness of all answers is found a window, a deadline and `1 - quantile` of
a window after its first request.

**How often**: with `least_return_gap` of a minute there are at most 2 k + 1 switches in any k
minutes, for every k, whatever Redis does: at most 3 in any one minute, and 2 a minute in the long
run. A limit of two switches in any one minute is impossible: leaving strong, returning after a
quick failover and leaving again is already three. To save one of them, either a return would have
to wait a minute after any outage, or callers would wait for a Redis that is unreachable. Leaving
strong never waits. A return to strong waits until there is room for itself and for leaving again
right after, and a step between eventual and fallback until there is room for it; callers are never
sent to Redis meanwhile. It follows that two returns are `least_return_gap` apart, and that the
first after a quiet time comes as soon as Redis is stable; but if a step between eventual and
fallback came before it, `least_return_gap` after strong was left.
"""

from __future__ import annotations

from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.latency import LatencyMeter
from crdtbucket.strong.controller.outage import Failure, OutageWatch
from crdtbucket.strong.controller.recovery import Probes, Recovery, ReturnOutlook, SwitchBudget

MOST_LOST = 0.5
"""Alone, the share of calls without an answer in time above which strong is left."""


@dataclass(frozen=True)
class Change:
    """One switch of mode, at `at_ns` on the local clock; `reason` is a sentence with numbers."""

    before: Mode
    after: Mode
    reason: str
    at_ns: int


class Controller:
    """The mode of one endpoint; every `now` is local ns and never goes back.

    Every `asked` must be followed by `answered`, `timed_out` or `failed`, whatever happened to the
    caller; otherwise the endpoint looks silent. Each returns the `Change` that it caused. Not for
    several threads at once.
    """

    def __init__(
        self, settings: ControllerSettings, now: int, degraded: Mode = Mode.EVENTUAL
    ) -> None:
        """Starts strong; slowness leads to `degraded`: eventual, or fallback for a node without a
        mesh, which leaves strong only when deadlines pass."""
        if degraded not in (Mode.EVENTUAL, Mode.FALLBACK):
            fix = "latency can lead to eventual or fallback"
            raise InvalidSpec(f"degraded is {degraded!r}", fix, "degraded")
        self.mode = Mode.STRONG
        self._settings, self._degraded = settings, Mode(degraded)
        self.latency_limit_ns = settings.ns("latency_limit")
        """Answers that take longer are slow."""
        self._outage_after_ns = settings.ns("outage_after")
        self._gap_ns = settings.ns("least_return_gap")
        self._stable_ns = settings.ns("stable_after")
        self.slow = False
        """Whether answers take too long, or did so when strong was left for that reason."""
        self._alone = self._degraded is Mode.FALLBACK
        window, least = settings.ns("latency_window"), settings.least_samples
        self._meter = LatencyMeter(window, settings.latency_quantile, least)
        self._lost = LatencyMeter(window, MOST_LOST, least)
        self._quick_since: int | None = None
        self._outage = OutageWatch(self._outage_after_ns)
        self._recovery = Recovery(settings.latency_quantile)
        self._probes = Probes(settings.ns("probe_interval"), settings.ns("longest_probe_interval"))
        self._budget = SwitchBudget(self._gap_ns, now)
        self._moved_at: int | None = None
        self._returned_at: int | None = None

    @property
    def outage_after(self) -> float:
        """Seconds without an answer that make an outage."""
        return self._settings.outage_after

    def asked(self, now: int) -> None:
        """A call went out."""
        self._outage.asked(now)

    def answered(
        self,
        now: int,
        latency_ns: int,
        *,
        late: bool = False,
        wrote: bool = True,
        answers: int = 1,
    ) -> Change | None:
        """A good reply came. `late`: `timed_out` was called for it before, and counted it as slow.
        `wrote`: whether the server wrote for it; if not, the reply does not show whether the server
        can write. `answers`: how many came together."""
        slow = latency_ns > self.latency_limit_ns
        silent = 0 if self.mode is Mode.STRONG else self._outage.silence_ns(now)
        if wrote:
            self._outage.clear()
        else:
            self._outage.answered_without_write()
        if self.mode is Mode.STRONG:
            return None if late else self._counted(now, slow=slow, lost=False, answers=answers)
        self._probes.ended(good=True)
        if silent:
            self._recovery.clear()
        self._recovery.answered(now, late if self._alone else slow, answers)
        return self._recovered(now)

    def timed_out(self, now: int) -> Change | None:
        """A call passed its deadline without an answer; that may still come."""
        self._outage.timed_out(now)
        if self.mode is Mode.STRONG:
            gone = self._gone(now)
            return gone or self._counted(now, slow=True, lost=True)
        self._probes.ended(good=False)
        self._recovery.slowed()
        return self._gone(now)

    def failed(self, now: int, failure: Failure, why: str = "") -> Change | None:
        """A call definitely got no good answer; `why` becomes part of the reason of an outage."""
        self._outage.failed(now, failure, why)
        if self.mode is not Mode.STRONG:
            self._probes.ended(good=False)
            self._recovery.clear()
        return self._gone(now)

    def moved(self, now: int) -> None:
        """The endpoint has another primary: measurements of the old one no longer count."""
        self._outage.clear()
        self._forget_slowness()
        self._recovery.clear()
        self._probes.hurry(now)
        returned = self._returned_at
        self._moved_at = now if returned is None or now - returned >= self._gap_ns else None

    def tick(self, now: int) -> Change | None:
        """Looks at what the passing of time alone has changed; due at `next_tick`."""
        return self._gone(now)

    def next_tick(self, now: int) -> int | None:
        """When to call `tick` again and, if not strong, `probe` (ns); None: not before something
        else happens. It is later than `now` unless a `tick` is overdue."""
        times = []
        if self._outage.silent_since is not None and self.mode is not Mode.FALLBACK:
            told = self._outage.silent_since + self._outage_after_ns
            times.append(max(told, self._budget.one_at))
        if self.mode is Mode.EVENTUAL and self._outage.found(now):
            times.append(self._budget.one_at)
        if self.mode is not Mode.STRONG and self._probes.due_at() > now:
            times.append(self._probes.due_at())
        return min(times, default=None)

    def outlook(self, now: int) -> ReturnOutlook | None:
        """What is lacking before the endpoint is strong again; None where it is."""
        if self.mode is Mode.STRONG:
            return None
        needed = self._needed_ns(self._recovery.quick_since or now)
        silent = self._outage.silence_ns(now) > 0
        return self._recovery.outlook(now, needed, self._budget.two_at, silent=silent)

    def probe(self, now: int) -> bool:
        """Claims the probe that is due, for one caller, who then calls `asked`; in strong mode no
        probe is due. The claim blocks the next probe until any call ends, at most for
        `longest_probe_interval`. A call that began before the switch may end it early, but there is
        still at most one probe per `probe_interval`.
        """
        return self.mode is not Mode.STRONG and self._probes.claim(now)

    def _gone(self, now: int) -> Change | None:
        if self.mode is Mode.FALLBACK:
            return None
        if self.mode is Mode.EVENTUAL and now < self._budget.one_at:
            return None
        reason = self._outage.found(now)
        return self._switch(now, Mode.FALLBACK, reason) if reason else None

    def _counted(self, now: int, *, slow: bool, lost: bool, answers: int = 1) -> Change | None:
        """Calls in strong mode have ended: quickly, slowly, or without an answer in time."""
        over = self._meter.count(now, slow, answers)
        if not self._alone:
            return self._degrade(now, f"{self.slowness}; {self._rule}") if over else None
        if over:
            self.slow, self._quick_since = True, None
        elif self._meter.over:
            self._quick_since = None
        elif self._quick_since is None:
            self._quick_since = now
        elif now - self._quick_since >= self._stable_ns:
            self.slow = False
        if not lost and not self._lost.slow:
            return None  # without losses in the window nothing needs counting
        return self._too_lost(now) if self._lost.count(now, lost, answers) else None

    def _forget_slowness(self) -> None:
        self.slow, self._quick_since = False, None
        self._meter.clear()
        self._lost.clear()

    def _degrade(self, now: int, reason: str) -> Change:
        change = self._switch(now, self._degraded, reason)
        self.slow = True
        return change

    def _too_lost(self, now: int) -> Change:
        window, meter = self._settings.latency_window, self._lost
        why = f"{meter.slow} of {meter.total} calls within {window:g} s had no answer by their "
        return self._switch(now, self._degraded, f"{why}deadline, for {window:g} s or longer")

    @property
    def slowness(self) -> str:
        """How slow the answers of the last window were, as the beginning of a sentence."""
        window, meter = self._settings.latency_window, self._meter
        return (
            f"{meter.slow} of {meter.total} answers within {window:g} s took over {self._limit}, "
            f"for {window:g} s or longer"
        )

    def _recovered(self, now: int) -> Change | None:
        found = self._recovery
        if found.quick_since is not None:
            stable, needed = now - found.quick_since, self._needed_ns(found.quick_since)
            if stable < needed or now < self._budget.two_at:
                return None
            self._moved_at, self._returned_at = None, now
            reason = f"{found.answers} answers in {stable / NS_PER_SECOND:.2f} s; {self._rule}"
            return self._switch(now, Mode.STRONG, reason)
        if self.mode is self._degraded or found.alive_since is None or now < self._budget.one_at:
            return None
        alive = now - found.alive_since
        if alive < self._stable_ns:
            return None
        reason = f"it has answered for {alive / NS_PER_SECOND:.2f} s, but in over {self._limit}"
        return self._degrade(now, reason)

    def _needed_ns(self, quick_since: int) -> int:
        recent = max(self._gap_ns, self._stable_ns)  # the gap may be 0
        if self._moved_at is not None and quick_since - self._moved_at < recent:
            return self._settings.ns("stable_after_failover")
        return self._stable_ns

    def _switch(self, now: int, after: Mode, reason: str) -> Change:
        change = Change(self.mode, after, reason, now)
        self.mode = after
        self._budget.spend(now)
        self._forget_slowness()
        self._recovery.clear()
        self._probes.start(now)
        return change

    @property
    def _limit(self) -> str:
        return f"{self._settings.latency_limit * 1_000:g} ms"

    @property
    def _rule(self) -> str:
        quantile = self._settings.latency_quantile * 100
        within = "the deadline" if self._alone else self._limit
        return f"p{quantile:g} must be within {within}"
