"""What the oracle knows of the mesh: which nodes are connected, and when something happened."""

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
    """Collects the log lines of nodes about clocks that jump; without such events there must be
    none."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self._text = text

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if self._text in text:
            self.said.append(text)


RESET_IS_DEAD_NS = 10 * SECOND
"""After its connection was reset and while its dials are, a running node may be given up so late
(ns)."""
ENDED_NS = 12 * SECOND
"""After so long (ns) a node whose connections have ended has no part in the limit any more."""


class View:
    jumped = "clock jumped"
    """The words by which a node logs a jump."""

    def __init__(self, plan: Plan, mesh: Network) -> None:
        self.plan, self.mesh = plan, mesh
        self.disturbed = 0
        """When the last event has ended, ns: what it brings with it has settled by then."""
        self.first = -1
        """When something first happened, ns."""
        self.gone_silently: set[str] = set()
        """Nodes that do not run, of which some others cannot know that they have ended."""
        self.ever_silent: set[str] = set()
        """All that were among these at some time, also if they have begun again; and those that
        alone linked others, of which one part sees too few to declare them dead."""
        self._ended: dict[str, int] = {}
        """When it is known that nodes have ended without a goodbye, ns."""
        self._empty: dict[str, int] = {}
        """Members that have died, and since when (ns) their places are empty, oldest first. One
        that comes under a new name takes the oldest place."""
        self.mistaken = -1
        """When a running node that others had given up was last seen again, ns: no credit was kept
        for what it took meanwhile."""
        self.began_beside_silent = False
        """Whether a process began while others were silent: it owes the credit that is kept for
        these."""
        self._cuts = self._cut = self._resets = 0
        """The number of cuts that are not mended, since when there are any (ns), and how many of
        them reset."""
        self._hops = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """At the end of the block, checks what nodes have logged in it."""
        jumps, log = Jumps(self.jumped), logging.getLogger("crdtbucket.mesh")
        log.addHandler(jumps)
        try:
            yield
        finally:
            log.removeHandler(jumps)
        if jumps.said and not self.plan.has("jump", "still"):
            self.broken(
                "jump", f"{len(jumps.said)} where no clock jumps, the first: {jumps.said[0]}"
            )

    def broken(self, rule: str, text: str) -> None:
        """Raises `Broken`: a rule does not hold."""
        raise Broken(rule, text)

    def happens(self, what: str, args: tuple[Any, ...]) -> None:
        """An event of the plan is about to happen."""
        now = self.mesh.now_ns
        if what in ("save", "add", "spend", "limit"):
            return
        if what == "leave" and self._goodbye_fails(*args):
            what, args = "die", (*args, True)
        if self.first < 0:
            self.first = now
        if what in ("cut", "mend"):
            self._cuts_change(now, args[0], 1 if what == "cut" else -1)
        elif what in ("come", "return") and self._links_parts(what, args):
            self._way_opens(now)
        if what in ("come", "return") and (self._cuts or self.gone_silently):
            self.began_beside_silent = True
        over = now + self._lasts(what, args)
        if what in ("pause", "stall", "still") and over - now >= self.plan.forget_after * SECOND:
            self.mistaken = max(self.mistaken, over)
        self.disturbed = max(self.disturbed, over)
        if what in ("die", "leave"):
            self._goes(what, over, *args)
        elif what in ("come", "return"):
            self._begins(args[0])
        if what in ("cut", "stall") and args[0] != "resets":
            ways = args[1] if what == "cut" else args[2]
            self._nobody_answers(what, {name for way in ways for name in way}, over)
        self.ever_silent |= self.gone_silently

    def _nobody_answers(self, what: str, ways: set[str], until: int) -> None:
        """From now on no dial between these nodes is refused; of a stall, until this time (ns)."""
        lately = ways.intersection(self._lately)
        if what == "cut":
            self.gone_silently |= lately
        elif lately:
            self.disturbed = max(self.disturbed, until + ENDED_NS)
            self._ended |= dict.fromkeys(lately, until + ENDED_NS)

    @property
    def _lately(self) -> list[str]:
        """Nodes that have just ended, and are not given up yet."""
        return [name for name, known in self._ended.items() if self.mesh.now_ns < known]

    def _goes(self, what: str, known: int, name: str, ends: bool = True) -> None:
        """`known`: the time (ns) at which its peers know of it, if they can."""
        now = self.mesh.now_ns
        if what == "die":
            self._empty[name] = now
        few = not self._are_most(name)
        if (what == "die" and few) or not self._end_is_known(name, ends):
            self.gone_silently.add(name)
        # The one that goes now will relay no end.
        self.gone_silently |= {
            other for other in self._lately if few or not self._end_is_known(other, next_to_go=name)
        }
        if what == "die":
            self._ended[name] = known
            up = self._up_without(name)
            if not all(self._are_most(name, self._linked_part(one, up)) for one in up):
                self.ever_silent.add(name)

    def _begins(self, name: str) -> None:
        if self._empty:
            del self._empty[name if name in self._empty else next(iter(self._empty))]
        self._ended.pop(name, None)
        self.gone_silently.discard(name)

    def _cuts_change(self, now: int, how: str, by: int) -> None:
        if by < 0:
            self._way_opens(now)
        if not self._cuts:
            self._cut = now
        self._cuts += by
        self._resets += by if how == "resets" else 0

    def _way_opens(self, now: int) -> None:
        """A way is open again, or a node comes that may relay. If a device answers for a node by
        resets, nodes without a relay to it take it for dead after a while; after any other silence
        they do after `forget_after`, which may have begun a round before."""
        given_up = round(self.plan.forget_after * SECOND)
        if self._resets and not self.connected():
            given_up = min(given_up, RESET_IS_DEAD_NS)
        long = now - self._cut + round(self.plan.gossip_interval * SECOND) >= given_up
        # A node that was given up stays so until the last way that is cut is open again.
        if self._cuts and (long or self.mistaken >= self._cut):
            self.mistaken = max(self.mistaken, now)

    def forgotten(self, since: int) -> bool:
        """Whether, since that time (ns), some nodes were silent for so long that they predict
        nothing of each other any more: relays bring only their counts."""
        long = self.plan.forget_after * SECOND
        return self.mistaken > since or (self._cuts > 0 and self.mesh.now_ns - self._cut >= long)

    def _links_parts(self, what: str, args: tuple[Any, ...]) -> bool:
        """Whether a node that comes is linked with several parts that are not connected."""
        beside = set(args[1] if what == "come" else self.mesh.peers(args[0]))
        return sum(not beside.isdisjoint(part) for part in self.components()) > 1

    def settled(self, what: str, args: tuple[Any, ...]) -> int:
        """The time (ns) until which the peers of a node that stops cannot know whether it goes
        on."""
        if args[0] in self.gone_silently:
            return 2**63
        return self.mesh.now_ns + self._lasts(what, args)

    def _lasts(self, what: str, args: tuple[Any, ...]) -> int:
        """The time (ns) for which the effect of an event goes on."""
        if what in ("pause", "still"):
            return round(sum(args[1:]) * SECOND)
        if what == "stall":
            return round((args[0] + args[1]) * SECOND)
        if what == "die" or (what == "leave" and self._goodbye_fails(*args)):
            return self.mesh.held_until(args[0]) - self.mesh.now_ns + ENDED_NS
        return SILENT_NS if what == "cut" and args[0] == "times out" else 0

    def _goodbye_fails(self, name: str) -> bool:
        """Whether the goodbye of this node may be lost, or come too late to count, or whether a
        running peer has no connection by which it could come."""
        if self.plan.loss[0] or self.mesh.held_until(name) > self.mesh.now_ns:
            return True
        peers = (one for one in self.mesh.peers(name) if self.mesh.nodes[one].up)
        return any((peer, name) not in self.mesh.open for peer in peers)

    def _end_is_known(self, name: str, ends: bool = True, *, next_to_go: str = "") -> bool:
        """Whether all peers of this node learn that it ends, and by them all other running nodes. A
        refused dial needs both ways, and shows nothing to a peer that had given up the connection,
        since that did not see it end. `next_to_go`: a node that will not pass it on, and need not
        know it."""
        gone = {name, next_to_go}
        peers = [
            one for one in self.mesh.peers(name) if self.mesh.nodes[one].up and one not in gone
        ]
        pairs = [way for other in peers for way in ((name, other), (other, name))]
        if not ends or not all(self.mesh.passes(*way) for way in pairs):
            return False
        if not self.mesh.timed_out.isdisjoint((other, name) for other in peers):
            return False
        told = {other for peer in peers for other in self._reached(peer, gone)}
        up = {other for other, node in self.mesh.nodes.items() if node.up}
        return up - gone <= told

    def _are_most(self, name: str, part: Collection[str] | None = None) -> bool:
        """Whether the nodes that run without this one, which goes now, may declare the dead ones
        dead: they are more than all whose places are empty, or only one place is. `part`: those
        that see each other, if these miss the other ones as well."""
        now, forget = self.mesh.now_ns, self.plan.forget_after * SECOND
        empty, up = sum(now - at < forget for at in self._empty.values()), self._up_without(name)
        seen = len(up if part is None else part)
        missing = empty + len(up) - seen
        return missing <= 1 or seen > missing

    def _up_without(self, name: str) -> set[str]:
        return {other for other, node in self.mesh.nodes.items() if node.up} - {name}

    def _linked_part(self, start: str, up: Collection[str]) -> set[str]:
        """Those of the running nodes `up` to which links lead from this one, cut or not."""
        found, waiting = {start}, [start]
        while waiting:
            more = {one for one in self.mesh.peers(waiting.pop()) if one in up} - found
            found |= more
            waiting += more
        return found

    def components(self) -> list[list[str]]:
        """The running nodes in parts; the nodes of a part see each other, perhaps by relays."""
        up = [name for name, node in self.mesh.nodes.items() if node.up]
        parts: list[list[str]] = []
        placed: set[str] = set()
        for name in up:
            if name not in placed:
                beside = self._beside(name)
                placed |= beside
                parts.append([one for one in up if one in beside])
        return parts

    def connected(self) -> bool:
        """Whether all running nodes see each other, perhaps by relays."""
        up = [name for name, node in self.mesh.nodes.items() if node.up]
        return not up or len(self._beside(up[0])) == len(up)

    def _beside(self, name: str) -> set[str]:
        """This node, and the running nodes that it sees and that see it."""
        told = self._reached(name)
        return told if self.mesh.undisturbed else told & self._reached(name, back=True)

    def _reached(self, start: str, but: Collection[str] = (), *, back: bool = False) -> set[str]:
        """The nodes that updates of this node reach, but not through `but`; `back`: those whose
        updates reach it."""
        mesh, found, waiting = self.mesh, {start}, [start]
        all_flow = mesh.undisturbed
        while waiting:
            here = waiting.pop()
            for there in mesh.peers(here):
                if there in found or there in but or not mesh.nodes[there].up:
                    continue
                source, target = (there, here) if back else (here, there)
                # A connection needs both ways.
                if all_flow or (mesh.flows(source, target) and mesh.passes(target, source)):
                    found.add(there)
                    waiting.append(there)
        return found

    @property
    def hops(self) -> int:
        """One more than the most relays on a way between running nodes."""
        up = {name for name, node in self.mesh.nodes.items() if node.up}
        linked_with_all = all(
            len(up.intersection(self.mesh.peers(one))) == len(up) - 1 for one in up
        )
        return 1 if linked_with_all else len(up)
