"""Which descriptors a rule is about, and the key that it makes of their values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.spec.descriptor_rule import DescriptorRule

CHAT = DescriptorRule("chat", (("route", "chat"), ("user", None)), "edge")
PAIR = DescriptorRule("pair", (("org", None), ("user", None)))
TEXTS = st.text("/%2F", max_size=3)
ENTRY = st.tuples(st.sampled_from("xy"), st.sampled_from("12"))
PATTERN = st.tuples(st.sampled_from("xy"), st.sampled_from([None, "1", "2"]))
RULES = st.builds(
    DescriptorRule,
    st.just("b"),
    st.lists(PATTERN, max_size=2).map(tuple),
    st.sampled_from([None, "d"]),
)


def test_a_rule_wants_precisely_its_entries_in_their_order() -> None:
    chat, user = ("route", "chat"), ("user", "u1")
    assert CHAT.key("edge", [chat, user]) == "u1"
    others = ([user, chat], [chat], [user], [chat, user, user], [("route", "mail"), user], [])
    assert [CHAT.key("edge", entries) for entries in others] == [None] * len(others)
    assert CHAT.key("inner", [chat, user]) is None
    assert PAIR.key("inner", [("org", "o"), user]) == "o/u1"


def test_every_rule_makes_a_key() -> None:
    alone = DescriptorRule("all", (("generic_key", "x"),))
    assert alone.key("edge", [("generic_key", "x")]) == "*"
    assert CHAT.key("edge", [("route", "chat"), ("user", "")]) == '""'
    assert DescriptorRule("none", (("user", ""),)).key("edge", [("user", "")]) == "*"


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_no_values_spell_the_key_of_others(org: str, user: str, org2: str, user2: str) -> None:
    keys = {PAIR.key("d", [("org", o), ("user", u)]) for o, u in ((org, user), (org2, user2))}
    assert len(keys) == len({(org, user), (org2, user2)})
    assert all(keys)


@given(RULES, RULES, st.lists(ENTRY, max_size=2), st.sampled_from("de"))
def test_a_rule_that_covers_another_fits_whatever_that_one_fits(
    rule: DescriptorRule, other: DescriptorRule, entries: list[tuple[str, str]], domain: str
) -> None:
    if rule.covers(other) and other.key(domain, entries) is not None:
        assert rule.key(domain, entries) is not None
    exact = DescriptorRule("b", tuple(entries), domain)
    assert rule.covers(exact) == (rule.key(domain, entries) is not None)
