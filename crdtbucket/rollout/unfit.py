"""The reasons why a configuration cannot come into force while a limiter works."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from crdtbucket._core import Table
from crdtbucket.base.hashing import shared_key
from crdtbucket.errors import InvalidSpec, MeshError, Problem
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.rollout.in_force import InForce
from crdtbucket.rollout.staged import FIXED, Position, Status
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import canonical_name
from crdtbucket.spec.mode import Mode
from crdtbucket.spec.overrides import FEWER, MAX_BUCKETS, with_overrides

if TYPE_CHECKING:
    from crdtbucket.config import Config
    from crdtbucket.limiter.local_node import LocalNode

RATE = "tokens at a rate"


def kind_of(spec: BucketSpec) -> str:
    """The kind of a bucket, in words. A bucket cannot change from one kind to another."""
    if spec.period is not None:
        return f"quotas {spec.period}"
    return RATE if spec.slots is None else "slots"


def fixed(
    config: Config, running: Config | None, started: Mapping[str, Any], renewable: Container[str]
) -> Iterator[Problem]:
    """Settings that differ from the running ones and cannot change. `started`: the running settings
    of a limiter without a file; and of any limiter the present mesh and Redis, unless an argument
    overrides that of the file. `renewable`: the keys of a file that may change."""
    for field, path in FIXED.items():
        new = attrgetter(field)(config)
        if running is not None:
            old = attrgetter(field)(running)
            if old != new and field in ("mesh", "redis"):
                old = started.get(field, old)
        else:
            old = started.get(field, new)
            new = old if new is None else new
        for where in _differences(path, old, new, partial(config.file_key, field)):
            if where in renewable:
                continue
            yield Problem(
                "cannot change while the limiter works",
                "put it back, or restart this process",
                where,
            )


def unfit(config: Config, now: InForce) -> Iterator[Problem]:
    """Yields the reasons why buckets cannot change to those of `config`; `now` has those in
    force."""
    specs, consistency = now.runnable(config)
    changed, seen, count = Counter[Table](), set[str](), 0
    if now.buckets and not specs:  # a file that was cut short would end every limit
        yield Problem(
            "has no bucket, and would take every limit away",
            "name a bucket, or restart this process if no limit is meant",
            "services",
        )
    for spec, owner in with_overrides(specs):
        path = f"services.{owner.name}"
        strong = (owner.consistency or consistency) is Mode.STRONG
        known = now.known(spec.key)
        if spec.key in seen:
            fix = "rename one; all kinds of hyphens count as the same"
            yield Problem(f"two buckets are called {spec.name!r}", fix, path)
        seen.add(spec.key)
        if known is not None and kind_of(known.spec) != kind_of(spec):
            yield Problem(
                f"cannot change from {kind_of(known.spec)} to {kind_of(spec)} while the limiter "
                "works",
                "give the bucket another name, or restart this process",
                path,
            )
        elif known is not None and kind_of(spec) != RATE and known.spec != spec and config.rollout:
            yield Problem(
                f"has {kind_of(spec)}, which change on all keys at once and not by stages",
                "leave its limit as it is in a roll-out, and change it by a reload",
                path,
            )
        if known is not None and known.immediate is strong:
            yield Problem(
                f"cannot become {'strong' if strong else 'eventual'} while the limiter works",
                "leave its consistency, give the bucket another name, or restart this process",
                f"{path}.consistency",
            )
        elif strong and now.strong is None:
            yield Problem(
                "is strong, and this limiter began without any strong bucket",
                "restart this process, or set consistency: eventual",
                f"{path}.consistency",
            )
        elif strong and now.strong is not None:
            try:
                now.strong.rule_maker.check(spec, now.ceiling(spec) - spec.capacity)
            except InvalidSpec as error:
                yield Problem(error.message, error.fix, f"{path}.{error.field}")
        if known is None or known.spec != spec:
            changed[now.tables.of(strong)] += 1 + spec.parts
        count += 1 + spec.parts
    if count > MAX_BUCKETS:
        yield Problem(f"has {count} buckets and overrides", FEWER, "services")
    changed.update(_changing_limits(specs, consistency, now))
    yield from _without_room(config, changed)


def unfit_version(
    config: Config, running: Config | None, rollout: Position | None
) -> Iterator[Problem]:
    """Why `config` cannot be the next version. `rollout`: that of the newest version."""
    if rollout is not None and rollout.of == config.version_id:
        if rollout.status is Status.ROLLED_BACK:
            fix = "give what comes next a higher one"
            yield Problem("was rolled back", fix, "version")
    elif config.rollout is None or running is None or config.hash == running.hash:
        return
    elif config.version <= running.version:
        yield Problem(
            f"is {config.version} and {running.version} is in force, so nodes cannot tell which is "
            "rolled out",
            "raise it, or remove rollout: to load it at once",
            "version",
        )


def unfit_mesh(
    mesh: MeshConfig | None, node: LocalNode | None, hash_key: bytes
) -> Iterator[Problem]:
    """Why the mesh of `node` cannot have the secrets and keys of `mesh`."""
    if mesh is None or node is None:
        return
    old = node.identity.mesh
    if old is None or bool(old.secrets) != bool(mesh.secrets):
        fix = "put it back, or restart this process"
        yield Problem("comes or goes while the limiter works", fix, "mesh.secret")
    elif shared_key(old, None) == hash_key != shared_key(mesh, None):
        message = "would end with another secret, and the last one keys the hash of bucket keys"
        yield Problem(message, "set hash_secret, or keep it last", "mesh.secret")
    try:
        node.check_key(mesh)
    except MeshError as error:
        message, _, fix = str(error).partition(": ")
        yield Problem(message, fix, "mesh.identity_key")


def _changing_limits(
    specs: tuple[BucketSpec, ...], consistency: Mode, now: InForce
) -> Counter[Table]:
    """How many definitions the limits of keys need when the buckets have these."""
    need = Counter[Table]()
    every = {one.key: one for one, _ in with_overrides(specs)}
    for spec in specs:
        outside = now.outside.of(spec.key)
        if limits := outside.changing(spec, lambda name: every.get(canonical_name(name))):
            strong = (spec.consistency or consistency) is Mode.STRONG
            need[now.tables.of(strong)] += limits * (1 + spec.parts)
    return need


def _without_room(config: Config, changed: Mapping[Table, int]) -> Iterator[Problem]:
    # A ceiling that is raised for a time takes a second definition later; stages raise that of the
    # old definition as well.
    each = 2 if config.rollout is None else 3
    for table, count in changed.items():
        if each * count > table.definitions.free:
            yield Problem(
                f"changes {count} buckets and limits of keys, and there is room for "
                f"{table.definitions.free // each} changes now",
                "try again in a minute; with so many buckets, change fewer at a time",
                "services",
            )


def _differences(
    path: str, old: object, new: object, file_key: Callable[[str], str]
) -> Iterator[str]:
    """Paths at which two settings differ; never the values, which may be secret."""
    if old == new:
        return
    if not dataclasses.is_dataclass(old) or type(old) is not type(new):
        yield path
        return
    for field in dataclasses.fields(old):
        if getattr(old, field.name) != getattr(new, field.name):
            yield f"{path}.{file_key(field.name)}"
