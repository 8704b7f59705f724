"""Nodes at a message engine are asked there, since they have no addresses."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from crdtbucket import Limiter
from crdtbucket.config import Config, load_config
from crdtbucket.errors import ConfigError
from crdtbucket.mesh.engines import engine_caller, engine_exchange
from crdtbucket.reconcile.asked_fleet import reconcile
from crdtbucket.reconcile.findings import Report
from tests.mesh.engines.nats_server import NatsServer
from tests.strong.redis_server import BOUND, Server, free_port
from tests.waits import eventually

FILE = """
mesh: {{transport: {kind}, servers: ["{kind}://127.0.0.1:{port}"], secret: a secret of these tests}}
services: {{api: {{bucket: {{capacity: 300, refill_rate: 1, refill_interval: 1h}}}}}}
"""


def written(folder: Path, kind: str, port: int) -> Config:
    path = folder / "crdtbucket.yaml"
    path.write_text(FILE.format(kind=kind, port=port))
    return load_config(path)


async def found_all(config: Config, count: int) -> Report:
    """A run that has got answers of so many nodes, however slow the machine is."""
    deadline = time.monotonic() + BOUND
    while True:
        report = await reconcile(config, name="a test", timeout=BOUND)
        if len(report.holders) == count and report.complete:
            return report
        assert time.monotonic() < deadline, report


@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_all_nodes_at_an_engine_are_asked_and_sent_what_they_lack(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_exchange, "ANNOUNCE_S", 0.05)
    monkeypatch.setattr(engine_caller, "ANNOUNCED_S", 0.3)
    with NatsServer() if kind == "nats" else Server() as server:
        config = written(tmp_path, kind, server.port)
        async with AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(Limiter.from_file(config.path, node=name))
                for name in ("eu-1", "us 1")
            ]
            await eventually(lambda: all("alive" in one.stats()["peers"].values() for one in nodes))
            assert nodes[0].bucket("api").take("k", 10)
            report = await found_all(config, 2)
            assert [(one.name, one.keys) for one in report.holders] == [("eu-1", 1), ("us 1", 1)]
            one = await reconcile(config, name="a", peers=[nodes[1].address], timeout=BOUND)
            errors = {found.name: found.error for found in one.holders}
            assert errors == {"us 1": None, "eu-1": "it was not asked"}
            assert all(one.stats()["peers"].keys() < {"eu-1", "us 1"} for one in nodes)


@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_an_engine_without_nodes_and_one_that_is_gone_are_reported(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_caller, "ANNOUNCED_S", 0.0)
    with NatsServer() if kind == "nats" else Server() as server:
        report = await reconcile(written(tmp_path, kind, server.port), name="a", timeout=BOUND)
    assert "no node announced itself" in str(report.holders[0].error)
    assert not report.complete
    report = await reconcile(written(tmp_path, kind, free_port()), name="a", timeout=BOUND)
    assert "correct mesh.servers" in str(report.holders[0].error)
    assert not report.complete


@pytest.mark.parametrize(
    ("kind", "peer", "told"),
    [
        ("redis", "10.0.0.5:7946", "give redis: and the name of the node"),
        ("sockets", "nats:eu-1", "write host:port"),
    ],
)
async def test_peers_that_no_node_of_this_mesh_can_have_are_refused(
    kind: str, peer: str, told: str, tmp_path: Path
) -> None:
    servers = "" if kind == "sockets" else 'servers: ["redis://127.0.0.1:1"], '
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(
        f"mesh: {{transport: {kind}, {servers}secret: a secret of these tests}}\n"
        "services: {api: {limit: 1/s}}"
    )
    with pytest.raises(ConfigError, match=told):
        await reconcile(load_config(path), name="a", peers=[peer])
