"""The rule of a roll-out, by which a new version reaches some keys first and then all.

A pure machine: no clock, no I/O. Nodes send each other a `Position`, and the largest one holds:
that of the later version, then of more changes, then the more cautious one, then the later stage.
Halts, their ends, and a roll-back count as changes. Going on to the next stage does not, so it
never overrules a halt, however far nodes beyond a partition went. So a command at one node moves
all that have the version, and nodes that go on by time agree at once.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crdtbucket.errors import CrdtbucketError
from crdtbucket.rollout.rollout_plan import EVERYWHERE, RolloutPlan, Stage

LEAST_DECISIONS = 100
"""The shares of denials are compared only when each version has made at least this many
decisions."""
LEAST_ERRORS = 3.0
"""A rise of at most this many standard errors is taken for chance."""
MOST_CHANGES = 2**63 - 1
LAST_CHANGE = 2**62
"""The number of a roll-back without a signature. It is the last change of a version, so it comes
after any number of changes that nodes beyond a partition have made."""
FIXED = {
    "node": "node",
    "region": "region",
    "shared": "shared",
    "mesh": "mesh",
    "redis": "rating.bucket_backend",
    "degradation.modes": "rating.modes",
    "degradation.webhook": "rating.webhook",
}
"""Fields of a configuration that hold for the life of a limiter, with their keys in a file."""

Decided = tuple[int, int]
"""Calls that were admitted and denied."""
Counts = Mapping[str, "tuple[Decided, Decided | None]"]
"""Decisions of each bucket since its process began: by its old definition, and by the new one; None
where it has no new one."""


class Status(enum.IntEnum):
    """The status of a roll-out. Of two, the more cautious one is the higher. The numbers are sent
    to other nodes."""

    RUNNING = 0
    DONE = 1
    HALTED = 2
    ROLLED_BACK = 3

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, order=True)
class Position:
    """The progress of a version. Of two positions the larger one holds, so the fields are in the
    order of their precedence."""

    version: int
    hash: int
    changes: int = 0
    status: Status = Status.RUNNING
    stage: int = 0

    @classmethod
    def read(cls, row: Sequence[int]) -> Position:
        """The position in a row of `row_of`. Raises `ValueError` for a row that has none."""
        version, content, changes, status, stage = row
        return cls(version, content, changes, Status(status), stage)

    @property
    def of(self) -> tuple[int, int]:
        """The version that the position is of."""
        return self.version, self.hash

    def merged(self, other: Position) -> Position:
        """The position that holds of two."""
        return max(self, other)


def row_of(position: Position | None) -> tuple[int, int, int, int, int] | None:
    """The fields of a position, as they are sent."""
    if position is None:
        return None
    return (*position.of, position.changes, int(position.status), position.stage)


@dataclass
class Rollout:
    """The roll-out of one version on one node. Times are local ns."""

    plan: RolloutPlan
    """Its stages; the same version may be loaded again with other stages."""
    position: Position
    region: str
    since: int
    """When this node came to the position."""
    old: Counts = field(default_factory=dict)
    """Counts at the time when the old version came into force here."""
    reason: str = ""
    """The reason for its present status, if that is known here."""
    halts: int = 0
    """How often this node has halted it for what it denied."""
    ordered: int = 0
    """The counter of the last order of an operator that was obeyed."""
    _start: Counts | None = None
    """Counts at the first tick of the present position."""

    @property
    def stage(self) -> Stage:
        """The one that it is at."""
        return self.plan.stages[self.number - 1]

    @property
    def number(self) -> int:
        """The number of the present stage, from 1 to the last one here; peers may have more."""
        return min(self.position.stage, len(self.plan.stages) - 1) + 1

    @property
    def percent(self) -> int:
        """The share of the keys that the new version has on this node, in percent."""
        if self.active:
            return self.stage.percent_in(self.region)
        return EVERYWHERE if self.position.status is Status.DONE else 0

    @property
    def active(self) -> bool:
        """Whether it is on its way."""
        return self.position.status in (Status.RUNNING, Status.HALTED)

    def receive(self, advertised: Position, now: int, whose: str = "another node") -> bool:
        """Takes the position that a peer advertises, unless it is of another version. `whose`: by
        whom it was moved, for people. Returns whether the own position changed."""
        if advertised.of != self.position.of or advertised <= self.position:
            return False
        self._move(advertised, now, f"{whose}: {advertised.status}")
        return True

    def obey(self, order: Position, now: int) -> bool:
        """Moves to the position that an operator has ordered for this version; the counter of the
        order is in its `changes`. Returns whether the position changed: a later change of this node
        stays."""
        self.ordered = max(self.ordered, order.changes)
        if order <= self.position:
            return False
        self._move(order, now, "an operator's order")
        return True

    def check(self, order: Position, known: Position | None) -> None:
        """Raises `CrdtbucketError` for an operator's order that does not fit the present position.
        `known`: the last one about its version that this node has."""
        position, back = self.position, Status.ROLLED_BACK
        what = f"version {position.version} ({position.hash:016x})"
        if order.of != position.of:
            raise CrdtbucketError(
                f"the order is about version {order.version} ({order.hash:016x}), and {what} is "
                "rolled out here: sign one about that"
            )
        if position.status is back and order.status is not back:
            raise CrdtbucketError(f"{what} {self._is()}")
        if order.changes <= position.changes < LAST_CHANGE and known != order:
            raise CrdtbucketError(
                f"the order is older than how {what} stands: sign one with a counter above "
                f"{position.changes}"
            )

    def receive_halt(self, advertised: Position, now: int) -> bool:
        """Replaces `receive` when operators sign commands: of the positions that peers advertise,
        only a halt since the last order counts, and this node then halts at its own stage. Returns
        whether the position changed."""
        if (
            advertised.of != self.position.of
            or (advertised.status, self.position.status) != (Status.HALTED, Status.RUNNING)
            or advertised.changes <= self.ordered
        ):
            return False
        self._change(now, "another node: halted", status=Status.HALTED)
        return True

    def tick(self, now: int, counts: Counts) -> bool:
        """Halts the roll-out if the denials jump; otherwise advances it when it is time. Returns
        whether it did either."""
        if self.position.status is not Status.RUNNING:
            return False
        if self._start is None:
            self._start = counts
        if reason := self._jump(counts):
            self.halts += 1
            self._change(now, reason, status=Status.HALTED)
            return True
        if self.plan.hold_ns is not None and now - self.since >= self.plan.hold_ns:
            self._advance(now, "time")
            return True
        return False

    # ---- commands ----

    def advance(self, now: int) -> None:
        """Goes on to the next stage, after a halt as well; after the last one it is done."""
        self._check_active("there is no stage left")
        self._advance(now, "command")

    def halt(self, now: int) -> None:
        """The roll-out stays as it is, until the next command."""
        self._check_active("there is nothing to halt")
        if self.position.status is not Status.HALTED:
            self._change(now, "command", status=Status.HALTED)

    def rollback(self, now: int) -> None:
        """Puts the old version back on all keys of all nodes."""
        if self.position.status is not Status.ROLLED_BACK:
            self._change(now, "command", status=Status.ROLLED_BACK)

    # ---- inside ----

    def _is(self) -> str:
        done = self.position.status is Status.DONE
        return "is everywhere" if done else "was rolled back, and comes again as a higher version"

    def _check_active(self, why_not: str) -> None:
        if not self.active:
            raise CrdtbucketError(f"version {self.position.version} {self._is()}: {why_not}")

    def _advance(self, now: int, reason: str) -> None:
        position, stage = self.position, self.position.stage + 1
        # It counts as a change only after a halt: otherwise nodes that were cut off and went on
        # would end a halt of all others.
        changes = min(position.changes + (position.status is Status.HALTED), MOST_CHANGES)
        status = Status.RUNNING
        if stage >= len(self.plan.stages):
            status, stage = Status.DONE, position.stage
        self._move(Position(*position.of, changes, status, stage), now, reason)

    def _change(self, now: int, reason: str, *, status: Status) -> None:
        least = LAST_CHANGE if status is Status.ROLLED_BACK else 0
        changes = max(self.position.changes + 1, least)
        changes = min(changes, MOST_CHANGES)  # a peer may advertise any number
        self._move(Position(*self.position.of, changes, status, self.position.stage), now, reason)

    def _move(self, position: Position, now: int, reason: str) -> None:
        self.position, self.since, self.reason, self._start = position, now, reason, None

    def _jump(self, counts: Counts) -> str:
        """The reason to halt; "" where there is none."""
        rise, start = self.plan.denied_ratio_rise, self._start or {}
        if rise is None:
            return ""
        for bucket, (old_now, new_now) in counts.items():
            old_then, new_then = start.get(bucket, ((0, 0), None))
            if new_now is None:
                continue
            new = _since(new_now, new_then or (0, 0))
            if self.percent == EVERYWHERE:
                # All keys have the new version, so it is compared with the time before this stage.
                old = _since(old_then, self.old.get(bucket, ((0, 0), None))[0])
            else:
                old = _since(old_now, old_then)
            if is_jump(old, new, rise):
                return (
                    f"{bucket}: {_share(new):.0%} of {sum(new):,} calls denied, "
                    f"{_share(old):.0%} of {sum(old):,} under the old version"
                )
        return ""


def is_jump(old: Decided, new: Decided, rise: float) -> bool:
    """Whether the new version denies a share of its calls that is more than `rise` above the old
    one's, and by more than chance would explain."""
    if min(sum(old), sum(new)) < LEAST_DECISIONS:
        return False
    both = (old[1] + new[1]) / (sum(old) + sum(new))
    error = math.sqrt(both * (1 - both) * (1 / sum(old) + 1 / sum(new)))
    return _share(new) - _share(old) > max(rise, LEAST_ERRORS * error)


def _share(decided: Decided) -> float:
    return decided[1] / sum(decided)


def _since(now: Decided, then: Decided) -> Decided:
    return max(0, now[0] - then[0]), max(0, now[1] - then[1])
