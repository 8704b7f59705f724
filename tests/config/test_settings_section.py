"""Sections that are made of settings; the fields of the settings are their keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import ValidationError

from crdtbucket.base.setting_checks import (
    NumberRange,
    SecondsRange,
    UnitlessSeconds,
    WholeRange,
)
from crdtbucket.config.mesh_section import MESH_KEYS
from crdtbucket.config.redis_section import REDIS_KEYS
from crdtbucket.config.schema import default_of, meanings
from crdtbucket.config.section import Section
from crdtbucket.config.settings_section import file_keys, given, keys_of
from crdtbucket.config.values import SECONDS
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.strong.redis.redis_config import RedisConfig


@dataclasses.dataclass(frozen=True)
class Orchard:
    """Settings that exist only here."""

    trees: Annotated[int, WholeRange(1, 9)] = 3
    """Trees, to which `fence_gate` leads. All of them."""
    rest: Annotated[float, SecondsRange(0.5, 60.0)] | None = None
    """ABC stays."""
    bloom: Annotated[float, SecondsRange(1.0, 60.0, "never")] | Literal["never"] = 90.0
    """A time."""
    share: Annotated[float, NumberRange(0.5, 1.0)] = 0.75
    """A part."""
    names: Sequence[str] = ()
    """Some."""
    word: str | bytes | None = dataclasses.field(default=None, repr=False)
    """A secret."""
    words: str | Sequence[str] | None = dataclasses.field(default=None, repr=False)
    """Secrets."""
    kind: Literal["apple", "pear"] = "apple"
    """A fruit."""
    place: str | Path | None = None
    """A folder."""
    fence: bool = False
    """A fence."""
    fence_gate: str | None = None
    """The way in."""


@keys_of(Orchard, enabled="fence", gate="fence_gate")
class FenceSection(Section):
    """What is around it."""

    alone = "enabled"

    enabled: bool = True
    """its own meaning"""


@keys_of(Orchard)
class OrchardSection(Section):
    """All of it."""

    fence: FenceSection | None = None


def read(**values: Any) -> dict[str, Any]:
    return given(OrchardSection.model_validate(values))


def test_each_field_is_a_key_here_or_in_a_section_below() -> None:
    below = {"fence": "fence", "fence_gate": "fence.gate"}
    assert file_keys(OrchardSection) == {
        **{one.name: one.name for one in dataclasses.fields(Orchard)},
        **below,
    }
    assert "fence_gate" not in OrchardSection.model_fields
    assert set(MESH_KEYS) == {one.name for one in dataclasses.fields(MeshConfig)}
    assert set(REDIS_KEYS) == {one.name for one in dataclasses.fields(RedisConfig)}
    assert MESH_KEYS["tls_ca"] == "tls.ca"
    assert REDIS_KEYS["sentinels"] == "connection.sentinel.nodes"
    assert REDIS_KEYS["tls"] == "connection.tls"


def test_a_value_is_read_by_the_type_of_its_field() -> None:
    assert read(trees="7", rest="1m", bloom=" Never", share="60%", names="a, b") == {
        "trees": 7,
        "rest": 60.0,
        "bloom": "never",
        "share": 0.6,
        "names": ["a", "b"],
    }
    assert read(word="x", words=["x", "y"], kind="pear", place="/x") == {
        "word": "x",
        "words": ["x", "y"],
        "kind": "pear",
        "place": "/x",
    }
    assert read() == {}
    assert read(fence={"gate": "g"}) == {"fence": True, "fence_gate": "g"}
    assert read(fence=False) == {"fence": False}


@pytest.mark.parametrize("wrong", [{"trees": 0}, {"trees": 10}, {"word": 5}, {"kind": "plum"}])
def test_what_the_field_refuses_the_section_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OrchardSection.model_validate(wrong)


def test_default_and_meaning_of_a_key_are_those_of_the_field() -> None:
    assert default_of(OrchardSection, "trees") == 3
    assert default_of(OrchardSection, "bloom") == "90s"
    assert default_of(OrchardSection, "rest") is None
    assert default_of(FenceSection, "enabled") is True
    assert meanings(FenceSection) == {"enabled": "its own meaning", "gate": "the way in"}
    words = meanings(OrchardSection)
    assert words["trees"] == "trees, to which `fence.gate` leads. All of them"
    assert words["rest"] == "ABC stays"
    assert not OrchardSection.model_fields["word"].repr


def test_seconds_without_a_unit_are_told_from_others() -> None:
    """An error about a number that is too large for seconds shows how milliseconds are written."""
    check = SECONDS.function
    assert [type(check(given)) for given in (5, 2.5, "5", " 5 ")] == [UnitlessSeconds] * 4
    others = ("5s", "5000ms", timedelta(seconds=5))
    assert [(type(check(given)), check(given)) for given in others] == [(float, 5.0)] * 3
