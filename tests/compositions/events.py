"""Events in the life of a process, and by how much each may change the sum of what is granted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping

from tests.compositions.fleet import CAPACITY, EXACT, Bound, Feature, Fleet
from tests.compositions.process import LibraryProcess, Process

EACH = 12
"""Tokens that every process takes before an event."""
MORE = 50
"""The tokens by which a reload raises the capacity."""
LOAD_GAP_S = 0.002


Event = Callable[[Fleet], Awaitable[Bound]]


async def clean_restart(fleet: Fleet) -> Bound:
    """A process ends in order and starts again; a limiter without a store starts with no memory."""
    one = fleet.processes[-1]
    before = one.granted
    await one.close()
    await one.start()
    return Bound(beyond=0 if len(fleet.processes) > 1 or fleet.feature.keeps else before)


async def killed_and_restarted(fleet: Fleet) -> Bound:
    """A process is killed under load: one take may be counted whose caller never got the answer."""
    one = fleet.processes[0]
    before = one.granted
    await one.load(LOAD_GAP_S)
    await fleet.until(lambda: _grew(one, before), lambda: "the load was granted nothing")
    await one.kill()
    feature = fleet.feature
    # All peers know what it took before the load; the rest may not have reached them.
    unheard = one.granted - EACH
    untold = 0
    if feature.mesh and not feature.strong:
        untold = unheard if feature.processes == 1 else 0
    elif not feature.keeps:
        untold = one.granted
    await one.start()
    return Bound(beyond=untold, lost=1, forgotten=unheard)


async def _grew(one: Process, before: int) -> bool:
    return one.granted >= before + 5


async def all_at_once(fleet: Fleet) -> Bound:
    """All processes end in order and start again together."""
    before = fleet.granted
    await asyncio.gather(*(one.close() for one in fleet.processes))
    await asyncio.gather(*(one.start() for one in fleet.processes))
    feature = fleet.feature
    return Bound(beyond=0 if feature.keeps or feature.mesh else before)


async def all_killed(fleet: Fleet) -> Bound:
    """All processes are killed at once: memory without a store is lost."""
    before = fleet.granted
    await asyncio.gather(*(one.kill() for one in fleet.processes))
    await asyncio.gather(*(one.start() for one in fleet.processes))
    feature = fleet.feature
    kept = feature.keeps or feature.shared
    return Bound(beyond=0 if kept else before, lost=len(fleet.processes), forgotten=before)


async def linked_in_another_order(fleet: Fleet) -> Bound:
    """All nodes start again in the opposite order, and dial their peers in the opposite order."""
    await _linked_in(fleet, tuple(reversed(range(len(fleet.nodes)))))
    return EXACT


async def linked_in_every_order(fleet: Fleet) -> Bound:
    """All nodes start again, each once the ones before it are linked: in every order of up to three
    nodes, in six orders of more."""
    orders = [*itertools.permutations(range(len(fleet.nodes)))]
    for order in orders[:: max(1, len(orders) // 6)]:
        await _linked_in(fleet, order)
        await fleet.agree()
    return EXACT


async def _linked_in(fleet: Fleet, order: tuple[int, ...]) -> None:
    await asyncio.gather(*(one.close() for one in fleet.processes))
    fleet.dial_in(order)
    for count, node in enumerate(order, 1):
        await asyncio.gather(*(one.start() for one in fleet.nodes[node]))
        await fleet.serve(order[:count])


async def rolling_deploy(fleet: Fleet) -> Bound:
    """One node after another is replaced, each once the last one serves; of a single node, one
    process after another. A limiter without a store starts with no memory where it is alone."""
    before = fleet.granted
    alone = len(fleet.nodes) == 1
    for group in [[one] for one in fleet.processes] if alone else fleet.nodes:
        for one in group:
            await one.close()
        for one in group:
            await one.start()
        await fleet.serve()
    return Bound(beyond=0 if len(fleet.processes) > 1 or fleet.feature.keeps else before)


async def forked(fleet: Fleet) -> Bound:
    """A forked child of an open limiter may decide on a table that it shares, or on its copy of the
    parent's table where nothing connects that with others; in all other cases it may not."""
    copied = 0
    for one in fleet.processes:
        assert isinstance(one, LibraryProcess)
        told = (await one.ask("fork"))["told"]
        if fleet.feature.mesh or fleet.feature.strong:
            assert "forked" in told, told
        else:
            assert told == "granted 1"
            one.granted += 1
            copied += not fleet.feature.shared
    return Bound(beyond=copied)


async def spawned(fleet: Fleet) -> Bound:
    """A child that multiprocessing spawns is given no limiter, but may open one of the same file,
    and so may another server: as another process of a shared table, or as another caller of Redis.
    A second node of a mesh with the same name and address is refused."""
    one = fleet.processes[-1]
    told, feature = await one.second(), fleet.feature
    if feature.mesh and not feature.shared:
        assert "set `shared: auto`" in told, told
        return EXACT
    assert told == "granted 1", told
    one.granted += 1
    return Bound(beyond=0 if feature.strong or feature.shared else 1)


