"""What the other nodes charge for nodes that died, until they are given up."""

from __future__ import annotations

from collections.abc import Collection

from tests.simulated.plan import Event, Plan
from tests.simulated.view import ENDED_NS

ENDED = ENDED_NS / 10**9
"""Seconds until all others know of a node that has ended, if they are enough."""


def kept_for_the_dead(plan: Plan, silently: Collection[str], now: float) -> float:
    """For how long (s) dead nodes were thought to be running, if they have been given up or have
    started again since: what they may have taken in that time is charged. All nodes that are silent
    at a time are thought to take no more than the limit together.

    `silently`: the nodes of which some others could not know that they had ended. Nobody knows when
    such a process ended. What the others keep for it, its next process owes: it may have been taken
    until that one began.
    """
    total = until = 0.0
    deaths = [event for event in plan.events if event.what == "die"]
    for event in sorted(deaths, key=lambda event: event.at):
        given_up = event.at + ENDED
        if event.args[0] in silently:
            given_up = max(given_up, _given_up(plan, event, now))
        total += max(0.0, given_up - max(until, event.at))
        until = max(until, given_up)
    return total


def _given_up(plan: Plan, death: Event, now: float) -> float:
    """When (s) a node that went silently was given up or began again, if that was before now. If
    its connections ended, but too few were left to declare it dead, they may do so as soon as
    others begin."""
    name, ends = death.args
    begun = [e for e in plan.events if e.what in ("come", "return") and death.at < e.at <= now]
    again = [e.at for e in begun if e.args[0] == name]
    known = min([death.at + plan.forget_after, *again])
    if known <= now:
        return known
    return max((e.at + ENDED for e in begun if ends), default=0.0)
