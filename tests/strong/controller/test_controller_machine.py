"""Any history of calls against a mode controller, and a naive reading of the same history."""

from __future__ import annotations

import copy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.mode_controller import Change, Controller
from crdtbucket.strong.controller.outage import Failure
from tests.strong.controller_world import MS, S, within_budget

YEAR = 365 * 86_400 * S
STEPS = st.one_of(
    st.sampled_from([0, 1, MS, 20 * MS, 50 * MS, 100 * MS, 500 * MS, S, 5 * S, 61 * S]),
    st.integers(0, 3 * S),
    st.integers(0, 50 * MS),
)
SPANS = [
    ControllerSettings(),
    ControllerSettings(least_samples=1, latency_window=0.1, latency_quantile=0.5),
    ControllerSettings(least_samples=2, stable_after=0.2, stable_after_failover=0.1),
    ControllerSettings(least_samples=2, stable_after=0, stable_after_failover=0),
    ControllerSettings(
        least_samples=2, stable_after=0.3, stable_after_failover=0, least_return_gap=2
    ),
    ControllerSettings(outage_after=0.05, probe_interval=0.5, longest_probe_interval=8),
]


class NaiveOutage:
    """The rule of an outage, computed each time from all that came after the last good answer."""

    def __init__(self, after_ns: int) -> None:
        self.after_ns = after_ns
        self.log: list[tuple[str, int, Failure | None]] = []

    def found(self, now: int) -> bool:
        failures = [i for i, (what, _, _) in enumerate(self.log) if what == "failed"]
        quiet = self.log[failures[-1] + 1 :] if failures else self.log
        if quiet and now - quiet[0][1] >= self.after_ns:
            return True
        if not failures:
            return False
        refused: list[int] = []
        for i in failures:
            _, at, failure = self.log[i]
            if failure is not Failure.REFUSED:
                refused = []
            elif not refused or at - refused[-1] >= 50 * MS:
                refused.append(at)
        bad = [at for what, at, _ in self.log[failures[0] :] if what != "asked"]
        return len(refused) >= 3 or (len(bad) >= 2 and bad[-1] - self.log[0][1] >= self.after_ns)


