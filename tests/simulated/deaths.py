"""What the other nodes charge for nodes that died without an end of their connections."""

from __future__ import annotations

from tests.simulated.plan import Plan
from tests.simulated.view import ENDED_NS

SECOND = 10**9


def kept_for_the_dead(plan: Plan, now: float) -> float:
    """For how long (s) dead nodes were thought to be running, if they have been given up or have
    started again since: what they may have taken in that time is charged. All nodes that are silent
    at a time are thought to take no more than the limit together.

    Nobody knows when such a process ended. What the others keep for it, its next process owes: it
    may have been taken until that one began.
    """
    total = until = 0.0
    deaths = [event for event in plan.events if event.what == "die"]
    for event in sorted(deaths, key=lambda event: event.at):
        name, ends = event.args
        given_up = event.at + ENDED_NS / SECOND
        known = min(event.at + plan.forget_after, _returns(plan, name, event.at))
        if not ends and known <= now:
            given_up = max(given_up, known)
        total += max(0.0, given_up - max(until, event.at))
        until = max(until, given_up)
    return total


def _returns(plan: Plan, name: str, after: float) -> float:
    """When a node starts again, s."""
    returns = (event for event in plan.events if event.what == "return" and event.args[0] == name)
    return min((event.at for event in returns if event.at > after), default=float("inf"))
