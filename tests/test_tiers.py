"""The lists of the tiers name tests that there are."""

from __future__ import annotations

import pytest

from tests.tiers import ROOT, SLOW, STILL_FAST, tiers

FILE = ROOT / "tests" / "strong" / "test_chaos.py"


@pytest.mark.parametrize("name", [*SLOW, *STILL_FAST])
def test_what_is_named_is_there(name: str) -> None:
    path, _, test = name.partition("::")
    assert (ROOT / path).exists()
    if test:
        assert f"def {test.partition('[')[0]}" in (ROOT / path).read_text()
    assert name in SLOW or name.startswith(SLOW)


def test_place_and_names_decide() -> None:
    assert tiers(FILE, "test_an_outage_is_told[silent]", {"socket"}) == ["slow", "processes"]
    assert tiers(FILE, "test_cancelled_callers_leave", set()) == []
