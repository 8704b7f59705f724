"""What the generator finds and the code does not keep yet, in one place.

Until a fault is mended, its rules are excused in the plans that it speaks of. `python -m tests.soak
--strict` excuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.simulated.plan import Plan


class Waiting(NamedTuple):
    what: str
    rules: tuple[str, ...]
    """Names of rules that may be broken; "error" is any exception."""
    when: Callable[[Plan], bool]
    """The plans of which that is so."""


SERVICE = ("denied", "as one", "given", "share", "starved", "excess")


def small(plan: Plan) -> bool:
    """Whether a call on each node takes much of the bucket."""
    return plan.main.capacity < 25 * plan.cost * len(plan.nodes)


NOT_YET: tuple[Waiting, ...] = (
    Waiting(
        "1, 7: who cannot hear a node relies on what others relay of it",
        SERVICE,
        lambda plan: plan.has("cut") or not plan.complete,
    ),
    Waiting(
        "2: news of live nodes beside a dead one take the credit that was kept for it",
        ("denied",),
        lambda plan: plan.has("come", "return") and plan.has("die", "leave", "pause"),
    ),
    Waiting(
        "what a node took alone and has refilled is not told to who still owes for the key",
        ("equal",),
        lambda plan: plan.has("return", "come", "cut", "pause"),
    ),
    Waiting(
        "a forgotten node that is back is counted again only by who is linked with it",
        ("level", "equal", "converged"),
        lambda plan: plan.forget_after < 900 and (not plan.complete or plan.has("come")),
    ),
    Waiting(
        "levels do not meet where columns come by relays only, after cuts",
        ("equal", "converged"),
        lambda plan: not plan.complete or plan.has("come", "cut"),
    ),
    Waiting(
        "full keys are kept for ever where rounds are slow: a peer counts as silent between two",
        ("evicted",),
        lambda plan: plan.gossip_interval >= 1,
    ),
    Waiting(
        "a full key that its other holder evicts is not told again where rounds are slow",
        ("equal",),
        lambda plan: plan.gossip_interval >= 10,
    ),
    Waiting(
        "8: the fast rate of one call stands for many in a small bucket",
        SERVICE,
        small,
    ),
    Waiting(
        "8: and where rounds are slow",
        SERVICE,
        lambda plan: plan.gossip_interval >= 0.3,
    ),
    Waiting(
        "a pause is taken for a jump of the clock where rounds are slow",
        ("jump",),
        lambda plan: plan.gossip_interval >= 1 and plan.has("pause"),
    ),
    Waiting(
        "11: a storm of retries takes the share of the others",
        SERVICE,
        lambda plan: plan.storm is not None,
    ),
    Waiting(
        "12: what the last burst was says nothing about the next",
        ("bursts",),
        lambda plan: plan.arrivals[0] == "bursts",
    ),
)
"""By the row of the list of faults that each waits for."""


def excused(plan: Plan) -> set[str]:
    """The rules that may be broken in a plan."""
    return {rule for one in NOT_YET if one.when(plan) for rule in one.rules}
