"""The state that a node keeps of one peer: which of its frames have arrived, what it has
acknowledged and advertised, and how far away it is.

It is a plain record. The parts of one node (membership, rounds, relays, anti-entropy) read and
write it; nobody else does.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from dataclasses import dataclass, field, fields

from crdtbucket._core import Table
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.acknowledgements import NOTHING, Received, Sent, VersionRanges
from crdtbucket.mesh.protocol.clock_watch import ClockOffset
from crdtbucket.mesh.protocol.ended_connection import EndedConnection
from crdtbucket.mesh.protocol.roster import ResolvedTables
from crdtbucket.mesh.protocol.travel_times import TravelTimes, WindowedMaximum

MAX_UNACKED = 4096
"""Frames whose acknowledgement is awaited; older ones count as lost."""
NEVER = -(2**62)
RECENT_FRAMES = 512
"""The number of frames of a peer whose entries are remembered for a while."""
LATE_NS = 5_000_000_000
"""A frame that is older says nothing about the present."""
MOST_HOLD_NS = 60_000_000_000
"""A round trip in which the peer held the frame for longer is not measured: the peer's clock, which
measures that time, drifts from this one. A peer that is no longer reached echoes the same frame for
ever."""
FORGOTTEN_PLACES = 2**17
"""Places of the table on which a node is given up in one round: some ten milliseconds."""


@dataclass(slots=True)
class PeerState:
    """The state that is kept for one peer, over reconnections. Times are local ns."""

    info: NodeInfo
    """The process that runs now, as far as is known."""
    node: int
    """The id of the peer in the table."""
    last_seen: int
    """When its newest frame came, or the link was made."""
    connected: bool = True
    steady_since: int = NEVER
    """Since when frames have come both ways without a break."""
    answers_since: int = NEVER
    """When the first frame came that it made after it had received one sent since `steady_since`;
    no later than that while none has come."""
    ending: EndedConnection | None = None
    """How its last connection ended, and which dials were refused since. None while it is
    connected, and when this side gave up waiting for it."""
    left: bool = False
    """Whether it said goodbye."""
    forgotten: bool = False
    """Whether it counts as dead, or was silent for so long that it is no member any more."""
    to_forget: int = -1
    """The place of the table from which it is still to be given up, -1 for none."""
    log_kept: bool = True
    """Whether the log of versions is kept for it. If not, it gets a full sync when it returns."""

    seq: int = 0
    """The sequence number of the newest frame sent to it."""
    sent: OrderedDict[int, Sent] = field(default_factory=OrderedDict)
    """Frames that it has not acknowledged, by sequence number."""
    acked: VersionRanges = field(default_factory=VersionRanges)
    cursor: int = 0
    """The version at which a round that did not fit into its budget ended; 0 for none."""
    tables_acked: int = 0
    """The newest version of this node's tables that it has acknowledged."""
    received: Received = field(default_factory=Received)
    last_word: int = 0
    """The highest sequence number that has come under its epoch, on earlier links, too: an image
    that was reverted counts frames from an earlier one on."""

    newest: tuple[int, int] = (NEVER, 0)
    """The sequence number of its newest frame, which may have come on an earlier link, and when it
    was sent, on its clock; NEVER before the first one."""

    echo: int | None = None
    """The newest `sent` stamp that came from it, on its clock."""
    echo_at: int = 0
    """The time at which that came."""
    round_trip: int = 0
    """The smoothed round trip (ns); 0 while unknown."""
    travel: TravelTimes = field(default_factory=TravelTimes)
    age: int = 0
    """How old its last frame was when it came."""
    woke_until: int = NEVER
    """It stood still a moment ago: what it brings until then was taken just before, or since."""
    clock: ClockOffset = field(default_factory=ClockOffset)
    wall_ahead: int | None = None
    """How far its wall clock is ahead of this node's (ns); None while it has not stated it."""

    round_sent: int = 0
    """The number of the newest round sent to it."""
    round: int = 0
    """The number of its round that is arriving."""
    round_parts: set[int] = field(default_factory=set)
    """The parts of that round that have arrived."""
    round_at: int = 0
    """When the first of these was sent, by their ages."""
    round_ages: tuple[tuple[int, int], ...] = ()
    """The ages that came with that round."""
    completed: int = 0
    """The number of its newest complete round."""
    round_time: int = field(init=False)
    """Up to this time its complete rounds state all that it counted; at first that of the link."""
    round_gaps: WindowedMaximum = field(default_factory=WindowedMaximum)
    """How old (ns) its newest complete round had become when the next one came."""
    reached: int | None = None
    """The sending time of the newest frame that it has acknowledged, or the time at which its first
    frame came; None before. A link may be silent in one direction."""
    tried: tuple[int, int] = (-1, 0)
    """The newest version when all that it lacks was sent last, and when that was."""
    started: int = NEVER
    """When its process began, by its age when first linked: clocks drift later. NEVER before."""

    peer_tables: OrderedDict[int, ResolvedTables] = field(default_factory=OrderedDict)
    """The tables that it has announced, by version, the newest few."""
    answers: dict[int, None] = field(default_factory=dict)
    """Entries that are to be sent to it in answer to its own."""
    answered_at: int = NEVER

    advertised: dict[str, int] | None = None
    """The members that it has advertised, and the epoch of each; None before the first time."""
    unseen: tuple[str, ...] = ()
    """The advertised members that the peer does not see itself."""
    ages_from: int = 0
    """The first of the ages that the next round states, when they do not all fit."""
    relayed_at: int = NEVER
    """Up to this time other peers have relayed all that it counted."""
    relay: str = ""
    """The relay that did."""
    recent_entries: deque[tuple[int, array[int]]] = field(
        default_factory=lambda: deque(maxlen=RECENT_FRAMES)
    )
    """When its newest entries came, and which they were."""

    config: wire.Config | None = None
    """Version, hash and stage of the configuration that it runs; None while it has not said."""
    rollout: wire.Rollout | None = None
    """The state of the newest version that it has, as it said together with that."""
    mode: int | None = None
    """The mode in which the peer decides, as it said together with that."""
    config_seq: int = 0
    """The sequence number of the frame with these."""

    owes_until: int = NEVER
    """Until then the peer owes at least what this node owes: the peer began after another one fell
    silent here, and has sent takes of that one, which this node knows better."""
    sync_full: bool = True
    """Whether the full sync includes full keys: the peer predicts takes of them, and must learn of
    the real ones before it stops predicting."""
    sync_place: int = 0
    """The next place of the full sync, -1 when all is sent."""
    sync_waiting: dict[int, int] = field(default_factory=dict)
    """Chunks of the full sync that are not acknowledged: place -> when they were sent."""

    updates_due: int = 0
    """When member updates are to be sent to it."""
    updates_sent: int = 0
    """How often they were due so far: the number that the last ones carry."""
    updates_acked: int = 0
    """The newest number of updates that the peer has acknowledged."""
    updates_lost: int = NEVER
    """From when on updates that are not acknowledged count as lost."""

    digest_from: int = 0
    """The hash at which the next digest begins."""
    digest_due: int = 0
    passes: int = 0
    """How many times the digests have gone over all hashes."""

    def __post_init__(self) -> None:
        self.round_time = self.last_seen

    @property
    def gone(self) -> bool:
        """Whether it no longer shares the limits: it said goodbye, or is forgotten."""
        return self.left or self.forgotten

    @property
    def synced(self) -> bool:
        """Whether it has acknowledged a full sync."""
        return self.sync_place < 0 and not self.sync_waiting

    def restarted(self, info: NodeInfo) -> None:
        """The peer's process is another one: nothing that was agreed with the old one holds."""
        fresh = PeerState(info, self.node, self.last_seen, connected=self.connected, seq=self.seq)
        fresh.round_gaps = self.round_gaps
        for one in fields(self):
            setattr(self, one.name, getattr(fresh, one.name))

    def connected_again(self, info: NodeInfo, now: int, digest_due: int) -> None:
        """A link to this process of the peer is up; its first digest is due at that time."""
        self.info, self.last_seen, self.steady_since = info, now, now
        self.started = self.started if self.started > NEVER else now - info.age_ns
        self.connected, self.log_kept, self.left, self.forgotten = True, True, False, False
        self.to_forget = -1
        self.ending = self.reached = None
        self.tried, self.digest_due = (-1, 0), digest_due

    def give_up(self, table: Table) -> None:
        """What was predicted of it becomes debt: at once in a small table, else round by round."""
        self.to_forget = 0
        if table.places <= FORGOTTEN_PLACES:
            self.forget_some(table)

    def forget_some(self, table: Table) -> None:
        """Goes on giving it up, in the next part of the table."""
        self.to_forget = table.nodes.forget(self.node, self.to_forget, FORGOTTEN_PLACES)

    def renumber(self) -> None:
        """A link was made again. The peer may be an image that was reverted, or a process that took
        over from another one. Its numbers of frames and rounds, and its time, may begin again at a
        lower value, so its new frames must not count as duplicates; nor does it have the tables
        that were acknowledged."""
        self.received, self.echo, self.travel = Received(), None, TravelTimes()
        self.round = self.completed = self.config_seq = self.tables_acked = 0
        self.round_parts = set()

    def start_sync(self, version: int, *, full: bool = True) -> None:
        """Begins to send all keys, which covers all versions up to this one. Without `full` it
        sends only those that owe: a process that has just begun needs no others, except if a peer
        was silent before it began. Such a process itself sends all keys to an older one: they are
        what it has taken so far."""
        self.sync_full, self.cursor = full, version
        self.acked = VersionRanges(version)
        self.sync_place, self.sync_waiting = 0, {}

    def acknowledge(self, frame: wire.Frame) -> None:
        """Takes the acknowledgements in a frame of the peer."""
        for seq in [s for s in self.sent if s <= frame.ack]:
            below = frame.ack - seq
            if below > wire.ACK_BITS:
                del self.sent[seq]  # lost
            elif below == 0 or frame.ack_bits >> (below - 1) & 1:
                done = self.sent.pop(seq)
                self.acked.add(done.after, done.upto)
                self.tables_acked = max(self.tables_acked, done.tables_version)
                self.updates_acked = max(self.updates_acked, done.updates)
                if done.sync_from >= 0:
                    self.sync_waiting.pop(done.sync_from, None)

    def expect(self, sent: Sent | None) -> int:
        """Returns the sequence number of the next frame, and remembers what it carries."""
        self.seq += 1
        if sent is not None and sent != NOTHING:
            self.sent[self.seq] = sent
            if len(self.sent) > MAX_UNACKED:
                self.sent.popitem(last=False)
        return self.seq

    def measure(self, frame: wire.Frame, now: int, *, addressed: bool) -> bool:
        """Takes the age of a frame, and, where it is addressed to the running epoch, the round trip
        and the clock. Returns False when it is so old that it says nothing about the present."""
        trip = self._trip(frame, now) if addressed else None
        self.age = self.travel.age(frame.sent, trip, now)
        if trip is not None:
            # A peer may state any round trip, but if that is too long, its frame counts as late.
            if self.age <= LATE_NS and self.travel.is_usual(trip):
                self.round_trip += (trip - self.round_trip) // 8 if self.round_trip else trip
            self.clock.sample(frame.sent - now, trip, now)
        if addressed and (self.echo is None or frame.sent > self.echo):
            self.echo, self.echo_at = frame.sent, now
        return self.age <= LATE_NS

    def _trip(self, frame: wire.Frame, now: int) -> int | None:
        """The round trip that ends with this frame, None when it does not show one."""
        if self.reached is None:
            self.reached = now
        if frame.echo is None:
            return None
        self.reached = max(self.reached, frame.echo)
        if frame.echo >= self.steady_since >= self.answers_since:
            self.answers_since = now
        trip = now - frame.echo - frame.hold
        return trip if trip > 0 and frame.hold <= MOST_HOLD_NS else None

    def complete(self, frame: wire.Frame, at: int) -> int | None:
        """Takes one part of a complete round. Returns None while others are missing, then the time
        up to which the round states all that the peer counted."""
        if not frame.parts or frame.round <= self.completed or frame.round < self.round:
            return None
        if frame.round > self.round:
            self.round, self.round_parts, self.round_at = frame.round, set(), at
            self.round_ages = ()
        self.round_parts.add(frame.part)
        if frame.ages is not None:
            self.round_ages = frame.ages
        self.round_at = min(self.round_at, at)
        if len(self.round_parts) < frame.parts:
            return None
        self.completed = frame.round
        return self.round_at
