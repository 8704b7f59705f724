"""A Redis in each region: whatever happens to the replication, every member has every token at the
end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import hiredis

from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments, read_entry
from crdtbucket.strong.redis.script import ScriptCall, owner_name
from crdtbucket.testing.copy_queue import ReplicationFaults
from tests.chaos import faults
from tests.chaos.figure import Figure, Progress, exactly
from tests.chaos.fleet import PATIENT, WIDE, Fleet, opened, until
from tests.strong.redis_server import BOUND, Server
from tests.strong.regions import RegionWorld, region_world

REGIONS = ("eu", "us", "ap")
NODES = 2
"""Nodes in each region."""
SECONDS = 6.0
LAG_S = 0.02
OBSERVER = owner_name(2**64 - 1, "chaos")

Fault = Callable[[RegionWorld, float], Awaitable[None]]
"""Makes the fault for about so many seconds, and ends it."""


async def late(world: RegionWorld, seconds: float) -> None:
    """Copies take half a second, more or less."""
    await _while(world, seconds, lag=0.5, jitter=0.9)


async def torn(world: RegionWorld, seconds: float) -> None:
    """Some fields of a key arrive before the others."""
    await _while(world, seconds, torn=0.7)


async def older(world: RegionWorld, seconds: float) -> None:
    """Older copies arrive again after newer ones."""
    await _while(world, seconds, older=0.5)


async def repeated(world: RegionWorld, seconds: float) -> None:
    """Copies arrive twice."""
    await _while(world, seconds, repeated=0.7)


async def everything(world: RegionWorld, seconds: float) -> None:
    """Late, torn, repeated and older, and one pair is cut."""
    world.replicator.cut((REGIONS[0], REGIONS[2]))
    await _while(world, seconds, lag=0.1, torn=0.4, older=0.3, repeated=0.3)
    world.replicator.heal()


async def _while(world: RegionWorld, seconds: float, **faults: float) -> None:
    held, normal = world.replicator.faults, vars(ReplicationFaults(lag=LAG_S))
    vars(held).update(normal | faults)
    await asyncio.sleep(seconds)
    vars(held).update(normal)


async def cut(world: RegionWorld, seconds: float) -> None:
    """A region is cut off; all that was sent meanwhile arrives after the heal."""
    world.replicator.isolate(REGIONS[1])
    await asyncio.sleep(seconds)
    world.replicator.heal()


async def cut_to_the_newest(world: RegionWorld, seconds: float) -> None:
    """No copy reaches another region; after the heal only the newest copies arrive."""
    for region in REGIONS:
        world.replicator.isolate(region, recorded=False)
    await asyncio.sleep(seconds)
    world.replicator.heal()


async def clock_set_back(world: RegionWorld, seconds: float) -> None:
    """The others take nothing of a region until its clock has caught up."""
    world.replicator.disregard(REGIONS[1])
    await asyncio.sleep(seconds)
    world.replicator.heal()


async def flushed(world: RegionWorld, seconds: float) -> None:
    """A member loses everything, and fields of its own keys come back from the others."""
    world.servers[REGIONS[1]].call("FLUSHALL")
    await asyncio.sleep(seconds / 3)
    await world.replicator.bring_back(REGIONS[1])
    world.replicator.resend(REGIONS[1])
    await asyncio.sleep(seconds / 3)


async def killed(world: RegionWorld, seconds: float) -> None:
    """A member is gone for a while, and comes back empty."""
    world.servers[REGIONS[1]].kill()
    await asyncio.sleep(seconds / 3)
    world.servers[REGIONS[1]].start()


async def restored(world: RegionWorld, seconds: float) -> None:
    """A member's keys go back to what they were before."""
    state = await world.replicator.held(REGIONS[1], REGIONS[1])
    await asyncio.sleep(seconds / 2)
    await world.replicator.restore(REGIONS[1], state)
    await asyncio.sleep(seconds / 4)


def of_member(fault: Callable[[Server, float], Awaitable[None]]) -> Fault:
    """Makes a fault of one server happen to the member of one region."""
    return lambda world, seconds: fault(world.servers[REGIONS[1]], seconds)


FAULTS: dict[str, Fault] = {
    "late": late,
    "torn": torn,
    "older again": older,
    "repeated": repeated,
    "everything": everything,
    "cut": cut,
    "cut to the newest": cut_to_the_newest,
    "clock set back": clock_set_back,
    "flushed": flushed,
    "killed": killed,
    "restored": restored,
    "member frozen": of_member(faults.freeze),
    "member read only": of_member(faults.refuse_writes),
    "member full": of_member(faults.fill),
    "member without scripts": of_member(faults.forget_scripts),
}
LOSING = ("flushed", "killed", "restored")
"""After these faults a member may lack what a node took just before. The node sends it with its
next call of the key, so each node makes one more call before the books are compared."""


