"""One examination of a configuration file: everything that it depends on, in one report."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from crdtbucket.base.counted import counted
from crdtbucket.config import Config, load_config
from crdtbucket.doctor.diagnosis import Diagnosis, ok, wrong
from crdtbucket.doctor.host_examination import examine_host
from crdtbucket.doctor.mesh_examination import examine_mesh
from crdtbucket.doctor.redis_examination import examine_redis
from crdtbucket.errors import ConfigError, MeshError
from crdtbucket.limiter.facade import MAX_KEYS
from crdtbucket.limiter.node_identity import UNNAMED_TABLE
from crdtbucket.mesh.links.peer_keys import load_for
from crdtbucket.shared.shared_file import AUTO


async def examine(
    path: str | os.PathLike[str],
    *,
    node: str | None = None,
    region: str | None = None,
    listen: tuple[str, ...] = (),
    timeout: float = 3.0,
    running: bool = False,
    max_keys: int = MAX_KEYS,
) -> list[Diagnosis]:
    """Examines the file at `path`, and from this host everything that it names.

    node, region: the node's, instead of the file's. listen: addresses that a server on this host
    wants. timeout: seconds of each step. running: whether this process is the node itself.
    max_keys: of its table. Nothing is raised for what is wrong. A key is written to each Redis, and
    gone after a minute.
    """
    try:
        config = await asyncio.to_thread(load_config, path)
    except ConfigError as error:
        return [wrong("file", problem) for problem in error.problems]
    config = replace(config, node=node or config.node, region=region or config.region)
    try:
        if config.mesh is not None:
            load_for(config.mesh)
    except MeshError as error:
        return [_file(config), wrong("mesh identity", error)]
    parts = [examine_host(config, listen, timeout, running=running, max_keys=max_keys)]
    if config.redis is not None:
        parts.append(examine_redis(config.redis, config.degradation.modes, timeout, config.region))
    if config.mesh is not None:
        parts.append(examine_mesh(config, config.mesh, timeout))
    found = await asyncio.gather(*parts)
    return [_file(config), *(one for part in found for one in part)]


def _file(config: Config) -> Diagnosis:
    if not config.buckets:
        return wrong("file", "no bucket is defined: add services:")
    if config.mesh is not None and config.node is None:
        return wrong("file", "a node of a mesh needs a name of its own: add node:, or give --node")
    if config.shared == AUTO and config.node is None:
        return wrong("file", f"{UNNAMED_TABLE}: add node:, or give --node")
    buckets = counted(len(config.buckets), "bucket")
    return ok("file", f"{buckets}, version {config.version}, hash {config.hash}")
