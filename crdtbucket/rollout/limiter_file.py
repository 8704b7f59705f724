"""Reads the configuration file of a limiter, and knows where the state of its roll-out is kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crdtbucket.errors import ConfigError, Problem
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.rollout.in_force import runnable
from crdtbucket.rollout.rollout_store import HostRollout, begun
from crdtbucket.rollout.staged import Position, Status
from crdtbucket.rollout.watching import content_of
from crdtbucket.shared.shared_file import path_for
from crdtbucket.spec.field_checks import check_flag, check_path
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.redis.redis_config import RedisConfig

if TYPE_CHECKING:
    from crdtbucket.config import Config

LOG = logging.getLogger("crdtbucket")
ALONE = "local"
"""The node name of a limiter without a mesh."""


@dataclass(frozen=True)
class LimiterFile:
    """A file as it was when the limiter was made, with the arguments that override it."""

    path: str
    content: bytes
    """Its `content_of` from before it was read, so that a change in between is noticed."""
    config: Config
    first: Config
    """The version to begin with: the one before, while the file's own is being rolled out."""
    known: tuple[Config, Position] | None
    """The version before, and the state of the roll-out; None if there is none."""
    node: str | None
    mesh: MeshConfig | None
    shared: str | os.PathLike[str] | None
    watch: bool
    """Whether the file is watched while the limiter is open."""

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        node: str | None,
        mesh: MeshConfig | None,
        shared: str | os.PathLike[str] | None,
        watch: bool,
    ) -> LimiterFile:
        """Reads a file; arguments that are not None override it. Raises `ConfigError`, and
        `InvalidSpec` for a wrong type."""
        check_path("path", path)
        check_flag("watch", watch)
        content = content_of(path)
        config = load_regular(path)
        node = config.node if node is None else node
        mesh = config.mesh if mesh is None else mesh
        shared = config.shared if shared is None else shared
        first, known = config, None
        if config.rollout is not None:
            known = begun(config, *rollout_places(node, mesh, shared))
        if known is not None and known[1].status is not Status.DONE:
            first = known[0]
        return cls(os.path.abspath(path), content, config, first, known, node, mesh, shared, watch)

    def settings(
        self,
        region: str | None,
        redis: RedisConfig | str | None,
        on_mode_change: Callable[[ModeNotice], None] | None,
    ) -> dict[str, Any]:
        """The arguments of the limiter, by name. `region` and `redis` override the file's."""
        config, first = self.config, self.first
        store = config.redis if redis is None else redis
        buckets, consistency = runnable(first, has_redis=store is not None)
        warn_where_eventual(first, has_redis=store is not None)
        if not config.enabled:
            LOG.warning(
                "%s: rating.enabled is false: every call is admitted, and what the limits would "
                "have denied is counted",
                config.path,
            )
        return {
            "buckets": buckets,
            "node": self.node,
            "region": (config.region or "") if region is None else region,
            "mesh": self.mesh,
            "redis": store,
            "consistency": consistency,
            "degradation": replace(first.degradation, on_mode_change=on_mode_change),
            "shared": self.shared,
        }


def load_regular(path: str | os.PathLike[str]) -> Config:
    """`load_config` of a file that can be read again. Raises `ConfigError`, also for a pipe."""
    from crdtbucket.config import load_config  # reads YAML: only for those who have a file

    if os.path.exists(path) and not os.path.isfile(path):
        fix = "name a file: it is read more than once"
        raise ConfigError([Problem("is no regular file", fix, file=os.fspath(path))])
    return load_config(path)


def rollout_places(
    node: str | None, mesh: MeshConfig | None, shared: str | os.PathLike[str] | None
) -> tuple[HostRollout | None, StateDir | None]:
    """Where a node keeps a roll-out: beside its shared table, and in its state directory."""
    host = None
    if shared is not None:
        host = HostRollout(path_for(shared, ALONE if node is None else node))
    if node is None or mesh is None or mesh.state_dir is None:
        return host, None
    return host, StateDir(mesh.state_dir, node)


def warn_where_eventual(config: Config, *, has_redis: bool) -> None:
    """Logs that buckets should be strong but have no Redis to ask."""
    asked = {config.consistency, *(spec.consistency for spec in config.buckets)}
    if Mode.STRONG in asked and not has_redis:
        LOG.warning(
            "%s asks for strong consistency and names no Redis: its buckets run in eventual "
            "mode (give bucket_backend.connection a host or a url)",
            config.path,
        )
