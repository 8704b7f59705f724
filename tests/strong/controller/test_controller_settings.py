"""Settings of patience that can be kept."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.base.setting_checks import SecondsRange, ranges_of
from crdtbucket.errors import InvalidSpec
from crdtbucket.strong.controller.controller_settings import ControllerSettings

GOOD = {
    "latency_limit": {"outage_after": 60},
    "outage_after": {"latency_limit": 0.0001},
    "stable_after": {"stable_after_failover": 0},
    "stable_after_failover": {"stable_after": 3_600},
    "probe_interval": {"longest_probe_interval": 600},
    "longest_probe_interval": {"probe_interval": 0.001},
}


def test_the_defaults_are_those_that_are_promised() -> None:
    settings = ControllerSettings()
    assert settings.ns("latency_limit") == 20_000_000
    assert (settings.latency_quantile, settings.ns("latency_window")) == (0.99, 1_000_000_000)
    assert settings.outage_after < 1
    assert settings.ns("least_return_gap") == 60_000_000_000


SPANS = {
    name: (one.low, one.high)
    for name, one in ranges_of(ControllerSettings).items()
    if isinstance(one, SecondsRange)
}


@pytest.mark.parametrize("name", SPANS)
def test_spans_have_a_range(name: str) -> None:
    low, high = SPANS[name]
    others: dict[str, Any] = GOOD.get(name, {})
    for value in (low, high) if name != "latency_limit" else (low, 59):
        ControllerSettings(**{**others, name: value})
    for value in (low - 0.0001, high + 1, float("nan"), float("inf"), -1, None, "1", True):
        with pytest.raises(InvalidSpec) as caught:
            ControllerSettings(**{**others, name: value})
        assert caught.value.field == name
        assert f"from {low:g} to {high:g}" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"latency_quantile": 0.49}, "latency_quantile"),
        ({"latency_quantile": 1}, "latency_quantile"),
        ({"latency_quantile": "p99"}, "latency_quantile"),
        ({"least_samples": 0}, "least_samples"),
        ({"least_samples": 1.5}, "least_samples"),
        ({"least_samples": True}, "least_samples"),
        ({"outage_after": 0.05, "latency_limit": 0.05}, "outage_after"),
        ({"latency_limit": 20}, "latency_limit"),
        ({"outage_after": 0.3, "latency_limit": 0.3}, "outage_after"),
        ({"stable_after": 0.5}, "stable_after"),
        ({"stable_after_failover": 6}, "stable_after_failover"),
        ({"probe_interval": 2}, "probe_interval"),
        ({"longest_probe_interval": 0.05}, "longest_probe_interval"),
    ],
)
def test_what_makes_no_sense_is_reported_by_field(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        ControllerSettings(**fields)
    assert caught.value.field == fault
