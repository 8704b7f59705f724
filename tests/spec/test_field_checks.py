"""Checks that definitions, and the adapters for frameworks, have in common."""

from __future__ import annotations

import pytest

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.field_checks import check_listed


def test_a_list_is_kept_as_a_tuple_whatever_it_is_made_of() -> None:
    assert check_listed("methods", {"tools/call": 1}) == ("tools/call",)
    assert check_listed("methods", ()) == ()


def test_a_text_is_not_taken_for_the_list_of_its_letters() -> None:
    with pytest.raises(InvalidSpec, match=r"methods is 'ab': write a list: \[\"ab\"\]") as told:
        check_listed("methods", "ab")
    assert told.value.field == "methods"
