"""What many of the limiter's tests begin with."""

from __future__ import annotations

import pytest

from tests.virtual_loop import VirtualTime


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()
