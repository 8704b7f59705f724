"""The section `rollout`: the stages in which a version comes into force."""

from __future__ import annotations

import itertools
from typing import Annotated

from pydantic import AfterValidator, model_validator

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.config.section import Section
from crdtbucket.config.settings_section import given, keys_of
from crdtbucket.config.values import SECONDS, WrongValue, named
from crdtbucket.rollout.rollout_plan import MAX_STAGES, RolloutPlan, Stage


def _some(regions: list[str]) -> list[str]:
    if not regions:
        raise WrongValue("names no region", "name one, or leave it out for all")
    return regions


def _some_time(hold: float) -> float:
    if not hold:
        raise WrongValue("is 0", "write how long each stage lasts, such as 10m")
    return hold


@keys_of(Stage)
class StageSection(Section):
    """The reach of a new version at one stage: it includes that of the stages before."""

    regions: Annotated[list[Annotated[str, named("region")]], AfterValidator(_some)] | None = None

    @property
    def reach(self) -> Stage:
        """The stage in the form that the roll-out needs."""
        return Stage(**{**given(self), "regions": tuple(self.regions or ())})


def _widening(stages: list[StageSection]) -> list[StageSection]:
    if not 1 <= len(stages) <= MAX_STAGES:
        raise WrongValue(f"has {len(stages)} stages", f"write 1 to {MAX_STAGES}, each after a dash")
    for number, (before, after) in enumerate(itertools.pairwise(one.reach for one in stages), 2):
        regions = {*before.regions, *after.regions, ""}
        reach = [(before.percent_in(one), after.percent_in(one)) for one in regions]
        if any(now < then for then, now in reach):
            raise WrongValue(
                f"stage {number} ({after}) takes back some of stage {number - 1} ({before})",
                "let each stage name the regions of the one before, and no smaller percent",
            )
        if all(now == then for then, now in reach):
            fix = "remove one of them"
            raise WrongValue(f"stages {number - 1} and {number} both reach {after}", fix)
    return stages


@keys_of(RolloutPlan, "denied_ratio_rise")
class HaltSection(Section):
    """The conditions under which a roll-out halts by itself."""


@keys_of(RolloutPlan, "stages", hold="hold_ns")
class RolloutSection(Section):
    """The stages by which the next version comes into force; see `RolloutPlan`."""

    stages: Annotated[list[StageSection], AfterValidator(_widening)] | None = None
    hold: Annotated[float, SECONDS, AfterValidator(_some_time)] | None = None
    halt_on: HaltSection | None = None

    @model_validator(mode="after")
    def _has_stages(self) -> RolloutSection:
        if self.stages is None:
            raise WrongValue("has no stages", "add stages: [{percent: 10}, {percent: 100}]")
        return self

    @property
    def plan(self) -> RolloutPlan:
        """The plan in the form that the roll-out needs."""
        stages = tuple(one.reach for one in self.stages or ())
        hold_ns = None if self.hold is None else round(self.hold * NS_PER_SECOND)
        return RolloutPlan(**{**given(self), "stages": stages, "hold_ns": hold_ns})
