"""The quantiles of the benchmark of a shared Redis."""

from __future__ import annotations

import pytest

from benchmarks.strong import quantile


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2), (100, 0.5, 50), (100, 0.99, 99), (101, 0.99, 100)],
)
def test_a_quantile_has_the_nearest_rank(count: int, share: float, expected: int) -> None:
    assert quantile(list(range(count, 0, -1)), share) == expected