@dataclass(frozen=True)
class RegionAudit:
    """Tokens, over all nodes, buckets and keys; `lost` and `over` over all members, too."""

    consumed: int
    """Tokens that callers took, less those that they gave back, without history."""
    history: int
    """Tokens consumed of keys that have been full since, in entries that their node has evicted."""
    lost: int
    """Tokens consumed and not charged, counted at each member for each node and key by itself."""
    over: int
    """Tokens charged and not consumed."""
    level: int
    """The tokens by which the levels of keys that do not refill differ from what was consumed."""

    @property
    def exact(self) -> bool:
        return self.consumed > 0 and not self.lost and not self.over


@dataclass(frozen=True)
class RegionRun:
    """The fleet and the audit after one fault."""

    decisions: int
    modes: str
    audit: RegionAudit


def region_fleet(world: RegionWorld, **options: Any) -> AbstractAsyncContextManager[Fleet]:
    """Two nodes in each region; `options` as of `opened`."""
    places = [
        (f"{region}-{number}", world.config(region), region)
        for number in range(NODES)
        for region in REGIONS
    ]
    return opened(places, **options)


async def under(
    fault: str,
    calls: int,
    *,
    seconds: float = SECONDS,
    mesh: bool = True,
    seed: int = 0,
    modes: ControllerSettings = PATIENT,
) -> RegionRun:
    """Plays a load of `calls` decisions with a fault of about `seconds` in it, and audits after
    that."""
    async with (
        region_world(*REGIONS, faults=ReplicationFaults(lag=LAG_S)) as world,
        region_fleet(world, mesh=mesh, seed=seed, modes=modes) as nodes,
    ):
        async with nodes.loaded(calls, 2 * seconds):
            await asyncio.sleep(seconds / 4)
            await FAULTS[fault](world, seconds)
            await until(lambda: nodes.strong, BOUND)
        if fault in LOSING:
            await restate(nodes)
        await until(lambda: nodes.settled, BOUND)
        await look(world, nodes)
        return RegionRun(nodes.decisions, nodes.mode_counts, audit(world, nodes))


def lines_of(nodes: Fleet) -> list[tuple[str, str]]:
    return sorted({line for client in nodes.clients for line in client.consumed})


async def restate(nodes: Fleet) -> None:
    """Lets every node call each key again that it has taken from."""
    for client in nodes.clients:
        for bucket, key in list(client.consumed):
            await nodes.timed(client, bucket, key, 1)


async def look(world: RegionWorld, nodes: Fleet) -> None:
    """Waits until all copies have arrived, and lets each region merge them by a call that takes
    nothing."""
    await world.replicator.caught_up(BOUND)
    for bucket, key in lines_of(nodes):
        for region, server in world.servers.items():
            found = nodes.clients[0].bucket(bucket)
            regions = Regions(region, REGIONS)
            arguments = ReplicatedArguments(found.spec, found.spec.capacity, regions)
            name = found.store.ledger.names.key(found, found.hash(key))
            reader = hiredis.Reader()
            reader.feed(arguments.command(ScriptCall(name, 0, OBSERVER, 1, 1, 0, 0, 0)))
            server.call(*reader.gets())


def audit(world: RegionWorld, nodes: Fleet) -> RegionAudit:
    """Compares the own keys of each region with what the callers were answered; the nodes are
    idle."""
    consumed = lost = over = level = 0
    for bucket, key in lines_of(nodes):
        found = nodes.clients[0].bucket(bucket)
        name = found.store.ledger.names.key(found, found.hash(key))
        line = (bucket, key)
        together = sum(client.consumed[line] for client in nodes.clients)
        consumed += together
        for region, server in world.servers.items():
            flat = server.call("HGETALL", Regions(region, REGIONS).key(name))
            entry = read_entry(dict(zip(flat[::2], flat[1::2], strict=True)))
            records = {} if entry is None else entry.records
            for client in nodes.clients:
                held = sum(
                    one.taken - one.refunded
                    for owner, one in records.items()
                    if owner.endswith(b":" + client.name.encode())
                )
                gap = client.consumed[line] - held
                lost, over = lost + max(0, gap), over + max(0, -gap)
            if bucket == WIDE.name and entry is not None:
                level += abs(round(entry.debt / entry.emission) - together)
    history = sum(client.history for client in nodes.clients)
    return RegionAudit(consumed, history, lost, over, level)


async def figures(calls: int, progress: Progress) -> AsyncIterator[Figure]:
    for number, fault in enumerate(FAULTS):
        share = -(-calls // len(FAULTS))
        run = await under(fault, share, mesh=number % 2 == 0, seed=number)
        progress(f"regions, {fault}: {run.decisions} decisions ({run.modes}); {run.audit}")
        found = run.audit
        yield exactly(
            f"regions, {fault}: lost, charged twice at any of three members",
            (0, 0),
            (found.lost, found.over),
            f"{found.consumed} tokens, levels off by {found.level}",
        )
