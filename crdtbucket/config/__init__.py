"""A configuration file, read into buckets and settings, or refused with every fault at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crdtbucket.config.check import masked, validate
from crdtbucket.config.expand import expand
from crdtbucket.config.layout import arrange
from crdtbucket.config.model import Identity, Mesh, Rating, Service
from crdtbucket.config.source import Node, Source, read_tree
from crdtbucket.errors import ConfigError, InvalidSpec, MeshError
from crdtbucket.mesh.settings import MeshConfig
from crdtbucket.mode import Mode
from crdtbucket.policy import BucketSpec, canonical_name


@dataclass(frozen=True)
class RedisSettings:
    """Where the common store is: `url`, or `host` and `port`; both None when left blank."""

    host: str | None = None
    port: int = 6379
    password: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Config:
    """What a file says; its repr shows no secret."""

    path: str
    buckets: tuple[BucketSpec, ...] = ()
    consistency: Mode = Mode.EVENTUAL
    """`Mode.STRONG` or `Mode.EVENTUAL`: what was asked for, not what is in force."""
    redis: RedisSettings | None = None
    """None when the file names no `bucket_backend`."""
    mesh: MeshConfig | None = None
    """None when the file has no `mesh`."""
    node: str | None = None
    region: str | None = None
    enabled: bool = True


def load_config(path: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> Config:
    """Read the YAML file at `path`; references are looked up in `env` (default `os.environ`).

    Raises `ConfigError` whose `problems` are all that is wrong, in the order of the file.
    """
    file = Path(path)
    source = Source(str(file))
    tree = read_tree(file, source)
    expand(tree, os.environ if env is None else env, file.parent, source)
    layout = arrange(tree, source)
    rating = validate(Rating, layout.rating, source) if layout.rating else Rating()
    identity = validate(Identity, layout.identity, source) if layout.identity else Identity()
    buckets = _buckets(layout.services, source) if layout.services else ()
    mesh = _mesh(layout.mesh, source) if layout.mesh else None
    if source.problems or rating is None or identity is None:
        raise ConfigError(sorted(source.problems, key=lambda p: (p.line, p.column)))
    return Config(
        path=str(file),
        buckets=buckets,
        consistency=Mode(rating.consistency),
        redis=_redis(rating),
        mesh=mesh,
        node=identity.node,
        region=identity.region,
        enabled=rating.enabled,
    )


def _buckets(services: Node, source: Source) -> tuple[BucketSpec, ...]:
    specs: list[BucketSpec] = []
    seen: dict[str, str] = {}
    for name, node in services.entries.items():
        twin = seen.setdefault(canonical_name(name), node.path)
        if twin != node.path:
            fix = f"{twin} has the same name, as every kind of hyphen is one; rename one"
            source.report("is given twice", fix, node.path, node.key_line, node.key_column)
        service = validate(Service, node, source)
        spec = _spec(name, service, node, source) if service is not None else None
        if spec is not None:
            specs.append(spec)
    return tuple(specs)


def _spec(name: str, service: Service, node: Node, source: Source) -> BucketSpec | None:
    try:
        if service.bucket is None:
            return BucketSpec.parse(name, service.limit or "")
        return BucketSpec(name, **service.bucket.model_dump())
    except InvalidSpec as error:
        if error.field == "name":
            source.report(error.message, error.fix, node.path, node.key_line, node.key_column)
        else:
            place, _ = node.find(("bucket", error.field) if service.bucket else ("limit",))
            source.report_at(place, masked(error.message, node), error.fix)
        return None


def _mesh(node: Node, source: Source) -> MeshConfig | None:
    mesh = validate(Mesh, node, source)
    if mesh is None:
        return None
    try:
        return MeshConfig(**mesh.model_dump(exclude_none=True))
    except ConfigError as error:
        for problem in error.problems:
            steps = re.findall(r"[a-z_]+|\d+", problem.path.removeprefix("mesh."))
            location = tuple(int(step) if step.isdigit() else step for step in steps)
            place, missing = node.find(location)
            message = problem.message if not missing else f"{missing[0]} {problem.message}"
            source.report_at(place, masked(message, place), problem.fix)
        return None
    except MeshError as error:
        place, _ = node.find(("listen",))
        message, _, fix = str(error).removeprefix("mesh.").partition(": ")
        source.report_at(place, masked(message, node), fix)
        return None


def _redis(rating: Rating) -> RedisSettings | None:
    if rating.bucket_backend is None:
        return None
    return RedisSettings(**rating.bucket_backend.connection.model_dump())


__all__ = ["Config", "RedisSettings", "load_config"]
