"""What does the mesh cost a node, against the number of nodes and of keys?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.measure import Case, Comparison, Scale
from benchmarks.simulated import SPECS, Load, changing_keys, cost, hold, idle, one_hot_key
from crdtbucket.testing import SimulatedMesh

QUESTION = "what does gossip cost a node, in bytes and CPU time?"
UNITS = ("kB sent /s a node", "CPU ms /s a node", "frames sent /s a node")
LOADS: dict[str, Load] = {
    "idle": idle,
    "one hot key on every node": one_hot_key,
    "1,000 changing keys/s in the mesh": partial(changing_keys, 1_000),
}
NOTE = (
    "simulated network, real protocol, core and codec; frames as handed to the transport, whose "
    "framing and authentication come on top; CPU of ticks and receives; rounds every 100 ms"
)
FEW = 3


def _case(nodes: int, load: Load, seconds: float, held: int = 0) -> Callable[[], tuple[float, ...]]:
    # All keys that are held must have reached all nodes before the measurement begins.
    warm_up = (3.0 if seconds > 1 else 0.5) + held / 40_000

    def run() -> tuple[float, ...]:
        mesh = SimulatedMesh([f"n{i}" for i in range(nodes)], SPECS, max_keys=1_500_000)
        hold(mesh, held)
        return cost(mesh, load, warm_up, seconds)

    return run


def by_nodes(scale: Scale) -> Iterator[Comparison]:
    """Yields each load on meshes of 3 to 50 nodes."""
    # Anti-entropy runs every 10 s: small meshes are measured for two rounds of it.
    watched = {
        3: scale.pick(20, 10, 1),
        5: scale.pick(20, 0, 0),
        10: scale.pick(20, 5, 1),
        20: scale.pick(10, 1, 0),
        50: scale.pick(4, 0, 0),
    }
    for title, load in LOADS.items():
        cases = [Case(f"{n} nodes", _case(n, load, s), at=n) for n, s in watched.items() if s]
        yield Comparison(title, UNITS, cases, note=NOTE, repeats=1)


def by_keys(scale: Scale) -> Iterator[Comparison]:
    """Yields meshes of three nodes, by the number of keys that change, and of keys in debt that do
    not."""
    rates = {"full": (100, 1_000, 10_000, 50_000), "quick": (100, 10_000), "smoke": (100, 1_000)}
    seconds = scale.pick(20, 5, 1)
    yield Comparison(
        f"changing keys a second, {FEW} nodes",
        UNITS,
        [
            Case(f"{n:,} keys/s", _case(FEW, partial(changing_keys, n), seconds), at=n)
            for n in rates[scale.name]
        ],
        note=NOTE,
        repeats=1,
    )
    held = {"full": (1_000, 10_000, 100_000, 500_000), "quick": (1_000, 20_000), "smoke": (10, 100)}
    yield Comparison(
        f"keys in debt that do not change, {FEW} nodes",
        UNITS,
        [Case(f"{n:,} keys", _case(FEW, idle, seconds, n), at=n) for n in held[scale.name]],
        note=NOTE + "; compared every 10 s",
        repeats=1,
    )


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields the cost by nodes, then by keys."""
    yield from by_nodes(scale)
    yield from by_keys(scale)
