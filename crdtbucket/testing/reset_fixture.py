"""A pytest fixture that resets the limits of an application between its tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crdtbucket.limiter.facade import Limiter


def reset_fixture(limiter: Limiter) -> Any:
    """A pytest fixture that gives every limit of `limiter` back before and after each test.

    In `conftest.py`: `fresh_limits = reset_fixture(app.limiter)`. The tests need not name it.
    """
    import pytest  # only those who test have it

    from crdtbucket.limiter.multi import check_limiter

    check_limiter(limiter, "reset_fixture(app.limiter)")

    @pytest.fixture(autouse=True)
    def fresh_limits() -> Iterator[None]:
        limiter.reset_all()
        yield
        limiter.reset_all()

    return fresh_limits