class ControllerMachine(RuleBasedStateMachine):
    """Each call that went out ends once: in an answer, a failure or a deadline."""

    @initialize(
        spans=st.sampled_from(SPANS), degraded=st.sampled_from([Mode.EVENTUAL, Mode.FALLBACK])
    )
    def start(self, spans: ControllerSettings, degraded: Mode) -> None:
        self.spans, self.degraded = spans, degraded
        self.gap = spans.ns("least_return_gap")
        self.now = S
        self.controller = Controller(spans, self.now, degraded)
        self.open: list[int] = []
        self.overdue: list[int] = []
        self.changes: list[Change] = []
        self.naive = NaiveOutage(spans.ns("outage_after"))
        self.probed_at: int | None = None
        self.probe_open = False
        self.answers: list[tuple[int, bool]] = []
        self.alive_since: int | None = None

    # ---- what happens ----

    @rule(step=STEPS)
    def later(self, step: int) -> None:
        due = self.controller.next_tick(self.now)
        while due is not None and self.now < due <= self.now + step:
            step -= due - self.now
            self.now = due
            self._led_to(self.controller.tick(due))
            due = self.controller.next_tick(due)
        self.now += step

    @rule()
    def ask(self) -> None:
        if self.controller.mode is not Mode.STRONG:
            if not self.controller.probe(self.now):
                return
            interval = self.spans.ns("probe_interval")
            if self.probe_open:
                interval = self.spans.ns("longest_probe_interval")
            assert self.probed_at is None or self.now - self.probed_at >= interval
            assert not self.controller.probe(self.now)
            self.probed_at, self.probe_open = self.now, True
        self._asked()

    @precondition(lambda self: self.open)
    @rule(latency=st.sampled_from([MS, 20 * MS, 20 * MS + 1, 49 * MS]))
    def answer(self, latency: int) -> None:
        self.open.pop(0)
        self._answered(latency, late=False)

    @precondition(lambda self: self.overdue)
    @rule()
    def answer_late(self) -> None:
        self._answered(max(51 * MS, self.now - self.overdue.pop(0)), late=True)

    @precondition(lambda self: self.open)
    @rule(answered=st.booleans())
    def pass_a_deadline(self, answered: bool) -> None:
        asked = self.open.pop(0)
        self.overdue += [asked] * answered
        self.probe_open = False
        self.naive.log.append(("timed_out", self.now, None))
        self.answers.append((self.now, True))
        self._led_to(self.controller.timed_out(self.now))

    @precondition(lambda self: self.open)
    @rule(failure=st.sampled_from(Failure))
    def fail(self, failure: Failure) -> None:
        self.open.pop(0)
        self._failed(failure)

    @rule(failure=st.sampled_from([Failure.REFUSED, Failure.LOST, Failure.TIMED_OUT]))
    def connecting_fails(self, failure: Failure) -> None:
        self._failed(failure)

    @rule(step=st.integers(1, 60), latency=st.sampled_from([MS, 30 * MS, 0]))
    def busy(self, step: int, latency: int) -> None:
        """A run of calls with one outcome; 0: their deadlines pass."""
        for _ in range(80):
            self.later(step * MS)
            self.ask()
            while self.open:
                if latency:
                    self.answer(latency)
                else:
                    self.pass_a_deadline(answered=False)

    @rule()
    def move(self) -> None:
        self.naive.log.clear()
        self.answers.clear()
        self.alive_since = None
        self.probed_at, self.probe_open = None, False
        self.controller.moved(self.now)

    @precondition(lambda self: not self.open and self.controller.mode is Mode.STRONG)
    @rule()
    def idle(self) -> None:
        """All calls have ended well: however long nobody asks, nothing changes."""
        if not self.naive.log:
            assert self.controller.next_tick(self.now) is None
            self.now += YEAR
            assert self.controller.tick(self.now) is None

    # ---- what must be so ----

    @invariant()
    def an_outage_is_no_strong(self) -> None:
        late = self.naive.found(self.now) and self.controller.mode is Mode.STRONG
        assert not late or self.controller.next_tick(self.now) == self.now

    @invariant()
    def time_alone_does_nothing_before_it_is_due(self) -> None:
        due = self.controller.next_tick(self.now)
        if due is None or due > self.now:
            other = copy.deepcopy(self.controller)
            assert other.tick(self.now + YEAR if due is None else due - 1) is None

    @invariant()
    def there_are_two_switches_a_gap_in_the_long_run(self) -> None:
        assert within_budget([change.at_ns for change in self.changes], self.gap)

    def teardown(self) -> None:
        """Never stuck: what is well becomes strong, what is dead then fallback."""
        if not hasattr(self, "controller"):
            return
        last = max([self.now, *(c.at_ns + self.gap for c in self.changes[-1:])])
        patience = self.spans.ns("stable_after") + 3 * self.spans.ns("longest_probe_interval")
        while self.now <= last + patience:
            self._busy_for(20 * MS, good=True)
        assert self.controller.mode is Mode.STRONG
        dead = self.now
        while self.controller.mode is Mode.STRONG:
            self._busy_for(20 * MS, good=False)
            assert self.now <= dead + self.spans.ns("outage_after") + 100 * MS

    def _busy_for(self, step: int, good: bool) -> None:
        # In larger steps where nothing but probes happens.
        quick = self.controller.mode is Mode.STRONG or not good
        self.later(step if quick else max(step, self.spans.ns("probe_interval")))
        self.ask()
        self.later(MS)
        while self.open:
            self.answer(MS) if good else self.pass_a_deadline(answered=False)

    # ---- helpers ----

    def _asked(self) -> None:
        self.open.append(self.now)
        self.naive.log.append(("asked", self.now, None))
        self.controller.asked(self.now)

    def _answered(self, latency: int, *, late: bool) -> None:
        self.probe_open = False
        if self.naive.found(self.now) and self.naive.log[-1][0] != "failed":
            self.answers.clear()
            self.alive_since = None
        self.naive.log.clear()
        if self.alive_since is None:
            self.alive_since = self.now
        alone = self.degraded is Mode.FALLBACK
        self.answers.append((self.now, late if alone else latency > 20 * MS))
        self._led_to(self.controller.answered(self.now, latency, late=late))

    def _failed(self, failure: Failure) -> None:
        self.probe_open = False
        self.naive.log.append(("failed", self.now, failure))
        self.answers.clear()
        self.alive_since = None
        self._led_to(self.controller.failed(self.now, failure))

    def _led_to(self, change: Change | None) -> None:
        if change is None:
            return
        before = self.changes[-1].after if self.changes else Mode.STRONG
        assert change.before is before is not change.after is self.controller.mode
        assert change.at_ns == self.now
        assert change.after is not Mode.EVENTUAL or self.degraded is Mode.EVENTUAL
        if change.after is Mode.STRONG:
            self._was_stable()
            room = [*(c.at_ns for c in self.changes), self.now, self.now]
            assert within_budget(room, self.gap), "no room to leave again"
        elif change.after is Mode.FALLBACK and "by their deadline" in change.reason:
            assert self.degraded is Mode.FALLBACK
            assert self._most_were_lost()
        elif change.after is Mode.FALLBACK:
            assert self.naive.found(self.now)
        elif before is Mode.FALLBACK:
            assert self.alive_since is not None
            assert self.now - self.alive_since >= self.spans.ns("stable_after_failover")
        self.changes.append(change)
        self.answers.clear()
        self.alive_since = None
        self.probed_at, self.probe_open = self.now, False

    def _most_were_lost(self) -> bool:
        window = self.spans.ns("latency_window")
        lost = [lost for at, lost in self.answers if at >= self.now - window]
        return 2 * sum(lost) > len(lost)

    def _was_stable(self) -> None:
        """A run of answers as long as is asked for, of which enough were quick."""
        quantile = self.spans.latency_quantile
        needed = self.spans.ns("stable_after_failover")
        runs = [self.answers[i:] for i in range(len(self.answers)) if not self.answers[i][1]]
        assert any(
            self.now - run[0][0] >= needed
            and sum(slow for _, slow in run) <= (1 - quantile) * len(run) + 1e-6
            for run in runs
        )


ControllerMachine.TestCase.settings = settings(stateful_step_count=40)
TestController = ControllerMachine.TestCase
