"""Errors of wrong values are short, whatever the value is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket import BucketSpec, CrdtbucketError, Limiter, MeshConfig
from crdtbucket.base.clipped import LONGEST, clipped

LONG: Any = 3_000 * "x"
SPEC = BucketSpec.parse("api", "3/minute")
RAISE: dict[str, Callable[[], object]] = {
    "a rate": lambda: BucketSpec.parse("api", LONG),
    "a unit": lambda: BucketSpec.parse("api", f"1/{LONG}"),
    "a number": lambda: BucketSpec("api", LONG, 1),
    "an interval": lambda: BucketSpec("api", 10, 1, refill_interval=LONG),
    "a unit of time": lambda: BucketSpec("api", 10, 1, refill_interval=f"1{LONG}"),
    "no list of definitions": lambda: Limiter(LONG),
    "no definition": lambda: Limiter([LONG]),
    "no switch": lambda: Limiter([], enabled=LONG),
    "no policy": lambda: Limiter([], degradation=LONG),
    "a name": lambda: Limiter([SPEC]).bucket(LONG),
    "a setting in its range": lambda: MeshConfig(listen="127.0.0.1:0", max_peers=LONG),
    "a key": lambda: MeshConfig(listen="127.0.0.1:0", operator_keys=[LONG]),
}


@pytest.mark.parametrize("case", RAISE)
def test_the_message_of_a_long_value_is_short(case: str) -> None:
    with pytest.raises(CrdtbucketError) as caught:
        RAISE[case]()
    assert "xxx" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_value_that_fits_is_shown_whole() -> None:
    fits = (LONGEST - 2) * "x"
    assert clipped(fits) == repr(fits)
    assert len(clipped(f"{fits}x")) == LONGEST
