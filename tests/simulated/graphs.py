"""Draws which nodes of a plan are linked with each other."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from tests.simulated.plan import Way, names


def full_graph(drawn: dict[str, Any]) -> tuple[Way, ...]:
    nodes = names(drawn["size"])
    return tuple((a, b) for i, a in enumerate(nodes) for b in nodes[i + 1 :])


def draw_graph(rng: random.Random, drawn: dict[str, Any]) -> tuple[Way, ...]:
    """All pairs, or a chain, a ring, a star, or a tree with some more links."""
    nodes = names(drawn["size"])
    kind = rng.choice(["full"] * 5 + ["chain", "ring", "star", "any"])
    if kind == "full" or len(nodes) < 3:
        return full_graph(drawn)
    if kind == "star":
        return tuple((nodes[0], other) for other in nodes[1:])
    chain = list(pairwise(nodes))
    if kind == "chain":
        return tuple(chain)
    if kind == "ring":
        return (*chain, (nodes[0], nodes[-1]))
    tree = [(nodes[rng.randrange(i)], nodes[i]) for i in range(1, len(nodes))]
    more = [pair for pair in full_graph(drawn) if pair not in tree and rng.random() < 0.4]
    return (*tree, *more)
