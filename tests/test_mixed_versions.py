"""Two adjacent versions keep one limit, and each uses what the other one has kept.

`CRDTBUCKET_BEFORE` names the Python of an environment that has the version before; without it, both
are this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.strong.redis_server import Server, free_port

pytestmark = [pytest.mark.slow, pytest.mark.processes]
BEFORE = os.environ.get("CRDTBUCKET_BEFORE", sys.executable)
BOUND_S = 60
FILE = """\
node: {name}
services:
  mesh: {{limit: 100/day}}
  redis: {{limit: 100/day, consistency: strong}}
rating:
  bucket_backend:
    connection: {{host: {redis.host}, port: {redis.port}, tls: false}}
  modes: {{latency_limit: 5s, outage_after: 20s}}
mesh:
  listen: {mesh}
  peers: [{peer}]
  secret: 16 bytes or more of a test
  state_dir: {place}
"""


class Node:
    """A node of the fleet, as a process of one version after another."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        self.mesh, self.http = (f"127.0.0.1:{free_port()}" for _ in range(2))

    def configure(self, peer: Node, redis: Server) -> None:
        """Writes the file of the node."""
        text = FILE.format(
            name=self.name, redis=redis, mesh=self.mesh, peer=peer.mesh, place=self.folder / "state"
        )
        (self.folder / "limits.yaml").write_text(text)

    @contextmanager
    def runs(self, python: str) -> Iterator[None]:
        """While the node is a process of this version."""
        words = [python, "-m", "crdtbucket.cli.main", "serve", "--listen", self.http]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*words, "--config", str(self.folder / "limits.yaml")], stderr=log
            )
            try:
                yield
                process.terminate()
                assert process.wait(BOUND_S) == 0, self.log()
            finally:
                process.kill()
                process.wait()

    def log(self) -> str:
        """All that it has logged."""
        return (self.folder / "log").read_text()

    def ask(self, path: str, **body: Any) -> Any:
        """The answer to a request."""
        data = json.dumps(body).encode() if body else None
        fields = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"http://{self.http}{path}", data, fields)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer)

    def left(self, bucket: str) -> int:
        """Tokens of the key that are left."""
        found: int = self.ask("/v1/peek", bucket=bucket, key="k")["remaining"]
        return found

    def take(self, bucket: str, cost: int) -> str:
        """How it was decided that so many are admitted, or "denied"."""
        try:
            mode: str = self.ask("/v1/take", bucket=bucket, key="k", cost=cost)["mode"]
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 429:
                raise
            return "denied"
        return mode

    def ready(self) -> bool:
        """Whether it sees its peer, and serves."""
        self.ask("/readyz")
        return bool(self.ask("/v1/peers")["peers"])


def until(holds: Callable[[], bool], *nodes: Node) -> None:
    """A server that does not answer yet is one more reason to wait."""
    deadline = time.monotonic() + BOUND_S
    while True:
        try:
            if holds():
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        assert time.monotonic() < deadline, "\n".join(node.log() for node in nodes)
        time.sleep(0.05)


def test_they_hold_one_limit_and_take_each_others_place(tmp_path: Path) -> None:
    one, two = nodes = Node("one", tmp_path), Node("two", tmp_path)
    with Server() as redis:
        one.configure(two, redis)
        two.configure(one, redis)
        for versions in ((BEFORE, sys.executable), (sys.executable, BEFORE)):
            with ExitStack() as stack:
                for node, version in zip(nodes, versions, strict=True):
                    stack.enter_context(node.runs(version))
                until(lambda: one.ready() and two.ready(), *nodes)
                for bucket, mode in (("mesh", "eventual"), ("redis", "strong")):
                    before = two.left(bucket)
                    assert before == one.left(bucket) in (100, 55)
                    assert one.take(bucket, 30) == mode
                    until(lambda b=bucket, n=before - 30: two.left(b) == n, *nodes)  # type: ignore[misc]
                    assert two.take(bucket, 15) == mode
                    until(lambda b=bucket, n=before - 45: one.left(b) == n, *nodes)  # type: ignore[misc]
                    assert one.take(bucket, before - 44) == "denied"
