"""Tells a peer that died from one that is cut off, by how its connection ended.

Silence proves nothing: a peer that nobody sees may be serving on the other side of a partition.
But when a process dies, its kernel ends its connections, and refuses dials to its port at once. So
a peer counts as dead when all of this holds:

1. its connection *ended*: the peer's side closed or reset it (this side did not give up waiting);
2. for `ended_is_dead` since then, every dial to it was refused, and one was just now;
3. no connected peer sees it, and no relay has seen it during that time;
4. this node sees more than half of the members since then, directly or through relays; or this
   peer is the only one that is missing.

A newcomer that is linked since takes the place of the member that has been missing for longest. The
newcomer keeps no credit for that member, and takes the tokens that the others keep for it; as long
as they keep them, the others get little themselves. So in this case the time of rule 2 is only that
after which a peer counts as silent. If the connection did not end, a relay may have seen how the
peer ended: see `_relay_lost`.

A device that resets connections and refuses dials looks the same from one node. Rules 3 and 4 are
for that: the smaller side of a partition, and a node that is alone, declare nobody dead. Relays
count in both rules: in a ring or a chain, and beside a broken pair, few members are connected here.
"""

from __future__ import annotations

from collections.abc import Collection

from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.ended_connection import EndedConnection
from crdtbucket.mesh.protocol.member_directory import CAUGHT_UP, MemberDirectory, may_see
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import Roster


class Places:
    """Counts the places that ended connections have left empty, one for each member.

    A member that says goodbye takes its place with it. A dead member leaves an empty place,
    although it is forgotten: otherwise each of the connections that a partition ends one by one
    would leave a majority behind. A newcomer takes an empty place, as when a pod is replaced under
    a new name. A place that stays empty for `keep_ns` is removed.
    """

    def __init__(self, keep_ns: int) -> None:
        self._keep_ns = keep_ns
        self._empty: dict[str, int] = {}
        """The names of the members whose places are empty, in the order in which they were left,
        and since when (ns)."""

    def left_empty(self, name: str, now: int) -> None:
        """The connection to this member is gone without a goodbye."""
        self._empty[name] = now

    def taken(self, name: str) -> str | None:
        """This member is connected. It takes its own place; a newcomer takes the one that has
        been empty for longest. Returns whose place it was, None when none was empty."""
        place = name if name in self._empty else next(iter(self._empty), None)
        if place is not None:
            del self._empty[place]
        return place

    def empty(self, now: int) -> Collection[str]:
        """The names of the members whose places are empty now."""
        for name, since in list(self._empty.items()):
            if now - since > self._keep_ns:
                del self._empty[name]
        return self._empty.keys()


