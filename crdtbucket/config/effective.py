"""Writes a configuration as a file that contains every default and inherited value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import span
from crdtbucket.config import Config
from crdtbucket.config.descriptors import DescriptorSection
from crdtbucket.config.mesh_section import MeshSection
from crdtbucket.config.model import ModesSection, RatingSection
from crdtbucket.config.redis_section import BackendSection, ConnectionSection
from crdtbucket.config.schema import default_of, is_span
from crdtbucket.config.section import Section, section_of
from crdtbucket.config.settings_section import parts_below
from crdtbucket.rollout.rollout_plan import RolloutPlan
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.descriptor_rule import DescriptorRule
from crdtbucket.strong.redis.redis_config import RedisConfig

MASK = "***"
Hide = Callable[[str], str]
"""Returns what is shown in place of a secret."""


def effective(config: Config, hide: Hide = lambda secret: MASK) -> dict[str, Any]:
    """The file for `config` with all defaults written out, in plain dicts and scalars. It loads
    into the same configuration, except for secrets, which are shown as `hide` returns them.
    """
    identity = {
        "node": config.node,
        "region": config.region,
        "shared": config.shared,
        "version": config.version or None,
    }
    backend = None if config.redis is None else _backend(config.redis, hide)
    how = config.degradation
    rating = {
        "enabled": config.enabled,
        "consistency": config.consistency.value,
        **_settings(RatingSection, how, hide),
        "bucket_backend": backend,
        "modes": _settings(ModesSection, how.modes, hide),
    }
    tree = {
        **identity,
        "rating": rating,
        "services": {spec.name: _service(spec, config) for spec in config.buckets} or None,
        "mesh": None if config.mesh is None else _settings(MeshSection, config.mesh, hide),
        "rollout": None if config.rollout is None else _rollout(config.rollout),
        "envoy": _envoy(config.descriptors, hide) if config.descriptors else None,
    }
    plain: dict[str, Any] = _plain(tree)
    return plain


def _rollout(plan: RolloutPlan) -> dict[str, Any]:
    rise = plan.denied_ratio_rise
    return {
        "stages": [
            {"regions": list(one.regions) or None, "percent": one.percent} for one in plan.stages
        ],
        "hold": None if plan.hold_ns is None else span(plan.hold_ns),
        "halt_on": None if rise is None else {"denied_ratio_rise": rise},
    }


def _envoy(rules: Iterable[DescriptorRule], hide: Hide) -> dict[str, Any]:
    return {
        "descriptors": [
            {
                **_settings(DescriptorSection, rule, hide),
                "entries": [
                    name if value is None else f"{name}={value}" for name, value in rule.entries
                ],
            }
            for rule in rules
        ]
    }


def _settings(section: type[Section], settings: Any, hide: Hide) -> dict[str, Any]:
    """The keys of a section, with the values of the settings that were made from it."""
    out: dict[str, Any] = {}
    for key, field in section.model_fields.items():
        value = getattr(settings, section.fields.get(key, key), None)
        if section_of(field)[0] is not None or value is None:
            continue
        if not field.repr:
            several = isinstance(value, (list, tuple))
            value = [_hidden(one, hide) for one in value] if several else _hidden(value, hide)
        elif is_span(field) and not isinstance(value, str):
            value = span(round(value * NS_PER_SECOND))
        out[key] = value
    below = parts_below(section).items()
    return out | {key: _settings(inner, settings, hide) for key, inner in below}


def _hidden(secret: str | bytes, hide: Hide) -> str:
    return hide(secret if isinstance(secret, str) else secret.decode("utf-8", "replace"))


def _backend(redis: RedisConfig, hide: Hide) -> dict[str, Any]:
    backend = {"type": "redis", "connection": {}} | _settings(BackendSection, redis, hide)
    connection = backend["connection"]
    if not (redis.tls or redis.tls_ca or redis.tls_cert):
        del connection["tls"]
    if not redis.sentinels:
        del connection["sentinel"]
    # Defaults are left out: they are not allowed beside a url.
    backend["connection"] = {
        key: value
        for key, value in connection.items()
        if (value and value != default_of(ConnectionSection, key)) or (key == "port" and redis.host)
    }
    return {**backend, "regions": redis.regions or None}


def _service(spec: BucketSpec, config: Config) -> dict[str, Any]:
    consistency = spec.consistency or config.consistency
    overrides = {glob: _rule(override, config) for glob, override in spec.overrides}
    return {**_rule(spec, config), "consistency": consistency.value, "keys": overrides or None}


def _rule(spec: BucketSpec, config: Config) -> dict[str, Any]:
    room = {"max_keys": spec.max_keys, "on_table_full": spec.on_table_full}
    rest = {"on_outage": spec.on_outage or config.degradation.on_outage, "shadow": spec.shadow}
    if spec.slots is not None:
        slots = {"slots": spec.slots, "ttl": span(spec.interval_ns)}
        return {"concurrency": slots, "bucket": room, **rest}
    if spec.period is not None:
        period = {"per": spec.period.per, "time_zone": spec.period.time_zone}
        return {"calendar": {"limit": spec.capacity, **period}, "bucket": room, **rest}
    bucket = {
        "capacity": spec.capacity,
        "refill_rate": spec.refill_rate,
        "refill_interval": span(spec.interval_ns),
        "max_debt": spec.max_debt,
        **room,
    }
    return {"bucket": bucket, **rest}


def _plain(value: Any) -> Any:
    """The tree without blanks, and with "$" escaped where the reader would see a reference."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    if type(value) is str:  # a value of another class that hides a secret stays
        return value.replace("${", "$${")
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
