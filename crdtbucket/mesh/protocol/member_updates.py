"""Updates about the members and the dead epochs, which nodes send each other with their rounds."""

from __future__ import annotations

from typing import Any, NamedTuple

from crdtbucket._core import Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.introductions import Introductions
from crdtbucket.mesh.protocol.member_directory import MemberDirectory
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.peer_warnings import BoundedPeers
from crdtbucket.mesh.protocol.pruning import Pruner
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.rollout.staged import Status
from crdtbucket.spec.mode import MODES, Mode

GOSSIP_NS = 1_000_000_000
"""Members and tombstones are checked this often, and sent when they have changed."""
REPEAT_NS = 10_000_000_000
"""They are sent again this often, since a member that nobody advertises is forgotten."""
PATIENCE_NS = 1_000_000_000
"""After this, and two round trips, updates that a peer has not acknowledged are sent again: in a
chain each node waits for the updates of the one before."""
REPEATED_MEMBERS = 64
"""With more members than this, updates are repeated proportionally less often, so that the traffic
of a link does not grow with the mesh."""


class FleetRow(NamedTuple):
    """The configuration, roll-out and mode of one node, as far as they are known here."""

    name: str
    region: str
    state: str
    config: wire.Config | None
    rollout: wire.Rollout | None
    unseen: tuple[str, ...] = ()
    """Members that it says it does not see itself."""
    mode: int | None = None
    """The number of the worst mode of its buckets; None while it has not said."""


class MemberUpdates:
    """Prepares the updates that one node sends, and takes in those of its peers. Times are local
    ns."""

    def __init__(
        self,
        table: Table,
        directory: MemberDirectory,
        roster: Roster,
        pruner: Pruner,
        introductions: Introductions,
        bounded: BoundedPeers,
        now: int,
    ) -> None:
        self._table, self._directory, self._links = table, directory, directory.links
        self._roster, self._pruner, self._introductions = roster, pruner, introductions
        self._bounded = bounded
        self._next_gossip = now
        self._latest: dict[str, Any] = {}
        """The fields that were advertised last."""
        self.config: wire.Config | None = None
        """Version, hash and stage of the configuration that this node runs; None for none."""
        self.rollout: wire.Rollout | None = None
        """The state of the newest version that this node has."""
        self.mode: int | None = None
        """The mode in which this node decides; None while that is not known."""
        self.wall_ahead: int | None = None
        """How far the wall clock of this node is ahead of local time; None for none."""

    def advertise(self, config: wire.Config | None, rollout: wire.Rollout | None) -> None:
        """From now on this node advertises `config` for the configuration that it runs, and
        `rollout` for the newest version that it has."""
        self.config, self.rollout = config, rollout

    @property
    def staged(self) -> bool:
        """Whether this node is at a stage of a roll-out, so that definitions differ on purpose."""
        at_stages = Status.RUNNING, Status.HALTED
        return self.rollout is not None and self.rollout[3] in at_stages

    def advertise_mode(self, mode: Mode) -> None:
        """From now on this node advertises that it decides in this mode."""
        self.mode = MODES.index(mode)

    def follow_wall(self, ahead: int) -> None:
        """From now on the wall clock of this node is ahead of local time by `ahead`."""
        if self.wall_ahead is not None:  # the peers' stay where they are
            for link in list(self._links.values()):
                if link.wall_ahead is not None:
                    link.wall_ahead -= ahead - self.wall_ahead
        self.wall_ahead = ahead

    def receive(self, link: PeerState, frame: wire.Frame, now: int) -> None:
        """Takes the statements of a frame about members, configurations and dead epochs."""
        if frame.members:
            self._learn(link, frame.members, frame.unseen or (), now)
        has_config = frame.config is not None or frame.mode is not None
        if has_config and frame.seq > link.config_seq:
            link.config, link.rollout, link.mode = frame.config, frame.rollout, frame.mode
            link.config_seq = frame.seq
        if frame.wall is not None and self.wall_ahead is not None:
            link.wall_ahead = frame.wall + link.age - (now + self.wall_ahead)
        if frame.tombstones:
            running = self._directory.running(self._table.epochs.running)
            self._pruner.advertised(link, frame.tombstones, running, now)

    def _learn(
        self, link: PeerState, members: tuple[wire.Member, ...], unseen: tuple[str, ...], now: int
    ) -> None:
        refused = 0
        for member in members:
            # Only a peer that sees a member is believed: otherwise the mesh would advertise dead
            # members for ever.
            name, _, epoch, _ = member
            if name not in unseen and not self._directory.has_left(name, epoch):
                refused += not self._directory.learn(member, now, link.info.name)
        self._bounded.count(
            link.info.name,
            "members",
            refused,
            now,
            "advertises more members than there is room for; those beyond are left out",
        )

    def are_due(self, now: int) -> bool:
        """Whether it is time to look at them again."""
        return now >= self._next_gossip

    def prepare(self, members: dict[str, Any], now: int) -> None:
        """Collects the updates; what changed since the last time is due for every link. `members`:
        what `Membership.advertised` returns."""
        self._next_gossip = now + GOSSIP_NS
        self._directory.expire(now)
        running = self._directory.running(self._table.epochs.running)
        admits = self._introductions.again
        tombstones = self._pruner.step(self._links.values(), running, now, admits)
        if self._introductions.step(running, now):
            self._roster.retry()
        self._roster.drop_strangers(self._links.keys() | self._directory.known.keys())
        latest = {**members, **({"tombstones": tombstones} if tombstones else {})}
        if self.config is not None:
            latest["config"] = self.config
        if self.rollout is not None:
            latest["rollout"] = self.rollout
        if self.mode is not None:
            latest["mode"] = self.mode
        if latest != self._latest:
            self._latest = latest
            for link in self._links.values():
                link.updates_due = now

    def due_for(self, link: PeerState, now: int) -> dict[str, Any]:
        """The updates that are due for this link, as fields of a frame; empty when none are."""
        if now >= link.updates_due:
            members = len(self._latest.get("members", ()))
            link.updates_due = now + REPEAT_NS * max(1, -(-members // REPEATED_MEMBERS))
            link.updates_sent += 1
        else:
            acknowledged = link.updates_acked >= link.updates_sent
            if acknowledged or now < link.updates_lost or not link.log_kept:
                return {}
        link.updates_lost = now + PATIENCE_NS + 2 * link.round_trip
        wall = self.wall_ahead
        return self._latest if wall is None else {**self._latest, "wall": now + wall}
