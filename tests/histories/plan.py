"""Draws by a seed what is done to the nodes: faults one after another, a pause after every few."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

Pair = tuple[int, int]
"""(the node that sends, the node that receives)."""
CUTS = ("halves", "one alone", "bridge", "one way", "ring")
WEATHER, CALM = "weather", ""
STRIKES = ("kill", "reboot", "stop", "stop and kill", "restart", "clock")
FORGETFUL = ("kill", "reboot", "stop and kill", "restart")
"""After these a node may have lost its memory."""
MOST_FORGETFUL = 3
"""The most nodes that may lose their memory between two pauses: the others still have what all had
agreed on."""
KINDS = (*CUTS, WEATHER, *STRIKES)
SHORT, LONG = (0.3, 4.0), (6.0, 20.0)
"""Seconds of a fault: before and after peers count as silent, late or dead."""


@dataclass(frozen=True)
class Blow:
    """One fault of the network, of a node, or of both at once."""

    network: str
    """The shape of a cut, weather, or calm."""
    blocked: frozenset[Pair]
    strike: str
    """What happens to the nodes; "" when nothing does."""
    nodes: tuple[int, ...]
    """The numbers of these nodes; it happens to all at once."""
    seconds: float
    rest: float
    """Seconds without a fault after it; 0: the next one begins before the network is whole."""

    def __str__(self) -> str:
        struck = " ".join([self.strike, *map(str, self.nodes)])
        return " + ".join([self.network] * bool(self.network) + [struck] * bool(self.strike))


@dataclass(frozen=True)
class Chapter:
    """A stretch without faults, then faults; a pause comes after it."""

    calm: float
    blows: tuple[Blow, ...]


def draw(seed: int, seconds: float, nodes: int, kinds: tuple[str, ...] = KINDS) -> list[Chapter]:
    """Draws chapters that take about so long together, without pauses. `kinds`: the faults to draw
    from, at least one."""
    rng = random.Random(seed)
    chapters: list[Chapter] = []
    left = seconds
    while left > 0:
        calm, blows, forgetful = rng.uniform(1.0, 3.0), [], set[int]()
        spent = calm
        length = min(left, rng.uniform(10.0, 25.0))
        while spent < length:
            blow = draw_blow(rng, nodes, kinds, forgetful)
            blows.append(blow)
            spent += blow.seconds + blow.rest
        chapters.append(Chapter(calm, tuple(blows)))
        left -= spent
    return chapters


def draw_blow(rng: random.Random, nodes: int, kinds: tuple[str, ...], forgetful: set[int]) -> Blow:
    """Draws one fault. `forgetful`: the nodes that an earlier one may have cost their memory."""
    faults = [one for one in kinds if one not in STRIKES]
    strikes = [one for one in kinds if one in STRIKES]
    what = rng.choice([(True, False), (False, True), (True, True)])
    network = rng.choice(faults) if faults and (what[0] or not strikes) else CALM
    strike = rng.choice(strikes) if strikes and (what[1] or not faults) else ""
    struck = rng.sample(range(nodes), rng.choice([1, 1, 2]))
    if strike in FORGETFUL:
        if len(forgetful.union(struck)) > MOST_FORGETFUL:
            struck = rng.sample(sorted(forgetful), 1)
        forgetful.update(struck)
    blocked = cut(network, nodes, rng) if network in CUTS else frozenset()
    rest = rng.choice([0.0, rng.uniform(0.2, 2.0)])
    seconds = rng.uniform(*rng.choice([SHORT, SHORT, SHORT, LONG]))
    return Blow(network, blocked, strike, tuple(struck) if strike else (), seconds, rest)


def cut(shape: str, nodes: int, rng: random.Random) -> frozenset[Pair]:
    """The ways that are closed in a network that is cut in this shape."""
    order = rng.sample(range(nodes), nodes)
    half = nodes // 2
    left, middle, right = order[:half], order[half], order[half + 1 :]
    ways: Iterator[Pair]
    if shape == "halves":
        ways = _both(left, [middle, *right])
    elif shape == "one alone":
        ways = _both([middle], left + right)
    elif shape == "bridge":  # one node reaches both sides
        ways = _both(left, right)
    elif shape == "one way":  # the others receive nothing from one half
        ways = ((a, b) for a in left for b in [middle, *right])
    elif shape == "ring":  # each has two neighbours
        apart = range(2, nodes - 1)
        ways = ((order[i], order[(i + n) % nodes]) for i in range(nodes) for n in apart)
    else:
        raise ValueError(f"{shape!r} is no shape of a cut: take one of {', '.join(CUTS)}")
    return frozenset(ways)


def _both(left: list[int], right: list[int]) -> Iterator[Pair]:
    for a in left:
        for b in right:
            yield a, b
            yield b, a
