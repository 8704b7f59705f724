"""What the oracle knows of the mesh: who is connected with whom, and when something happened."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulated.network import SILENT_NS, Network
from tests.simulated.plan import Plan

SECOND = 10**9


class Broken(AssertionError):
    """A rule, by its name, does not hold in a run."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Jumps(logging.Handler):
    """Collects what nodes say of clocks that jump; none does in a simulation."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "clock jumped" in text:
            self.said.append(text)


ENDED_NS = 12 * SECOND
"""A node whose connections have ended takes no part any more after so long."""


def _lasts(what: str, args: tuple[Any, ...]) -> int:
    """For how long (ns) what an event brings with it goes on."""
    if what == "pause":
        return round(args[1] * SECOND)
    if what == "die":
        return ENDED_NS
    return SILENT_NS if what == "cut" and args[0] == "times out" else 0


class View:
    """`excused` rules may be broken."""

    def __init__(self, plan: Plan, mesh: Network, excused: Collection[str]) -> None:
        self.plan, self.mesh, self.excused = plan, mesh, excused
        self.disturbed = 0
        """When something last happened, ns; the time that it takes to be settled is in it."""
        self.first = -1
        """When something first happened, ns."""
        self.gone_silently: set[str] = set()
        self._hops = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """What nodes log meanwhile is looked at in the end."""
        jumps, log = Jumps(), logging.getLogger("crdtbucket.mesh")
        log.addHandler(jumps)
        try:
            yield
        finally:
            log.removeHandler(jumps)
        if jumps.said:
            self.broken(
                "jump", f"{len(jumps.said)} where no clock jumps, the first: {jumps.said[0]}"
            )

    def broken(self, rule: str, text: str) -> None:
        """A rule does not hold."""
        if rule not in self.excused:
            raise Broken(rule, text)

    def happens(self, what: str, args: tuple[Any, ...]) -> None:
        """An event of the plan is about to happen."""
        now = self.mesh.now_ns
        if what == "save":
            return
        if self.first < 0:
            self.first = now
        self.disturbed = max(self.disturbed, now + _lasts(what, args))
        if what in ("die", "leave") and not self._told(args[0], *args[1:]):
            self.gone_silently.add(args[0])
        elif what == "return":
            self.gone_silently.discard(args[0])

    def _told(self, name: str, ends: bool = True) -> bool:
        """Whether all its peers are told that this node ends."""
        return ends and all(
            self.mesh.passes(name, other)
            for other in self.mesh.peers(name)
            if self.mesh.nodes[other].up
        )

    def components(self) -> list[list[str]]:
        """The running nodes, in parts all of which hear each other, by relays perhaps."""
        up = [name for name, node in self.mesh.nodes.items() if node.up]
        heard = {name: self._reached(name) for name in up}
        parts: list[list[str]] = []
        for name in up:
            for part in parts:
                if name in heard[part[0]] and part[0] in heard[name]:
                    part.append(name)
                    break
            else:
                parts.append([name])
        return parts

    def connected(self) -> bool:
        """Whether all running nodes hear each other, by relays perhaps."""
        return len(self.components()) <= 1

    def _reached(self, start: str) -> set[str]:
        found, waiting = {start}, [start]
        while waiting:
            here = waiting.pop()
            for there in self.mesh.peers(here):
                ways = self.mesh.passes(here, there)
                if there not in found and self.mesh.nodes[there].up and ways:
                    found.add(there)
                    waiting.append(there)
        return found

    @property
    def hops(self) -> int:
        """Relays on the longest way between running nodes, at most, and one."""
        up = [name for name, node in self.mesh.nodes.items() if node.up]
        pairs = (frozenset((a, b)) for i, a in enumerate(up) for b in up[i + 1 :])
        return 1 if all(pair in self.mesh.linked for pair in pairs) else len(up)
