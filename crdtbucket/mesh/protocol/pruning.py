"""Prunes old epochs: a dead one gets a tombstone when every live peer has its final counts.

A tombstone says that the columns of an epoch count no more; they are removed round by round, and
levels do not move. Tombstones are sent to the peers, and their ids are used again after a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from crdtbucket._core import Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.withdrawals import TOLD_PART, Withdrawals

LOG = logging.getLogger("crdtbucket.mesh")

SETTLED_NS = 30_000_000_000
"""An epoch gets no tombstone before it has been dead for this long (ns), or for `ROUNDS` rounds if
that is longer. If it has columns on keys that owe, the longest time to full of their buckets is
added: otherwise a newcomer that gets a level without the columns behind it would count too small a
debt, and all nodes would adopt that. If the keys are full, its columns no longer matter."""
ROUNDS = 24
"""The least time in rounds: several relays in a row may pass on that the epoch
runs, each with a complete round, and frames may be lost."""
PASSES = 2
"""Since the death, this many full passes of anti-entropy must have been made with every peer that
was live then, or that existed before and is linked again: the passes spread the final counts of the
epoch. A process that has just begun was sent them with everything else."""
FRESH_PART = 10
"""A process that has run for less than a tenth of the time that a dead epoch settles has just begun
when it is linked: it knows only what others have sent it since."""
KEPT_NS = 900_000_000_000
"""Time (ns) for which a tombstone is remembered."""
PRUNED_PLACES = 131_072
"""The number of places of the table from which columns are removed in one go."""
CROWDED = wire.MAX_ORIGINS * 7 // 8
"""With more epochs than this, the oldest are pruned and released early, so that new nodes find
room."""


@dataclass
class _DeadEpoch:
    """An epoch under which no process runs any more. Times are local ns."""

    since: int
    passes: dict[int, int]
    """How many passes there had been with each live peer then, or when it was linked again, by its
    epoch."""
    spread: int | None = None
    """When every live peer had its final counts."""
    settles: int | None = None
    """The time from which it may get its tombstone; None until the keys have been looked at since
    its death."""


class Pruner:
    """Decides which epochs get a tombstone, and when it is released."""

    def __init__(self, table: Table, now: int, interval_ns: int = 0) -> None:
        """Goes on with the tombstones that are in the table. `interval_ns`: between two rounds."""
        self._table = table
        self._settled_ns = max(SETTLED_NS, ROUNDS * interval_ns)
        self._withdrawals = Withdrawals(self._settled_ns)
        self.remember()
        self._dead: dict[int, _DeadEpoch] = {}
        """The dead epochs, in the order in which they died."""
        self._place = -1
        """The place at which the running pass over all keys goes on, -1 while no pass runs."""
        self._begun = 0
        self._owing: dict[int, int] = {}
        """The results of that pass: the longest time to full of a bucket, by epoch."""
        self._crowded = False
        self._running = 0
        self._live: set[int] = set()
        """The epochs of the live peers in the step before."""
        self.tombstones = {epoch: now for _, _, epoch, gone in table.epochs.origins() if gone}
        """Epochs with a tombstone, the oldest first, and since when they have it, as far as that is
        known."""
        self._given_up: list[int] = []
        """Epochs that lose their places, and of which columns are still to be removed."""
        self._pruning = -1
        """Where the removal of their columns goes on, -1 where none is under way."""
        self._unpruned = bool(self.tombstones)
        """Whether an epoch got its tombstone since that began; another process may have left it."""

    @property
    def crowded(self) -> bool:
        """Whether there is hardly room for more epochs, even if all dead ones go."""
        return self._running > CROWDED

    def step(
        self,
        links: Iterable[PeerState],
        running: set[int],
        now: int,
        admits: Callable[[str, str, int], bool] = lambda peer, name, epoch: True,
    ) -> tuple[int, ...]:
        """Prunes what can be pruned, and releases old tombstones; returns those to advertise.
        `admits`: whether there is room for an epoch that a peer goes on counting, by the names of
        the peer and of the epoch's owner."""
        live = {link.info.epoch: link for link in links if link.connected and not link.left}
        known = self._table.epochs.origins()
        self._withdrawals.follow(live, running, {epoch for _, _, epoch, _ in known})
        if self._withdraw(now, admits):
            known = self._table.epochs.origins()
        dead = {epoch for _, _, epoch, gone in known if not gone} - running
        # `Introductions` gives up some epochs by itself, and an epoch may have lost its tombstone
        # because memory ran out.
        with_tombstone = {epoch for _, _, epoch, gone in known if gone}
        self.tombstones = {e: at for e, at in self.tombstones.items() if e in with_tombstone}
        self._dead = {epoch: seen for epoch, seen in self._dead.items() if epoch in dead}
        back = {peer: link.passes for peer, link in live.items() if self._is_back(link, now)}
        for epoch in dead:
            if epoch not in self._dead:
                passes = {peer: link.passes for peer, link in live.items()}
                self._dead[epoch] = _DeadEpoch(now, passes)
            one = self._dead[epoch]
            one.passes |= back
            settled = now - one.since >= self._settled_ns
            if one.spread is None and settled and _has_spread(one, live):
                one.spread = now
        self._live = set(live)
        self._look(now)
        self._add_tombstones([e for e in self._dead if self._may_have_tombstone(e, now)], now)
        self._running = len(known) - len(dead) - len(with_tombstone)
        self._make_room(len(known), now)
        for epoch in [e for e, at in self.tombstones.items() if now - at > KEPT_NS]:
            self._release(epoch)
        return tuple(self.tombstones)[-wire.MAX_TOMBSTONES :]

    def _may_have_tombstone(self, epoch: int, now: int) -> bool:
        settles = self._dead[epoch].settles
        return settles is not None and now >= settles and not self._withdrawals.is_counted(epoch)

    def _withdraw(self, now: int, admits: Callable[[str, str, int], bool]) -> int:
        """Withdraws the tombstones of epochs that peers go on counting, while there is room.
        Returns of how many."""
        due = [] if self._crowded else list(self._withdrawals.due(self.tombstones, now))
        withdrawn = 0
        for peer, name, epoch in due:
            if epoch in self.tombstones and admits(peer.info.name, name, epoch):
                self.returned(epoch)
                self._withdrawals.withdrawn(epoch, peer)
                peer.digest_due = now  # so that digests find what it has shown before
                withdrawn += 1
        return withdrawn

    def _is_back(self, link: PeerState, now: int) -> bool:
        """Whether a live peer was not live in the step before, and its process has run for a while,
        or this node was alone: then it may have counts that this node lacks."""
        ran = now - link.started > self._settled_ns // FRESH_PART
        return (ran or not self._live) and link.info.epoch not in self._live

    def _look(self, now: int) -> None:
        """Goes on with the pass over all keys, which looks for keys that owe and have a column of a
        dead epoch."""
        if self._place < 0:
            if not any(one.spread is not None for one in self._dead.values()):
                return
            self._place, self._begun, self._owing = 0, now, {}
        found, self._place = self._table.epochs.owing(self._place)
        for epoch, longest in found.items():
            self._owing[epoch] = max(longest, self._owing.get(epoch, 0))
        if self._place >= 0:
            return
        for epoch, one in self._dead.items():
            if one.spread is not None and one.spread <= self._begun:
                settles = one.since + self._settled_ns + self._owing.get(epoch, 0)
                one.settles = settles if one.settles is None else min(settles, one.settles)

    def advertised(
        self, link: PeerState, epochs: Iterable[int], running: set[int], now: int
    ) -> None:
        """A peer advertises tombstones of these epochs; not believed of one that runs, nor where
        the peer may lack counts of it that are known here."""
        known = running | self.tombstones.keys()
        self._add_tombstones(
            [e for e in epochs if e not in known and self._believes(link, e, now)], now
        )

    def _believes(self, link: PeerState, epoch: int, now: int) -> bool:
        since = self._dead[epoch].since if epoch in self._dead else None
        return self._withdrawals.believed(epoch, since, link, now)

    def shown(self, link: PeerState, origins: wire.Origins, now: int) -> None:
        """Entries of this peer came, by tables with these owners and epochs."""
        self._withdrawals.shown(link, origins, now)

    def remember(self) -> None:
        """Notes that all epochs in the table were there before any peer was linked."""
        self._withdrawals.remember(epoch for _, _, epoch, _ in self._table.epochs.origins())

    def returned(self, epoch: int) -> None:
        """A process that was taken for dead runs: its columns count again."""
        if epoch in self._given_up:
            self._given_up.remove(epoch)
        elif self.tombstones.pop(epoch, None) is None:
            return
        self._table.epochs.remove_tombstone(epoch)

    def give_up(self, epoch: int, *, at_once: bool) -> None:
        """This epoch loses its place, as if it had never been known, and peers are not informed: at
        once, which walks through the whole table, or when its columns are removed."""
        if self._table.epochs.add_tombstones([epoch]):
            self._given_up.append(epoch)
        if at_once:
            self._table.epochs.prune()
            self._release_given_up()
        else:
            self._remove_columns()

    def seen_running(self, epoch: int, at: int) -> None:
        """A peer saw this process at the time `at`: if it was taken for dead before that, its
        tombstone is taken back."""
        if at > self.tombstones.get(epoch, at):
            self.returned(epoch)

    def _make_room(self, known: int, now: int) -> None:
        crowded = known > CROWDED
        if crowded and not self._crowded:
            LOG.warning("%d epochs are known: from here on old ones are pruned early", known)
        self._crowded = crowded
        for epoch in list(self.tombstones)[: max(0, known - CROWDED)]:
            self._release(epoch)
            known -= 1
        self._add_tombstones(self._settled(now)[: max(0, known - CROWDED)], now)

    def _settled(self, now: int) -> list[int]:
        """The epochs that have been dead for long enough, the one that died first at the front."""
        return [e for e, dead in self._dead.items() if now - dead.since >= self._settled_ns]

    def release_early(self, epochs: Collection[int], beyond: int, now: int) -> None:
        """Of these epochs, `beyond` are too many: the oldest dead ones get their tombstones early,
        and the oldest tombstones are released once peers have had the time to get them. Else a peer
        that still counts the columns would introduce the epoch again."""
        with_tombstone = [epoch for epoch in self.tombstones if epoch in epochs]
        settled = [epoch for epoch in self._settled(now) if epoch in epochs]
        self._add_tombstones(settled[: max(0, beyond - len(with_tombstone))], now)
        told_ns = self._settled_ns // TOLD_PART
        told = [e for e in with_tombstone if now - self.tombstones[e] >= told_ns]
        for epoch in told[: max(0, beyond)]:
            self._release(epoch)

    def _add_tombstones(self, epochs: list[int], now: int) -> None:
        for epoch in epochs:
            self._dead.pop(epoch, None)
        for epoch in self._table.epochs.add_tombstones(epochs):
            self.tombstones[epoch] = now
            self._unpruned = True
        self._remove_columns()

    def _remove_columns(self) -> None:
        """Removes the columns of dead epochs: at once where the table is small, else with the next
        rounds."""
        if self._table.places <= PRUNED_PLACES:
            self.prune_some()

    def prune_some(self) -> None:
        """Goes on removing the columns of epochs with a tombstone."""
        if self._pruning < 0 and (self._unpruned or self._given_up):
            if self._given_up:  # an epoch may have lost its tombstone because memory ran out
                self._given_up = self._table.epochs.add_tombstones(self._given_up)
            self._pruning, self._unpruned = 0, False
        if self._pruning >= 0:
            self._pruning = self._table.epochs.prune(self._pruning, PRUNED_PLACES)
            self._release_given_up()

    def _release_given_up(self) -> None:
        self._given_up = [
            epoch for epoch in self._given_up if not self._table.epochs.release(epoch)
        ]

    def _release(self, epoch: int) -> None:
        """Forgets a tombstone, unless columns of the epoch are still to be removed."""
        if self._table.epochs.release(epoch):
            del self.tombstones[epoch]


def _has_spread(dead: _DeadEpoch, live: dict[int, PeerState]) -> bool:
    """Whether this node and each live peer have the final counts of an epoch. Without any peer this
    node cannot know: it may have begun after that epoch ended, with a snapshot from before."""
    return bool(live) and all(
        link.passes >= dead.passes[epoch] + PASSES if epoch in dead.passes else link.synced
        for epoch, link in live.items()
    )
