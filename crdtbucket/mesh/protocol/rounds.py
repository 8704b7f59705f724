"""Builds the frames that a node sends: rounds, early flushes, answers, and full syncs."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from crdtbucket._core import Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.acknowledgements import Sent
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import Roster

Frames = list[tuple[str, bytes]]
"""Names of peers, and what to send to each."""
ROUND_BYTES = 16 * wire.MAX_PAYLOAD
"""Most payload (bytes) that one round sends to one peer; what does not fit goes with the next
round."""
SYNC_FRAMES = 4
"""Frames of a full sync that may be unacknowledged at a time."""
SYNC_LOOKS = 4
"""Sections of the table that a full sync looks at in one round, since perhaps few of many keys
owe."""
UNREACHED_NS = 1_000_000_000
"""When the newest frame that a peer has acknowledged is older than this and a round trip, frames
may not be reaching it."""
SYNC_PATIENCE_NS = 1_000_000_000
"""After this, and two round trips, a chunk of the full sync is sent again."""


class Outbox:
    """Builds the frames for the links of one node."""

    def __init__(self, table: Table, roster: Roster, links: Mapping[str, PeerState]) -> None:
        self._table = table
        self._roster = roster
        self._links = links
        self._chunks: dict[tuple[int, int], tuple[bytes, int, int]] = {}
        self._flags = 0
        self.entries_sent = 0
        """Entries sent so far, each counted once per peer that it went to."""

    def frame(self, link: PeerState, now: int, sent: Sent | None = None, **values: Any) -> bytes:
        """Builds one frame to a peer, with the acknowledgements and times that every frame
        carries."""
        tables_version = 0
        if "members" in values:
            sent = sent or Sent()
            sent.updates = link.updates_sent
        if values.get("payload"):
            tables, _ = self._roster.announced()
            tables_version = tables.version
            if link.tables_acked < tables_version and "payload_kind" not in values:
                values["tables"] = tables
                sent = sent or Sent()
                sent.tables_version = tables_version
        received = link.received
        keeps = self._state_credit(link, now, values) if values.get("payload") else 0
        return wire.encode_fields(
            {
                "epoch": self._table.epochs.running,
                "to_epoch": link.info.epoch,
                "seq": link.expect(sent),
                "sent": now,
                "echo": link.echo,
                "hold": now - link.echo_at if link.echo is not None else 0,
                "ack": received.highest,
                "ack_bits": received.bits,
                "flags": self._flags | keeps,
                "tables_version": tables_version,
                **values,
            }
        )

    def flag(self, flag: int, *, on: bool) -> None:
        """From now on every frame has this flag, or does not have it."""
        self._flags = self._flags & ~flag | (flag if on else 0)

    def start(self) -> None:
        """Forgets frames that were encoded before, as they may no longer be sent."""
        self._chunks.clear()

    def round(
        self,
        link: PeerState,
        now: int,
        extra: dict[str, Any],
        ages: tuple[tuple[int, int], ...] = (),
    ) -> list[bytes]:
        """The frames of a round: every key that is dirty for the peer, or as many as fit. `extra`
        goes with the first, or before it where that has to bring the tables; `ages` only with a
        complete one."""
        head = self._table.outbox.version
        budget = ROUND_BYTES
        chunks: list[tuple[bytes, Sent | None]] = []
        fits = _sends_all(link, head, now)
        gaps = link.acked.gaps(head) if fits else []
        if link.cursor < head and link.cursor > link.acked.prefix:
            gaps = _rotated(gaps, link.cursor)
        for low, upto in gaps:
            after = low
            while after < upto and budget > 0:
                payload, last, count = self._chunk(after, upto)
                if count:
                    chunks.append((payload, Sent(after, last)))
                    self.entries_sent += count
                    budget -= len(payload)
                else:
                    link.acked.add(after, last)
                after = last
            if after < upto:
                fits = False
                link.cursor = after
                break
        else:
            link.cursor = 0
        sync = {} if link.synced else self._sync(link, now)
        parts: list[tuple[bytes, Sent | None]]
        parts = [(payload, Sent(sync_from=place)) for place, payload in sync.items()]
        parts = parts + chunks or [(b"", None)]
        # Complete: it has everything that the peer may lack, even what is older and already on its
        # way.
        complete = fits and link.sync_place < 0 and link.sync_waiting.keys() <= sync.keys()
        link.round_sent += 1
        out = []
        if extra and parts[0][0] and link.tables_acked < self._roster.announced()[0].version:
            out.append(self.frame(link, now, **extra))
            extra = {}
        for part, (payload, sent) in enumerate(parts):
            values = {} if part else extra.copy()
            if complete:
                values |= {"round": link.round_sent, "part": part, "parts": len(parts)}
                if ages and not part:
                    values["ages"] = ages
            out.append(self.frame(link, now, sent, payload=payload, **values))
        return out

    def flush(self, link: PeerState, after: int, now: int) -> list[bytes]:
        """The frames of the changes that an early flush gave new versions, and no others."""
        head, out = self._table.outbox.version, []
        while after < head:
            payload, last, count = self._chunk(after, head)
            if count:
                out.append(self.frame(link, now, Sent(after, last), payload=payload))
                self.entries_sent += count
            after = last
        return out

    def entries(self, link: PeerState, entries: Iterable[int], now: int) -> list[bytes]:
        """Writes the given entries, whatever their state."""
        _, positions = self._roster.announced()
        wanted, start = array("I", entries), 0
        out: list[bytes] = []
        while start < len(wanted):
            payload, start, count = self._table.outbox.encode_entries(
                wanted, start, positions, wire.MAX_PAYLOAD
            )
            if not count:
                break
            self.entries_sent += count
            out.append(self.frame(link, now, payload=payload))
        return out

    def answer(self, link: PeerState, now: int) -> list[bytes]:
        """The entries that are to be sent in answer to those of the peer."""
        link.answered_at = now
        frames = self.entries(link, link.answers, now)
        link.answers = {}
        return frames

    def _sync(self, link: PeerState, now: int) -> dict[int, bytes]:
        """The next chunks of a full sync by their places, and those that seem lost."""
        patience = SYNC_PATIENCE_NS + 2 * link.round_trip
        _, positions = self._roster.announced()
        due = [place for place, at in link.sync_waiting.items() if now - at > patience]
        out: dict[int, bytes] = {}
        looks = SYNC_LOOKS
        while due or (looks and link.sync_place >= 0 and len(link.sync_waiting) < SYNC_FRAMES):
            looks -= not due
            place = due.pop() if due else link.sync_place
            payload, following, count = self._table.outbox.encode_table(
                place, positions, wire.MAX_PAYLOAD, link.sync_full
            )
            if place == link.sync_place:
                link.sync_place = following
            link.sync_waiting.pop(place, None)
            if count:
                link.sync_waiting[place] = now
                self.entries_sent += count
                out[place] = payload
        return out

    def _chunk(self, after: int, upto: int) -> tuple[bytes, int, int]:
        if (after, upto) not in self._chunks:
            _, positions = self._roster.announced()
            chunk = self._table.outbox.encode_log(after, upto, positions, wire.MAX_PAYLOAD)
            self._chunks[after, upto] = chunk
        return self._chunks[after, upto]

    def _state_credit(self, link: PeerState, now: int, values: dict[str, Any]) -> int:
        """States for which nodes these debts include credit: those that fell silent before the
        peer's process began. Returns the flag that makes the receiver owe as much. The flag is not
        set for a node whose connection ended: that node is usually dead, and soon given up."""
        silent = self._table.nodes.silent_before(link.started, link.node)
        if not silent:
            return wire.KEEPS_CREDIT if now < link.owes_until else 0
        epochs = {node: epoch for node, epoch, _ in self._table.nodes.relayed_members() if epoch}
        epochs |= {one.node: one.info.epoch for one in self._links.values()}
        ended = {one.node for one in self._links.values() if one.ending is not None}
        kept = [(node, ns // 1_000_000) for node, ns in silent if node in epochs]
        values["silent"] = tuple(
            (epochs[node], min(ms, wire.MAX_SILENT_MS)) for node, ms in kept[: wire.MAX_AGES]
        )
        return wire.KEEPS_CREDIT if any(node not in ended for node, _ in kept) else 0


def _sends_all(link: PeerState, version: int, now: int) -> bool:
    """Whether to send now all that the peer lacks; `version` is the newest one. While no frame
    reaches it and nothing is new, that happens once a second."""
    if (
        link.tried[0] == version
        and link.reached is not None
        and now - link.reached > UNREACHED_NS + link.round_trip
        and now - link.tried[1] < UNREACHED_NS
    ):
        return False
    link.tried = version, now
    return True


def _rotated(gaps: list[tuple[int, int]], cursor: int) -> list[tuple[int, int]]:
    """The gaps from `cursor` on, then those before it."""
    later = [(max(after, cursor), upto) for after, upto in gaps if upto > cursor]
    earlier = [(after, min(upto, cursor)) for after, upto in gaps if after < cursor]
    return later + earlier
