"""Each mode is known wherever modes are counted, numbered, ordered or listed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import InvalidSpec
from crdtbucket.http.server.bodies import ModeName
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import check_consistency
from crdtbucket.spec.mode import MODES, Consistency, Mode, worst

CONSOLE = Path(__file__).parents[2] / "crdtbucket/http/server/console/static/app.js"


def bucket() -> BucketCore:
    return BucketCore(Table(max_keys=16), BucketSpec("b", 10, 1, "1h"))


def test_the_numbers_on_the_wire_stay() -> None:
    """A number keeps its meaning for ever: this list may only grow."""
    assert MODES[:3] == (Mode.STRONG, Mode.EVENTUAL, Mode.FALLBACK)
    assert set(MODES) == set(Mode)


@pytest.mark.parametrize("mode", Mode)
def test_decisions_of_a_mode_are_counted_as_its_own(mode: Mode) -> None:
    one = bucket()
    one.take_as("k", 1, mode)
    counted = {name: counts["allowed"] for name, counts in one.counters()["modes"].items()}
    assert counted == {str(each): int(each is mode) for each in Mode}


def test_a_decision_in_an_unknown_mode_is_not_counted_as_another() -> None:
    one = bucket()
    with pytest.raises(ValueError):
        one.take_as("k", 1, "no mode")  # type: ignore[arg-type]
    assert one.counters()["modes"]["fallback"]["allowed"] == 0


def test_the_worst_mode_is_the_last_of_the_class_whatever_its_number() -> None:
    modes = list(Mode)
    assert [worst(reversed(modes[: n + 1])) for n in range(len(modes))] == modes


def test_the_surfaces_list_every_mode() -> None:
    assert get_args(ModeName) == tuple(map(str, Mode))
    listed = re.search(r"const WORST = \[(.*)\]", CONSOLE.read_text())
    assert listed
    assert re.findall(r'"(\w+)"', listed[1]) == [str(mode) for mode in reversed(Mode)]


def test_a_file_may_ask_for_the_modes_that_a_definition_may_ask_for() -> None:
    assert [check_consistency(word) for word in get_args(Consistency)] == [*get_args(Consistency)]
    with pytest.raises(InvalidSpec, match='write "strong" or "eventual"'):
        check_consistency(Mode.FALLBACK)