class FailureDetector:
    """Says which peers of one node are dead. Times are local ns."""

    def __init__(
        self, config: MeshConfig, directory: MemberDirectory, roster: Roster, name: str
    ) -> None:
        """`name`: of this node."""
        self._period_ns = config.ended_is_dead_ns
        self._directory, self._links = directory, directory.links
        self._roster, self._name = roster, name
        self._places = Places(config.forget_after_ns)

    # ---- what happens ----

    def connected(self, peer: NodeInfo, now: int, *, was: bool) -> None:
        """A link to `peer` is up; `was`: there was one already. A peer that had this address before
        no longer runs there."""
        place = None if was else self._places.taken(peer.name)
        ending = self._links[place].ending if place in self._links else None
        if ending is not None:
            ending.replaced = True
        for link in self._links.values():
            there = peer.address and link.info.address == peer.address
            if there and link.info.name != peer.name and link.ending is not None:
                link.ending.dialed(now, refused=True)

    def disconnected(self, link: PeerState, now: int, *, ended: bool) -> None:
        """The link is down; `ended`: the peer's side closed or reset it."""
        link.ending = EndedConnection(now) if ended else None
        if not link.left:
            self._places.left_empty(link.info.name, now)

    def dial_failed(self, name: str, address: str, now: int, *, refused: bool) -> None:
        """A dial to a peer was refused; or nobody answered it in time, or the answer says nothing.
        The peer is known by the name last met at the address, or by its own address."""
        for link in self._links.values():
            there = link.info.name == name or (address and link.info.address == address)
            if link.ending is not None and there:
                link.ending.dialed(now, refused=refused)

    # ---- what follows ----

    def why_gone(self, link: PeerState, now: int) -> str:
        """The reason to forget this silent peer now; "" if there is none."""
        if self.is_dead(link, now):
            return (
                "is dead, and its share is free for others: its connection ended, and calls to its "
                "address are refused"
            )
        if self._relay_lost(link, now):
            return f"is forgotten: {link.relay}, which saw it last, saw it go"
        return ""

    def is_dead(self, link: PeerState, now: int) -> bool:
        """Whether all the rules above hold for this peer."""
        period, ending = self._period_ns, link.ending
        if period is None or ending is None:
            return False
        alive_ns = self._directory.alive_ns
        refused_ns = min(period, alive_ns) if ending.replaced else period
        unseen_ns = min(period, CAUGHT_UP * alive_ns) if ending.replaced else period
        if not ending.refused_for(refused_ns, now) or self.seen_by_any(link, now, unseen_ns):
            return False
        missing, seen = self._members(now), self._seen_since(ending.since, now)
        return is_majority(1 + len(seen), len(missing - seen))

    def _relay_lost(self, link: PeerState, now: int) -> bool:
        """Whether this silent peer is gone by the word of the relay that saw it after this node
        did: the relay no longer lists it as a member, since it got a goodbye or saw it die, and
        nobody else sees it. A peer that the relay merely does not see any more would be listed
        as unseen. Another process of the relay has never known the peer, so its word does not
        count."""
        relay = self._links.get(link.relay)
        return (
            relay is not None
            and relay.advertised is not None
            and link.info.name not in relay.advertised
            and relay.started <= link.relayed_at
            and link.relayed_at > link.last_seen
            and self._is_alive(relay, now)
            and not self.seen_by_any(link, now, CAUGHT_UP * self._directory.alive_ns)
        )

    def seen_by_any(self, link: PeerState, now: int, within: int) -> bool:
        """Whether a peer that is seen here may see this member, or a relay has seen it within
        this time."""
        name = link.info.name
        if now - link.relayed_at < within:
            return True
        return any(may_see(one.advertised, one.unseen, name) for one in self._alive(now))

    def _members(self, now: int) -> set[str]:
        """All members but this node, as far as they are known or have left a place empty."""
        linked = {name for name, one in self._links.items() if one.connected}
        linked = {name for name in linked if not self._directory.is_gone(name)}
        return linked | {*self._places.empty(now)} | self._directory.only_advertised()

    def _seen_since(self, since: int, now: int) -> set[str]:
        """Members that were seen lately and after `since`, directly or through relays."""
        lately = max(since, now - CAUGHT_UP * self._directory.alive_ns)
        seen = {one.info.name for one in self._alive(now) if one.last_seen > since}
        seen |= {name for name, one in self._links.items() if one.relayed_at > lately}
        running = self._directory.running_elsewhere
        owners = {self._roster.owner(epoch) for epoch, (at, _) in running.items() if at > lately}
        return {name for name in seen | owners if name is not None} - {self._name}

    def _alive(self, now: int) -> list[PeerState]:
        return [link for link in self._links.values() if self._is_alive(link, now)]

    def _is_alive(self, link: PeerState, now: int) -> bool:
        seen = now - link.last_seen < self._directory.alive_ns
        return seen and link.connected and not link.left


def is_majority(seen: int, missing: int) -> bool:
    """Whether a node that sees `seen` members, itself included, may declare one of the `missing`
    others dead: it sees more than half of all, or misses this one only."""
    return seen > missing or missing == 1
