"""The limiter: the buckets of one node, and the mesh that they share with other nodes."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from crdtbucket._core import Table
from crdtbucket.errors import (
    ConfigError,
    CrdtbucketError,
    MeshError,
    Problem,
    UnknownBucket,
)
from crdtbucket.limiter.bucket import NOT_COPIED, Bucket
from crdtbucket.limiter.factory import Maker
from crdtbucket.limiter.lifecycle import Lifecycle, State
from crdtbucket.limiter.multi import AllDecision, AllReservation, Several, Wanted
from crdtbucket.limiter.stats import bucket_stats, fleet_row, mesh_stats
from crdtbucket.limiter.tables import Tables
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.rollout.host_rollout import HostRollout
from crdtbucket.rollout.kept_version import recalled
from crdtbucket.rollout.live_rollout import LiveRollout
from crdtbucket.rollout.reload import Reload, runnable
from crdtbucket.rollout.staged import Position, Status, row_of
from crdtbucket.rollout.watching import FileWatch
from crdtbucket.shared.table_file import path_for, shared_stats
from crdtbucket.spec.bucket_spec import BucketSpec, canonical_name, check_consistency, check_name
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.redis.redis_config import RedisConfig

if TYPE_CHECKING:
    from crdtbucket.config import Config

LOG = logging.getLogger("crdtbucket")
MAX_KEYS = 1_000_000
ALONE = "local"
"""The node name of a limiter without a mesh."""


class Limiter:
    """Buckets that take decisions in this process, alone or as a node of a mesh.

    `async with limiter:` joins the mesh on the running event loop, `with limiter:` in a thread of
    its own; both leave it at the end. With a mesh every decision before that raises
    `LimiterNotOpen`, and so does every one in a process that is forked while it is open. Without a
    mesh neither is needed: `take` works at once, and opening only adds upkeep (unused keys are
    evicted, lost reservations are given back in time).
    """

    def __init__(
        self,
        buckets: Iterable[BucketSpec],
        *,
        node: str | None = None,
        region: str = "",
        mesh: MeshConfig | None = None,
        redis: RedisConfig | str | None = None,
        consistency: Mode | str = Mode.EVENTUAL,
        degradation: Degradation | None = None,
        max_keys: int = MAX_KEYS,
        shared: str | os.PathLike[str] | None = None,
        _table: Table | None = None,
    ) -> None:
        """Define the buckets; nothing is connected yet.

        node: this process's name, unique in the mesh and among the users of a Redis, and needed
        there ("local" without one). region: a text for people. redis: what decides for strong
        buckets, settings or a URL. consistency: of buckets that do not say it themselves.
        degradation: what strong buckets do when Redis is slow or gone. max_keys: keys that are
        held at once, 16 to 2^30, of all buckets. shared: a file in memory, such as
        "/dev/shm/crdtbucket-edge", or "auto": all processes of this host that name it are one node
        and share one table; one of them speaks to the peers. Raises `InvalidSpec` for a name given
        twice and for what strong mode cannot keep, `MeshError` without a node name,
        `SharedTableError` for a file that cannot be shared.
        """
        if mesh is not None and node is None:
            raise MeshError("a node of a mesh needs a name of its own: pass node=, such as 'eu-1'")
        self._node = check_name(ALONE if node is None else node, "node")
        self._region = check_name(region, "region") if region else ""
        config = RedisConfig(url=redis) if isinstance(redis, str) else redis
        self._tables = Tables(
            shared, node=self._node, mesh=mesh, redis=config, max_keys=max_keys, main=_table
        )
        self._table = self._tables.main
        self._path = ""
        self._watch: FileWatch | None = None
        maker = Maker(self._tables, mesh, check_consistency(consistency))
        defined = maker.define(buckets)
        self._several = Several(self.bucket)
        self._strong = maker.strong_side(
            config, degradation or Degradation(), node=node, region=self._region
        )
        self._reload = Reload(
            self._tables,
            self._strong,
            make=maker.make,
            kind=maker.kind,
            least_debt=maker.least_debt,
            started={"node": self._node, "region": self._region, "mesh": mesh, "redis": config},
            buckets=defined,
        )
        self._lifecycle = Lifecycle(
            self._tables,
            maker.made,
            node=self._node,
            region=self._region,
            mesh=mesh,
            strong=self._strong,
            relax=self._reload.beat,
        )
        self._reload.rolling.on_change = self._tell
        if mesh is not None and mesh.state_dir is not None:
            self._reload.rolling.state_dir = StateDir(mesh.state_dir, self._node)
        self._lifecycle.on_rollout = self._reload.rolling.hear

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        node: str | None = None,
        region: str | None = None,
        mesh: MeshConfig | None = None,
        redis: RedisConfig | str | None = None,
        max_keys: int = MAX_KEYS,
        shared: str | os.PathLike[str] | None = None,
        on_mode_change: Callable[[ModeNotice], None] | None = None,
        watch: bool = False,
    ) -> Limiter:
        """The limiter that a configuration file describes; arguments override the file.

        Where it asks for strong consistency and names no Redis, the limiter is eventual, and logs
        it. `watch`: while the limiter is open, `reload` when the file's content has changed, and
        on SIGHUP where it is opened in the main thread and nothing else hears that; what is refused
        is logged. Raises `ConfigError` with every fault.
        """
        from crdtbucket.config import load_config  # reads YAML: only for those who have a file

        place = os.path.abspath(path)

        def take() -> None:
            limiter.reload()

        # Before it is read: a change in between is then seen as one.
        watching = FileWatch(place, take) if watch else None
        config = load_config(path)
        if not config.enabled:
            problem = Problem(
                "is false, so there is nothing to limit",
                "set it to true, or do not make a limiter",
                "rating.enabled",
                config.path,
            )
            raise ConfigError([problem])
        store = redis or config.redis
        # In the middle of a roll-out it starts with the version before, as far as that is known.
        name, network = config.node if node is None else node, mesh or config.mesh
        file = config.shared if shared is None else shared
        first, position = _begun(config, name, network, file) or (config, None)
        buckets, consistency = runnable(first, has_redis=store is not None)
        if store is None and _wants_strong(first):
            LOG.warning(
                "%s asks for strong consistency and names no Redis: its buckets run in eventual "
                "mode (give bucket_backend.connection a host or a url)",
                config.path,
            )
        limiter = cls(
            buckets,
            node=name,
            region=(config.region or "") if region is None else region,
            mesh=network,
            redis=store,
            consistency=consistency,
            degradation=Degradation(
                first.on_outage,
                first.fallback_ratio,
                first.fallback_scope,
                config.modes,
                on_mode_change,
                config.webhook,
                first.expected_nodes,
            ),
            max_keys=max_keys,
            shared=file,
        )
        limiter._path, limiter._watch = place, watching
        limiter._reload.start(first)
        if position is not None:
            limiter._reload.rolling.begin(first, config, position)
        limiter._tell()
        return limiter

    # -- looking

    @property
    def node(self) -> str:
        """This node's name."""
        return self._node

    @property
    def region(self) -> str:
        """This node's region, "" when none was given."""
        return self._region

    @property
    def buckets(self) -> Mapping[str, Bucket]:
        """All buckets by their names as given, in the order of their definition; plans, too."""
        return MappingProxyType({one.spec.name: one for one in self._reload.buckets.values()})

    @property
    def address(self) -> str:
        """Where other nodes reach this one, "host:port"; "" while no mesh runs."""
        mesh = self._lifecycle.mesh
        return "" if mesh is None else mesh.address

    def bucket(self, name: str) -> Bucket:
        """The bucket with this name, whatever kind of hyphens it is spelt with.

        Raises `UnknownBucket`, which lists the names that there are.
        """
        buckets = self._reload.buckets
        found = buckets.get(canonical_name(name)) if isinstance(name, str) else None
        if found is None:
            raise UnknownBucket(name, self.buckets)
        return found

    # -- several buckets at once

    def take_all(self, wanted: Iterable[Wanted]) -> AllDecision:
        """Takes from several buckets, all or nothing: (bucket, key) or (bucket, key, cost) each.

        What names the same key counts together. All arguments are checked before anything is
        taken. Raises as `take` and `bucket`, `InvalidKey` when nothing is asked for, and
        `AcquireRequired` for a strong bucket.
        """
        return self._several.take(wanted)

    async def acquire_all(self, wanted: Iterable[Wanted]) -> AllDecision:
        """`take_all` in whatever modes the buckets are; never waits for tokens.

        Strong buckets are asked one after the other. What was taken goes back when another one
        denies, raises, or the caller is cancelled. Without strong ones nothing is awaited.
        """
        return await self._several.acquire(wanted)

    def refund_all(self, answer: AllDecision) -> int:
        """Gives back all that is left of an allowed answer; returns the tokens that came back.

        Raises `InvalidCost` for a denied one.
        """
        return self._several.refund(answer)

    def reserve_all(self, wanted: Iterable[Wanted], ttl: float = 60.0) -> AllReservation:
        """Sets estimates of several buckets aside together while a `with` block learns the costs.

        `async with` where one of them is strong. `ttl` as in `Bucket.reserve`.
        """
        return AllReservation(self._several, wanted, ttl)

    # -- numbers

    def keys(self, bucket: str, limit: int = 100) -> list[str | bytes]:
        """Up to `limit` keys of a bucket that were taken here and are still held, in no order.

        Keys with a plan are among those of their bucket; the plan's own name tells them apart. The
        names of at most 10,000 keys are remembered; in a shared table only by the process that was
        the first to take. Raises `UnknownBucket`.
        """
        spec = self.bucket(bucket).spec
        wanted = {spec.name, *(plan.name for _, plan in spec.plans)}
        table = self.bucket(bucket).table
        names = list(table.names.values())  # a copy: other threads go on taking
        found = ((of, key) for of, key in names if of in wanted)
        if table.shared:  # others may have evicted it
            found = ((of, key) for of, key in found if self.bucket(of).debt(key) is not None)
        return list(itertools.islice((key for _, key in found), max(limit, 0)))

    def stats(self) -> dict[str, Any]:
        """Counters for people and metrics, as plain dicts: of the table, each bucket, the mesh.

        `shared`: who uses the table of several processes, and which of them leads (its number); in
        one that does not lead, how old (s) the leader's view of the peers is, and of how many peers
        that view has no room.
        `cautious`: this node has no memory yet and serves only its share. `peers`: each peer's
        state, one of alive, suspect, dead, left; `lag`: how old its news is (s), `longest_lag`:
        how old it lately was at most.
        """
        out: dict[str, Any] = {
            "node": self._node,
            "region": self._region,
            "cautious": self._table.warming_up_until > self._table.now(),
            "config": self._reload.stats(),
            "table": self._table.stats(),
            "buckets": {name: bucket_stats(bucket) for name, bucket in self.buckets.items()},
        }
        if self._tables.file is not None:
            out["shared"] = shared_stats(self._tables.file, self._table)
        rollout = self._reload.rolling.state
        if rollout is not None:
            out["rollout"] = rollout
        mesh, machine = self._lifecycle.mesh, self._lifecycle.machine
        if mesh is not None and machine is not None:
            out |= mesh_stats(mesh, machine, self._table.now())
        elif (view := self._lifecycle.view()) is not None:
            out["shared"] |= {name: view.pop(name) for name in ("view_age", "omitted")}
            del view["fleet"]
            out |= view
        if self._strong is not None:
            out |= self._strong.stats()
        return out

    def fleet(self) -> list[dict[str, Any]]:
        """Who runs what: of this node and of each peer, by name, a plain dict.

        `node`, `region`, `state` (alive, suspect, dead or left), and the `version`, `hash` and
        `stage` of its configuration as it last told them, None where it told none; `rollout`:
        the version that it has newest and whether that is running, done, halted or rolled back.
        """
        machine, view = self._lifecycle.machine, self._lifecycle.view()
        if machine is None and view is not None:
            return [fleet_row(*row) for row in view["fleet"]]
        if machine is None:
            running, position = self._reload.running, self._reload.rolling.position
            return [fleet_row(self._node, self._region, "alive", running, row_of(position))]
        return [fleet_row(*row) for row in machine.fleet(self._table.now())]

    # -- changing

    def reload(self, config: Config | None = None) -> None:
        """Brings another configuration into force: buckets are added, changed and removed.

        Without `config` the limiter's own file is read again. One with stages begins its `rollout`;
        any other holds at once. Usage stays: what a key owes in
        tokens is owed under the new capacity and rate too. A `Bucket` that is held goes on under
        its new definition, and one that was removed under its last. Callers that wait look again.
        From any thread. Raises `ConfigError` with every fault, and has then changed nothing: names,
        the mesh, Redis, when modes change, and whether a bucket is strong stay for the limiter's
        life.
        """
        self._reload.change(self._file_again() if config is None else config)
        self._tell()

    @property
    def rollout(self) -> LiveRollout:
        """The roll-out of the newest version: its `state`, None without one, and the commands
        `advance`, `halt` and `rollback`, which hold for all nodes that have the version."""
        return self._reload.rolling

    # -- opening and closing

    async def __aenter__(self) -> Limiter:
        await self._lifecycle.open_on_loop()
        self._start_watch()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Limiter:
        self._lifecycle.open_in_thread()
        self._start_watch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the mesh and ends the limiter for good; a second call does nothing.

        Every later decision raises `LimiterClosed`, and so does every `wait` under way: a node
        that hears no more may not go on. Blocks for two seconds at most. For a limiter that
        was opened with `async with`, await `aclose` instead.
        """
        try:
            self._lifecycle.close()
        finally:
            self._stop_watch()

    async def aclose(self) -> None:
        """`close` for a limiter that was opened with `async with`; on the same event loop."""
        try:
            await self._lifecycle.aclose()
        finally:
            self._stop_watch()

    # -- inside

    def _tell(self) -> None:
        """Peers hear what is run here, and how far it is."""
        self._lifecycle.tell(self._reload.running, self._reload.rolling.position)

    def _start_watch(self) -> None:
        if self._watch is not None:
            self._watch.start()

    def _stop_watch(self) -> None:
        if self._watch is not None and self._lifecycle.state is State.CLOSED:
            self._watch.stop()

    def _file_again(self) -> Config:
        from crdtbucket.config import load_config

        config = self._reload.config
        if config is None:
            raise CrdtbucketError("this limiter came from no file: pass a configuration to reload")
        try:
            return load_config(self._path or config.path)
        except ConfigError:
            self._reload.counters["refused"] += 1
            raise

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a limiter {NOT_COPIED}")

    def __repr__(self) -> str:
        names = ", ".join(self.buckets)
        return f"Limiter([{names}], node={self._node!r}, {self._lifecycle.state.value})"


def _begun(
    config: Config,
    node: str | None,
    mesh: MeshConfig | None,
    shared: str | os.PathLike[str] | None,
) -> tuple[Config, Position] | None:
    """Where the roll-out of a file is in other processes of a shared table, or was in an earlier
    life: the version before it, and how far. None when it is over, or was never begun."""
    if config.rollout is None:
        return None
    found: list[tuple[Config, Position] | None] = []
    if shared is not None:
        found.append(HostRollout(path_for(shared, ALONE if node is None else node)).begun(config))
    if node is not None and mesh is not None and mesh.state_dir is not None:
        data = StateDir(mesh.state_dir, node).load_rollout()
        found.append(None if data is None else recalled(data, config))
    known = [one for one in found if one is not None]
    furthest = max(known, key=lambda one: one[1], default=None)
    return None if furthest is None or furthest[1].status is Status.DONE else furthest


def _wants_strong(config: Config) -> bool:
    asked = {config.consistency, *(spec.consistency for spec in config.buckets)}
    return Mode.STRONG in asked


__all__ = ["Limiter"]
