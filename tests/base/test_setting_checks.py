"""Ranges that the annotations of settings contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from crdtbucket.base.setting_checks import (
    NumberRange,
    SecondsRange,
    UnitlessSeconds,
    WholeRange,
    field_problems,
    fields_of,
    lists_as_tuples,
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
    word: Literal["apple", "pear", "plum"] = "pear"
    choice: Literal["red", "green"] | None = None
    names: Sequence[str] = ()
    others: Sequence[str] = ()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"whole": 0}, "whole: is 0 (write a whole number from 1 to 1000000)"),
        ({"whole": 2.0}, "whole: is 2.0 (write a whole number from 1 to 1000000)"),
        ({"whole": True}, "whole: is True (write a whole number from 1 to 1000000)"),
        ({"whole": None}, "whole: is None (write a whole number from 1 to 1000000)"),
        ({"span": 60.5}, "span: is 60.5 (write seconds from 0.5 to 60, or never)"),
        (
            {"span": 5_000},
            "span: is 5000 (write seconds from 0.5 to 60, or never; 5000 milliseconds are 5)",
        ),
        (
            {"span": UnitlessSeconds(600)},
            'span: is 600.0 (write seconds from 0.5 to 60, or never, or "600ms" for milliseconds)',
        ),
        ({"span": UnitlessSeconds(400)}, "span: is 400.0 (write seconds from 0.5 to 60, or never)"),
        ({"span": "ever"}, "span: is 'ever' (write seconds from 0.5 to 60, or never)"),
        ({"span": ""}, "span: is '' (write seconds from 0.5 to 60, or never)"),
        ({"part": float("nan")}, "part: is nan (write a number from 0.5 to 0.75)"),
        ({"word": "fig"}, "word: is 'fig' (write apple, pear or plum)"),
        ({"choice": "blue"}, "choice: is 'blue' (write red or green)"),
        ({"word": ["pear"]}, "word: is ['pear'] (write apple, pear or plum)"),
        ({"part": ""}, "part: is '' (write a number from 0.5 to 0.75)"),
    ],
)
def test_what_is_outside_is_a_problem(given: dict[str, Any], told: str) -> None:
    (problem,) = field_problems("numbers", Numbers(**given))
    assert f"{problem.path}: {problem.message} ({problem.fix})" == f"numbers.{told}"


INSIDE = {"whole": 1_000_000, "span": "never", "part": 0.75, "word": "plum", "choice": "red"}


@pytest.mark.parametrize("given", [{}, {"span": 0.5}, INSIDE])
def test_what_is_inside_is_none(given: dict[str, Any]) -> None:
    assert not list(field_problems("numbers", Numbers(**given)))


def test_the_ranges_of_a_base_count() -> None:
    assert list(ranges_of(Numbers)) == ["whole", "span", "part"]
    assert ranges_of(MeshConfig)["max_peers"] == WholeRange(1, 1024)


def test_a_list_becomes_a_tuple_and_a_text_stays() -> None:
    settings = Numbers(names=["a", "b"], others="ab")
    lists_as_tuples(settings)
    assert (settings.names, settings.others) == (("a", "b"), "ab")
    assert fields_of(settings, Sequence[str]) == ["names", "others"]
    assert fields_of(settings, str) == ["text"]
