"""The error tree: one root, the builtin that callers may already catch, and texts that help."""

from __future__ import annotations

import inspect
import pickle

import pytest

import crdtbucket
from crdtbucket import errors
from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import (
    ConfigError,
    CostExceedsCapacity,
    CrdtbucketError,
    InvalidSpec,
    Problem,
    UnknownBucket,
)
from crdtbucket.spec.bucket_spec import BucketSpec

DENIAL = BucketCore(Table(virtual=True), BucketSpec("api", 1, 1)).peek("k")
SAMPLES = [
    CostExceedsCapacity("api", 11, 10),
    UnknownBucket("a", ["b", "c"]),
    InvalidSpec("capacity is 0", "write 1", "capacity"),
    ConfigError([Problem("is 0", "write 1", "a.b", "f.yaml", 2, 3)]),
    errors.InvalidCost("cost is -1"),
    errors.WaitTimeout("2 s", DENIAL),
    errors.ReservationDenied("denied", DENIAL),
    errors.LimitExceeded("denied", DENIAL),
    errors.SlotDenied("denied", DENIAL),
    errors.WrongKind.of_slots("llm", "a take"),
]


def test_the_decision_of_a_denial_survives_pickling() -> None:
    bucket = BucketCore(Table(virtual=True), BucketSpec("api", 1, 1))
    bucket.take("k")
    error = errors.LimitExceeded("denied", bucket.take("k"))
    copy = pickle.loads(pickle.dumps(error))
    assert copy.decision.as_dict() == error.decision.as_dict()


def test_a_denial_always_has_its_decision() -> None:
    """So nobody has to ask whether there is one before it is read."""
    with pytest.raises(TypeError, match="decision"):
        errors.LimitExceeded("denied")  # type: ignore[call-arg]


def test_every_error_is_exported_and_has_the_root() -> None:
    classes = {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }
    assert set(classes) <= set(crdtbucket.__all__)
    for name, cls in classes.items():
        assert name == "Problem" or issubclass(cls, CrdtbucketError), name


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidSpec", ValueError),
        ("InvalidCost", ValueError),
        ("InvalidKey", ValueError),
        ("CostExceedsCapacity", ValueError),
        ("ConfigError", ValueError),
        ("WireError", ValueError),
        ("UnknownBucket", KeyError),
        ("WaitTimeout", TimeoutError),
        ("ReservationDenied", errors.ReservationError),
        ("NodeConflict", errors.MeshError),
    ],
)
def test_errors_are_also_the_builtin_kind(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), builtin)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_errors_survive_pickling(error: CrdtbucketError) -> None:
    # They cross process pools and queues.
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert repr(vars(copy)) == repr(vars(error))


def test_unknown_bucket_lists_the_names_without_quoting_the_message() -> None:
    error = UnknownBucket("chta", ["chat", "embed"])
    assert str(error) == "no bucket 'chta'; there are: chat, embed"
    assert error.names == ("chat", "embed")
    assert str(UnknownBucket("a")) == "no bucket 'a': none is defined"


def test_cost_exceeds_capacity_carries_the_bucket_and_both_numbers() -> None:
    error = CostExceedsCapacity("api", 11, 10)
    assert (error.bucket, error.cost, error.capacity) == ("api", 11, 10)
    slots = CostExceedsCapacity("llm", 3, 2, unit="slots")
    assert all(word in str(error) for word in ("'api'", "11", "10"))
    assert all(word in str(slots) for word in ("'llm'", "3 slots", "has 2"))


def test_config_error_shows_every_problem_with_its_place() -> None:
    one = Problem("is 0", "write 1", "a.b", "f.yaml", 2, 3)
    two = Problem("is missing", path="c")
    assert str(one) == "f.yaml:2:3: a.b: is 0 (write 1)"
    assert str(ConfigError([one])) == str(one)
    assert str(ConfigError([one, two])).splitlines() == [
        "2 problems in the configuration:",
        "  f.yaml:2:3: a.b: is 0 (write 1)",
        "  c: is missing",
    ]
