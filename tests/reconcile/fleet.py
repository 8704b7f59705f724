"""Real nodes on loopback for tests of reconciliation, and what each of them has counted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.config import Config, load_config
from crdtbucket.reconcile.asked_fleet import reconcile
from crdtbucket.reconcile.findings import Holder, Report
from crdtbucket.strong.redis.script import read_owner
from tests.strong.redis_server import Server

SECRET = "a secret of these tests"
FILE = """\
services:
  api: {bucket: {capacity: 1000, refill_interval: 1h, refill_rate: 60}}
  strong: {bucket: {capacity: 1000, refill_interval: 1h, refill_rate: 60}, consistency: strong}
rating:
  bucket_backend: {deadline: 10s, connection: {url: "%s"}}
  modes: {latency_limit: 5s, outage_after: 20s}
mesh: {secret: "%s", listen: "127.0.0.1:1"}
"""
Counts = dict[tuple[str, int], tuple[int, int, int]]


def config_file(folder: Path, redis: str, secret: str = SECRET) -> Path:
    path = folder / "crdtbucket.yaml"
    path.write_text(FILE % (redis, secret))
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture
def path(server: Server, tmp_path: Path) -> Path:
    """The file of the nodes, with an empty Redis."""
    server.call("FLUSHALL")
    return config_file(tmp_path, server.url)


@contextlib.asynccontextmanager
async def nodes(path: Path, *names: str, **peers: list[str]) -> AsyncIterator[list[Limiter]]:
    """Running nodes that dial nobody but `peers`: addresses by node."""
    async with contextlib.AsyncExitStack() as stack:
        out = []
        for name in names:
            mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET, peers=peers.get(name, ()))
            limiter = Limiter.from_file(path, node=name, mesh=mesh)
            out.append(await stack.enter_async_context(limiter))
        yield out


def counts(limiter: Limiter, bucket: str, key: str) -> Counts:
    """What a node has counted of a key, by node and epoch."""
    machine: Any = limiter._node.machine
    names = machine.roster.names()
    found = limiter.bucket(bucket).columns(key)
    return {(names[node], epoch): column for (node, epoch), column in found.items()}


def recorded(server: Server, limiter: Limiter, key: str, bucket: str = "strong") -> Counts:
    """What Redis has recorded of a key."""
    lo, hi = limiter.bucket(bucket).hash(key)
    flat = server.call("HGETALL", f"crdtbucket:{{{bucket}:{hi:016x}{lo:016x}}}")
    out: Counts = {}
    for name, text in zip(flat[::2], flat[1::2], strict=True):
        if name != b"level":
            epoch, node = read_owner(name)
            generation, taken, refunded, _, _ = map(int, text.split())
            out[node, epoch] = generation, taken, refunded
    return out


async def run(path: Path, limiters: list[Limiter], **options: Any) -> Report:
    """Runs a reconciliation of these nodes and the Redis of the file, all of which may be slow to
    answer."""
    config: Config = load_config(path)
    options.setdefault("timeout", 60.0)
    options.setdefault("peers", [one.address for one in limiters])
    return await reconcile(config, name="a test", **options)


def holder(report: Report, name: str) -> Holder:
    (found,) = [one for one in report.holders if one.name == name]
    return found
