"""Settings for a Redis that is slow or gone."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from crdtbucket.errors import InvalidSpec
from crdtbucket.strong.controller.degradation import Degradation


def test_the_defaults_are_a_tenth_for_each_node() -> None:
    how = Degradation()
    assert (how.on_outage, how.fallback_ratio, how.fallback_scope) == ("quota", 0.1, "node")
    assert (how.on_mode_change, how.webhook, how.expected_nodes) == (None, None, None)


@pytest.mark.parametrize("ratio", [1, 1.0, 0.5, 1e-9, Fraction(1, 10), Decimal("0.25")])
def test_a_share_is_any_number_above_nothing_up_to_all(ratio: Any) -> None:
    assert Degradation(fallback_ratio=ratio).fallback_ratio == ratio


@pytest.mark.parametrize("nodes", [None, 1, 1_000_000])
def test_a_fleet_may_be_one_process_or_a_million_and_a_webhook_an_address(nodes: Any) -> None:
    how = Degradation(expected_nodes=nodes, webhook="https://h/hook")
    assert (how.expected_nodes, how.webhook) == (nodes, "https://h/hook")
    assert "hook'" not in repr(how)  # it may hold a token


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        *[({"fallback_ratio": ratio}, "fallback_ratio")
          for ratio in (0, -0.1, 1.01, 10, float("nan"), "10%", None, True, 1j)],
        ({"fallback_scope": "region"}, "fallback_scope"),
        ({"fallback_scope": None}, "fallback_scope"),
        ({"on_outage": "open"}, "on_outage"),
        ({"on_outage": None}, "on_outage"),
        ({"webhook": "ftp://h/secret"}, "webhook"),
        ({"webhook": ""}, "webhook"),
        *[({"expected_nodes": number}, "expected_nodes")
          for number in (0, -1, 10**7, 1.5, "3")],
    ],
)  # fmt: skip
def test_anything_else_is_reported_by_field(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Degradation(**fields)
    assert caught.value.field == fault
    assert caught.value.fix
    if fault != "webhook":  # it may hold a secret
        assert str(fields[fault])[:3] in str(caught.value)
    assert "secret" not in str(caught.value)
