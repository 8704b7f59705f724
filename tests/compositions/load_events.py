"""Events while the callers of processes go on asking, and what each may cost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from dataclasses import replace

from tests.compositions import events
from tests.compositions.fleet import Bound, Feature
from tests.compositions.loaded import (
    CAPACITY,
    REFILL,
    STARVED_S,
    Cost,
    LoadedEvent,
    LoadedFleet,
)
from tests.compositions.process import Failed

HOSTS = {
    "hosts": Feature(3, shared=True, mesh=True),
    "chain": Feature(4, 2, shared=True, mesh=True, links=((0, 1), (1, 2), (2, 3))),
    "hubs": Feature(6, 2, shared=True, mesh=True, links=((0, 1), (0, 2), (0, 3), (1, 4), (1, 5))),
}
"""Hosts with a shared table each: three that all reach each other, and two graphs with two
processes a host, in which all that node 0 sends or receives passes node 1."""


async def leader_killed(loaded: LoadedFleet) -> Cost:
    """The process that has the peers' connections of its host is killed; another one takes its
    place."""
    host = loaded.fleet.nodes[1]
    looks = [await one.look() for one in host]
    leader = next(one for one, look in zip(host, looks, strict=True) if look["leading"])
    others = [one for one in host if one is not leader]
    await leader.kill()

    async def followed() -> bool:
        return any([(await one.look())["leading"] for one in others])

    await loaded.fleet.until(followed, lambda: "nobody followed the leader")
    await leader.start()
    return loaded.cost()


async def hub_killed(loaded: LoadedFleet) -> Cost:
    """All processes of a host are killed through which others reach each other; it comes back."""
    host = loaded.fleet.nodes[1]
    await asyncio.gather(*(one.kill() for one in host))
    await asyncio.sleep(loaded.apart)
    await asyncio.gather(*(one.start() for one in host))
    return loaded.cost()


async def process_killed(loaded: LoadedFleet) -> Cost:
    """One process is killed, and starts again at once."""
    one = loaded.processes[0]
    await one.kill()
    await one.start()
    return loaded.cost(_of_one(loaded))


async def all_killed(loaded: LoadedFleet) -> Cost:
    """All processes are killed at once: memory without a store is lost."""
    return loaded.cost(await events.all_killed(loaded.fleet))


async def all_at_once(loaded: LoadedFleet) -> Cost:
    """All processes end in order and start again together."""
    return loaded.cost(await events.all_at_once(loaded.fleet))


def _of_one(loaded: LoadedFleet) -> Bound:
    """What may be forgotten when a process ends: all, where no other one has it."""
    alone = len(loaded.processes) == 1 and not loaded.fleet.feature.keeps
    return Bound(beyond=loaded.fleet.granted if alone else 0)


async def hosts_replaced(loaded: LoadedFleet) -> Cost:
    """One host after another ends in order and starts again."""
    return loaded.cost(await events.rolling_deploy(loaded.fleet))


async def processes_replaced(loaded: LoadedFleet) -> Cost:
    """One process after another ends in order and starts again; another process of its host
    serves."""
    for one in loaded.processes:
        await one.close()
        await one.start()
    return loaded.cost(_of_one(loaded))


async def limit_changed(loaded: LoadedFleet) -> Cost:
    """The limit is doubled for a while."""
    await loaded.redefine(2)
    await asyncio.sleep(loaded.apart)
    await loaded.redefine(1)
    return loaded.cost()


async def link_cut(loaded: LoadedFleet) -> Cost:
    """Nothing passes the link between nodes 0 and 1 for a while, and neither end is informed."""
    network = loaded.fleet.network
    assert network is not None
    network.block(frozenset([(0, 1), (1, 0)]))
    await asyncio.sleep(loaded.apart)
    network.block(frozenset())
    return loaded.cost()


async def all_stood_still(loaded: LoadedFleet) -> Cost:
    """SIGSTOP of all for longer than the bucket takes to refill, and for the longer of the two
    faults until the connections end, too; then each has a burst waiting. Nodes of a mesh decide it
    before they read what the others took, so each gives out up to a capacity. All of that is owed:
    as much as a bucket can owe is repaid before more is given out."""
    fleet, processes = loaded.fleet, loaded.processes
    for one in processes:
        one.signal(signal.SIGSTOP)
    await asyncio.sleep(CAPACITY / REFILL + loaded.apart)
    before, end = fleet.granted, time.monotonic()
    bursts = [asyncio.create_task(one.burst(2 * CAPACITY)) for one in processes]
    await asyncio.sleep(0.1)  # they are asked for it, and wait
    for one in processes:
        one.signal(signal.SIGCONT)
    await asyncio.gather(*bursts)
    at_once = (fleet.feature.nodes - 1) * CAPACITY if fleet.feature.mesh else 0
    cost, forgiven = loaded.cost(), max(0, fleet.granted - before - 2 * CAPACITY)
    forgiven += max(0, at_once - CAPACITY)  # of three bursts not every two meet in time
    await asyncio.sleep(1.5 * CAPACITY / REFILL)
    granted, limit = fleet.granted - before, CAPACITY + REFILL * (time.monotonic() - end)
    if granted > limit + cost.beyond + forgiven:
        raise Failed(f"{granted:.0f} of {limit:.0f} since all stood still, {forgiven} forgiven")
    most, starved = cost.beyond + at_once, STARVED_S + CAPACITY / REFILL
    return replace(cost, beyond=most, least=0.0, denies=True, starved=starved)


async def workers_forked(loaded: LoadedFleet) -> Cost:
    """Each process forks a child, which may not decide, and must disturb no other process."""
    return loaded.cost(await events.forked(loaded.fleet))


async def redis_lost(loaded: LoadedFleet) -> Cost:
    """Redis is killed, and comes back empty after a while. Until the nodes have settled what was
    lost there, a node whose buckets no mesh carries may take that much once more; the quotas of the
    time without Redis are less than a limit."""
    redis, carried = loaded.fleet.redis, loaded.fleet.feature.peeks_know
    assert redis is not None
    redis.kill()
    await asyncio.sleep(loaded.apart)
    redis.start()
    await loaded.fleet.serve()
    cost = loaded.cost(Bound(beyond=0 if carried else loaded.fleet.granted))
    return replace(cost, least=0.0, denies=True)


LOADED_EVENTS: dict[str, LoadedEvent] = {
    event.__name__: event
    for event in (
        leader_killed,
        hub_killed,
        process_killed,
        all_killed,
        all_at_once,
        hosts_replaced,
        processes_replaced,
        limit_changed,
        link_cut,
        all_stood_still,
        workers_forked,
        redis_lost,
    )
}


def unloaded(feature: Feature, event: LoadedEvent) -> str:
    """Why this event is not played with this feature; "" where it is."""
    if event in (hub_killed, link_cut) and feature.links is None:
        return "every node reaches every other one"
    if event is leader_killed and not (feature.mesh and feature.processes > 1):
        return "nobody speaks to peers for others"
    if event is workers_forked and feature.serve:
        return "nobody runs code in the process of a server"
    if event is workers_forked and not (feature.mesh or feature.strong):
        return "a child may decide, and may be denied"
    return "no Redis is asked" if event is redis_lost and not feature.strong else ""


def loaded_cells(features: Mapping[str, Feature]) -> list[tuple[str, str]]:
    """The cells of these features: a feature and an event, by their names."""
    return [
        (name, event)
        for name, feature in features.items()
        for event, happens in LOADED_EVENTS.items()
        if not unloaded(feature, happens)
    ]
