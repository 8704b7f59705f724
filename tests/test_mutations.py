"""Bugs planted in the real code are found by tests that pass without them, here beside this one."""

from __future__ import annotations

import pytest

from tests.mutations import survivors
from tests.planted import MUTATIONS


@pytest.mark.timeout(600)
def test_every_planted_bug_is_found() -> None:
    assert survivors(alone=False) == []


def test_names_are_unique() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
