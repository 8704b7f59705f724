"""The section `envoy`: which bucket a descriptor of a proxy takes from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, model_validator

from crdtbucket.base.clipped import clipped
from crdtbucket.config.hints import did_you_mean
from crdtbucket.config.section import Section
from crdtbucket.config.settings_section import given, keys_of
from crdtbucket.config.source import Source, YamlNode
from crdtbucket.config.values import FloorValue, WrongValue
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.descriptor_rule import DescriptorRule
from crdtbucket.spec.field_checks import canonical_name
from crdtbucket.spec.mode import Mode

MAX_RULES = 1_000
MAX_ENTRIES = 32
"""Most entries of a descriptor."""


def _entries(texts: list[str]) -> list[str]:
    example = "write names, with a value or without, such as [route=chat, user]"
    if not 1 <= len(texts) <= MAX_ENTRIES:
        raise WrongValue(f"has {len(texts)} entries", f"{example}: 1 to {MAX_ENTRIES}")
    for text in texts:
        if not text.partition("=")[0]:
            raise WrongValue(f"has {clipped(text)}, which has no name", example)
    return texts


@keys_of(DescriptorRule)
class DescriptorSection(Section):
    """One rule of the section `envoy`; see `DescriptorRule`."""

    entries: Annotated[list[str], AfterValidator(_entries)] | None = None
    floor: FloorValue | None = None

    @model_validator(mode="after")
    def _complete(self) -> DescriptorSection:
        for needed in ("entries", "bucket"):
            if getattr(self, needed) is None:
                fix = "write {entries: [route=chat, user], bucket: api}"
                raise WrongValue(f"has no {needed}", fix)
        return self

    @property
    def rule(self) -> DescriptorRule:
        """The rule by which descriptors are matched."""
        parts = [text.partition("=") for text in self.entries or ()]
        entries = tuple((name, value if equals else None) for name, equals, value in parts)
        return DescriptorRule(**{**given(self), "entries": entries})


def _reachable(sections: list[DescriptorSection]) -> list[DescriptorSection]:
    if len(sections) > MAX_RULES:
        raise WrongValue(f"has {len(sections)} rules", f"write {MAX_RULES} at most")
    rules = [one.rule for one in sections]
    for number, rule in enumerate(rules):
        for before in range(number):
            if rules[before].covers(rule):
                fix = "put the narrower one first, or remove it"
                raise WrongValue(
                    f"rule {before + 1} takes all that rule {number + 1} is about", fix
                )
    return sections


class EnvoySection(Section):
    """The rules by which Envoy's rate limit services find the bucket and key of a descriptor."""

    descriptors: Annotated[list[DescriptorSection], AfterValidator(_reachable)] | None = None

    @property
    def rules(self) -> tuple[DescriptorRule, ...]:
        """The rules in the order of the file; the first one that fits counts."""
        return tuple(one.rule for one in self.descriptors or ())


def check_buckets(
    rules: Collection[DescriptorRule],
    buckets: Collection[BucketSpec],
    consistency: Mode,
    node: YamlNode,
    source: Source,
) -> None:
    """Notes each rule whose bucket is not defined in the file, has no tokens to take, or does not
    support the rule's floor. `consistency`: the default of buckets that do not set it."""
    known = {spec.key: spec for spec in buckets}
    for number, rule in enumerate(rules):
        spec = known.get(canonical_name(rule.bucket))
        if spec is not None and spec.slots is None:
            if rule.floor != 0 and (spec.consistency or consistency) is Mode.STRONG:
                place, _ = node.find(("descriptors", number, "floor"))
                fix = "leave it out: only eventual buckets of tokens have floors"
                source.report_at(place, f"{clipped(rule.bucket)} is strong", fix)
            continue
        names = [one.name for one in buckets if one.slots is None]
        fix = did_you_mean(rule.bucket, names) if names else "add a service with a limit"
        what = "is no service" if spec is None else "is of kind concurrency and has no tokens"
        place, _ = node.find(("descriptors", number, "bucket"))
        source.report_at(place, f"{clipped(rule.bucket)} {what}", fix)
