"""A configuration file, read into buckets and settings, or refused with every fault at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crdtbucket.base.clipped import clipped
from crdtbucket.base.hashing import shared_key
from crdtbucket.config.check import masked, validate
from crdtbucket.config.descriptors import EnvoySection, check_buckets
from crdtbucket.config.expand import expand
from crdtbucket.config.fingerprint import fingerprint
from crdtbucket.config.layout import arrange
from crdtbucket.config.mesh_section import MESH_KEYS, mesh_config
from crdtbucket.config.model import IdentitySection, RatingSection
from crdtbucket.config.redis_section import REDIS_KEYS, redis_config
from crdtbucket.config.services import bucket_specs
from crdtbucket.config.settings_section import given
from crdtbucket.config.source import Source, YamlNode, read_tree
from crdtbucket.config.stages import RolloutSection
from crdtbucket.errors import ConfigError, InvalidSpec
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.rollout.rollout_plan import RolloutPlan
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.descriptor_rule import DescriptorRule
from crdtbucket.spec.field_checks import check_path
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.regions import check_region
from crdtbucket.strong.store_rules import check_strong_slots


@dataclass(frozen=True)
class Config:
    """The content of a configuration file, checked. Its repr shows no secret."""

    path: str
    buckets: tuple[BucketSpec, ...] = ()
    consistency: Mode = Mode.EVENTUAL
    """`Mode.STRONG` or `Mode.EVENTUAL`: what was asked for, not what is in force."""
    redis: RedisConfig | None = None
    """None when the file has no `bucket_backend`, or one with no address yet."""
    degradation: Degradation = field(default_factory=Degradation)
    """What strong buckets do while Redis is slow or out of reach."""
    mesh: MeshConfig | None = None
    """None when the file has no `mesh`."""
    node: str | None = None
    region: str | None = None
    enabled: bool = True
    version: int = 0
    """The version of the definitions, which their author counts up; 0: none."""
    shared: str | None = None
    """The file of a table that processes share, "auto", or None for a table of each process."""
    rollout: RolloutPlan | None = None
    """The stages by which it comes into force; None: at once."""
    descriptors: tuple[DescriptorRule, ...] = ()
    """The rules by which descriptors of a proxy find their bucket; the first that fits counts."""

    @property
    def hash(self) -> str:
        """16 hex digits that cover everything that decides about a limit. It is the same for every
        node of a fleet, whatever the order and wording of its file; addresses, names, secrets and
        the version are not part of it.
        """
        how = self.degradation
        rules: dict[str, Any] = {
            "enabled": self.enabled,
            "fallback_ratio": how.fallback_ratio,
            "fallback_scope": how.fallback_scope,
            "modes": asdict(how.modes),
        }
        if how.expected_nodes is not None:
            rules["expected_nodes"] = how.expected_nodes
        if self.redis is not None and self.redis.active_active:
            rules["regions"] = sorted(self.redis.regions)
        return fingerprint(self.buckets, (self.consistency, how.on_outage), rules)

    @property
    def version_id(self) -> tuple[int, int]:
        """The version and the hash, by which nodes tell versions apart."""
        return self.version, int(self.hash, 16)

    @staticmethod
    def file_key(setting: str, field: str) -> str:
        """The key in a file for a field of `mesh`, `redis` or `modes`, relative to its section."""
        return {"mesh": MESH_KEYS, "redis": REDIS_KEYS}.get(setting, {}).get(field, field)


def load_config(path: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> Config:
    """Read the YAML file at `path`; references are looked up in `env` (default `os.environ`).

    Raises `ConfigError` whose `problems` are all faults, in the order of the file, and
    `InvalidSpec` for an argument of a wrong type.
    """
    check_path("path", path)
    if env is not None and not isinstance(env, Mapping):
        raise InvalidSpec(f"env is {clipped(env)}", "pass a mapping of names and texts", "env")
    file = Path(path)
    source = Source(str(file))
    tree = read_tree(file, source)
    expand(tree, os.environ if env is None else env, file.parent, source)
    found = arrange(tree, source)
    services, mesh_node, rollout_node = (found.get(one) for one in ("services", "mesh", "rollout"))
    envoy_node = found.get("envoy")
    rating = validate(RatingSection, found["rating"], source)
    identity = validate(IdentitySection, found["identity"], source)
    buckets = bucket_specs(services, found.get("defaults"), source)
    mesh = mesh_config(mesh_node, source) if mesh_node else None
    rollout = validate(RolloutSection, rollout_node, source) if rollout_node else None
    envoy = validate(EnvoySection, envoy_node, source) if envoy_node else None
    redis = _redis(rating, found["rating"], source) if rating else None
    modes = _modes(rating, found["rating"], source) if rating else ControllerSettings()
    if rollout_node and identity and not identity.version:
        fix = "add version: with a whole number that is higher than the last one"
        source.report_at(rollout_node, "needs a version, so that nodes know which is newer", fix)
    consistency = Mode.EVENTUAL if rating is None else Mode(rating.consistency)
    if envoy is not None and envoy_node is not None and not source.problems:
        check_buckets(envoy.rules, buckets, consistency, envoy_node, source)
    if mesh is not None and redis is not None and mesh_node is not None:
        _same_hash(mesh, redis, mesh_node, source)
    if redis is not None and redis.active_active and identity and identity.region:
        _one_of_regions(identity.region, redis, found["identity"], source)
    if redis is not None and rating and identity and services is not None:
        shared = identity.shared is not None
        _strong_slots(buckets, consistency, shared, redis, services, source)
    if source.problems or rating is None or identity is None:
        raise ConfigError(sorted(source.problems, key=lambda p: (p.line, p.column)))
    return Config(
        path=str(file),
        buckets=buckets,
        consistency=consistency,
        redis=redis,
        degradation=Degradation(**given(rating), modes=modes),
        mesh=mesh,
        node=identity.node,
        region=identity.region,
        enabled=rating.enabled,
        version=identity.version,
        shared=identity.shared,
        rollout=None if rollout is None else rollout.plan,
        descriptors=() if envoy is None else envoy.rules,
    )


def _same_hash(mesh: MeshConfig, redis: RedisConfig, node: YamlNode, source: Source) -> None:
    try:
        shared_key(mesh, redis)
    except ConfigError:
        place, _ = node.find(("hash_secret",))
        fix = "write the same one there, or leave that one out"
        source.report_at(place, "is another one than rating.bucket_backend.hash_secret", fix)


def _one_of_regions(region: str, redis: RedisConfig, node: YamlNode, source: Source) -> None:
    # A missing one may still be given as an argument.
    try:
        check_region(region, redis.regions)
    except InvalidSpec as error:
        place, _ = node.find(("region",))
        source.report_at(place, masked(error.message.removeprefix("region "), place), error.fix)


def _strong_slots(
    buckets: Iterable[BucketSpec],
    consistency: Mode,
    shared: bool,
    redis: RedisConfig,
    node: YamlNode,
    source: Source,
) -> None:
    for spec in buckets:
        if spec.slots is None or (spec.consistency or consistency) is not Mode.STRONG:
            continue
        try:
            check_strong_slots(spec, shared, redis.active_active)
        except InvalidSpec as error:
            place, _ = node.find((spec.name, "concurrency"))
            source.report_at(place, error.message.removeprefix(f"bucket {spec.name!r} "), error.fix)


def _redis(rating: RatingSection, node: YamlNode, source: Source) -> RedisConfig | None:
    place = node.entries.get("bucket_backend")
    if rating.bucket_backend is None or place is None:
        return None
    return redis_config(rating.bucket_backend, place, source)


def _modes(rating: RatingSection, node: YamlNode, source: Source) -> ControllerSettings:
    given = rating.modes.model_dump(exclude_none=True)
    faults: dict[str, InvalidSpec] = {}
    while (fault := _fault(given)) is not None and fault.field not in faults:
        faults[fault.field] = fault
        given.pop(fault.field, None)  # without it, the other faults show
    for field_name, fault in faults.items():
        place, _ = node.find(("modes", field_name))
        source.report_at(place, masked(fault.message, place), fault.fix)
    return ControllerSettings() if faults else ControllerSettings(**given)


def _fault(given: dict[str, Any]) -> InvalidSpec | None:
    try:
        ControllerSettings(**given)
    except InvalidSpec as error:
        return error
    return None


__all__ = ["Config", "load_config"]
