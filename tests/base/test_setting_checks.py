"""Ranges that stand in the annotations of settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from crdtbucket.base.setting_checks import (
    NumberRange,
    SecondsRange,
    WholeRange,
    range_problems,
    ranges_of,
)
from crdtbucket.mesh.mesh_config import MeshConfig


@dataclass
class Numbers:
    """Settings that check nothing by themselves."""

    whole: Annotated[int, WholeRange(1, 1_000_000)] = 1
    span: Annotated[float, SecondsRange(0.5, 60.0, "never")] | str = 1.0
    part: Annotated[float, NumberRange(0.5, 0.75)] | None = None
    text: str = ""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"whole": 0}, "whole: is 0 (write a whole number from 1 to 1000000)"),
        ({"whole": 2.0}, "whole: is 2.0 (write a whole number from 1 to 1000000)"),
        ({"whole": True}, "whole: is True (write a whole number from 1 to 1000000)"),
        ({"whole": None}, "whole: is None (write a whole number from 1 to 1000000)"),
        ({"span": 60.5}, "span: is 60.5 (write seconds from 0.5 to 60, or never)"),
        ({"span": "ever"}, "span: is 'ever' (write seconds from 0.5 to 60, or never)"),
        ({"span": ""}, "span: is '' (write seconds from 0.5 to 60, or never)"),
        ({"part": float("nan")}, "part: is nan (write a number from 0.5 to 0.75)"),
        ({"part": ""}, "part: is '' (write a number from 0.5 to 0.75)"),
    ],
)
def test_what_is_outside_is_a_problem(given: dict[str, Any], told: str) -> None:
    (problem,) = range_problems("numbers", Numbers(**given))
    assert f"{problem.path}: {problem.message} ({problem.fix})" == f"numbers.{told}"


@pytest.mark.parametrize(
    "given", [{}, {"whole": 1_000_000}, {"span": 0.5}, {"span": "never"}, {"part": 0.75}]
)
def test_what_is_inside_is_none(given: dict[str, Any]) -> None:
    assert not list(range_problems("numbers", Numbers(**given)))


def test_the_ranges_of_a_base_count() -> None:
    assert list(ranges_of(Numbers)) == ["whole", "span", "part"]
    assert ranges_of(MeshConfig)["max_peers"] == WholeRange(1, 1024)
