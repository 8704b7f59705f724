"""Decides whether answers are too slow: one quantile of a rolling window, from counts alone.

The quantile (nearest rank) of some answers is over the limit exactly when more than the share
`1 - quantile` of them is. So two counts for each twentieth of the window are enough: memory and
time do not depend on traffic, and no latency is stored.

A steady slowness of all answers is found `window + (1 - quantile) * window` after the first slow
one at the latest, and a spike is not found at all: the quantile of the window stays too high for
as long as the spike is in it, but by then the window's last fifth is quick again.
"""

from __future__ import annotations

SLOTS = 20
FIFTH = SLOTS // 5
_MILLION = 1_000_000


class LatencyMeter:
    """Counts the slow answers and all answers of the last `window_ns`, and knows since when the
    quantile has been too high."""

    def __init__(self, window_ns: int, quantile: float, least_samples: int) -> None:
        """`quantile` is counted in millionths."""
        self.total = 0
        """The number of answers in the window."""
        self.slow = 0
        """The number of those that were over the limit."""
        self._window_ns, self._slot_ns = window_ns, window_ns // SLOTS
        self._allowed, self._least = _MILLION - round(quantile * _MILLION), least_samples
        self._slot = 0
        self._totals, self._slows = [0] * SLOTS, [0] * SLOTS
        self._since: int | None = None

    def count(self, now: int, slow: bool, answers: int = 1) -> bool:
        """Takes one answer, or several; True when the quantile has been too high for the whole
        window."""
        slot = now // self._slot_ns
        if slot != self._slot:
            self._advance(slot)
        index = slot % SLOTS
        self._totals[index] += answers
        self.total += answers
        if slow:
            self._slows[index] += answers
            self.slow += answers
        if self.slow:  # without slow answers the quantile was found low when the last one left
            self._follow(now)
        return (
            self._since is not None
            and now - self._since >= self._window_ns
            and self.total >= self._least
            and self._still()
        )

    @property
    def over(self) -> bool:
        """Whether the quantile is too high now."""
        return self._since is not None

    def clear(self) -> None:
        """Forgets all answers."""
        self._totals, self._slows = [0] * SLOTS, [0] * SLOTS
        self.total = self.slow = 0
        self._since = None

    def _advance(self, slot: int) -> None:
        if slot - self._slot >= SLOTS:
            self.clear()
            self._slot = slot
        while self._slot < slot:
            self._slot += 1
            index = self._slot % SLOTS
            self.total -= self._totals[index]
            self.slow -= self._slows[index]
            self._totals[index] = self._slows[index] = 0
            # What leaves the window may end the streak, or begin one, between two answers.
            self._follow(self._slot * self._slot_ns)

    def _follow(self, now: int) -> None:
        if not self._over(self.slow, self.total):
            self._since = None
        elif self._since is None:
            self._since = now

    def _still(self) -> bool:
        last = [(self._slot - back) % SLOTS for back in range(FIFTH)]
        return self._over(sum(self._slows[i] for i in last), sum(self._totals[i] for i in last))

    def _over(self, slow: int, total: int) -> bool:
        return slow * _MILLION > self._allowed * total
