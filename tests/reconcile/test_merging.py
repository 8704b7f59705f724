"""Merges what several nodes hold of a key: the laws of that, and the report about it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.reconcile.findings import Holder, Report
from crdtbucket.reconcile.merging import Column, HeldKey, Lack, MergedKey, Owner, highest, merge_key
from crdtbucket.reconcile.reconciliation import as_sent

CAPACITY, CEILING = 100, 200
A: Owner = ("a", 1)
B: Owner = ("b", 2)

columns = st.builds(
    lambda generation, taken, refunded: (generation, taken, min(taken, refunded)),
    st.integers(1, 3),
    st.integers(0, 50),
    st.integers(0, 50),
)
owners = st.sampled_from([A, B, ("b", 3), ("c", 4)])
holders = st.builds(
    HeldKey,
    st.dictionaries(owners, columns),
    st.fractions(0, CEILING, max_denominator=7),
    st.booleans(),
)
several = st.lists(holders, min_size=1, max_size=4)


def joined(held: list[HeldKey]) -> MergedKey:
    return merge_key(held, CAPACITY, CEILING)


def held(debt: int = 0, **counts: int) -> HeldKey:
    return HeldKey({(name, 1): (1, taken, 0) for name, taken in counts.items()}, Fraction(debt))


@given(several, st.randoms(use_true_random=False))
def test_the_order_of_the_holders_does_not_matter(found: list[HeldKey], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert joined(shuffled) == joined(found)


@given(several)
def test_a_holder_of_the_merged_columns_lacks_nothing_and_is_charged_nothing(
    found: list[HeldKey],
) -> None:
    first = joined(found)
    brought = [HeldKey(first.columns, first.debt) for _ in found]
    again = joined(brought)
    assert again.columns == first.columns
    assert again.debt == first.debt
    for one in brought:
        assert not again.lack(one)
        assert again.charge(one) == 0


@given(several)
def test_nothing_is_lowered(found: list[HeldKey]) -> None:
    together = joined(found).columns
    for one in found:
        for owner, column in one.columns.items():
            assert highest(together[owner], column) == together[owner]
            if together[owner][0] == column[0]:
                assert together[owner][1] >= column[1]
                assert together[owner][2] >= column[2]


@given(several)
def test_a_holder_with_columns_lacks_what_raises_it_to_the_merged_ones(
    found: list[HeldKey],
) -> None:
    together = joined(found)
    for one in found:
        raised = {o: highest(c, one.columns.get(o)) for o, c in together.columns.items()}
        assert raised == together.columns
        changed = any(
            one.columns.get(owner) != column and column[1] > 0
            for owner, column in together.columns.items()
        )
        assert bool(together.lack(one)) == changed


@given(columns, columns, columns)
def test_columns_are_a_semilattice(a: Column, b: Column, c: Column) -> None:
    assert highest(a, b) == highest(b, a)
    assert highest(a, highest(b, c)) == highest(highest(a, b), c)
    assert highest(a, a) == a


def test_two_halves_of_a_split_owe_what_one_bucket_would() -> None:
    # Each has admitted an hour of its own, 3,600 tokens at 1 a second, and is empty.
    halves = [held(100, a=3_700), held(100, b=3_700)]
    found = joined(halves)
    assert found.owed == 3_800
    assert found.over == 3_700
    assert found.forgiven == 3_600
    assert found.debt == CEILING
    assert [found.lack(one) for one in halves] == [Lack(3_700), Lack(3_700)]
    assert [found.charge(one) for one in halves] == [100, 100]


def test_the_least_bound_is_the_debt() -> None:
    # Who knows all and owes 5 shows that the others' bounds are too high.
    found = joined([held(5, a=60, b=60), held(40, a=60)])
    assert found.owed == 5
    assert found.over == 0


def test_a_level_of_another_definition_is_not_adopted() -> None:
    other = HeldKey({A: (1, 10, 0)}, Fraction(0), comparable=False)
    mine = HeldKey({A: (1, 10, 0)}, Fraction(10))
    assert joined([other, mine]).owed == 10
    assert joined([other]).owed == 0


def test_a_holder_that_was_full_lacks_no_more_than_the_debt() -> None:
    found = joined([held(7, a=1_000_000)])
    assert found.lack(None) == Lack(7)
    assert found.charge(None) == 7
    assert not joined([held(0, a=1_000_000)]).lack(None)


def test_of_its_running_process_a_node_is_sent_what_it_stated_itself() -> None:
    found = joined([held(20, a=10), held(20, a=15, b=5)])
    behind = as_sent(found, held(20, a=10), A)
    assert behind.columns == {A: (1, 10, 0), ("b", 1): (1, 5, 0)}
    assert behind.lack(held(20, a=10)) == Lack(5)
    assert A not in as_sent(found, None, A).columns
    assert as_sent(found, None, None) == found


def test_the_report_counts_over_admission_once_a_key() -> None:
    report, node = Report(done=1.0), Holder("a", "node")
    report.holders.append(node)
    halves = [held(100, a=3_700), held(100, b=3_700)]
    found = joined(halves)
    for one in halves:
        node.behind(found.lack(one), found.charge(one))
    report.differs(found)
    assert (node.behind_keys, node.behind_tokens, node.charged) == (2, 7_400, 200)
    assert (report.over_admitted, report.forgiven) == (3_700, 3_600)
    assert report.complete


@pytest.mark.parametrize(
    "change", [{"done": 0.5}, {"error": "gone"}, {"refused": 1}, {"dropped": 1}]
)
def test_what_is_missing_makes_a_run_incomplete(change: dict[str, object]) -> None:
    report = Report(done=1.0, holders=[Holder("a", "node")])
    assert report.complete
    for name, value in change.items():
        setattr(report if name == "done" else report.holders[0], name, value)
    assert not report.complete
    assert report.as_dict()["complete"] is False
    assert "Nothing to do." not in report.lines()
