"""Decides when an endpoint that was left may be used again, when it is probed, and how many
switches of mode there may be at all."""

from __future__ import annotations

from dataclasses import dataclass

_MILLION = 1_000_000


class Recovery:
    """Measures for how long an endpoint has answered, and answered quickly, without a failure."""

    def __init__(self, quantile: float) -> None:
        """`quantile` of the answers must be quick, in millionths."""
        self.alive_since: int | None = None
        """When the first answer came."""
        self.quick_since: int | None = None
        """When the first answer came of those whose quantile is within the limit."""
        self.answers = 0
        """How many came since then."""
        self._slow = 0
        self._allowed = _MILLION - round(quantile * _MILLION)

    def clear(self) -> None:
        """The endpoint failed, or was left just now: the measuring begins anew."""
        self.alive_since = None
        self._restart()

    def answered(self, now: int, slow: bool, answers: int = 1) -> None:
        """A good answer came, in time or late, or several."""
        if self.alive_since is None:
            self.alive_since = now
        if slow:
            self.slowed(answers)
            return
        if self.quick_since is None:
            self.quick_since = now
        self.answers += answers

    def slowed(self, answers: int = 1) -> None:
        """One or several answers were slow, or are overdue; too many of them end the quick time."""
        self.answers += answers
        self._slow += answers
        if self._slow * _MILLION > self._allowed * self.answers:
            self._restart()

    def outlook(self, now: int, stable_ns: int, room_at: int, *, silent: bool) -> ReturnOutlook:
        """What is still lacking for a return, if answers must be quick for `stable_ns` and there is
        room for a switch at `room_at`. `silent`: the endpoint no longer answers."""
        alive = None if silent or self.alive_since is None else now - self.alive_since
        steady = 0 if silent or self.quick_since is None else now - self.quick_since
        return ReturnOutlook(alive, steady, stable_ns, max(0, room_at - now))

    def _restart(self) -> None:
        self.quick_since = None
        self.answers = self._slow = 0


@dataclass(frozen=True)
class ReturnOutlook:
    """What an endpoint that was left still lacks before it is strong again. Times are ns."""

    answering_ns: int | None
    """For how long it has answered without a failure; None where it does not answer."""
    steady_ns: int
    """For how long its answers have been quick enough."""
    stable_ns: int
    """For how long they must be."""
    gap_ns: int
    """How long `least_return_gap` still keeps it from a return."""

    @property
    def held(self) -> bool:
        """Whether `least_return_gap` alone keeps it from a return."""
        return 0 < self.steady_ns >= self.stable_ns and self.gap_ns > 0


class Probes:
    """Decides when the next probe may be sent: one at a time, and with growing pauses while probes
    fail."""

    def __init__(self, interval_ns: int, longest_ns: int) -> None:
        self._least_ns, self._longest_ns = interval_ns, longest_ns
        self.start(0)

    def start(self, now: int) -> None:
        """The endpoint was left: the first probe is due an interval from now."""
        self._interval_ns = self._least_ns
        self._last = now
        self._under_way = False

    def hurry(self, now: int) -> None:
        """There is another server: a probe is due at once."""
        self.start(now - self._least_ns)

    def due_at(self) -> int:
        """When the next probe may be sent (ns); a probe whose end was never reported blocks it for
        the longest interval."""
        return self._last + (self._longest_ns if self._under_way else self._interval_ns)

    def claim(self, now: int) -> bool:
        """True for one caller when a probe is due: it goes out now."""
        if now < self.due_at():
            return False
        self._last, self._under_way = now, True
        return True

    def ended(self, good: bool) -> None:
        """An answer, a failure or a deadline came, of a probe or of an earlier call."""
        if good:
            self._interval_ns = self._least_ns
        elif self._under_way:
            self._interval_ns = min(2 * self._interval_ns, self._longest_ns)
        self._under_way = False


class SwitchBudget:
    """Allows at most 2 k + 1 switches in any time of k gaps, for every k; so at most 3 in one gap.

    So the third switch after any other comes at least one gap after it, the fifth two gaps after
    it, and so on. Two times are enough to enforce this for all of them: the earliest time of the
    next switch, and that of the one after it. A switch moves both on: the next may come at once,
    unless the second time forbids it, and the one after that comes a gap after the time at which
    this one could have come.
    """

    def __init__(self, gap_ns: int, now: int) -> None:
        self.one_at = now - gap_ns
        """When there is room for one switch (local ns)."""
        self._after_at = now - gap_ns
        self._gap_ns = gap_ns

    @property
    def two_at(self) -> int:
        """When there is room for one switch, and for a second one at any time after it (local
        ns)."""
        return max(self.one_at, self._after_at)

    def spend(self, now: int) -> None:
        """Counts a switch of mode at `now`."""
        self.one_at, self._after_at = max(now, self._after_at), self.one_at + self._gap_ns
