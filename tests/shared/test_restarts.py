"""A node whose processes share a table ends, in order or by force, and starts again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lives import Life, linked
from tests.strong.redis_server import free_port
from tests.waits import until

NODES = ("eu", "us", "ap")


class World:
    """Nodes of real processes, all of which are ended with the test."""

    def __init__(self, place: Path) -> None:
        self.ports = {name: free_port() for name in NODES}
        self.place = place
        self.lives: list[Life] = []

    def start(self, name: str, peers: tuple[str, ...] = NODES, **settings: Any) -> Life:
        calls = [self.ports[peer] for peer in peers if peer != name]
        life = Life(name, self.ports[name], calls, **settings)
        self.lives.append(life)
        return life

    def share(self, name: str, peers: tuple[str, ...] = NODES, **settings: Any) -> Life:
        """A process of a node whose table is a file."""
        return self.start(name, peers, shared=str(self.place / name), **settings)

    def all_see(self, taken: int) -> None:
        """Waits until every process knows of so many tokens taken."""
        running = [life for life in self.lives if life.process.is_alive()]
        until(
            lambda: {life.left() for life in running} == {100 - taken},
            f"all know of {taken} takes",
        )

    def all_linked(self, peers: int) -> None:
        """Waits until every node sees so many peers."""
        running = [life for life in self.lives if life.process.is_alive()]
        until(lambda: linked(running, peers), f"all nodes see {peers} peers")

    def drain(self, lives: Iterable[Life], taken: int) -> int:
        """Asks one process after the other for more than there is, each when all know of what
        the ones before were given. Returns what was ever taken."""
        for one in [*lives] * 2:
            taken += one.burst(200)
            self.all_see(taken)
        return taken


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for life in world.lives:
        life.kill()


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_node_that_begins_again_links_with_its_peers_in_whatever_order(
    world: World, end: str
) -> None:
    """Its table numbers eu before ap; in its next life it sees ap speak of eu, which is gone."""
    eu, us = world.start("eu"), world.share("us")
    world.all_linked(1)
    taken = eu.burst(10) + us.burst(20)
    ap = world.start("ap")
    world.all_linked(2)
    world.all_see(taken)
    eu.close()
    getattr(us, end)()
    us = world.share("us")
    world.all_linked(1)
    assert 90 <= world.drain([ap, us], taken) <= 100


@pytest.mark.parametrize("order", [("eu", "us", "ap"), ("ap", "eu", "us")])
def test_three_nodes_with_workers_are_restarted_one_after_the_other(
    world: World, order: tuple[str, ...]
) -> None:
    nodes = {name: [world.share(name) for _ in range(2)] for name in NODES}
    world.all_linked(2)
    taken = sum(workers[1].burst(10) for workers in nodes.values())
    for step, name in enumerate(order):
        world.all_see(taken)
        for life in nodes[name]:
            if step == 1:
                life.kill()
            else:
                life.close()
        nodes[name] = [world.share(name) for _ in range(2)]
        world.all_linked(2)
        taken += nodes[name][1].burst(10)
    world.all_see(taken)
    assert 90 <= world.drain([workers[1] for workers in nodes.values()], taken) <= 100
