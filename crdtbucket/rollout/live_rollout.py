"""Brings versions of a limiter's configuration into force, at once or stage by stage."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import CrdtbucketError
from crdtbucket.limiter.node_identity import OrderedNode
from crdtbucket.rollout.in_force import InForce
from crdtbucket.rollout.rollout_store import RolloutStore
from crdtbucket.rollout.staged import Counts, Position, Rollout, Status

if TYPE_CHECKING:
    from crdtbucket.config import Config

Row = tuple[int, int, int, int, int]
"""The fields of a position, as nodes send them."""

LOG = logging.getLogger("crdtbucket")


class LiveRollout:
    """Brings versions into force, and rolls out the newest one. Safe from any thread.

    A command holds for all nodes that have the version: they learn of it within a few seconds.
    """

    def __init__(self, in_force: InForce, store: RolloutStore, node: OrderedNode) -> None:
        """`in_force` brings definitions into force, and each change is made under its lock; `node`
        informs the peers."""
        self._in_force = in_force
        self._store = store
        self._table = in_force.tables.main
        self._node = node
        self._lock = in_force.lock
        self._rollout: Rollout | None = None
        self._before: Config | None = None
        self._target: Config | None = None
        self._followed: Position | None = None
        self._advertised: Position | None = None
        """The largest position of another version that a peer or process has advertised."""
        self._counted: Counts = {}

    # ---- looking ----

    @property
    def state(self) -> dict[str, Any] | None:
        """The state of the roll-out as a plain dict; None when there was none.

        `version`, `hash`; `before`: the version that it replaces; `status`: running, done, halted
        or rolled back, and the `reason` if it is known here; `stage` of `stages`, from 1, and its
        `reach` in words; `percent`: of the keys of this node; `since` and `hold`: seconds; `halts`:
        how often this node halted it; `buckets`: for each bucket with keys of both versions, the
        calls `admitted` and `denied` under the `old` and the `new` one since the roll-out began.
        """
        with self._lock:
            rollout, target, before = self._rollout, self._target, self._before
            if rollout is None or target is None or before is None:
                return None
            hold = rollout.plan.hold_ns
            return {
                "version": target.version,
                "hash": target.hash,
                "before": before.version,
                "status": str(rollout.position.status),
                "reason": rollout.reason,
                "stage": rollout.number,
                "stages": len(rollout.plan.stages),
                "reach": str(rollout.stage),
                "percent": rollout.percent,
                "since": (self._table.now() - rollout.since) / NS_PER_SECOND,
                "hold": None if hold is None else hold / NS_PER_SECOND,
                "halts": rollout.halts,
                "buckets": dict(self._sides()),
            }

    @property
    def position(self) -> Position | None:
        """The position of the roll-out, as peers learn it; None if there was none."""
        return None if self._rollout is None else self._rollout.position

    @property
    def running(self) -> tuple[int, int, int] | None:
        """Version, hash and stage of the configuration in force, as peers learn it; None without a
        file."""
        rollout, config = self._rollout, self._in_force.config
        if rollout is not None and rollout.active:
            return (*rollout.position.of, rollout.position.stage + 1)
        return None if config is None else (*config.version_id, 0)

    # ---- commands ----

    def advance(self) -> None:
        """Goes on to the next stage, after a halt as well. Raises `CrdtbucketError` when there is
        nothing to advance."""
        self._command("advance")

    def halt(self) -> None:
        """Leaves everything where it is, until the next command. Raises as `advance`."""
        self._command("halt")

    def rollback(self) -> None:
        """Puts the version before back on all keys. Raises as `advance`."""
        self._command("rollback")

    def _command(self, action: str) -> None:
        if self._node.signs:
            raise CrdtbucketError(
                "mesh.operator_keys is set, so an operator has to sign this: "
                f"`crdtbucket rollout {action} --key FILE` does"
            )
        with self._lock:
            if self._rollout is None:
                raise CrdtbucketError("no version is being rolled out")
            getattr(self._rollout, action)(self._table.now())
            self._follow()

    def check(self, order: Position) -> None:
        """Raises `CrdtbucketError` for an order of an operator that does not fit the state of the
        roll-out."""
        with self._lock:
            if self._rollout is None:
                raise CrdtbucketError("no version is being rolled out on this node")
            self._rollout.check(order, self._node.ordered(*order.of))

    def obey(self) -> None:
        """Follows the newest order of an operator about this version, if there is one."""
        with self._lock:
            if self._is_ordered():
                self._try_to_follow()

    # ---- what moves it ----

    def start(
        self, first: Config, newest: Config, known: tuple[Config, Position] | None = None
    ) -> None:
        """The buckets were made from `first`. `known`: the version before `newest`, and the
        position of its roll-out in an earlier epoch of this node; the roll-out goes on from
        there."""
        self._in_force.begin(first)
        self._counted = self._in_force.decided()
        if known is not None:
            before, position = known
            self._begin(before, newest, position)
        self._node.advertise(self.running, self.position)

    def change(self, config: Config) -> None:
        """Brings a version that has been checked into force, or begins its first stage."""
        with self._lock:
            if not self._replans(config):
                self._end()
                before = self._in_force.config
                if config.rollout is None or before is None or before.hash == config.hash:
                    self._in_force.force(config)
                    self._counted = self._in_force.decided()
                else:
                    self._begin(before, config)
            self._node.advertise(self.running, self.position)

    def _begin(self, before: Config, target: Config, position: Position | None = None) -> None:
        """`target` is rolled out from now on, or goes on from `position`."""
        assert target.rollout is not None
        first = Position(*target.version_id)
        self._before, self._target, self._followed = before, target, None
        region, now = self._node.identity.region, self._table.now()
        self._rollout = Rollout(target.rollout, first, region, now, self._counted)
        for one in (position, None if self._node.signs else self._advertised):
            if one is not None:
                self._rollout.receive(one, now)
        self._is_ordered()
        self._exchange()
        versions = target.version, target.hash, before.version, before.hash
        if self._rollout.active:
            LOG.info(
                "version %d (%s) is rolled out after %d (%s): stage %d of %d, %s",
                *versions,
                self._rollout.number,
                len(target.rollout.stages),
                self._rollout.stage,
            )
        else:  # it ended before a restart, or peers have ended it
            status = self._rollout.position.status
            LOG.info("the roll-out of version %d (%s) after %d (%s) is %s", *versions, status)
        self._follow()

    def _end(self) -> None:
        """Undoes a roll-out that is under way, because another configuration comes into force."""
        if self._rollout is not None and self._before is not None:
            if self._rollout.active:
                self._in_force.force(self._before)
            self._store.clear()
        self._rollout = self._before = self._target = None

    def receive(self, advertised: Row) -> None:
        """A peer advertises its position."""
        position = Position.read(advertised)
        with self._lock:
            if self._node.signs:
                if self._rollout and self._rollout.receive_halt(position, self._table.now()):
                    self._try_to_follow()
            elif self._rollout is None:
                self._note(position)
            elif self._take(self._rollout, position):
                self._try_to_follow()

    def beat(self) -> None:
        """Does the periodic work; to be called every second or so."""
        with self._lock:
            rollout = self._rollout
            if rollout is not None:
                self._exchange()
                self._is_ordered()
                rollout.tick(self._table.now(), self._in_force.decided())
                self._try_to_follow()  # once more, if it failed before

    def _replans(self, config: Config) -> bool:
        """Whether `config` is rolled out already; its stages may have changed."""
        rollout = self._rollout
        if rollout is None or rollout.position.of != config.version_id or config.rollout is None:
            return False
        rollout.plan = config.rollout
        self._target, self._followed = config, None
        self._follow()
        return True

    # ---- what it does ----

    def _try_to_follow(self) -> None:
        """Calls `_follow`, and again at the next beat if that fails."""
        try:
            self._follow()
        except CrdtbucketError as error:
            LOG.error("the roll-out is not followed yet: %s", error)

    def _follow(self) -> None:
        """Brings the buckets to the position of the roll-out; a second call changes nothing."""
        rollout, before, target = self._rollout, self._before, self._target
        if not (rollout and before and target) or rollout.position == self._followed:
            return
        status = rollout.position.status
        if status is Status.DONE:
            self._in_force.force(target)
        elif status is Status.ROLLED_BACK:
            self._in_force.force(before)
        else:
            if self._in_force.config is target:  # it was done here, and a node has halted it
                self._in_force.force(before)
            self._in_force.stage(before, target, rollout.percent / 100)
        if self._followed is not None:
            level = logging.WARNING if status >= Status.HALTED else logging.INFO
            at = status, rollout.number, len(rollout.plan.stages), rollout.reason
            LOG.log(level, "version %d is %s: stage %d of %d (%s)", target.version, *at)
        self._followed = rollout.position
        self._exchange()
        self._node.advertise(self.running, self.position)

    def _is_ordered(self) -> bool:
        """Whether an order of an operator has moved the roll-out."""
        rollout = self._rollout
        if not rollout or (order := self._node.ordered(*rollout.position.of)) is None:
            return False
        return rollout.obey(order, self._table.now())

    def _exchange(self) -> None:
        """Saves the position, and takes over that of the other processes of a shared table."""
        rollout, before = self._rollout, self._before
        if rollout and before and (found := self._store.exchange(rollout.position, before)):
            self._take(rollout, found, "another process of this host")

    def _take(self, rollout: Rollout, position: Position, whose: str = "another node") -> bool:
        """Whether a position that was advertised moves the roll-out; one of a later version is
        remembered."""
        if rollout.receive(position, self._table.now(), whose):
            return True
        if position.of > rollout.position.of:
            self._advertised = position
        return False

    def _note(self, position: Position) -> None:
        running = self._in_force.config
        known = self._advertised
        self._advertised = position if known is None else known.merged(position)
        if running is None or self._advertised == known or position.of != running.version_id:
            return
        if position.status is not Status.DONE:
            LOG.warning(
                "version %d is %s at other nodes, and the one before it is not known here: it "
                "decides on all keys of this node",
                position.version,
                position.status,
            )

    def _sides(self) -> Iterator[tuple[str, dict[str, dict[str, int]]]]:
        for name, (old, new) in self._in_force.decided().items():
            if new is not None:
                sides = (("old", old), ("new", new))
                yield name, {side: {"admitted": yes, "denied": no} for side, (yes, no) in sides}
