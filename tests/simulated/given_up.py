"""Rarely draws a plan in which one side of a cut gives up a node behind it that goes on taking, and
that node has ended, or has another process, when the cut is mended. By chance it is hardly ever
drawn: the cut has to last until the epoch has its tombstone, the bucket must not fill meanwhile,
and the first side must not ask for the keys that the other one takes from."""

from __future__ import annotations

import random
from typing import Any

from tests.simulated.irregular import IRREGULAR
from tests.simulated.plan import Event, Phase, names

RARELY = 0.01
NEEDS_S = {"resets": 48.0, "times out": 70.0, "silent": 70.0}
"""Seconds until the epoch has its tombstone: its node is given up after 10 s, or 30 s, which
settles for 30 s, and is checked every second."""
ASKED = 40.0
"""The multiple of the limit that the node which is given up is asked for behind the cut."""

OTHERS = ("crowd", "pauses", "reloads", "stalls", "hostile", "observer", *IRREGULAR)
"""Dimensions whose events do not happen in such a plan."""


def draw_given_up(rng: random.Random, drawn: dict[str, Any]) -> dict[str, Any]:
    """The values of other dimensions that make such a plan."""
    if rng.random() >= RARELY or drawn["size"] < 3:
        return {}
    nodes = rng.sample(names(drawn["size"]), drawn["size"])
    taker, how = nodes[0], rng.choice(list(NEEDS_S))
    here = nodes[: 2 if drawn["size"] >= 5 or how != "resets" else 1]
    linked = drawn["graph"] if drawn["size"] < 4 else _full(drawn)
    ways = tuple(
        way for a, b in linked for way in ((a, b), (b, a)) if (way[0] in here) != (way[1] in here)
    )
    cut = rng.uniform(5.0, 10.0)
    ends = cut + rng.uniform(5.0, 25.0)
    mended = max(ends + 1.0, cut + NEEDS_S[how]) + rng.uniform(0.0, 30.0)
    events = [Event(cut, "cut", (how, ways)), Event(mended, "mend", (how, ways))]
    return {
        "graph": linked,
        "gossip": rng.choice([0.3, 1.0]),
        "forget": 900.0 if how == "resets" else 30.0,
        "length": mended + 5.0,
        "bucket": (*rng.choice([(1000, 1000), (10**6, 10**6)]), "1h", None),
        "demand": _demand(drawn["size"], names(drawn["size"]).index(taker), cut, ends),
        "arrivals": ("even", 0.0),
        "storm": None,
        "alone": False,
        "loss": (0.0, 0.0, 0.0),
        "cuts": tuple(events),
        "members": _gone(rng, taker, len(here) == 1, ends, mended),
        **dict.fromkeys(OTHERS, ()),
    }


def _full(drawn: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    nodes = names(drawn["size"])
    return tuple((a, b) for i, a in enumerate(nodes) for b in nodes[i + 1 :])


def _demand(size: int, taker: int, cut: float, ends: float) -> tuple[Phase, ...]:
    """The other nodes are asked for little; for a while only the one behind the cut is asked, for
    much."""
    others = tuple(0.0 if i == taker else round(1 / (size - 1), 4) for i in range(size))
    alone = tuple(float(i == taker) for i in range(size))
    return Phase(0.0, 0.5, others), Phase(cut + 1.0, ASKED, alone), Phase(ends, 0.5, others)


def _gone(
    rng: random.Random, taker: str, alone: bool, ends: float, mended: float
) -> tuple[Event, ...]:
    """How the node behind the cut ends. If it is alone on its side it must return, since its counts
    would be gone with it."""
    kind = rng.choice(["leave", "die", "return", "return"])
    if kind == "leave" and not alone:
        return (Event(ends, "leave", (taker,)),)
    die = Event(ends, "die", (taker, True))
    if kind != "return" and not alone:
        return (die,)
    back = rng.uniform(ends + 0.1, mended)
    return (
        Event(ends - 0.01, "save", (taker,)),
        die,
        Event(back, "return", (taker, alone or rng.random() < 0.5)),
    )
