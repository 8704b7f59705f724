"""The limiter: the buckets of one node, and the mesh that they share with other nodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from crdtbucket._core import Table
from crdtbucket.base.clock import WallClock
from crdtbucket.base.own_certificates import OwnCertificates
from crdtbucket.limiter.bucket import NOT_COPIED, Bucket
from crdtbucket.limiter.factory import Factory, checked_specs
from crdtbucket.limiter.local_node import LocalNode
from crdtbucket.limiter.multi import Multi
from crdtbucket.limiter.node_identity import Identity
from crdtbucket.limiter.operator_overrides import OperatorOverrides
from crdtbucket.limiter.runtime import Runtime
from crdtbucket.limiter.stats import bucket_stats
from crdtbucket.limiter.tables import Tables
from crdtbucket.limiter.upkeep import Upkeep
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.rollout.in_force import InForce
from crdtbucket.rollout.limiter_file import LimiterFile, rollout_places
from crdtbucket.rollout.live_rollout import LiveRollout
from crdtbucket.rollout.reload import Reload
from crdtbucket.rollout.rollout_store import RolloutStore
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import MAX_TOKENS, check_flag, check_whole
from crdtbucket.spec.mode import Consistency, Mode
from crdtbucket.spec.overrides import shadowed
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.redis.redis_config import RedisConfig

if TYPE_CHECKING:
    from crdtbucket.config import Config

MAX_KEYS = 1_000_000


class Limiter(Multi):
    """Buckets that take decisions in this process, alone or as a node of a mesh.

    `async with limiter:` joins the mesh on the running event loop, `with limiter:` in a thread of
    its own; both leave it at the end. With a mesh every decision before that raises
    `LimiterNotOpen`, and so does every decision in a process that is forked while the limiter is
    open. Without a mesh neither is needed: `take` works at once, and opening only adds upkeep
    (unused keys are evicted, lost reservations are given back in time).
    """

    def __init__(
        self,
        buckets: Iterable[BucketSpec],
        *,
        node: str | None = None,
        region: str = "",
        mesh: MeshConfig | None = None,
        redis: RedisConfig | str | None = None,
        consistency: Mode | Consistency = Mode.EVENTUAL,
        degradation: Degradation | None = None,
        max_keys: int = MAX_KEYS,
        shared: str | os.PathLike[str] | None = None,
        enabled: bool = True,
        _table: Table | None = None,
        _file: LimiterFile | None = None,
    ) -> None:
        """Define the buckets; nothing is connected yet.

        node: this process's name, unique in the mesh and among the users of a Redis; needed with
        either and with shared="auto". region: where it runs; needed where each region has a Redis.
        redis: what decides for strong buckets, settings or a URL. consistency: the default
        of buckets that do not set it. degradation: what strong buckets do when Redis is slow or
        gone. max_keys: keys that are held at once, 16 to 2^30, of all buckets. shared: a file in
        memory, such as "/dev/shm/crdtbucket-edge", or "auto" for one named after the node: all
        processes of this host that use it are one node and share one table; one of them talks to
        the peers. enabled: False admits every call, and counts as usual what the limits would have
        denied. Raises `InvalidSpec` for a name that is missing or given twice and for a definition
        that strong mode does not support, `MeshError` for a mesh without a node name,
        `SharedTableError` for an unusable file.
        """
        check_flag("enabled", enabled)
        identity = Identity.checked(node, region, mesh, shared)
        name = identity.node
        config = RedisConfig(url=redis) if isinstance(redis, str) else redis
        tables = Tables(shared, node=name, mesh=mesh, redis=config, max_keys=max_keys, main=_table)
        self._tables = tables
        wall = WallClock()
        try:
            factory = Factory(tables, mesh, consistency, wall)
            defined = factory.define(buckets if enabled else shadowed(checked_specs(buckets)))
            strong = factory.strong_side(config, degradation, node=node, region=identity.region)
            in_force = InForce(tables, factory, strong, defined, has_redis=config is not None)
        except BaseException:
            tables.close()  # whoever keeps the exception would keep the shared files open
            raise
        super().__init__(in_force)
        self._overrides = OperatorOverrides(self.in_force, name, mesh)
        self._node = LocalNode(identity, self.in_force, self._overrides, wall)
        store = RolloutStore(tables.main, *rollout_places(name, mesh, shared))
        rollout = LiveRollout(self.in_force, store, self._node)
        place = None if shared is None else os.fspath(shared)
        started = {"node": name, "region": region, "mesh": mesh, "redis": config, "shared": place}
        self._reload = Reload(self.in_force, rollout, started, _file, self._node)
        self.certificates = OwnCertificates()
        """The certificates that this process shows to others."""
        self.certificates.watch("mesh", None if mesh is None else mesh.tls_cert)
        self.certificates.watch("redis", None if config is None else config.tls_cert)
        others = (self._reload, self._overrides, self.certificates)
        upkeep = Upkeep(tables, factory.made, self._node, others)
        self._runtime = Runtime(self.in_force, self._node, self._reload, upkeep)

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

        If it asks for strong consistency and names no Redis, the limiter is eventual, and logs
        that. With `rating.enabled: false` it admits every call. `watch`: while the limiter is open,
        `reload` when the file's content has changed, and on SIGHUP if the limiter was opened in the
        main thread and the program does not handle that signal; a refused file is logged. Raises
        `ConfigError` with every fault.
        """
        file = LimiterFile.read(path, node=node, mesh=mesh, shared=shared, watch=watch)
        return cls(**file.settings(region, redis, on_mode_change), max_keys=max_keys, _file=file)

    # -- looking

    @property
    def node(self) -> str:
        """This node's name."""
        return self._node.identity.node

    @property
    def region(self) -> str:
        """This node's region, "" when none was given."""
        return self._node.identity.region

    @property
    def buckets(self) -> Mapping[str, Bucket]:
        """All buckets by their names as given, in the order of their definition; overrides, too."""
        return self.in_force.by_name

    @property
    def config(self) -> Config | None:
        """The configuration in force; None for a limiter that was made without a file."""
        return self.in_force.config

    @property
    def address(self) -> str:
        """Where other nodes reach this one, "host:port"; "" while no mesh runs."""
        mesh = self._node.mesh
        return "" if mesh is None else mesh.address

    def reset_all(self) -> int:
        """Refunds to every key of every bucket what this process has taken from it, for tests and
        operators. Returns the number of keys to which tokens came back. Like `Bucket.reset`, it
        gives back at most what this process has taken and not given back, also where operators
        sign: only a signed `crdtbucket reset` gives back what other nodes have charged. Looks at
        every key once per bucket."""
        return sum(len(bucket.reset_all()) for bucket in self.buckets.values())

    # -- numbers

    def keys(self, bucket: str, limit: int = 100) -> list[str | bytes]:
        """Up to `limit` keys of a bucket that were taken here and are still held, in no order.

        Only 10,000 are remembered, in a shared table by the process that was the first to take.
        Those with an override are included. Raises `UnknownBucket` and `InvalidSpec`."""
        check_whole("limit", limit, 0, MAX_TOKENS)
        return list(islice(self.in_force.held_keys(self.bucket(bucket)), limit))

    def stats(self) -> dict[str, Any]:
        """Counters for people and metrics, as plain dicts: of the table, each bucket, the mesh.

        `shared`: how many processes use a shared table, and which of them leads (its number); in a
        process that does not lead, how old (s) the leader's view of the peers is, and for how many
        peers that view has no room. `warming_up`: this node has no memory yet and serves only its
        share. `peers`: each peer's state, one of alive, suspect, dead, left; `lag`: the age of its
        newest update (s), `longest_lag`: the highest recent age.
        """
        out: dict[str, Any] = {
            "node": self.node,
            "region": self.region,
            "warming_up": self._tables.main.nodes.warming_up_until > self._tables.main.now(),
            "config": self._reload.stats(),
            "table": self._tables.main.stats(),
            "buckets": {name: bucket_stats(bucket) for name, bucket in self.buckets.items()},
            "overrides": self.in_force.outside.stats(),
            "certificates": self.certificates.stats(),
            **self._node.stats(),
        }
        if (rollout := self._reload.rollout.state) is not None:
            out["rollout"] = rollout
        if (strong := self.in_force.strong) is not None:
            out |= strong.stats()
        return out

    def fleet(self) -> list[dict[str, Any]]:
        """A plain dict for this node and for each peer: which configuration each runs.

        `node`, `region`, `state` (alive, suspect, dead or left), and the `version`, `hash` and
        `stage` of its configuration as it last advertised them, None if it advertised none;
        `rollout`: the newest version that it has, and whether that is running, done, halted or
        rolled back. `unseen`: members that an alive node says it does not see itself. `mode`: the
        worst mode of its buckets (strong, eventual or fallback), None if it advertised none."""
        return self._node.fleet()

    # -- changing

    def reload(self, config: Config | None = None) -> None:
        """Brings another configuration into force: buckets are added, changed and removed.

        Without `config` the limiter's own file is read again. A configuration with stages begins
        its `rollout`; any other is in force at once. Usage stays: a key owes the same number of
        tokens under the new capacity and rate. A `Bucket` object that the program holds goes on
        under its new definition, and one that was removed under its last. Callers that wait look
        again. Safe from any thread. Raises `ConfigError` with every fault, and has then changed
        nothing: names, the mesh, Redis, when modes change, and whether a bucket is strong stay for
        the limiter's life.
        """
        self._reload.change(config)

    def order(self, order: str) -> bool:
        """Takes an order that an operator has signed, and sends it to all nodes of the mesh: to
        eject a node or a key, to admit it again, to bind a name to another key, to move a roll-out,
        or to reset a key on each of them. False if it is in force already. Safe from any thread.

        `order` is the text that `crdtbucket identity`, `rollout` and `reset` make. Raises
        `MeshError` if no key of `operator_keys` has signed it, if it is older than the one in
        force, and if no mesh runs; `CrdtbucketError` for a command that this node could not obey.
        """
        return self._node.order(order)

    @property
    def signs(self) -> bool:
        """Whether an operator has to sign commands that affect other nodes: `operator_keys` is
        set."""
        return self._node.signs

    @property
    def overrides(self) -> OperatorOverrides:
        """The limits that operators give to keys: `set`, `remove`, `give` for the signed orders
        that a mesh needs, and `listed`. They hold on all nodes, and over a reload."""
        return self._overrides

    @property
    def rollout(self) -> LiveRollout:
        """The roll-out of the newest version: its `state`, None without one, and the commands
        `advance`, `halt` and `rollback`, which hold for all nodes that have the version. If `signs`
        is true, the commands raise, and a signed `order` takes their place."""
        return self._reload.rollout

    # -- opening and closing

    async def __aenter__(self) -> Limiter:
        await self._runtime.open_on_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Limiter:
        self._runtime.open_in_thread()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the mesh and ends the limiter for good; a second call does nothing.

        Every later decision raises `LimiterClosed`, and so does every `wait` under way: a node that
        gets no more updates must not go on deciding. Blocks for two seconds at most. For a limiter
        that was opened with `async with`, await `aclose` instead.
        """
        self._runtime.close()

    async def aclose(self) -> None:
        """`close` for a limiter that was opened with `async with`; on the same event loop."""
        await self._runtime.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a limiter {NOT_COPIED}")

    def __repr__(self) -> str:
        names = ", ".join(self.buckets)
        return f"Limiter([{names}], node={self.node!r}, {self._runtime.state.value})"
