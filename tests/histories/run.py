"""One run: a plan is carried out on a cluster, and what happened is returned."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.compositions.process import Failed
from tests.histories.cluster import Cluster
from tests.histories.history import Fault, History
from tests.histories.namespaces import NamespaceNetwork, NoNamespaces
from tests.histories.network import Network, ProxiedNetwork
from tests.histories.plan import WEATHER, Blow, Chapter

NODES = 5
NETWORKS = ("auto", "namespaces", "proxies")
STORM = (0.2, 0.2, 0.15)
"""The most seconds of delay and of jitter, and the largest share of lost packets."""
CLEAR = (0.0, 0.0, 0.0)
CLOCK_STEPS_S = (-86_400.0, -60.0, 3_600.0)


@dataclass(frozen=True)
class Load:
    """The number of nodes, and what their clients do."""

    nodes: int = NODES
    calls_per_second: float = 25.0
    """The calls of the client of each node."""


def network(kind: str, nodes: int, seed: int) -> tuple[Network, str]:
    """The network of a run, and its name. Raises `NoNamespaces` where they are asked for and cannot
    be made; "auto" takes proxies then."""
    if kind != "proxies":
        try:
            made = NamespaceNetwork(nodes, seed)
            return made, made.told
        except NoNamespaces as error:
            if kind == "namespaces":
                raise
            return ProxiedNetwork(nodes), f"{ProxiedNetwork.told} ({error})"
    return ProxiedNetwork(nodes), ProxiedNetwork.told


async def play(cluster: Cluster, chapters: list[Chapter], seed: int) -> Failed | None:
    """Carries out a plan. Returns the failure of a process that did not do what it was told, if
    there was one."""
    rng = random.Random(seed)
    try:
        async with cluster.running():
            await cluster.pause()  # all are linked
            for chapter in chapters:
                cluster.history.pauses[-1].resumed = cluster.now()
                cluster.resume()
                await asyncio.sleep(chapter.calm)
                for blow in chapter.blows:
                    await befall(cluster, blow, rng)
                    await asyncio.sleep(blow.rest)
                await cluster.pause()
    except Failed as failed:
        return failed
    return None


def run(
    chapters: list[Chapter], kind: str, seed: int, load: Load, keep: Path | None = None
) -> tuple[History, str, Failed | None]:
    """Plays a plan. Returns the history, the name of the network, and a failure that no history
    shows. `keep`: a folder for logs and states."""
    between, told = network(kind, load.nodes, seed)
    with tempfile.TemporaryDirectory(prefix="crdtbucket-history-") as folder:
        place = Path(folder) if keep is None else keep
        place.mkdir(parents=True, exist_ok=True)
        for state in place.glob("state-*"):  # of an earlier run with this seed
            shutil.rmtree(state)
        calls = load.calls_per_second
        cluster = Cluster(place, between, nodes=load.nodes, seed=seed, calls_per_second=calls)
        failed = asyncio.run(play(cluster, chapters, seed))
        return cluster.history, told, failed


async def befall(cluster: Cluster, blow: Blow, rng: random.Random) -> None:
    """Plays one fault from beginning to end; the network stays as it is when no rest follows."""
    fault = Fault(str(blow), cluster.now())
    cluster.history.faults.append(fault)
    cluster.whole &= not blow.network
    cluster.network.block(blow.blocked)
    weather = [rng.uniform(0, most) for most in STORM] if blow.network == WEATHER else CLEAR
    cluster.network.weather(*weather)
    together = blow.network and blow.strike
    part = blow.seconds / 3 if together else blow.seconds
    if together:  # the nodes fail and come back while the network is disturbed
        await asyncio.sleep(part)
    if blow.strike:
        await asyncio.gather(*(strike(cluster, blow, one, part, rng) for one in blow.nodes))
    if blow.network:
        await asyncio.sleep(part)
    if blow.rest:
        cluster.network.weather(*CLEAR)
        cluster.network.block(frozenset())
    fault.end = cluster.now()


async def strike(
    cluster: Cluster, blow: Blow, number: int, seconds: float, rng: random.Random
) -> None:
    """Plays what happens to one node, which runs again after so many seconds."""
    node = cluster.nodes[number]
    if blow.strike in ("kill", "reboot"):
        await cluster.kill(node)
        await asyncio.sleep(seconds)
        rebooted = blow.strike == "reboot"
        if rebooted:
            cluster.network.reboot(number, rng)
        await cluster.start(node, rebooted=rebooted)
    elif blow.strike == "restart":
        await cluster.close(node)
        await asyncio.sleep(seconds)
        await cluster.start(node)
    elif blow.strike == "clock":
        async with node.asking:
            await node.process.ask("step_clock", seconds=rng.choice(CLOCK_STEPS_S))
    else:
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        if blow.strike == "stop":
            node.signal(signal.SIGCONT)
        else:  # callers that wait for it get no answer
            await cluster.kill(node)
            await cluster.start(node)
