"""Keeps a roll-out that is under way: beside a shared table, and in the state directory.

It keeps the version before, and the position of the roll-out. The file that is rolled out does not
contain the version before, which decides on most keys at first: without this, a restarted node
would not know it.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crdtbucket._core import Table
from crdtbucket.errors import CrdtbucketError, MeshError, SharedTableError
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.mesh.state_file import StateFile, damaged
from crdtbucket.rollout.staged import Position
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.calendar_period import CalendarPeriod
from crdtbucket.spec.mode import Mode

if TYPE_CHECKING:
    from crdtbucket.config import Config

T = TypeVar("T")

LOG = logging.getLogger("crdtbucket")
ROLLOUT_SUFFIX = "~rollout"
"""The suffix that the file adds to the path of the shared table; see `tables.QUOTA_SUFFIX`."""
MOST_BYTES = 64 << 20
"""A larger file was not written by this module: 10,000 buckets with overrides take a tenth of
that."""
FORMAT = 1
RULES = ("on_outage", "fallback_ratio", "fallback_scope", "expected_nodes")
WRITTEN_OTHERWISE = ("name", "refill_interval", "interval_ns", "period", "consistency", "overrides")
LEFT_OUT = ("overrides_from",)
"""The limits that it leads to are no part of a definition."""
AS_THEY_ARE = [
    field.name
    for field in dataclasses.fields(BucketSpec)
    if field.name not in (*WRITTEN_OTHERWISE, *LEFT_OUT)
]
"""Fields of a definition that are kept as they are."""


class HostRollout:
    """A file beside a shared table with the largest position that any of its processes had.

    It holds the version before, too, as `kept` writes it. Processes of one host act like nodes of a
    mesh: each follows the largest position that it reads, so a command in one of them moves all. A
    failed read or write is logged once, and tried again at the next call.
    """

    def __init__(self, table_path: str) -> None:
        """`table_path`: the file of the shared table. Nothing is opened yet."""
        self.path = table_path + ROLLOUT_SUFFIX
        self._fault = ""

    def begun(self, target: Config) -> tuple[Config, Position] | None:
        """The version before `target`, and the position of `target`; None if the file has nothing
        usable about it. Raises `MeshError` when the version before is damaged."""
        data = self._locked(_read)
        if not data or position_in(data) is None:
            return None
        try:
            return recalled(data, target)
        except ValueError as error:
            raise damaged(self.path, error, "remove it to start with the new version") from error

    def exchange(self, position: Position, content: Callable[[], bytes]) -> Position | None:
        """If the file has a smaller position or none, writes the result of `content`, which
        contains `position`; otherwise `content` is not called. Returns the position that the file
        had before."""

        def merge(fd: int) -> Position | None:
            found = position_in(_read(fd))
            if found is None or found < position:
                StateFile(Path(self.path)).save(content())
            return found

        return self._locked(merge)

    def _locked(self, work: Callable[[int], T]) -> T | None:
        # It is opened each time: after a fork, both processes would own one lock on an open file.
        try:
            try:
                with closing(self._open_locked()) as file:
                    done = work(file.fd)
            except (OSError, MeshError) as error:
                fix = "give the file system more room, or remove the file"
                reason = getattr(error.__cause__ or error, "strerror", None)
                raise SharedTableError(self.path, str(reason), fix) from error
        except SharedTableError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                LOG.error(
                    "the processes of this host do not learn about the roll-out from each other: "
                    "%s",
                    error,
                )
            return None
        self._fault = ""
        return done

    def _open_locked(self) -> SharedFile:
        """The file, which no other process reads or replaces until it is closed."""
        while True:
            file = SharedFile(self.path)
            try:
                fcntl.flock(file.fd, fcntl.LOCK_EX)
                if not file.replaced():
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # another process has replaced it meanwhile


class RolloutStore:
    """The places where one limiter keeps its roll-out, so that it goes on after a restart."""

    def __init__(
        self, table: Table, host: HostRollout | None = None, state_dir: StateDir | None = None
    ) -> None:
        """`host`: the file of the processes that share `table`."""
        self._table = table
        self._host = host
        self._state_dir = state_dir
        self._saved: Position | None = None
        self._fault = ""

    def exchange(self, position: Position, before: Config) -> Position | None:
        """Saves a new position on disk, and tries again if that failed before; among the processes
        of a shared table only the leader does so. Shows it to the others, and returns theirs."""
        mine = self._table.sharing.leading or not self._table.shared
        if mine and position != self._saved and self._write(kept(before, position)):
            self._saved = position
        if self._host is None:
            return None
        return self._host.exchange(position, lambda: kept(before, position))

    def clear(self) -> None:
        """Removes what is kept on disk."""
        self._saved = None
        self._write(None)

    def _write(self, data: bytes | None) -> bool:
        if self._state_dir is None:
            return True
        file = self._state_dir.rollout
        try:
            file.remove() if data is None else file.save(data)
        except MeshError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                LOG.error("the roll-out goes on, and would be lost in a restart: %s", error)
            return False
        if self._fault:
            LOG.info("the roll-out is kept again: it goes on after a restart")
        self._fault = ""
        return True


def begun(
    target: Config, host: HostRollout | None, state_dir: StateDir | None
) -> tuple[Config, Position] | None:
    """The version before `target` and the position of `target`, in other processes of the host or
    in an earlier epoch of this node; None when it was never begun. Raises `MeshError`."""
    found = [None if host is None else host.begun(target)]
    if state_dir is not None and (data := state_dir.rollout.load()) is not None:
        try:
            found.append(recalled(data, target))
        except ValueError as error:
            raise state_dir.rollout.damaged(error) from error
    known = [one for one in found if one is not None]
    return max(known, key=lambda one: one[1], default=None)


def _read(fd: int) -> bytes:
    return os.pread(fd, min(os.fstat(fd).st_size, MOST_BYTES), 0)


def kept(before: Config, position: Position) -> bytes:
    """The bytes to keep: the limits of the version before, and the position of the one after it."""
    rules = {name: getattr(before.degradation, name) for name in RULES}
    content = {
        "format": FORMAT,
        "position": dataclasses.astuple(position),
        "hash": before.hash,
        "rules": {"version": before.version, **rules},
        "consistency": before.consistency.value,
        "buckets": [_plain(spec) for spec in before.buckets],
    }
    return json.dumps(content).encode()


def position_in(data: bytes) -> Position | None:
    """The position in the bytes that `kept` has written; None if they cannot be read."""
    try:
        content = json.loads(data)
        position = Position.read(content["position"])
        return position if content["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None


def recalled(data: bytes, target: Config) -> tuple[Config, Position] | None:
    """The version before `target`, and the position of `target`, if `data` is about this version.

    Raises `ValueError` when it is damaged.
    """
    try:
        content = json.loads(data)
        position = Position.read(content["position"])
        if content["format"] != FORMAT or position.of != target.version_id:
            return None
        rules = content["rules"]
        kept_rules = {name: rules[name] for name in RULES}
        before = dataclasses.replace(
            target,
            version=rules["version"],
            degradation=dataclasses.replace(target.degradation, **kept_rules),
            consistency=Mode(content["consistency"]),
            buckets=tuple(_spec(one) for one in content["buckets"]),
            rollout=None,
        )
        if before.hash != content["hash"]:  # other settings have changed since
            return None
    except (ValueError, KeyError, TypeError, CrdtbucketError) as error:
        raise ValueError(f"it keeps no roll-out: {error!r}") from error
    return before, position


def _plain(spec: BucketSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        **{name: getattr(spec, name) for name in AS_THEY_ARE},
        "refill_interval": f"{spec.interval_ns}ns",
        "period": None if spec.period is None else dataclasses.astuple(spec.period),
        "consistency": None if spec.consistency is None else spec.consistency.value,
        "overrides": [(glob, _plain(one)) for glob, one in spec.overrides],
    }


def _spec(content: dict[str, Any]) -> BucketSpec:
    overrides = [(glob, _spec(one)) for glob, one in content.pop("overrides")]
    period = content.pop("period", None)  # what an earlier version has kept has none
    if period is not None:
        period = CalendarPeriod.checked(*period)
    return BucketSpec(**content, period=period, overrides=overrides)
