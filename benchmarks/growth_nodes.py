"""What does a full mesh cost each node, against the number of nodes?"""

from __future__ import annotations

import gc
import timeit
import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import convergence, sockets
from benchmarks.measure import Case, Comparison, Scale
from benchmarks.scripted import CHANGING, HOT, MANY, Fleet, columns_kept, name_of
from benchmarks.simulated import STEP, changing_keys, cost, idle
from crdtbucket.testing import SimulatedMesh

QUESTION = "what does a full mesh cost each node, at 3 to 1,000 nodes?"
SIZES = (3, 10, 50, 200, 500)
UNITS = ("kB sent /s", "CPU ms /s", "frames sent /s", "largest frame, kB")
LOADS = {
    "idle": "nobody takes anything",
    "hot": f"all nodes take from one key, {2 * HOT.refill_rate:,} calls/s in the mesh",
    "changing": f"{CHANGING:,} new keys/s in the mesh",
}
Values = tuple[float, ...]


def scripted(nodes: int, load: str, seconds: float) -> Values:
    """One real node beside scripted peers, measured for `seconds` after three seconds."""
    fleet = Fleet(nodes, load)
    fleet.advance(3.0)
    sent, frames, spent = fleet.bytes_sent, fleet.frames_sent, fleet.cpu.ns
    fleet.largest = 0
    fleet.advance(seconds)
    return (
        (fleet.bytes_sent - sent) / seconds / 1e3,
        (fleet.cpu.ns - spent) / seconds / 1e6,
        (fleet.frames_sent - frames) / seconds,
        fleet.largest / 1e3,
    )


def hot(mesh: SimulatedMesh, step: int) -> None:
    """Takes from the hot key at random nodes."""
    names = list(mesh.nodes)
    for _ in range(round(2 * HOT.refill_rate * STEP)):
        mesh[mesh.random.choice(names)].take(HOT.name, "hot")


def real(nodes: int, load: str, seconds: float) -> Values:
    """A mesh of real nodes under the same load, measured on all of them."""
    mesh = SimulatedMesh([name_of(i) for i in range(nodes)], [HOT, MANY], max_keys=200_000)
    takes = {"idle": idle, "hot": hot, "changing": partial(changing_keys, CHANGING)}[load]
    return (*cost(mesh, takes, 3.0, seconds), 0.0)


def held(nodes: int) -> Values:
    """KB of the Python objects of the protocol, in all and for each peer; bytes of the table for a
    key with all columns; and how many columns are kept when the table is full of such keys."""
    tracemalloc.start(4)
    fleet = Fleet(nodes, "hot")
    fleet.advance(1.0)
    gc.collect()
    taken = tracemalloc.take_snapshot()
    tracemalloc.stop()
    ours = tracemalloc.Filter(True, "*/crdtbucket/*", all_frames=True)
    size = sum(trace.size for trace in taken.filter_traces([ours]).traces)
    a_key, _ = columns_kept(nodes, 100, 10_000)
    _, kept = columns_kept(nodes, 1000, 1000)
    return size / 1e3, size / 1e3 / (nodes - 1), a_key, kept


def one_key(nodes: int, calls: int) -> Values:
    """Us for a take, for writing the entry, and for merging one; and its bytes."""
    fleet = Fleet(nodes, "hot")
    fleet.advance(2.0)
    table, roster, peer = fleet.table, fleet.node.roster, fleet.peers[0]
    entry = array("I", [table.find(*fleet.hot.hash("hot"))])
    _, positions = roster.announced()
    link, resolved = fleet.node.links[peer.name], roster.restore(fleet.tables)
    size = len(table.outbox.encode_entries(entry, 0, positions, 100_000)[0])

    def merge() -> None:
        payload, at = fleet.hot_entry(), fleet.now
        table.inbox.merge(payload, resolved.definitions, resolved.origins,
                    node=link.node, epoch=peer.epoch, at=at)  # fmt: skip

    def spent(call: Callable[[], object]) -> float:
        return min(timeit.repeat(call, number=calls, repeat=3)) / calls * 1e6

    return (
        spent(lambda: fleet.hot.take("hot")),
        spent(lambda: table.outbox.encode_entries(entry, 0, positions, 100_000)),
        spent(merge),
        float(size),
    )


