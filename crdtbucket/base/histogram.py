"""A histogram of latencies: how many were at most as long as each of a few bounds."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS_S]


class Histogram:
    """Counts by upper bounds, as Prometheus wants them."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_ns = 0

    def add(self, ns: int, times: int = 1) -> None:
        """Counts one latency, for so many answers."""
        self.counts[bisect_left(_BOUNDS_NS, ns)] += times
        self.sum_ns += ns * times

    def cumulative(self) -> list[tuple[float | None, int]]:
        """(bound in seconds, how many were at most that); the last bound, of all, is None, since
        JSON has no infinity."""
        out, total = [], 0
        for bound, count in zip((*BOUNDS_S, None), self.counts, strict=True):
            total += count
            out.append((bound, total))
        return out
