"""Finds the stretches in which nothing is wrong, and judges the limit in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.histories.history import ADMITTED, TIGHT, Call, Finding, History, Limits

SETTLED_S = 1.0
"""Seconds after which others have merged a take where nothing is in the way. Added is the time for
which the machine itself kept anybody waiting, which the longest call shows."""


def tight(history: History) -> tuple[float, float, list[Finding]]:
    """By how much the tight bucket was exceeded in the stretches without a fault, the bound of the
    worst one, and the findings beyond the bound."""
    worst, bound_of_worst, found = 0.0, 0.0, []
    for begin, end in calm(history):
        by_key: dict[str, list[Call]] = defaultdict(list)
        for call in history.calls:
            if call.bucket == TIGHT and begin <= call.begin and (call.end or end) <= end:
                by_key[call.key].append(call)
        for key, calls in sorted(by_key.items()):
            over = _beyond(calls, history.limits)
            bound = _in_flight(calls, end, history.limits)
            if over > worst or not bound_of_worst:
                worst, bound_of_worst = max(over, worst), bound
            if over > bound:
                evidence = (
                    f"key {key!r}, {begin:.2f} to {end:.2f} s: {over:.1f} tokens beyond the "
                    f"capacity and the refill, of {bound:.1f} that may be on their way"
                )
                found.append(
                    Finding("a limit is exceeded though nothing is wrong", over - bound, evidence)
                )
    return worst, bound_of_worst, found


def calm(history: History) -> Iterator[tuple[float, float]]:
    """Yields (begin, end) of each stretch from the first call after a pause to the next fault."""
    for pause in history.pauses:
        if pause.resumed is not None and pause.agreed is not None:
            later = [fault.begin for fault in history.faults if fault.begin >= pause.resumed]
            later += [life.end for life in history.lives if life.end and life.end >= pause.resumed]
            later += [one.healed for one in history.pauses if one.healed > pause.resumed]
            if later:
                yield pause.resumed, min(later)


def _beyond(calls: list[Call], limits: Limits) -> float:
    """The most that was admitted in any window, less the capacity and what the window refills."""
    level, at, most = 0.0, calls[0].begin, 0.0
    for call in sorted(calls, key=lambda one: one.end or one.begin):
        now = call.end or call.begin
        level = max(0.0, level - limits.tight_refill_per_second * (now - at))
        at = now
        if call.outcome == ADMITTED:
            level += call.cost
            most = max(most, level)
    return max(0.0, most - limits.tight_capacity)


def longest(calls: list[Call], begin: float, end: float) -> float:
    """The seconds of the longest call of a stretch: for so long the machine kept a caller
    waiting."""
    took = [(one.end or end) - one.begin for one in calls if begin <= one.begin <= end]
    return max(took, default=0.0)


def _in_flight(calls: list[Call], end: float, limits: Limits) -> float:
    """What all nodes together were asked for in a time in which other nodes need not have merged
    it."""
    took = longest(calls, 0.0, end)
    window, asked, most, first = SETTLED_S + took, 0, 0, 0
    calls = sorted(calls, key=lambda one: one.begin)
    for call in calls:
        asked += call.cost
        while call.begin - calls[first].begin > window:
            asked -= calls[first].cost
            first += 1
        most = max(most, asked)
    return most + limits.tight_refill_per_second * took
