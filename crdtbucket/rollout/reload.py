"""Accepts another configuration, or refuses it with every reason why it cannot come into force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crdtbucket.errors import ConfigError, CrdtbucketError, InvalidSpec
from crdtbucket.mesh.mesh_config import RENEWABLE
from crdtbucket.rollout.in_force import InForce
from crdtbucket.rollout.limiter_file import LimiterFile, load_regular, warn_where_eventual
from crdtbucket.rollout.live_rollout import LiveRollout
from crdtbucket.rollout.unfit import fixed, unfit, unfit_mesh, unfit_version
from crdtbucket.rollout.watching import FileWatch
from crdtbucket.strong.redis.redis_config import CREDENTIALS

if TYPE_CHECKING:
    from crdtbucket.config import Config
    from crdtbucket.limiter.local_node import LocalNode
    from crdtbucket.mesh.mesh_config import MeshConfig


class Reload:
    """Changes the configuration of a limiter while it works. Safe from any thread."""

    def __init__(
        self,
        in_force: InForce,
        rollout: LiveRollout,
        started: Mapping[str, Any],
        file: LimiterFile | None = None,
        node: LocalNode | None = None,
    ) -> None:
        """`started`: the fixed settings of the limiter, for one without a file. `node`: its mesh
        may get other secrets and keys; None: the limiter has no mesh."""
        self.rollout = rollout
        """Brings versions into force, at once or by stages."""
        self.counters = {"reloads": 0, "refused": 0}
        self._fault = ""
        self._in_force = in_force
        self._started = started
        self._file = file
        self._node = node
        if file is not None and file.mesh != file.config.mesh:
            self._node = None  # an argument holds in place of the file
        given = started.get("redis")
        self._follows_redis = file is None or given == file.config.redis
        self._watch: FileWatch | None = None
        if file is None:
            return
        if file.watch:
            self._watch = FileWatch(file.path, self.change, taken=file.content)
        rollout.start(file.first, file.config, file.known)

    def change(self, config: Config | None = None) -> None:
        """Brings `config`, or the present content of the limiter's own file, into force, or begins
        its roll-out if it has stages. Raises `ConfigError` with every reason against it, and has
        then changed nothing; `InvalidSpec` if it is not a `Config`."""
        from crdtbucket.config import Config  # whoever has one has imported it

        if config is None:
            config = self._read_file()
        if not isinstance(config, Config):
            fix = "pass what load_config returned, or nothing for the limiter's own file"
            raise InvalidSpec(f"config is of type {type(config).__name__}", fix, "config")
        in_force = self._in_force
        with in_force.lock:
            mesh = self._renewed(config)
            problems = [
                *fixed(config, in_force.config, self._fixed_settings(), self._renewable()),
                *unfit_mesh(mesh, self._node, in_force.tables.main.hash_key),
                *unfit(config, in_force),
                *unfit_version(config, in_force.config, self.rollout.position),
            ]
            if problems:
                error = ConfigError(replace(one, file=config.path) for one in problems)
                self._refused(error, config.version)
                raise error
            warn_where_eventual(config, has_redis=in_force.would_ask_redis(config))
            self.counters["reloads"] += 1
            self._fault = ""
            if mesh is not None and self._node is not None:
                self._node.renew(mesh)
            if self._follows_redis and config.redis is not None and in_force.strong is not None:
                in_force.strong.renew(config.redis)
            self.rollout.change(config)

    def _fixed_settings(self) -> Mapping[str, Any]:
        now = dict(self._started) if self._file is None else {}
        if self._node is not None:
            now["mesh"] = self._node.identity.mesh
        if self._follows_redis and self._in_force.strong is not None:
            now["redis"] = self._in_force.strong.config
        return now

    def _renewable(self) -> tuple[str, ...]:
        mesh = () if self._node is None else RENEWABLE
        return (*mesh, *CREDENTIALS) if self._follows_redis else mesh

    def _renewed(self, config: Config) -> MeshConfig | None:
        """The mesh with the secrets and keys of `config`; None: it stays as it is."""
        old = None if self._node is None else self._node.identity.mesh
        return None if old is None or config.mesh == old else config.mesh

    def _read_file(self) -> Config:
        config = self._in_force.config
        if config is None:
            raise CrdtbucketError("this limiter came from no file: pass a configuration to reload")
        try:
            return load_regular(config.path if self._file is None else self._file.path)
        except ConfigError as error:
            self._refused(error)
            raise

    def _refused(self, error: ConfigError, version: int = 0) -> None:
        """`version`: its number, if the file could be read and has one."""
        self.counters["refused"] += 1
        first, *more = error.problems
        named = f"version {version}: " if version else ""
        self._fault = f"{named}{first}{f', and {len(more)} more' if more else ''}"

    def beat(self) -> None:
        """Lowers ceilings whose time is over, and moves the roll-out on; to be called every second
        or so."""
        self._in_force.relax()
        self.rollout.beat()

    def start_watch(self) -> None:
        """Watches the file from now on, if that was asked for."""
        if self._watch is not None:
            self._watch.start()

    def stop_watch(self) -> None:
        """Ends the watch; a second call does nothing."""
        if self._watch is not None:
            self._watch.stop()

    def stats(self) -> dict[str, Any]:
        """Which configuration is in force, or is being rolled out and at which stage; how many were
        accepted and refused; and why the last one was refused, if it was."""
        version, content, stage = self.rollout.running or (0, None, 0)
        return {
            "version": version,
            "hash": "" if content is None else f"{content:016x}",
            "stage": str(stage or ""),
            **self.counters,
            "fault": self._fault,
        }
