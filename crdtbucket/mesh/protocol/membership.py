"""Who is in the mesh as one node sees it: links, members heard of, silence, and news of these."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from crdtbucket._core import Table
from crdtbucket.errors import NodeConflict
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.endings import Ending, Places, hears, is_majority
from crdtbucket.mesh.protocol.link import NEVER, Link
from crdtbucket.mesh.protocol.pruning import Pruner
from crdtbucket.mesh.protocol.roster import MAX_NODES, Roster

log = logging.getLogger("crdtbucket.mesh")

Names = tuple[str, ...]

HEARD_NS = 1_000_000_000
"""A peer that was heard within this time, or within three rounds, speaks for its own column; later
it is a suspect."""
DEAD_NS = 15_000_000_000
"""A peer that was not heard for so long is dead; still a member until `forget_after`."""
HOLD_NS = 60_000_000_000
"""For so long the log of versions is kept for a peer that is silent, or that does not hear this
node; later it gets a full sync."""
REACHED_NS = 2_000_000_000
"""A peer that has got a frame of this age, or of three rounds, and the round trip, is reached
again."""
GOSSIP_NS = 1_000_000_000
"""Members and marks are looked at this often, and told when they changed."""
REPEAT_NS = 10_000_000_000
"""They are told again this often, since a member that nobody tells of is forgotten."""
PATIENCE_NS = 1_000_000_000
"""After this, and two round trips, what a peer has not acknowledged of them is told again: in a
chain each node waits for the news of the one before."""
CAUGHT_UP = 4
"""A silence is noticed, told and acted upon within this many times that after which it is one. An
age that has come from relay to relay is told on for as long."""
GONE = 128
"""So many peers that left or are forgotten are remembered: names that come and go would use up all
numbers."""
REPEATED_MEMBERS = 64
"""Of more members they are told again as many times more seldom, so that what a link carries does
not grow with the mesh."""


class FleetRow(NamedTuple):
    """What a node runs, as far as it is known."""

    name: str
    region: str
    state: str
    config: wire.Config | None
    rollout: wire.Rollout | None


class Membership:
    """The members that the node `name` knows, and its links to them. Times are local ns."""

    def __init__(
        self, table: Table, config: MeshConfig, roster: Roster, name: str, now: int
    ) -> None:
        self.links: dict[str, Link] = {}
        self.known: dict[str, wire.Member] = {}
        """Members heard of, by name; not this node itself."""
        self._told: dict[str, int] = {}
        """When somebody that hears them itself last spoke of them."""
        self.alive: dict[int, tuple[int, str]] = {}
        """Epochs of nodes without a link here that relays tell of: as of when, and who does."""
        self._relays: bytes | None = None
        """What `relays` says; None when that may have changed."""
        self._not_hearing: dict[str, tuple[frozenset[str] | None, Names, Names]] = {}
        """By peer: what it told, whom it did not hear, and what `not_hearing` says then."""
        self._numbered = -1
        self.expected = 1 + len(config.peers)
        """Members that there are at least, this node included."""
        self._table, self._roster, self._name = table, roster, name
        self._first_digest_ns = 2 * config.gossip_interval_ns
        self._forget_after_ns = config.forget_after_ns
        self.heard_ns = max(HEARD_NS, 3 * config.gossip_interval_ns)
        """A peer that was heard within this time is not silent: where rounds are slow, it says
        nothing between two of them."""
        self._ended_is_dead_ns = config.ended_is_dead_ns
        self._places = Places(config.forget_after_ns)
        self._pruner = Pruner(table, now, config.gossip_interval_ns)
        self._next_gossip = now
        self._news: dict[str, Any] = {}
        self.config: wire.Config | None = None
        """Version, hash and stage of the configuration that this node runs, which peers are told;
        None for none."""
        self.rollout: wire.Rollout | None = None
        """How far the newest version is that this node has."""
        self.on_rollout: Callable[[wire.Rollout], None] | None = None
        """Told what a peer says of that."""

    # ---- links ----

    def take_over(self, links: Iterable[Link], now: int) -> None:
        """Goes on with the members of another process; nobody is connected yet."""
        for link in links:
            info = link.info
            self.links[info.name] = link
            self._table.set_node(link.node, info.epoch, False)
            self._places.left_empty(info.name, now)
            self._know(info.name, info.region, info.epoch, info.address, now)

    def connected(self, peer: NodeInfo, now: int) -> None:
        """A link to this peer is up. Raises NodeConflict when two running processes share its
        name, WireError when there is no room for another process; nothing has changed then."""
        link = self.links.get(peer.name)
        reborn = link is not None and link.info.epoch != peer.epoch
        if link is not None and reborn and link.connected and now - link.heard < HEARD_NS:
            raise NodeConflict(
                f"two running processes are called {peer.name!r}: give each node its own name"
            )
        node = self._roster.node(peer.name)
        self._table.origin(node, peer.epoch)
        if link is None or not link.connected:
            self._places.taken(peer.name)
        if link is None:
            link = self.links[peer.name] = Link(peer, node, now)
            link.start_sync(self._table.version)
        elif reborn:
            link.new_life(peer)
            link.start_sync(self._table.version)
        else:
            link.renumber()
            if not link.held:
                link.start_sync(self._table.version)
        link.info, link.heard, link.connected, link.held = peer, now, True, True
        link.reached, link.tried, link.born = None, (-1, 0), now - peer.age_ns
        link.left = link.forgotten = False
        link.ending = None
        self._moved_in(peer, now)
        self._pruner.returned(peer.epoch)
        self.alive.pop(peer.epoch, None)  # from here on the link says so
        self._relays = None
        self._not_hearing.clear()
        link.digest_due = now + self._first_digest_ns
        self._table.set_node(link.node, peer.epoch, True)
        self._know(peer.name, peer.region, peer.epoch, peer.address, now)
        self.count(now)

    def speaks(self, epoch: int) -> None:
        """A frame of this process has come: its columns count, in this very frame already, which
        the peer need not send again."""
        self._pruner.returned(epoch)

    def disconnected(self, link: Link, now: int, *, ended: bool = False) -> None:
        """The link is down. `ended`: the peer's side closed or reset it."""
        link.connected, self._relays = False, None
        link.ending = Ending(now) if ended else None
        if not link.left:
            self._places.left_empty(link.info.name, now)
        self._table.set_disconnected(link.node)
        self.count(now)

    def call_failed(self, name: str, address: str, now: int, *, refused: bool) -> None:
        """A call to a peer, by the name last met there or its own address, was refused; or nobody
        answered it in time, or not in a way that says anything."""
        for link in self.links.values():
            there = link.info.name == name or (address and link.info.address == address)
            if link.ending is not None and there:
                link.ending.called(now, refused=refused)

    def _moved_in(self, peer: NodeInfo, now: int) -> None:
        """Whoever had this peer's address before is not there any more."""
        for link in self.links.values():
            there = peer.address and link.info.address == peer.address
            if there and link.info.name != peer.name and link.ending is not None:
                link.ending.called(now, refused=True)

    def status(self, name: str, now: int) -> str:
        """alive, suspect, dead or left."""
        link = self.links[name]
        silent = now - link.heard
        if link.left:
            return "left"
        if link.connected and silent < self.heard_ns:
            return "alive"
        return "suspect" if silent < DEAD_NS and not link.forgotten else "dead"

    def lags(self, now: int) -> dict[str, tuple[int, int]]:
        """How old (ns) the newest complete round of each peer is, and the most that it was in the
        last one to two minutes. Who left or is forgotten has none."""
        out = {}
        for name, link in list(self.links.items()):  # any thread may ask
            if not (link.left or link.forgotten):
                lag = max(0, now - link.stood)
                out[name] = (lag, max(lag, link.gaps.highest(now)))
        return out

    def addresses(self) -> list[str]:
        """Where the members that were heard of can be dialled."""
        return [address for _, _, _, address in self.known.values() if address]

    def reachable(self, names: Iterable[str] | None = None) -> list[Link]:
        """Links that frames can be sent on: all of them, or those to these names."""
        found = self.links.values() if names is None else map(self.links.get, names)
        return [link for link in found if link is not None and link.connected and not link.left]

    def fleet(self, me: NodeInfo, now: int) -> list[FleetRow]:
        """This node and all peers, by name."""
        rows = [FleetRow(me.name, me.region, "alive", self.config, self.rollout)]
        for name, link in self.links.items():
            state = self.status(name, now)
            rows.append(FleetRow(name, link.info.region, state, link.config, link.rollout))
        return sorted(rows, key=lambda row: row.name)

    def relayed(self, name: str) -> bool:
        """Whether a connected peer says that it does not hear this member."""
        return any(link.connected and name in link.unheard for link in self.links.values())

    def not_hearing(self, link: Link) -> Names:
        """Members with a link here that this peer does not hear: it says so, or it has told of its
        members and of these not. It may have no link to them, and so learn of them late."""
        told, unheard, others = self._not_hearing.get(link.info.name, (None, (), ()))
        if told is not link.told or unheard is not link.unheard:
            missing = () if link.told is None else self.links.keys() - link.told
            others = (*link.unheard, *sorted({*missing} - {link.info.name, *link.unheard}))
            self._not_hearing[link.info.name] = link.told, link.unheard, others
        return others

    def relays(self) -> bytes:
        """By node id, not 0 when a connected peer does not hear that node: it says so, or it has
        never told of it."""
        if self._relays is None or self._numbered != self._roster.changes:
            # Every merge asks, so it may not cost more in a larger mesh.
            self._numbered = self._roster.changes
            names = self._roster.names()
            relays = bytearray(b"\1") * MAX_NODES  # nobody hears who has no name
            links = [link for link in self.links.values() if link.connected]
            for number, name in names.items():
                relays[number] = not all(_hears(link, name) for link in links)
            self._relays = bytes(relays)
        return self._relays

    def count(self, now: int) -> None:
        """Tells the table how many members share the limits."""
        live = 1 + sum(self.status(name, now) in ("alive", "suspect") for name in self.links)
        self._table.configure(members=max(live, self.expected))

    # ---- silence ----

    def age(self, now: int) -> None:
        """Draws the consequences of silence; `count` is due afterwards."""
        for link in list(self.links.values()):
            silent = now - link.heard
            if silent > 2 * self._forget_after_ns and not link.connected:
                del self.links[link.info.name]  # or names that come and go use up all numbers
                continue
            if link.connected and silent >= self.heard_ns:
                self._table.set_disconnected(link.node)
            unreached = 0 if link.reached is None else now - link.reached
            if link.held and max(silent, unreached) > HOLD_NS:
                link.held = False
            elif (
                not link.held
                and link.connected
                and silent < self.heard_ns
                and unreached < max(REACHED_NS, self.heard_ns) + link.round_trip
            ):
                link.held, link.forgotten = True, False
                self._pruner.returned(link.info.epoch)
                link.start_sync(self._table.version)
            if link.left or link.forgotten:
                continue
            if silent > self._forget_after_ns:
                self.forget(link)
                text = "%s: %s was silent for %.0f s and is forgotten"
                log.warning(text, self._name, link.info.name, silent / 1e9)
            elif self._is_dead(link, now):
                self.forget(link)
                text = "%s: %s is dead and forgotten: its connection ended, and calls are refused"
                log.warning(text, self._name, link.info.name)
        self._make_room(now)

    def _make_room(self, now: int) -> None:
        """Of peers that are gone the last ones are remembered. When the epochs run out, who has
        been silent for longest goes, if nobody hears it."""
        gone = [link for link in self.links.values() if self._is_gone(link.info.name)]
        gone = sorted((one for one in gone if not one.connected), key=lambda link: link.heard)
        for link in gone[: max(0, len(gone) - GONE)]:
            del self.links[link.info.name]
        if not self._pruner.crowded:
            return
        silent = [
            link
            for link in self.links.values()
            if now - link.heard >= DEAD_NS and not (link.left or link.forgotten)
        ]
        for link in sorted(silent, key=lambda link: link.heard):
            relayed = now - link.relayed_at < DEAD_NS
            if not relayed and not self._heard_by_any(link.info.name, now):
                self.forget(link)
                text = "%s: %s was silent for %.0f s and is forgotten: other nodes need its place"
                log.warning(text, self._name, link.info.name, (now - link.heard) / 1e9)
                return

    def _is_dead(self, link: Link, now: int) -> bool:
        """See `endings`, which numbers what is asked here."""
        period, ending = self._ended_is_dead_ns, link.ending
        if period is None or ending is None or not ending.refused_for(period, now):
            return False
        if now - link.relayed_at < period or self._heard_by_any(link.info.name, now):
            return False
        missing, heard = self._names(now), self._heard_since(ending.since, now)
        return is_majority(1 + len(heard), len(missing - heard))

    def _names(self, now: int) -> set[str]:
        """All members but this node, as far as they are known or have left a place empty."""
        linked = {one.info.name for one in self.links.values() if one.connected}
        linked = {name for name in linked if not self._is_gone(name)}
        return linked | {*self._places.empty(now)} | self._told_of()

    def _heard_since(self, since: int, now: int) -> set[str]:
        """Members that were heard lately and after `since`, directly or through relays."""
        lately = max(since, now - CAUGHT_UP * self.heard_ns)
        heard = {one.info.name for one in self._alive(now) if one.heard > since}
        heard |= {name for name, one in self.links.items() if one.relayed_at > lately}
        owners = {self._roster.owner(e) for e, (at, _) in self.alive.items() if at > lately}
        return {name for name in heard | owners if name is not None} - {self._name}

    def _alive(self, now: int) -> list[Link]:
        return [link for link in self.reachable() if now - link.heard < self.heard_ns]

    def _heard_by_any(self, name: str, now: int) -> bool:
        """Whether a peer that is heard here may hear this member."""
        return any(hears(link.told, link.unheard, name) for link in self._alive(now))

    def forget(self, link: Link) -> bool:
        """The peer is gone for good. False when that was known."""
        if link.forgotten:
            return False
        link.forgotten = True
        self._drop(link)
        return True

    def remove(self, link: Link) -> None:
        """The peer is known to be gone for good."""
        if self.forget(link) and not link.connected:
            self._places.taken(link.info.name)

    def _drop(self, link: Link) -> None:
        link.held = False
        self._table.forget(link.node)
        self._forget_name(link.info.name)

    def _forget_name(self, name: str) -> None:
        self.known.pop(name, None)
        self._told.pop(name, None)

    # ---- news ----

    def hear(self, link: Link, frame: wire.Frame, now: int) -> None:
        """Takes what a frame says of members and of dead epochs."""
        for name, region, epoch, address in frame.members or ():
            # Only who hears a member is believed, else the mesh would tell of the dead for ever.
            if name not in (frame.unheard or ()) and not self._has_left(name, epoch):
                self._know(name, region, epoch, address, now)
        if frame.unheard is not None and frame.unheard != link.unheard:
            link.unheard, self._relays = frame.unheard, None
        if frame.members is not None:
            told = frozenset(name for name, _, _, _ in frame.members)
            if told != link.told:
                link.told, self._relays = told, None
        if frame.config is not None and frame.seq > link.config_seq:
            link.config, link.rollout, link.config_seq = frame.config, frame.rollout, frame.seq
        if frame.rollout is not None and self.on_rollout is not None:
            self.on_rollout(frame.rollout)
        for epoch in frame.marks or ():
            self._pruner.told(epoch, self._running(), now)
        if frame.flags & wire.LEAVING and not link.left:
            link.left = True
            log.info("%s: %s left", self._name, link.info.name)
            self._drop(link)
            self.count(now)

    def gather(self, me: NodeInfo, now: int) -> None:
        """Looks at members and marks when that is due; what changed becomes due for every link."""
        if now < self._next_gossip:
            return
        self._next_gossip = now + GOSSIP_NS
        for name in [n for n, told in self._told.items() if now - told > self._forget_after_ns]:
            if name not in self.links or self._is_gone(name):
                self._forget_name(name)
        silent = [e for e, (at, _) in self.alive.items() if now - at > self._forget_after_ns]
        for epoch in silent:
            del self.alive[epoch]
        marks = self._pruner.step(self.links.values(), self._running(), now)
        self._roster.drop_strangers(self.links.keys() | self.known.keys())
        news = {**self.members(me, now), **({"marks": marks} if marks else {})}
        if self.config is not None:
            news["config"] = self.config
        if self.rollout is not None:
            news["rollout"] = self.rollout
        if news != self._news:
            self._news = news
            for link in self.links.values():
                link.news_due = now

    def news(self, link: Link, now: int) -> dict[str, Any]:
        """The news that are due for this link, as fields of a frame; empty when none are."""
        if now >= link.news_due:
            members = len(self._news.get("members", ()))
            link.news_due = now + REPEAT_NS * max(1, -(-members // REPEATED_MEMBERS))
            link.news_sent += 1
        elif link.news_acked >= link.news_sent or now < link.news_lost or not link.held:
            return {}
        link.news_lost = now + PATIENCE_NS + 2 * link.round_trip
        return self._news

    def members(self, me: NodeInfo, now: int) -> dict[str, Any]:
        """The members and those that are not heard here, as fields of a frame."""
        own = (me.name, me.region, me.epoch, me.address)
        heard = {name for name in self.links if self.status(name, now) == "alive"}
        unheard = tuple(name for name in self.known if name not in heard)
        return {"members": (own, *self.known.values())[: wire.MAX_MEMBERS], "unheard": unheard}

    def is_alive(self, epoch: int, at: int, relay: str) -> None:
        """A peer states how old the news are that it has, from others, of a process that no link
        here is to: of another node, of a later life, or of one that is taken for gone."""
        if at > self.alive.get(epoch, (NEVER, ""))[0]:
            self.alive[epoch] = at, relay

    def told_alive(self, epoch: int, at: int) -> None:
        """A peer has news as of the time `at` of this process: one that was taken for dead before
        that is not."""
        if at > self._pruner.marks.get(epoch, at):
            self._pruner.returned(epoch)

    def _know(self, name: str, region: str, epoch: int, address: str, now: int) -> None:
        known = self.known.get(name)
        if name == self._name or (known is None and not self._has_room_for_a_name()):
            return
        if known is not None and not address:
            address = known[3]  # a node that does not know where it is reached takes nothing back
        self.known[name] = (name, region, epoch, address)
        self._told[name] = now

    def _has_room_for_a_name(self) -> bool:
        """Whether one more member can be told of. One that is silent makes room; its link
        remembers it."""
        if len(self.known) < wire.MAX_MEMBERS - 1:
            return True
        linked = {name for name, link in self.links.items() if link.connected}
        silent = [name for name in self.known if name in self.links and name not in linked]
        if silent:
            self._forget_name(min(silent, key=lambda name: self._told[name]))
        return bool(silent)

    def _has_left(self, name: str, epoch: int) -> bool:
        link = self.links.get(name)
        return link is not None and link.left and link.info.epoch == epoch

    def _is_gone(self, name: str) -> bool:
        link = self.links.get(name)
        return link is not None and (link.left or link.forgotten)

    def _running(self) -> set[int]:
        gone = {name for name in self.links if self._is_gone(name)}
        epochs = {link.info.epoch for name, link in self.links.items() if name not in gone}
        told = {self.known[name][2] for name in self._told_of()}
        return epochs | told | self.alive.keys() | {self._table.epoch}

    def _told_of(self) -> set[str]:
        """Members that have no link here, and that a peer hears that is not gone itself, as far as
        it has told. A joiner is told of one that has just died: that is no member."""
        told = [
            link
            for name, link in self.links.items()
            if link.told is not None and not self._is_gone(name)
        ]
        return {
            name
            for name in self.known.keys() - self.links.keys()
            if any(hears(link.told, link.unheard, name) for link in told)
        }


def _hears(link: Link, name: str) -> bool:
    told = link.told is None or name in link.told
    return name == link.info.name or (told and name not in link.unheard)
