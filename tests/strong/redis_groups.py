"""Real servers that belong together: a primary with its sentinels, and a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from crdtbucket.strong.redis.topology import SLOTS
from tests.strong.redis_server import Server
from tests.waits import eventually


@contextlib.asynccontextmanager
async def watched(
    program: str = "redis-server", *options: str
) -> AsyncIterator[tuple[Server, Server, list[Server]]]:
    """A primary, its replica, and three sentinels that know them and fail over quickly."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(Server(*options, program=program))
        follow = f"replicaof {primary.host} {primary.port}"
        replica = stack.enter_context(Server(follow, *options, program=program))
        watch = (
            f"sentinel monitor main {primary.host} {primary.port} 2",
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 3000",
        )
        sentinels = [
            stack.enter_context(Server(*watch, program=program, sentinel=True)) for _ in range(3)
        ]
        await eventually(lambda: all(_knows_all(one) for one in sentinels))
        yield primary, replica, sentinels


def _knows_all(sentinel: Server) -> bool:
    reply = sentinel.call("SENTINEL", "MASTER", "main")
    told = dict(zip(reply[::2], reply[1::2], strict=True))
    return told[b"num-slaves"] == b"1" and told[b"num-other-sentinels"] == b"2"


@contextlib.asynccontextmanager
async def cluster(
    program: str = "redis-server", *options: str, replicas: bool = False
) -> AsyncIterator[list[Server]]:
    """Three primaries that share the slots; with `replicas` also a replica of each, in their
    order."""
    count = 6 if replicas else 3
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(
                Server(
                    "cluster-enabled yes", "cluster-node-timeout 3000", *options, program=program
                )
            )
            for _ in range(count)
        ]  # fmt: skip
        for place, one in enumerate(nodes):
            if place < 3:
                first, last = place * SLOTS // 3, (place + 1) * SLOTS // 3 - 1
                one.call("CLUSTER", "ADDSLOTSRANGE", first, last)
            one.call("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        for other in nodes[1:]:
            bus = other.call("CONFIG", "GET", "cluster-port")[1]
            nodes[0].call("CLUSTER", "MEET", other.host, other.port, bus)
        await eventually(lambda: all(_serves(one, count) for one in nodes))
        for primary, replica in zip(nodes[:3], nodes[3:], strict=False):
            replica.call("CLUSTER", "REPLICATE", primary.call("CLUSTER", "MYID"))
        await eventually(lambda: all(_linked(one) for one in nodes[3:]))
        yield nodes


def _serves(one: Server, count: int) -> bool:
    info = one.call("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:%d" % count in info


def _linked(replica: Server) -> bool:
    return b"master_link_status:up" in replica.call("INFO", "replication")
