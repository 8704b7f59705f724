"""A decision as a value: its plain values, copies, pickles."""

from __future__ import annotations

import copy
import json
import pickle
from enum import Enum
from typing import Any

import pytest

from crdtbucket._core import BucketCore, Decision
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from tests.core.specs import ODD, bucket_of

SPEC = BucketSpec("api", 100, 10)


def fields(decision: Decision) -> dict[str, Any]:
    names = """allowed shadowed cost key limit remaining retry_after reset_after mode retry_after_ns
    debt"""
    return {name: getattr(decision, name) for name in names.split()}


def test_plain_values_are_what_json_takes() -> None:
    bucket = bucket_of(SPEC)
    decision = bucket.take("user 1", 98)
    plain = decision.as_dict()
    assert plain == {
        "bucket": "api",
        "key": "user 1",
        "allowed": True,
        "shadowed": False,
        "mode": "eventual",
        "cost": 98,
        "limit": 100,
        "remaining": 2,
        "retry_after": 0.0,
        "reset_after": 9.8,
    }
    assert json.loads(json.dumps(plain)) == plain
    assert bucket.take(b"\xff/\xc3\xa9").as_dict()["key"] == "\\xff/é"
    assert {type(value) for value in plain.values()} == {str, bool, int, float}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("key", ["k", b"\xff"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_keeps_all_but_the_bucket(name: str, key: str | bytes, protocol: int) -> None:
    bucket = bucket_of(ODD[name])
    for decision in (bucket.take(key), bucket.take(key, ODD[name].capacity), bucket.peek(key)):
        loaded = pickle.loads(pickle.dumps(decision, protocol))
        assert fields(loaded) == fields(decision)
        assert bool(loaded) == bool(decision)
        assert repr(loaded) == repr(decision)
        assert loaded.as_dict() == decision.as_dict()
        assert type(loaded.mode) is Mode
        again = pickle.loads(pickle.dumps(loaded, protocol))
        assert fields(again) == fields(decision)


def test_a_shadow_s_decision_is_pickled_too() -> None:
    bucket = bucket_of(BucketSpec("api", 1, 1, shadow=True))
    bucket.take("k")
    loaded = pickle.loads(pickle.dumps(bucket.take("k")))
    assert loaded.allowed
    assert loaded.shadowed
    assert repr(loaded).endswith("shadowed=True)")


class Plan(str, Enum):
    GOLD = "gold"


def test_a_key_of_a_class_of_its_own_is_plain_text_outside() -> None:
    decision = bucket_of(SPEC).take(Plan.GOLD)
    assert decision.as_dict()["key"] == "gold"
    assert type(decision.as_dict()["key"]) is str
    assert pickle.loads(pickle.dumps(decision)).as_dict() == decision.as_dict()


def test_nothing_is_refunded_with_a_pickle() -> None:
    bucket = bucket_of(SPEC)
    loaded = pickle.loads(pickle.dumps(bucket.take("k")))
    for use in (lambda: bucket.refund(loaded), lambda: loaded.bucket):
        with pytest.raises(TypeError, match="came out of a pickle"):
            use()
    assert bucket.peek("k").remaining == 99


def test_a_copy_is_the_decision_itself() -> None:
    bucket = bucket_of(SPEC)
    decision = bucket.take("k")
    assert copy.copy(decision) is copy.deepcopy([decision])[0] is decision
    assert bucket.refund(decision) == 1


GOOD: list[Any] = ["api", "k", True, False, "eventual", 1, 100, 99, 0, 100_000_000, False]
BAD: list[tuple[int, Any]] = [
    *((place, value) for place in range(11) for value in (None, [], -1, 2**64, 1.5)),
    *((place, b"") for place in range(11) if place != 1),
    (0, 7),
    (2, 1),
    (3, 0),
    (4, "strange"),
    (5, 0),
    (6, 0),
    (7, 101),
    (8, 1),
    (8, True),
]


def load(*state: Any) -> Decision:
    """Loads a decision from a state, as a pickle does that anybody may have written."""
    make, _ = bucket_of(SPEC).take("k").__reduce__()
    loaded: Decision = make(*state)  # type: ignore[operator]
    return loaded


@pytest.mark.parametrize(("place", "value"), BAD)
def test_a_state_that_no_decision_has_raises(place: int, value: Any) -> None:
    state = list(GOOD)
    assert load(*state).remaining == 99
    state[place] = value
    with pytest.raises(ValueError, match=r"no decision has|is not a valid Mode"):
        load(*state)


@pytest.mark.parametrize("state", [(), (1,), GOOD[:-1], [*GOOD, 1]])
def test_a_state_of_another_length_raises(state: Any) -> None:
    with pytest.raises(ValueError, match="has 11 values"):
        load(*state)


def test_a_shadowed_denial_is_no_state() -> None:
    state = list(GOOD)
    state[2], state[3] = False, True
    with pytest.raises(ValueError, match="no decision has"):
        load(*state)


def test_it_survives_its_bucket() -> None:
    """The values in a pickle do not change with the definition."""
    bucket: BucketCore = bucket_of(SPEC)
    decision = bucket.take("k", 10)
    data = pickle.dumps(decision)
    bucket.define(BucketSpec("api", 50, 10))
    assert pickle.loads(data).limit == 100
