"""Redis as the engine, on real servers: what differs from other engines."""

from __future__ import annotations

import asyncio
import random

import pytest

from crdtbucket.mesh.engines.engine_exchange import EngineExchange
from crdtbucket.mesh.engines.engines import engine_of
from crdtbucket.mesh.links.counters import MeshCounters
from crdtbucket.mesh.mesh_config import MeshConfig
from tests.strong.redis_server import Server


async def test_a_node_that_a_failover_has_left_at_a_replica_is_warned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its peers are at the new primary, and its messages do not get there."""
    with Server() as master, Server(f"replicaof {master.host} {master.port}") as replica:
        told = []
        for server in (master, replica):
            config = MeshConfig(transport="redis", servers=[server.url], secret="a secret of tests")
            engine = engine_of(config, "a", random.Random(1))
            exchange = EngineExchange(engine, config, MeshCounters(), name="a", instance=1)
            exchange.start()
            await asyncio.wait_for(exchange.online.wait(), 60)
            assert engine.place
            await exchange.stop()
            told.append(caplog.text.count(f"Redis at {server.host}:{server.port} is a replica"))
        assert told == [0, 1]
