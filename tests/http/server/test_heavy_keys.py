"""The sketch of heavy keys: never too low, too high by no more than it says, bounded, fading."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.http.server.heavy_keys import HeavyKeys

FOREVER = 2**62
CALLS = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(1, 50)), max_size=120)


@given(CALLS, st.integers(1, 6))
def test_no_count_is_too_low_nor_too_high_by_more_than_its_error(
    calls: list[tuple[str, int]], size: int
) -> None:
    sketch = HeavyKeys(size, FOREVER, 0)
    real: Counter[str] = Counter()
    for key, tokens in calls:
        sketch.add(key, tokens, True, 0)
        real[key] += tokens
        assert len(sketch) <= size
    found = dict(sketch.top(size, 0))
    for key, counter in found.items():
        assert counter.tokens - counter.error <= real[key] <= counter.tokens
        assert counter.error <= real.total() / size
    assert {key for key in real if real[key] > real.total() / size} <= set(found)


def test_heaviest_first_with_what_was_denied() -> None:
    sketch = HeavyKeys(8, FOREVER, 0)
    sketch.add("a", 5, True, 0)
    sketch.add("b", 9, True, 0)
    sketch.add("a", 6, False, 0)
    assert [(key, one.tokens, one.denied) for key, one in sketch.top(8, 0)] == [
        ("a", 11, 6),
        ("b", 9, 0),
    ]
    assert [key for key, _ in sketch.top(1, 0)] == ["a"]


def test_old_weight_fades_and_keys_go() -> None:
    sketch = HeavyKeys(8, 100, 0)
    sketch.add("old", 1_000, False, 0)
    sketch.add("once", 1, True, 0)
    sketch.add("new", 300, True, 199)
    assert [(key, one.tokens, one.denied) for key, one in sketch.top(8, 199)] == [
        ("old", 500, 500),
        ("new", 300, 0),
    ]
    assert [key for key, _ in sketch.top(8, 201)] == ["old", "new"]
    assert sketch.top(8, 10**9) == []


def test_after_fading_the_least_still_makes_room() -> None:
    sketch = HeavyKeys(2, 100, 0)
    sketch.add("a", 100, True, 0)
    sketch.add("b", 40, True, 0)
    sketch.add("c", 1, True, 100)
    assert [(key, one.tokens, one.error) for key, one in sketch.top(2, 100)] == [
        ("a", 50, 0),
        ("c", 21, 20),
    ]
