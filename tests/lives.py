"""Real processes of nodes, which a test starts, asks, closes and kills."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Any

from crdtbucket import BucketSpec, Limiter, MeshConfig

SECRET = "a secret of the tests that is long"
SOCKETS = "crdtbucket.mesh.sockets.socket_transport"
WITHIN_S = 60.0
"""Seconds within which even a slow and busy machine does what should happen."""
SPECS = [BucketSpec("api", 100, 1, "1h", max_debt=0)]
"""It hardly refills, so that all callers together are granted at most 100."""


class Life:
    """One process that holds an open limiter between `start` and `close` or `kill`."""

    def __init__(self, node: str, port: int, peers: Iterable[int], **settings: Any) -> None:
        """`port`: where it listens; `peers`: ports that it calls. `settings`: of its limiter; of
        its mesh those that begin with `mesh_`."""
        self.node = node
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["crdtbucket", "crdtbucket.mesh.transport.mesh_network", SOCKETS, "tests.lives"]
        )
        self._line, theirs = context.Pipe()
        self.process = context.Process(
            target=_live, args=(theirs, node, port, tuple(peers), settings), daemon=True
        )
        self.process.start()
        theirs.close()

    def burst(self, calls: int, key: str = "tenant") -> int:
        """Makes so many takes; returns how many were allowed."""
        return int(self._ask("burst", calls, key))

    def left(self, key: str = "tenant") -> int:
        """Tokens of a key as this process sees them."""
        return int(self._ask("left", key))

    def stats(self) -> dict[str, Any]:
        """The limiter's stats."""
        return dict(self._ask("stats"))

    def close(self) -> None:
        """Ends the limiter in order, and the process."""
        self._ask("close")
        self.process.join(WITHIN_S)
        assert self.process.exitcode == 0

    def kill(self) -> None:
        """Kills the process, as the kernel does when memory runs out."""
        self.process.kill()
        self.process.join()

    def _ask(self, *question: Any) -> Any:
        self._line.send(question)
        assert self._line.poll(WITHIN_S), f"{self.node} does not answer {question[0]}"
        kind, answer = self._line.recv()
        assert kind == "answer", answer
        return answer


def linked(lives: Iterable[Life], peers: int) -> bool:
    """Whether in each node one process leads, and is linked with so many peers."""
    nodes: dict[str, list[dict[str, Any]]] = {}
    for life in lives:
        nodes.setdefault(life.node, []).append(life.stats())
    return all(any(_leads(one, peers) for one in node) for node in nodes.values())


def _leads(stats: dict[str, Any], peers: int) -> bool:
    if not stats.get("shared", {"leading": 1})["leading"]:
        return False
    return list(stats.get("peers", {}).values()).count("alive") == peers


def _live(
    line: Connection, node: str, port: int, peers: tuple[int, ...], settings: dict[str, Any]
) -> None:
    mesh = {name[5:]: settings.pop(name) for name in list(settings) if name.startswith("mesh_")}
    config = MeshConfig(
        listen=f"127.0.0.1:{port}",
        peers=[f"127.0.0.1:{one}" for one in peers],
        secret=SECRET,
        **mesh,
    )
    with Limiter(SPECS, node=node, mesh=config, **settings) as limiter:
        while True:
            question, *rest = line.recv()
            if question == "close":
                break
            try:
                line.send(("answer", _answer(limiter, question, rest)))
            except Exception as error:  # noqa: BLE001 - the test gets it
                line.send(("error", repr(error)))
    line.send(("answer", None))


def _answer(limiter: Limiter, question: str, rest: list[Any]) -> Any:
    if question == "burst":
        calls, key = rest
        return limiter.bucket("api").take_burst(key, calls)
    if question == "left":
        return limiter.bucket("api").peek(rest[0]).remaining
    return limiter.stats()
