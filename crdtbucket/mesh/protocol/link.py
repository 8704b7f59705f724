"""One peer as seen from here: what it has acknowledged, what came from it, how far away it is."""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from crdtbucket.base.windowed_maximum import WindowedMaximum
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.clock_watch import Offset
from crdtbucket.mesh.protocol.endings import Ending
from crdtbucket.mesh.protocol.roster import Resolved

MAX_UNACKED = 4096
"""Frames whose acknowledgement is awaited; older ones count as lost."""
NEVER = -(2**62)
LATELY = 512
"""Frames of a peer whose entries are remembered for a while."""
STALE_NS = 5_000_000_000
"""A frame whose round trip took longer says nothing about now."""
HELD_UP_NS = 500_000_000
"""A frame whose round trip took so much longer than usual says nothing about clocks: this node or
the peer was paused, and where rounds are slow no other frame shows that."""
UNREACHED_NS = 1_000_000_000
"""A peer that has told of no newer frame than this, and its round trip, may not be reached."""


class Ranges:
    """Versions that a link has acknowledged: all up to `prefix`, and some ranges above it."""

    def __init__(self, prefix: int = 0) -> None:
        self.prefix = prefix
        self._above: list[tuple[int, int]] = []

    def add(self, after: int, upto: int) -> None:
        """Versions above `after`, up to `upto`, are acknowledged."""
        if upto <= self.prefix or upto <= after:
            return
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*self._above, (after, upto)]):
            if low <= self.prefix:
                self.prefix = max(self.prefix, high)
            elif merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        self._above = merged

    def gaps(self, head: int) -> list[tuple[int, int]]:
        """(after, upto) of what is not acknowledged, up to `head`."""
        out, low = [], self.prefix
        for start, end in self._above:
            out.append((low, start))
            low = end
        if low < head:
            out.append((low, head))
        return out


@dataclass
class Sent:
    """What a frame carried that its acknowledgement settles."""

    after: int = 0
    upto: int = 0
    tables_version: int = 0
    sync_from: int = -1
    news: int = 0
    """The number of the news of members that went with it, 0 for none."""


NOTHING = Sent()


@dataclass
class Received:
    """Sequence numbers merged from the peer: the highest, and a window of those below."""

    highest: int = 0
    bits: int = 0

    def seen(self, seq: int) -> bool:
        below = self.highest - seq
        return below == 0 or (0 < below <= wire.ACK_BITS and bool(self.bits >> (below - 1) & 1))

    def add(self, seq: int) -> None:
        below = self.highest - seq
        if below < -wire.ACK_BITS or not self.highest:  # a peer may leap by 2^62
            self.highest, self.bits = max(self.highest, seq), 0
        elif below < 0:
            self.bits = ((self.bits << 1 | 1) << (-below - 1)) & (2**wire.ACK_BITS - 1)
            self.highest = seq
        elif 0 < below <= wire.ACK_BITS:
            self.bits |= 1 << (below - 1)


