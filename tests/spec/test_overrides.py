"""Overrides: which keys they are for, and which definitions they may have."""

from __future__ import annotations

import fnmatch
import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import BucketSpec, InvalidSpec, Mode
from crdtbucket.spec.globs import Choice, check_glob

SPEC = BucketSpec("any", capacity=5, refill_rate=1)
LETTERS = st.text("ab-*?[]!é\n", max_size=6)


def is_glob(text: str) -> bool:
    try:
        check_glob(text)
    except InvalidSpec:
        return False
    return True


GLOBS = LETTERS.filter(is_glob)


@given(st.lists(GLOBS, max_size=5, unique=True), st.lists(LETTERS, max_size=6))
def test_the_first_glob_that_matches_is_chosen(globs: list[str], keys: list[str]) -> None:
    choice = Choice([(glob, place) for place, glob in enumerate(globs)], -1)
    for key in [*keys, *globs]:
        matching = [n for n, glob in enumerate(globs) if fnmatch.fnmatchcase(key, glob)]
        assert choice.of(key) == (matching[0] if matching else -1)
        assert choice.of(key.encode()) == choice.of(key)


@pytest.mark.parametrize(
    ("glob", "key", "matches"),
    [
        ("premium-*", "premium-7", True),
        ("premium-*", "Premium-7", False),
        ("premium-*", "not-premium-7", False),
        ("tenant-?", "tenant-7", True),
        ("tenant-?", "tenant-77", False),
        ("tenant-[!7]", "tenant-7", False),
        ("[[]*", "[a", True),
        ("caf?", "café", True),
        ("caf?", "café".encode(), True),
        ("caf?", b"caf\xe9", True),
        ("caf??", b"caf\xe9", False),
        ("*", "x" * 513, False),
        ("*", 7, False),
        ("*", ["a"], False),
    ],
)
def test_a_glob_is_as_in_fnmatch(glob: str, key: Any, matches: bool) -> None:
    assert Choice([(glob, True)], False).of(key) is matches


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtbucket.spec.globs.REMEMBERED_KEYS", 4)
    choice = Choice([("a*", 1)], 0)
    for n in range(20):
        assert choice.of(f"a{n}") == 1
    assert choice._of.cache_info().currsize == 4


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        ("premium-*", "[(glob, BucketSpec(...)), ...]"),
        (7, "[(glob, BucketSpec(...)), ...]"),
        ([("a",)], "[(glob, BucketSpec(...)), ...]"),
        ([("", SPEC)], "such as"),
        ([(b"a*", SPEC)], "such as"),
        ([("a[bc", SPEC)], "write '[[]'"),
        ([("[]", SPEC)], "write '[[]'"),
        ([("a[!]", SPEC)], "write '[[]'"),
        ([("a\x00*", SPEC)], "control character"),
        ([("a" * 200, SPEC)], "characters"),
        ([("a*", SPEC), ("a*", SPEC)], "first match wins"),
        (
            [("pro:*", SPEC), ("free", SPEC), ("pro:acme", SPEC)],
            "'pro:acme' comes after 'pro:*': put",
        ),
        (
            [("pro:*", SPEC), ("pro:a[bc]*", SPEC)],
            "'pro:a[bc]*' comes after 'pro:*': put it before",
        ),
        ([("*", SPEC), ("a*", SPEC)], "put it before"),
        ([("a*", "1000/s")], "BucketSpec(...)"),
        ([("a*", replace(SPEC, overrides=[("b*", SPEC)]))], "list them all"),
        ([("a*", replace(SPEC, consistency="strong"))], "leave it out"),
        ([(f"a{n}", SPEC) for n in range(1001)], "at most 1000"),
    ],
)
def test_wrong_overrides_name_the_fix(overrides: Any, hint: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        BucketSpec("api", 10, 1, overrides=overrides)
    assert hint in str(caught.value)
    assert caught.value.field in ("overrides", "name")


def test_an_override_is_a_definition_of_its_own_named_after_its_bucket() -> None:
    spec = BucketSpec.parse(
        "api",
        "10/s",
        overrides=[("b-*", SPEC), ("c", replace(SPEC, on_outage="deny"))],
        shadow=True,
    )
    (_, first), (_, second) = spec.overrides
    assert (first.name, second.name) == ("api[b-*]", "api[c]")
    assert (first.capacity, first.definition_hash) == (5, SPEC.definition_hash)
    assert first.shadow


def test_an_override_has_the_consistency_and_the_outage_policy_of_its_bucket() -> None:
    overrides = [("b", replace(SPEC, consistency="strong")), ("c", replace(SPEC, on_outage="deny"))]
    spec = BucketSpec("api", 10, 1, consistency="strong", on_outage="allow", overrides=overrides)
    (_, first), (_, second) = spec.overrides
    assert first.consistency is None
    assert (first.on_outage, second.on_outage) == ("allow", "deny")
    eventual = replace(spec, consistency=Mode.EVENTUAL)  # what a limiter without Redis makes of it
    assert eventual.overrides == spec.overrides


def test_a_renamed_bucket_renames_its_overrides_and_nothing_else_changes() -> None:
    spec = BucketSpec("api", 10, 1, overrides=[("b*", SPEC)])
    assert replace(replace(spec, name="x"), name="api") == spec
    assert replace(spec, name="x").overrides[0][1].name == "x[b*]"
    assert spec.definition_hash == BucketSpec("api", 10, 1).definition_hash
    assert spec != BucketSpec("api", 10, 1)


def test_what_is_remembered_goes_with_the_choice() -> None:
    choice = Choice([("premium-*", SPEC)], None)
    gc.disable()  # it comes rarely, and there may be 65,536 keys
    try:
        assert choice.of("premium-7") is SPEC
        gone = weakref.ref(choice)
        del choice
        assert gone() is None
    finally:
        gc.enable()
