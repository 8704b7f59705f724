"""How long until all nodes know of a take?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from benchmarks.measure import Case, Comparison, Scale
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

QUESTION = "how long after a take do all nodes hold the same columns?"
NODES = 5
LATENCY, JITTER = 0.08, 0.5
STEP = 0.002
LONGEST = 60.0
BUCKET, KEY = "bench", "tenant-42"


def converge(loss: float, seed: int, warm_up: float, nodes: int = NODES) -> float:
    """Ms from a take on one node of a running mesh until every node has its column."""
    # The key stays in debt for longer than this takes, since a full key is not sent to nodes that
    # lack it.
    spec, names = BucketSpec(BUCKET, 1_000, 1, "1h"), [f"n{i}" for i in range(nodes)]
    mesh = SimulatedMesh(
        names, [spec], latency=LATENCY, jitter=JITTER, loss=loss, seed=seed, max_keys=1_000
    )
    # The take comes at another phase of the round with every seed.
    mesh.advance(warm_up + mesh.random.random() * 0.1)
    mesh[names[0]].take(BUCKET, KEY)
    wanted, elapsed = mesh[names[0]].columns(BUCKET, KEY), 0.0
    while any(mesh[name].columns(BUCKET, KEY) != wanted for name in names):
        if elapsed > LONGEST:
            raise AssertionError(f"not converged after {LONGEST} s: loss {loss}, seed {seed}")
        mesh.advance(STEP)
        elapsed += STEP
    return elapsed * 1e3


def _case(loss: float, warm_up: float) -> Callable[[], tuple[float, ...]]:
    seeds = count()
    return lambda: (converge(loss, next(seeds), warm_up),)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Without loss, and up to half of the frames lost."""
    warm_up = 0.5 if scale.name == "smoke" else 2.0
    losses = (0, 0.05, 0.1, 0.2, 0.3, 0.5) if scale.name == "full" else (0, 0.05, 0.3)
    yield Comparison(
        f"{NODES} nodes, {LATENCY * 1e3:.0f} ms one way +-{JITTER:.0%}, rounds every 100 ms",
        ("ms until all agree",),
        [
            Case("floor: the network's mean one-way delay", lambda: (LATENCY * 1e3,)),
            *(
                Case(f"{loss:.0%} of frames lost", _case(loss, warm_up), at=100 * loss)
                for loss in losses
            ),
        ],
        note="simulated time, one seed a repeat; lost frames are not sent again below the mesh",
        repeats=scale.pick(40, 10, 2),
    )
