"""The members that a node has learned of from its peers: their addresses, and which of them run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.peer_state import NEVER, PeerState

ALIVE_NS = 1_000_000_000
"""A peer that was seen within this time, or within three rounds, speaks for its own column; after
that it is suspect."""
DIALS = 32
"""How many of the addresses that one peer has introduced, and that never answered, are dialled at a
time."""
TURN_NS = 15_000_000_000
"""After this time (ns) the next addresses are dialled."""
CAUGHT_UP = 4
"""A silence is noticed, advertised and acted upon within this many times the age at which it
begins. An age that has come from relay to relay is passed on for as long."""
CROWDED_MEMBERS = wire.MAX_MEMBERS * 7 // 8
"""Beyond this number of members, those that have no link and that no peer sees give way."""


class MemberDirectory:
    """Keeps the members that are known, by name and by epoch. Times are local ns."""

    def __init__(self, config: MeshConfig, name: str) -> None:
        """`name`: of this node."""
        self._name = name
        self._forget_after_ns = config.forget_after_ns
        self.alive_ns = max(ALIVE_NS, 3 * config.gossip_interval_ns)
        """A peer that was seen within this time is not silent: if rounds are slow, it sends nothing
        between two of them."""
        self.links: dict[str, PeerState] = {}
        """Peers that this node has, or had, a link to."""
        self.known: dict[str, wire.Member] = {}
        """Members, by name; not this node itself."""
        self._advertised_at: dict[str, int] = {}
        """When somebody that sees them itself last advertised them."""
        self._introduced_by: dict[str, str] = {}
        """For each member that was never linked here, the peer that advertised it first; the oldest
        member first."""
        self.given_up: set[str] = set()
        """Members that are no longer advertised, since relays do not see them any more: otherwise
        peers behind this node would go on keeping a part for them. They still count as members."""
        self.running_elsewhere: dict[int, tuple[int, str]] = {}
        """Epochs of processes without a link here that relays see: as of when, and the relay."""

    def learn(self, member: wire.Member, now: int, by: str = "") -> bool:
        """A member is advertised by somebody that sees it: by the peer `by`, or "" when it is
        linked here itself. Returns False when there is no room for it."""
        name, region, epoch, address = member
        known = self.known.get(name)
        if name == self._name:
            return True
        if known is None and not self._make_room(by):
            return False
        if not by:
            self._introduced_by.pop(name, None)
        elif known is None:
            self._introduced_by[name] = by
        if known is not None:
            # A member with a link here speaks for itself; and a statement without an address does
            # not erase a known address.
            link = self.links.get(name)
            linked = by not in ("", name) and link is not None and link.connected
            region, epoch, address = known[1:] if linked else (region, epoch, address or known[3])
        self.known[name] = (name, region, epoch, address)
        self._advertised_at[name] = now
        self.given_up.discard(name)
        return True

    def forget(self, name: str) -> None:
        """This member is gone."""
        self.known.pop(name, None)
        self.given_up.discard(name)
        self._advertised_at.pop(name, None)
        self._introduced_by.pop(name, None)

    def give_up(self, name: str) -> None:
        """A member without a link here is no longer advertised, as nothing new of it comes."""
        if name in self.known and name not in self.links:
            self.given_up.add(name)

    def expire(self, now: int) -> None:
        """Forgets the members, and the epochs behind relays, of which nothing new has come for
        `forget_after`. A member with a link is forgotten by the silence of the link. If there is
        hardly room for more members, those that no peer sees any more are forgotten earlier."""
        for name, at in list(self._advertised_at.items()):
            old = now - at > self._forget_after_ns
            if old and (name not in self.links or self.is_gone(name)):
                self.forget(name)
        if len(self.known) > CROWDED_MEMBERS:
            kept = self.links.keys() | self.only_advertised()
            unseen = [name for name in self.known if name not in kept]
            oldest = sorted(unseen, key=lambda name: self._advertised_at[name])
            for name in oldest[: len(self.known) - CROWDED_MEMBERS]:
                self.forget(name)
        for epoch, (at, _) in list(self.running_elsewhere.items()):
            if now - at > self._forget_after_ns:
                del self.running_elsewhere[epoch]

    def relayed(self, epoch: int, at: int, relay: str) -> None:
        """At the time `at` the peer `relay` saw, itself or by others, a process that is not linked
        here: a process of another node, a later one of a peer, or one that is taken for dead."""
        if at > self.running_elsewhere.get(epoch, (NEVER, ""))[0]:
            self.running_elsewhere[epoch] = at, relay

    def rows(self, alive: Collection[str]) -> list[wire.Member]:
        """The members to advertise, the most important ones first, as there may be more than a
        frame has room for: those that are `alive`, then silent peers, also those that made room
        here for others. A peer that is advertised no more counts as gone at nodes behind this one.
        """
        linked = {n: member_row(one.info) for n, one in self.links.items() if not self.is_gone(n)}
        rows = {**linked, **self.known}
        names = [name for name in rows if name not in self.given_up]
        return [rows[n] for n in sorted(names, key=lambda n: (n not in alive, n not in linked))]

    def addresses(self, now: int) -> list[str]:
        """The addresses at which to dial members now. Those that one peer introduced, and to which
        there never was a link here, take turns, some at a time."""
        waiting: dict[str, list[str]] = {}
        found = []
        for name, (_, _, _, address) in self.known.items():
            by = self._introduced_by.get(name)
            if not address:
                continue
            if by is None or name in self.links:
                found.append(address)
            else:
                waiting.setdefault(by, []).append(address)
        for one in waiting.values():
            first = now // TURN_NS * DIALS % len(one)
            found += (one[first:] + one[:first])[:DIALS]
        return found

    def is_gone(self, name: str) -> bool:
        """Whether this is a peer that said goodbye or is forgotten."""
        link = self.links.get(name)
        return link is not None and link.gone

    def has_left(self, name: str, epoch: int) -> bool:
        """Whether this very process said goodbye."""
        link = self.links.get(name)
        return link is not None and link.left and link.info.epoch == epoch

    def only_advertised(self) -> set[str]:
        """Members that are not linked here, but that some present peer says it sees. A joiner may
        list one that has just died: that one is not a member."""
        peers = [
            (link.advertised, link.unseen)
            for name, link in self.links.items()
            if link.advertised is not None and not self.is_gone(name)
        ]
        unlinked, found = self.known.keys() - self.links.keys(), set()
        for advertised, unseen in peers if unlinked else ():
            found |= unlinked.intersection(advertised).difference(unseen)
        return found

    def running(self, own_epoch: int) -> set[int]:
        """Epochs under which a process runs, as far as is known; `own_epoch`: of this node."""
        gone = {name for name in self.links if self.is_gone(name)}
        epochs = {link.info.epoch for name, link in self.links.items() if name not in gone}
        advertised = {self.known[name][2] for name in self.only_advertised()}
        return epochs | advertised | self.running_elsewhere.keys() | {own_epoch}

    def _make_room(self, by: str) -> bool:
        """Whether one more member can be advertised. A silent member makes room first, since its
        link remembers it. Otherwise the newest member of the peer that has introduced most makes
        room, for a linked member or for one of a peer that has introduced fewer."""
        if len(self.known) < wire.MAX_MEMBERS - 1:
            return True
        linked = {name for name, link in self.links.items() if link.connected}
        silent = [name for name in self.known if name in self.links and name not in linked]
        if silent:
            self.forget(min(silent, key=lambda name: self._advertised_at[name]))
            return True
        held = Counter(self._introduced_by.values())
        most = max(held, key=lambda peer: held[peer], default=by)
        if most == by or (by and held[by] + 1 >= held[most]):
            return False
        self.forget([name for name, peer in self._introduced_by.items() if peer == most][-1])
        return True


def member_row(info: NodeInfo) -> wire.Member:
    """A node as it is advertised."""
    return info.name, info.region, info.epoch, info.address


def may_see(advertised: Collection[str] | None, unseen: Collection[str], name: str) -> bool:
    """Whether a peer that has advertised these members (None before the first time), some of them
    as unseen, may see the member `name`."""
    return advertised is None or (name in advertised and name not in unseen)
