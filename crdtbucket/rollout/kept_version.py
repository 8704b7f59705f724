"""What a node keeps of a roll-out under way: the version before it, and how far it was.

A file that is rolled out says nothing of the one before it, which decides on most keys at first: a
node that starts again would have nothing else to go by.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from crdtbucket.errors import CrdtbucketError, MeshError
from crdtbucket.rollout.staged import Position
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.calendar_period import CalendarPeriod
from crdtbucket.spec.mode import Mode

if TYPE_CHECKING:
    from crdtbucket.config import Config

FORMAT = 1
RULES = ("version", "on_outage", "fallback_ratio", "fallback_scope", "expected_nodes")
NUMBERS = (
    "capacity",
    "refill_rate",
    "max_debt",
    "max_keys",
    "on_table_full",
    "on_outage",
    "shadow",
    "slots",
)


def kept(before: Config, position: Position) -> bytes:
    """The limits of the version before, and how far the one after it is."""
    content = {
        "format": FORMAT,
        "position": dataclasses.astuple(position),
        "hash": before.hash,
        "rules": {name: getattr(before, name) for name in RULES},
        "consistency": before.consistency.value,
        "buckets": [_plain(spec) for spec in before.buckets],
    }
    return json.dumps(content).encode()


def position_in(data: bytes) -> Position | None:
    """How far the version is of which this was kept; None where that cannot be read."""
    try:
        content = json.loads(data)
        position = Position.read(content["position"])
        return position if content["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None


def recalled(data: bytes, target: Config) -> tuple[Config, Position] | None:
    """The version before `target` and how far that was, if this is what was kept of it.

    Raises `MeshError` when it is damaged.
    """
    try:
        content = json.loads(data)
        position = Position.read(content["position"])
        if content["format"] != FORMAT or position.of != target.version_id:
            return None
        before = dataclasses.replace(
            target,
            **{name: content["rules"][name] for name in RULES},
            consistency=Mode(content["consistency"]),
            buckets=tuple(_spec(one) for one in content["buckets"]),
            rollout=None,
        )
        if before.hash != content["hash"]:  # other settings have changed since
            return None
    except (ValueError, KeyError, TypeError, CrdtbucketError) as error:
        raise MeshError(
            f"what mesh.state_dir keeps of a roll-out is damaged ({error!r}): remove the file that "
            "ends in .rollout to start with the new version"
        ) from error
    return before, position


def _plain(spec: BucketSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        **{name: getattr(spec, name) for name in NUMBERS},
        "refill_interval": f"{spec.interval_ns}ns",
        "period": None if spec.period is None else dataclasses.astuple(spec.period),
        "consistency": None if spec.consistency is None else spec.consistency.value,
        "overrides": [(glob, _plain(one)) for glob, one in spec.overrides],
    }


def _spec(content: dict[str, Any]) -> BucketSpec:
    overrides = [(glob, _spec(one)) for glob, one in content.pop("overrides")]
    period = content.pop("period", None)  # what an earlier version has kept has none
    if period is not None:
        period = CalendarPeriod.checked(*period)
    return BucketSpec(**content, period=period, overrides=overrides)
