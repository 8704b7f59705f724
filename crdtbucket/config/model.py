"""The sections of a configuration, except those of Redis, the mesh and a roll-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import model_validator

from crdtbucket.config.redis_section import BackendSection
from crdtbucket.config.section import Section
from crdtbucket.config.settings_section import keys_of
from crdtbucket.config.values import (
    Duration,
    Rate,
    WrongValue,
    named,
    whole,
)
from crdtbucket.spec.bucket_kinds import MAX_QUOTA
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.calendar_period import CalendarPeriod
from crdtbucket.spec.field_checks import MAX_TOKENS
from crdtbucket.spec.mode import Consistency
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation


@keys_of(ControllerSettings)
class ModesSection(Section):
    """The bounds from which Redis counts as slow, as unreachable, and as back; see
    `ControllerSettings`."""


@keys_of(Degradation, "on_outage", "fallback_ratio", "fallback_scope", "expected_nodes", "webhook")
class RatingSection(Section):
    """Settings that hold for all buckets, unless a bucket has its own."""

    enabled: bool = True
    """`false` admits every call, and counts what the limits would have denied"""
    consistency: Consistency = "eventual"
    """[`strong` or `eventual`](modes.md), for every bucket that does not say otherwise"""
    bucket_backend: BackendSection | None = None
    modes: ModesSection = ModesSection()


@keys_of(
    BucketSpec,
    *("capacity", "refill_rate", "refill_interval", "max_debt", "max_keys", "on_table_full"),
)
class BucketSection(Section):
    """A bucket's numbers; see `BucketSpec`."""


@keys_of(BucketSpec, "slots")
class ConcurrencySection(Section):
    """The limit of calls in flight; see `BucketSpec.concurrency`."""

    alone = "slots"

    ttl: Duration | None = None
    """how long one slot is held at most, 100ms to 30d; `60s` if left out"""


@keys_of(CalendarPeriod)
class CalendarSection(Section):
    """The quota of a period of the calendar; see `BucketSpec.calendar`."""

    limit: Annotated[int, whole("limit", 1, MAX_QUOTA)] | None = None
    """in place of a rate: [tokens for each period](calendar.md), 1 to 2^46"""


@keys_of(BucketSpec, "on_outage", "shadow")
class RuleSection(Section):
    """A limit in numbers, or as a rate string; what is left out is inherited."""

    bucket: BucketSection | None = None
    limit: Rate | None = None
    """capacity and rate as a text such as `100/minute burst 20`"""
    concurrency: ConcurrencySection | None = None
    calendar: CalendarSection | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> RuleSection:
        rate = {"capacity", "refill_rate", "refill_interval"}
        if self.limit is not None and rate & (self.bucket or BucketSection()).model_fields_set:
            raise WrongValue("has both bucket and limit", "keep one of them")
        given = (self.bucket or BucketSection()).model_fields_set & (rate | {"max_debt"})
        kinds = {"concurrency": self.concurrency, "calendar": self.calendar}
        names = [name for name, kind in kinds.items() if kind is not None]
        names += ["a rate"] if self.limit is not None or given else []
        if len(names) > 1:
            raise WrongValue(f"has both {names[0]} and {names[1]}", "keep one of them")
        return self


class OverrideSection(RuleSection):
    """The limit of some keys of a bucket; a text alone is its `limit`."""

    alone = "limit"
    in_python: ClassVar[Mapping[str, str]] = {"consistency": "services.NAME.consistency"}


class DefaultsSection(RuleSection):
    """Settings that every service inherits unless it has its own."""

    consistency: Consistency | None = None
    """`strong` or `eventual`, in place of what `rating` says"""


class ServiceSection(DefaultsSection):
    """One named bucket, and the overrides of some of its keys."""

    in_python: ClassVar[Mapping[str, str]] = {"overrides": "keys"}

    keys: dict[str, OverrideSection] | None = None
    """limits for keys that match a glob, [below](#defaults-and-overrides)"""


class IdentitySection(Section):
    """The name and region of this node, and the version of the definitions in this file."""

    node: Annotated[str, named("node")] | None = None
    """this process's name in the mesh and among the users of a Redis; needed with either, and
    with `shared: auto`"""
    region: Annotated[str, named("region")] | None = None
    """where this process runs: people see it in logs and metrics; with `active_active` the name of
    this node's region"""
    version: Annotated[int, whole("version", 0, MAX_TOKENS)] = 0
    """the version of the definitions: a whole number that rises"""
    shared: Annotated[str, named("shared")] | None = None
    """a file that makes all processes of this host [one node](workers.md), or `auto`, a file that
    is named after `node`"""
