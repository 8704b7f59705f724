"""What does the mesh cost a node, against the number of nodes and the load?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.measure import Case, Comparison, Scale
from benchmarks.simulated import Load, changing_keys, cost, idle, one_hot_key

QUESTION = "what does gossip cost a node, in bytes and CPU time?"
UNITS = ("kB sent /s a node", "CPU ms /s a node", "frames sent /s a node")
LOADS: dict[str, Load] = {
    "idle": idle,
    "one hot key on every node": one_hot_key,
    "1,000 changing keys/s in the mesh": changing_keys,
}


def _case(nodes: int, load: Load, seconds: float) -> Callable[[], tuple[float, ...]]:
    return lambda: cost(nodes, load, warm_up=3.0 if seconds > 1 else 0.5, seconds=seconds)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Each load at 3, 10 and 50 nodes."""
    # Anti-entropy comes every 10 s: the small meshes are watched for two turns of it.
    watched = {3: scale.pick(20, 20, 1), 10: scale.pick(20, 10, 1), 50: scale.pick(4, 2, 0)}
    for title, load in LOADS.items():
        yield Comparison(
            f"{title}, rounds every 100 ms",
            UNITS,
            [Case(f"{n} nodes, {s} s of it", _case(n, load, s)) for n, s in watched.items() if s],
            note="simulated network, real protocol, core and codec; frames as handed to the "
            "transport, whose framing and authentication come on top; CPU of ticks and receives",
            repeats=1,
        )
