"""Names of nodes as parts of subjects."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.mesh.engines.subjects import Subjects, decode_name, encode_name

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@given(NAMES)
def test_a_name_comes_back_and_is_one_part_of_a_subject(name: str) -> None:
    assert re.fullmatch("[A-Za-z0-9_-]+", encode_name(name))
    assert decode_name(encode_name(name)) == (name if name.isprintable() else None)


@given(st.text("abZ09-_. *>é", max_size=12))
def test_no_two_texts_are_one_name(text: str) -> None:
    name = decode_name(text)
    assert name is None or encode_name(name) == text


@pytest.mark.parametrize(
    "text", ["", "_", "_2", "_zz", "a.b", "_41", "_FF", "_5f", "é", "a_0A", "_1B_5B"]
)
def test_what_no_name_becomes_is_no_name(text: str) -> None:
    assert decode_name(text) is None


def test_plain_names_stay_readable() -> None:
    subjects = Subjects("cb", "shop", "eu-1")
    assert subjects.to("us_1") == "cb.shop.f.us_5F1.eu-1"
    assert subjects.reply_of("us_1") == "cb.shop.f.eu-1.us_5F1"
    assert subjects.sender(subjects.reply_of("us_1")) == "us_1"
    assert subjects.inbox == "cb.shop.f.eu-1.*"
    assert subjects.outbox == "cb.shop.f.*.eu-1"
    assert subjects.is_announcement(subjects.announcement)
    assert not subjects.is_announcement(subjects.to("us_1"))
