"""Readers of bytes from outside accept or refuse any bytes."""

from __future__ import annotations

import random

import pytest

from tests.outside import OUTSIDE, changed

RUNS = {"config": 12}


@pytest.mark.parametrize("name", OUTSIDE)
def test_changed_inputs_are_taken_or_refused(name: str) -> None:
    one, rng = OUTSIDE[name], random.Random(1)
    inputs = list(one.seeds())
    for data in [b"", *inputs]:
        one.read(data)
    for _ in range(RUNS.get(name, 400)):
        one.read(changed(rng, inputs))
