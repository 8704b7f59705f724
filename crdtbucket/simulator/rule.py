"""The interface of a limiting rule that can be measured, and the network that all rules have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario
from crdtbucket.testing.simulated_network import SimulatedNetwork


class SimulatedRule(ABC):
    """One way of limiting, for all nodes at once. Times are ns since the scenario began."""

    name: str
    names: list[str]
    """The names of the nodes in the network, by their numbers; `start` sets them and the
    network."""
    network: SimulatedNetwork

    @property
    def now(self) -> int:
        """The present time of the simulation."""
        return self.network.now_ns

    @abstractmethod
    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin a run at time 0 with a full bucket everywhere."""

    def advance(self, to_ns: int) -> None:
        """Let time pass, and messages with it. Never goes back."""
        self.network.advance_to(to_ns)

    @abstractmethod
    def offer(self, node: int, calls: int, cost: int) -> int:
        """How many of `calls` calls of `cost` tokens each the node admits now, one by one."""

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """No message passes between two groups from now on."""
        self.network.partition(*({self.names[node] for node in group} for group in groups))

    @abstractmethod
    def sever(self, groups: Sequence[Sequence[int]]) -> None:
        """From now on no message passes between two groups, connections between them are reset, and
        calls are refused: each side sees what it would see if the processes of the other had
        ended."""

    def cut(self, ways: Sequence[tuple[int, int]]) -> None:
        """From now on no message passes from the first node of each pair to the second."""
        self.network.drop_frames(*((self.names[a], self.names[b]) for a, b in ways))

    def stall(self, held_ns: int, drain_ns: int) -> None:
        """From now on all messages are held for `held_ns`. They arrive within `drain_ns` after
        that, late and in their order."""
        self.network.stall(held_ns / NS, drain_ns / NS)

    def heal(self) -> None:
        """All links carry messages again."""
        self.network.heal()

    @abstractmethod
    def crash(self, node: int) -> None:
        """The node's process ends; its memory is lost. It is asked nothing while it is down."""

    @abstractmethod
    def restart(self, node: int) -> None:
        """The node starts again with empty memory."""

    @abstractmethod
    def replace(self, node: int) -> None:
        """A process that has another name takes the place of the node's, which has crashed."""

    @abstractmethod
    def suspend(self, node: int, duration_ns: int) -> None:
        """The node's process stands still; its memory is kept. It is asked nothing meanwhile."""

    def own_bound(self, until_ns: int) -> int | None:
        """Tokens beyond the limit that the rule itself can admit in a run of that length.

        None for a rule whose bound depends on what was delivered when: see `WatchedRule`.
        """
        return None


@runtime_checkable
class WatchedRule(Protocol):
    """A rule by which a node counts every take that it knows of."""

    def known(self, node: int) -> Sequence[int] | None:
        """Tokens taken at each node, over all its epochs, that this node knows of.

        None from a restart without memory until the first update of a peer.
        """

    def room(self, node: int) -> int:
        """Tokens that a full bucket of this node keeps free for what silent peers may take."""

    def guaranteed(self, node: int) -> int:
        """Tokens that the running process of this node, if any, has admitted by its guaranteed
        share."""