async def reloaded(fleet: Fleet) -> Bound:
    """A larger capacity holds everywhere, and what was taken stays taken."""
    fleet.redefine(CAPACITY + MORE)
    await fleet.reload()
    return EXACT


async def redis_away_and_back(fleet: Fleet) -> Bound:
    """Redis is killed, every process takes tokens, and Redis comes back empty."""
    assert fleet.redis is not None
    fleet.redis.kill()

    async def all_left() -> bool:
        looks = [await one.look() for one in fleet.processes]
        return all(look["mode"] != "strong" for look in looks)

    await fleet.until(all_left, lambda: "not every process noticed")
    for one in fleet.processes:
        await one.take(EACH)
    fleet.redis.start()
    await fleet.serve()
    return EXACT


async def loop_blocked(fleet: Fleet) -> Bound:
    """Handlers block the event loops, or servers stand still, in all processes at once."""
    asked = fleet.processes
    await asyncio.gather(*(one.block(seconds=0.1, times=8) for one in asked))
    # No take is sent while its event loop stands still.
    eventual = fleet.feature.mesh and not fleet.feature.strong
    return Bound(beyond=8 * (len(asked) - 1) if eventual else 0)


async def burst(fleet: Fleet) -> Bound:
    """10,000 calls at once in every process."""
    await asyncio.gather(*(one.burst(10_000) for one in fleet.processes))
    feature = fleet.feature
    # What the other nodes admitted before their takes could be merged.
    others = (feature.nodes - 1) * CAPACITY if feature.mesh and not feature.strong else 0
    return Bound(beyond=others)


async def disk_full(fleet: Fleet) -> Bound:
    """No file may grow any more: decisions go on, and a restart costs no more than a kill."""
    one = fleet.processes[-1]
    one.fill_disk()
    await one.take(EACH)
    before = one.granted
    await one.kill()
    await one.start()
    feature = fleet.feature
    if feature.mesh and not feature.strong:
        # Its peers may not know its last takes.
        return Bound(beyond=EACH, lost=1)
    beyond = 0 if feature.keeps or feature.shared else before
    return Bound(beyond=beyond, lost=1, forgotten=EACH)


async def clock_stepped(fleet: Fleet) -> Bound:
    """The wall clock of a process goes back by a day, which no level depends on."""
    one = fleet.processes[0]
    await one.step_clock()
    await one.take(EACH)
    return EXACT


EVENTS: dict[str, Event] = {
    event.__name__: event
    for event in (
        clean_restart,
        killed_and_restarted,
        all_at_once,
        all_killed,
        linked_in_another_order,
        linked_in_every_order,
        rolling_deploy,
        forked,
        spawned,
        reloaded,
        redis_away_and_back,
        loop_blocked,
        burst,
        disk_full,
        clock_stepped,
    )
}

FEATURES = {
    "local": Feature(),
    "shared": Feature(processes=3, shared=True),
    "mesh": Feature(nodes=3, mesh=True),
    "shared_mesh": Feature(nodes=2, processes=2, shared=True, mesh=True),
    "strong": Feature(nodes=3, strong=True),
    "strong_mesh": Feature(nodes=3, strong=True, mesh=True),
    "strong_shared": Feature(nodes=2, processes=2, strong=True, shared=True),
    "strong_shared_mesh": Feature(nodes=2, processes=2, strong=True, shared=True, mesh=True),
    "file_watched": Feature(nodes=2, mesh=True, watch=True),
    "serve": Feature(nodes=2, mesh=True, serve=True),
    "serve_workers": Feature(processes=2, shared=True, serve=True),
    "serve_strong": Feature(nodes=2, strong=True, serve=True),
    "serve_strong_workers": Feature(processes=2, strong=True, shared=True, serve=True),
}


def absent(feature: Feature, event: Event) -> str:
    """Why this event is not played with this feature; "" where it is."""
    if feature.serve and event is forked:
        return "nobody runs code in the process of a server"
    if event in (linked_in_another_order, linked_in_every_order) and not feature.mesh:
        return "there are no peers to link"
    if event is redis_away_and_back and not feature.strong:
        return "no Redis is asked"
    return ""


def cells(features: Mapping[str, Feature]) -> list[tuple[str, str]]:
    """The cells of these features: a feature and an event, by their names."""
    return [
        (name, event)
        for name, feature in features.items()
        for event in EVENTS
        if not absent(feature, EVENTS[event])
    ]


CELLS = cells(FEATURES)


async def play(fleet: Fleet, event: Event) -> None:
    """Plays one cell: takes, the event, and then takes of all that is left. Raises `AssertionError`
    when more or less was granted than the limit and the stated bound allow, or a process does not
    serve again."""
    async with fleet:
        for one in fleet.processes:
            await one.take(EACH)
        await fleet.agree()
        bound = await event(fleet)
        await fleet.serve()
        await fleet.drain(bound)
        granted, most = fleet.granted, fleet.capacity
        assert granted <= most + bound.beyond, f"{granted} of {most} + {bound.beyond} were granted"
        least = most - bound.lost - fleet.kept_for_others
        assert granted >= least, f"only {granted} of {most} were granted"