def linked(nodes: int) -> Values:
    """The number of peers that a node links with when so many offer to, and of those that it
    refuses."""
    fleet = Fleet(nodes)
    return float(fleet.linked), float(len(fleet.refused))


def converge(nodes: int, repeats: Iterator[int]) -> Values:
    """Ms until all nodes have the column of a take, in a mesh of real nodes."""
    return (convergence.converge(0.0, next(repeats), 0.3, nodes),)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields traffic and CPU by load, the memory of a node, the cost of a key, convergence, and the
    most links."""
    yield from loads(scale)
    sizes = [n for n in SIZES if scale.name != "smoke" or n <= 10]
    yield Comparison(
        "memory of the protocol",
        ("kB", "kB a peer", "table bytes a key with all columns", "columns a key in a full table"),
        [Case(f"{n} nodes", partial(held, n)) for n in sizes],
        note="Python objects that a node keeps of its peers, and what the table holds of a key "
        "that all nodes took from",
        repeats=1,
    )
    yield Comparison(
        "one key that all nodes took from",
        ("us a take", "us to write it", "us to merge it", "bytes of it"),
        [Case(f"{n} nodes", partial(one_key, n, scale.pick(500, 300, 10))) for n in sizes],
        repeats=scale.repeats,
    )
    together = [n for n in (3, 10, 50, 200) if n <= scale.pick(200, 50, 3)]
    yield Comparison(
        "convergence of real nodes, 80 ms one way +-50 %, rounds every 100 ms",
        ("ms until all agree",),
        [
            Case("floor: the network's mean one-way delay", lambda: (80.0,)),
            *(Case(f"{n} nodes", partial(converge, n, iter(range(99)))) for n in together),
        ],
        repeats=scale.pick(5, 5, 1),
    )
    yield Comparison(
        "peers that one node can link with",
        ("linked", "refused"),
        [Case(f"{n} nodes", partial(linked, n)) for n in (50, 200, 512, 1000)],
        note="with mesh.max_peers at its most; by default a node takes 64 peers",
        repeats=1,
    )


def loads(scale: Scale) -> Iterator[Comparison]:
    """Traffic and CPU under each load, and whole processes on sockets."""
    # Updates about the members go over every link every 10 s, in a large mesh every 40 s.
    seconds, shorter = scale.pick(40, 10, 1), scale.pick(20, 10, 1)
    for load, title in LOADS.items():
        sizes = [n for n in SIZES if scale.name != "smoke" or n <= 50]
        both = [n for n in (3, 10, 50) if n <= scale.pick(50, 10, 3)]
        yield Comparison(
            f"per node: {title}",
            UNITS,
            [
                *(Case(f"{n} nodes, scripted", partial(scripted, n, load, seconds)) for n in sizes),
                *(Case(f"{n} nodes, all real", partial(real, n, load, shorter)) for n in both),
            ],
            note="rounds every 100 ms; scripted: one real node, the others send what a real one "
            "would; CPU of the protocol alone",
            repeats=1,
        )
    yield Comparison(
        "whole processes on loopback sockets, idle",
        ("us of CPU a frame, sent and received", "frames sent /s a node"),
        [
            Case(f"{n} nodes", partial(sockets.cost, n, scale.pick(3, 2, 1)))
            for n in ((3, 8, 16, 24) if scale.name != "smoke" else (2, 3))
        ],
        note="all nodes in one process: protocol, authentication, WebSocket, kernel",
        repeats=scale.pick(3, 1, 1),
    )
