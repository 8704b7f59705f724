"""Measures of a run: over-admission, what one bucket would admit, shares, and starvation."""

from __future__ import annotations

from collections.abc import Sequence

from crdtbucket.simulator.run_settings import Settings


class OverAdmission:
    """The most that was admitted beyond `capacity + rate * t` in any window, however short or long.

    With y = admitted - rate * time, the over-admission of a window from a to b is y(b) - y(a) -
    capacity: the running minimum of y finds the worst window in one pass. Exact: everything is an
    integer in tokens x ns of the refill interval.
    """

    def __init__(self, settings: Settings) -> None:
        self._interval, self._rate = settings.interval_ns, settings.refill_rate
        self._capacity = settings.capacity
        self._y = self._low = 0
        self._worst: int | None = None
        self._then = 0

    def add(self, now_ns: int, tokens: int) -> None:
        """Count `tokens` admitted at `now_ns`; times never go back."""
        y = self._y - self._rate * (now_ns - self._then)
        self._then = now_ns
        if y < self._low:
            self._low = y
        self._y = y = y + tokens * self._interval
        if tokens and (self._worst is None or y - self._low > self._worst):
            self._worst = y - self._low

    def debt(self, now_ns: int) -> int:
        """Tokens x interval missing from a bucket that was charged all this; 0 when it is full."""
        return max(0, self._y - self._rate * (now_ns - self._then) - self._low)

    def ending(self) -> float:
        """The worst over-admission of the windows that end with what was added last."""
        return (self._y - self._low) / self._interval - self._capacity

    def tokens(self) -> float:
        """The worst over-admission; negative when no window came up to the limit."""
        return (self._worst or 0) / self._interval - self._capacity

    def percent(self) -> float:
        """The worst over-admission in % of the capacity."""
        return 100.0 * self.tokens() / self._capacity


class Ideal:
    """One bucket that sees every call of every node at once. Exact."""

    def __init__(self, settings: Settings) -> None:
        self._interval, self._rate = settings.interval_ns, settings.refill_rate
        self._full = self._level = settings.capacity * settings.interval_ns
        self._then = 0
        self.admitted = 0

    def offer(self, now_ns: int, calls: int, cost: int) -> int:
        """How many of `calls` calls of `cost` tokens each it admits."""
        level = min(self._full, self._level + self._rate * (now_ns - self._then))
        self._then = now_ns
        passed = min(calls, level // (cost * self._interval))
        self._level = level - passed * cost * self._interval
        self.admitted += passed * cost
        return passed


class Starvation:
    """The longest time for which a node with demand admitted nothing.

    It runs from the last admission, or from the start of the demand, to the next admission or the
    end of the demand. Of a rare caller it includes the time in which nobody called.
    """

    def __init__(self, nodes: int) -> None:
        self._since: list[int | None] = [None] * nodes
        self.worst_ns = [0] * nodes

    def demand(self, node: int, wanted: bool, now_ns: int) -> None:
        """State whether the node has demand (and is up) from `now_ns` on."""
        since = self._since[node]
        if wanted and since is None:
            self._since[node] = now_ns
        elif not wanted and since is not None:
            self._end(node, since, now_ns)
            self._since[node] = None

    def admitted(self, node: int, now_ns: int) -> None:
        """The node admitted something."""
        since = self._since[node]
        if since is not None:
            self._end(node, since, now_ns)
            self._since[node] = now_ns

    def finish(self, now_ns: int) -> None:
        """The run is over."""
        for node in range(len(self._since)):
            self.demand(node, False, now_ns)

    def _end(self, node: int, since: int, now_ns: int) -> None:
        if now_ns - since > self.worst_ns[node]:
            self.worst_ns[node] = now_ns - since


def share_range(
    offered: Sequence[int], admitted: Sequence[int]
) -> tuple[float, float] | tuple[None, None]:
    """Least and greatest of (share of what was admitted) / (share of demand) over the nodes."""
    all_offered, all_admitted = sum(offered), sum(admitted)
    if not all_offered or not all_admitted:
        return None, None
    ratios = [
        got * all_offered / (wanted * all_admitted)
        for wanted, got in zip(offered, admitted, strict=True)
        if wanted
    ]
    return min(ratios), max(ratios)
