"""The notice of a change of mode."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.notice import ModeNotice


def notice(after: Mode = Mode.FALLBACK, **other: Any) -> ModeNotice:
    told = {"node": "eu-1", "region": "eu", "endpoint": "10.0.0.1:6379", "before": Mode.STRONG}
    told |= {"reason": "no answer for 0.5 s", "time": 1_780_000_000.125}
    return ModeNotice(**{**told, "after": after, **other})


def test_a_notice_as_json() -> None:
    assert notice().as_json() == {
        "node": "eu-1",
        "region": "eu",
        "endpoint": "10.0.0.1:6379",
        "before": "strong",
        "after": "fallback",
        "reason": "no answer for 0.5 s",
        "severity": "critical",
        "time": "2026-05-28T20:26:40.125Z",
    }


@pytest.mark.parametrize(
    ("after", "severity"),
    [(Mode.FALLBACK, "critical"), (Mode.EVENTUAL, "warning"), (Mode.STRONG, "info")],
)
def test_severity_goes_by_where_it_ends(after: Mode, severity: str) -> None:
    assert notice(after).severity == severity
