from __future__ import annotations

import pytest

from crdtbucket.base.counted import counted


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 keys"), (1, "1 key"), (2, "2 keys"), (1_500, "1,500 keys")]
)
def test_one_of_a_thing_is_no_plural(count: int, words: str) -> None:
    assert counted(count, "key") == words