@dataclass
class Link:
    """The state that is kept for one peer, over reconnections."""

    info: NodeInfo
    node: int
    """Its id in the table."""
    heard: int
    """When its newest frame came (or the link came up), local ns."""
    connected: bool = True
    ending: Ending | None = None
    """How its last connection ended, and what became of calls since; None while it is connected,
    and when this side gave up waiting for it."""
    left: bool = False
    forgotten: bool = False
    held: bool = True
    """Whether the log of versions is kept for it; if not it gets a full sync when it is back."""
    seq: int = 0
    sent: OrderedDict[int, Sent] = field(default_factory=OrderedDict)
    acked: Ranges = field(default_factory=Ranges)
    cursor: int = 0
    """Where a round that did not fit into its budget ended."""
    tables_acked: int = 0
    received: Received = field(default_factory=Received)
    echo: int | None = None
    echo_at: int = 0
    round_trip: int = 0
    """Smoothed, ns; 0 while unknown."""
    round_sent: int = 0
    round: int = 0
    round_parts: set[int] = field(default_factory=set)
    round_at: int = 0
    completed: int = 0
    reached: int | None = None
    """When the newest frame was sent that the peer has got, as far as it has told, or when it was
    first heard; None before. A link may be silent one way."""
    tried: tuple[int, int] = (-1, 0)
    """The newest version when all that it lacks was sent last, and when that was."""
    born: int = field(init=False)
    """When its process began, local ns."""
    stood: int = field(init=False)
    """The time that its newest complete round stood for, local ns; at first that of the link."""
    gaps: WindowedMaximum = field(default_factory=WindowedMaximum)
    """How old (ns) its news had become when a complete round came."""
    peer_tables: OrderedDict[int, Resolved] = field(default_factory=OrderedDict)
    """Its announced tables by version, the newest few."""
    answers: dict[int, None] = field(default_factory=dict)
    answered_at: int = NEVER
    unheard: tuple[str, ...] = ()
    told: frozenset[str] | None = None
    """Members that it has told of; None while it has told of none."""
    ages_from: int = 0
    """Where in `unheard` the ages begin that the next round tells it, when they do not all fit."""
    round_ages: tuple[tuple[int, int], ...] = ()
    """The ages that came with the complete round under way."""
    relayed_at: int = NEVER
    """The time up to which others have told all of this peer's news, local ns."""
    relay: str = ""
    """Who did."""
    lately: deque[tuple[int, array[int]]] = field(default_factory=lambda: deque(maxlen=LATELY))
    """When its newest entries came, and which they were."""
    config: wire.Config | None = None
    """Version, hash and stage of the configuration that it runs, None while it has told none."""
    rollout: wire.Rollout | None = None
    """How far the newest version is that it has, as it told together with that."""
    config_seq: int = 0
    sync_place: int = 0
    """Next place of the full sync, -1 when it is through."""
    sync_waiting: dict[int, int] = field(default_factory=dict)
    """Chunks of the full sync that are not acknowledged: place -> when they were sent."""
    clock: Offset = field(default_factory=Offset)
    news_due: int = 0
    news_sent: int = 0
    """How often news of members were due so far, the last number that they were sent under."""
    news_acked: int = 0
    news_lost: int = NEVER
    """From when on news that are not acknowledged count as lost."""
    digest_from: int = 0
    digest_due: int = 0
    passes: int = 0
    """Times that the digests went over all hashes."""

    def __post_init__(self) -> None:
        self.stood = self.heard
        self.born = self.heard - self.info.age_ns

    @property
    def synced(self) -> bool:
        return self.sync_place < 0 and not self.sync_waiting

    def new_life(self, info: NodeInfo) -> None:
        """The peer's process is another one: nothing that was agreed with the old one holds."""
        fresh = Link(info, self.node, self.heard, connected=self.connected, seq=self.seq)
        fresh.gaps = self.gaps
        self.__dict__.update(fresh.__dict__)

    def renumber(self) -> None:
        """A link was made again. An image that was reverted, and a process that took over from
        another one, count frames, rounds and time from where they stand, and what they say now is
        no duplicate; nor need they have the tables that were acknowledged."""
        self.received, self.echo = Received(), None
        self.round = self.completed = self.config_seq = self.tables_acked = 0
        self.round_parts = set()

    def try_again(self, version: int, now: int) -> bool:
        """Whether all that the peer lacks is to be sent now, `version` being the newest. While
        nothing gets through and nothing is new, that is once a second."""
        if (
            self.tried[0] == version
            and self.reached is not None
            and now - self.reached > UNREACHED_NS + self.round_trip
            and now - self.tried[1] < UNREACHED_NS
        ):
            return False
        self.tried = version, now
        return True

    def start_sync(self, version: int) -> None:
        """All indebted keys are sent; versions up to now are covered by that."""
        self.acked = Ranges(version)
        self.cursor = version
        self.sync_place = 0
        self.sync_waiting = {}

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
                self.news_acked = max(self.news_acked, done.news)
                if done.sync_from >= 0:
                    self.sync_waiting.pop(done.sync_from, None)

    def expect(self, sent: Sent) -> int:
        """Gives the next frame its sequence number and remembers what it carries."""
        self.seq += 1
        if sent != NOTHING:
            self.sent[self.seq] = sent
        if len(self.sent) > MAX_UNACKED:
            self.sent.popitem(last=False)
        return self.seq

    def measure(self, frame: wire.Frame, now: int) -> bool:
        """Takes the round trip in a frame. False when the frame is too old to say anything."""
        stale = held_up = False
        if self.reached is None:
            self.reached = now
        if frame.echo is not None:
            self.reached = max(self.reached, frame.echo)
            trip = now - frame.echo - frame.hold
            stale = trip > STALE_NS
            held_up = trip - self.round_trip > HELD_UP_NS
            if 0 < trip <= STALE_NS:
                longer = min(trip - self.round_trip, HELD_UP_NS)  # or a pause would shift clocks
                self.round_trip += longer // 8 if self.round_trip else trip
        if not (stale or held_up):
            self.clock.sample(frame.sent - now + self.round_trip // 2, now)
        if self.echo is None or frame.sent > self.echo:
            self.echo, self.echo_at = frame.sent, now
        return not stale

    def complete(self, frame: wire.Frame, at: int) -> int | None:
        """Counts a part of a complete round. When it was the last missing one: the time that the
        round stands for."""
        if not frame.parts or frame.round <= self.completed:
            return None
        if frame.round > self.round:
            self.round, self.round_parts, self.round_at = frame.round, set(), at
            self.round_ages = ()
        if frame.round < self.round:
            return None
        self.round_parts.add(frame.part)
        if frame.ages is not None:
            self.round_ages = frame.ages
        self.round_at = min(self.round_at, at)
        if len(self.round_parts) < frame.parts:
            return None
        self.completed = frame.round
        return self.round_at
