"""Bugs planted in the real code are found by tests that pass without them, here beside this one."""

from __future__ import annotations

import pytest

from tests.mutations import ROOT, place, survivors
from tests.planted import MUTATIONS

SHARE = 4
"""One in so many is compiled and looked for here; `python -m tests.mutations` does it with all."""


@pytest.mark.timeout(900)
def test_planted_bugs_are_found() -> None:
    assert survivors(MUTATIONS[::SHARE], alone=False) == []


def test_every_planted_bug_can_be_planted() -> None:
    for mutation in MUTATIONS:
        place(mutation, ROOT)


def test_names_are_unique() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
