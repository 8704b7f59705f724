"""Turns the services of a file, with what they inherit, into checked `BucketSpec`s."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from crdtbucket.config.check import masked, report_missing, validate
from crdtbucket.config.model import DefaultsSection, OverrideSection, RuleSection, ServiceSection
from crdtbucket.config.source import Source, YamlNode
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import canonical_name
from crdtbucket.spec.globs import check_glob
from crdtbucket.spec.overrides import FEWER, MAX_BUCKETS
from crdtbucket.spec.rate_text import parse_rate

RATE = {"capacity", "refill_rate", "refill_interval"}
SLOTS = {"slots", "ttl"}
CALENDAR = {"limit", "per", "time_zone"}
Layer = tuple[RuleSection, YamlNode]
"""The settings in one mapping of the file, and the mapping's place."""


def bucket_specs(
    services: YamlNode | None, defaults: YamlNode | None, source: Source
) -> tuple[BucketSpec, ...]:
    """The buckets of `services`; their faults are reported to `source`."""
    base = None if defaults is None else validate(DefaultsSection, defaults, source)
    broken = defaults is not None and base is None
    layers: list[Layer] = [] if defaults is None or base is None else [(base, defaults)]
    specs: list[BucketSpec] = []
    seen: dict[str, str] = {}
    count = 0
    for name, node in (services.entries if services else {}).items():
        first = seen.setdefault(canonical_name(name), node.path)
        if first != node.path:
            fix = f"{first} has the same name, as every kind of hyphen is one; rename one"
            source.report_key(node, "is given twice", fix)
        service = validate(ServiceSection, node, source)
        if service is None or broken:  # its inherited settings are not known
            continue
        spec = _bucket(name, service, [*layers, (service, node)], source)
        if spec is not None:
            specs.append(spec)
            count += (1 + spec.parts) * (1 + len(spec.overrides))
            if count > MAX_BUCKETS:
                message = f"is one of more than {MAX_BUCKETS} buckets and overrides"
                source.report_key(node, message, FEWER)
                break  # each later bucket would get the same message
    return tuple(specs)


@dataclass
class _Rules:
    """The settings of one bucket, merged from several layers of which later ones win, and the place
    in the file where each setting stands."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, YamlNode] = field(default_factory=dict)

    @classmethod
    def of(cls, layers: Iterable[Layer]) -> _Rules:
        rules = cls()
        for rule, node in layers:
            if rule.concurrency is not None:
                rules._forget(*RATE, *CALENDAR, "max_debt")
                rules._say(rule.concurrency.model_dump(exclude_none=True), node, "concurrency")
            elif rule.calendar is not None:
                rules._forget(*RATE, *SLOTS, "max_debt")
                rules._say(rule.calendar.model_dump(exclude_none=True), node, "calendar")
            elif rule.limit is not None or RATE & (rule.bucket or rule).model_fields_set:
                rules._forget(*SLOTS, *CALENDAR)
            if rule.limit is not None:
                tokens, interval, burst = parse_rate(rule.limit)
                rate = {"capacity": tokens if burst is None else burst, "refill_rate": tokens}
                rules._say({**rate, "refill_interval": interval}, node, "limit")
            if rule.bucket is not None:
                rules._say(rule.bucket.model_dump(exclude_none=True), node, "bucket")
            own = rule.model_dump(
                exclude={"bucket", "limit", "concurrency", "calendar", "keys"}, exclude_none=True
            )
            rules._say(own, node)
        return rules

    def _forget(self, *names: str) -> None:
        for name in names:
            self.values.pop(name, None)

    def _say(self, values: dict[str, Any], node: YamlNode, *steps: str) -> None:
        self.values |= values
        for name in values:
            self.places[name], _ = node.find((*steps, name))


def _bucket(
    name: str, service: ServiceSection, layers: list[Layer], source: Source
) -> BucketSpec | None:
    keys = layers[-1][1].entries.get("keys")
    overrides = []
    for glob, override in (service.keys or {}).items():
        assert keys is not None, "a service with overrides has a place for them"
        overrides.append(
            (glob, _override(name, glob, override, keys.entries[glob], layers, source))
        )
    return _spec(name, layers, source, overrides=[(glob, spec) for glob, spec in overrides if spec])


def _override(
    name: str,
    glob: str,
    override: OverrideSection,
    node: YamlNode,
    layers: list[Layer],
    source: Source,
) -> BucketSpec | None:
    said = override.model_dump(exclude_none=True)
    if not said:
        fix = 'add "1000/minute burst 2000", bucket: or limit:'
        source.report_key(node, "has no limit", fix)
        return None
    if said.get("shadow") is False and _Rules.of(layers).values.get("shadow"):
        fix = "leave it out here, or give shadow to the overrides that need it"
        source.report_at(node.entries["shadow"], "is false in a bucket that is a shadow", fix)
    try:
        check_glob(glob)
    except InvalidSpec as error:
        source.report_key(node, error.message, error.fix)
        return None
    return _spec(name, [*layers, (override, node)], source, consistency=None)


def _spec(name: str, layers: list[Layer], source: Source, **more: Any) -> BucketSpec | None:
    rules = _Rules.of(layers)
    rule, node = layers[-1]
    if "slots" in rules.values:
        return _made(BucketSpec.concurrency, name, rules, layers, source, more)
    if "limit" in rules.values:
        return _made(BucketSpec.calendar, name, rules, layers, source, more)
    for kind, of_kind, needed in ("concurrency", SLOTS, "slots"), ("calendar", CALENDAR, "limit"):
        if of_kind & rules.values.keys():
            report_missing(node, (kind, needed), source)
            return None
    missing = [one for one in ("capacity", "refill_rate") if one not in rules.values]
    if len(missing) == 2 and rule.bucket is None:
        fix = 'add bucket: or limit: "100/minute burst 20"'
        source.report_key(node, "has no bucket", fix)
        return None
    for one in missing:
        report_missing(node, ("bucket", one), source)
    if missing:
        return None
    return _made(BucketSpec, name, rules, layers, source, more)


def _made(
    make: Callable[..., BucketSpec],
    name: str,
    rules: _Rules,
    layers: list[Layer],
    source: Source,
    more: dict[str, Any],
) -> BucketSpec | None:
    rule, node = layers[-1]
    try:
        return make(name, **{**rules.values, **more})
    except InvalidSpec as error:
        message = error.message
        for _, layer in layers:
            message = masked(message, layer)
        if error.field == "name":
            source.report_key(node, message, error.fix)
            return None
        steps = ("keys",) if error.field == "overrides" else ("bucket", error.field)
        place = rules.places.get(error.field) or node.find(steps)[0]
        if isinstance(rule, OverrideSection) and not place.path.startswith(node.path):
            message = f"{message} for {node.path}"
        source.report_at(place, message, error.fix)
        return None
