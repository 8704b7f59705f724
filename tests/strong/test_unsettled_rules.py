"""What is still to be settled with the store, rule by rule: a table, without a store."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.unsettled import CARRY_NS, SCAN, Unsettled

START = 10**12
KEYS = "abcdefghijklmnopqrstuvwxyz012345"


class Book:
    """A table with one strong bucket and a bucket that is none, and what is unsettled of it."""

    def __init__(self, max_keys: int = 64) -> None:
        self.table = Table(max_keys=max_keys, virtual=True, hash_key=bytes(16), grace=0.0)
        self.table.set_time(START)
        self.bucket = BucketCore(self.table, BucketSpec("strong", 100, 100))
        self.other = BucketCore(self.table, BucketSpec("other", 100, 100))
        names = {name: slot for slot, name, _, _, _ in self.table.definitions.current()}
        self.name = min(names, key=names.__getitem__)
        self.added = 0
        self.unsettled = Unsettled(self.table, {self.name: self.bucket}, self._added)

    def _added(self) -> None:
        self.added += 1

    def place(self, key: str) -> tuple[int, int]:
        return self.bucket.hash(key)

    def add(self, key: str, tokens: int = 0) -> None:
        self.unsettled.add(self.bucket, self.place(key), tokens)

    def item(self, key: str) -> tuple[BucketCore, tuple[int, int]]:
        return self.bucket, self.place(key)

    @property
    def pending(self) -> dict[str, int]:
        names = {self.place(key): key for key in KEYS}
        return {names[place]: tokens for (_, place), tokens in self.unsettled.pending.items()}


def test_tokens_of_a_key_add_up_and_a_key_is_new_once() -> None:
    book = Book()
    for key, tokens in (("a", 3), ("b", 0), ("a", 4), ("b", 1)):
        book.add(key, tokens)
    assert (book.pending, book.unsettled.tokens(), book.added) == ({"a": 7, "b": 1}, 8, 2)
    book.add("c")
    assert (book.pending["c"], book.added) == (0, 3)
    Unsettled(book.table, {}).add(book.bucket, book.place("a"))  # nobody need listen


def test_where_the_list_is_as_long_as_the_table_what_left_the_table_leaves_it() -> None:
    book = Book(max_keys=16)
    for key in KEYS[:16]:
        book.bucket.take(key)
        book.add(key, 1)
    book.table.set_time(START + 10**12)
    for key in KEYS[16:]:  # those before are full by now, and make room
        book.bucket.take(key)
    book.table.open_tokens = 9
    book.unsettled.may_still_run(book.item("a"), 9, 1)
    book.add("a", 1)  # what is on the list needs no room
    assert book.unsettled.tokens() == 17
    book.add("q", 5)
    assert (book.pending, book.table.open_tokens) == ({"q": 5}, 0)


def test_what_may_still_run_is_open_until_a_later_fence_or_until_nothing_is_to_settle() -> None:
    book = Book()
    a, b = book.item("a"), book.item("b")
    book.table.open_tokens = 100
    book.unsettled.fenced(a, 99)  # nothing may run: it says nothing
    for item, cost, fence in ((a, 3, 7), (a, 6, 6), (b, 5, 7)):
        book.unsettled.may_still_run(item, cost, fence)
    for fence in (6, 7):
        book.unsettled.fenced(a, fence)
    book.unsettled.fenced(book.item("c"), 99)
    assert book.table.open_tokens == 100
    book.unsettled.fenced(a, 8)
    assert book.table.open_tokens == 91
    book.unsettled.fenced(a, 9)
    assert book.table.open_tokens == 91
    book.add("b")
    book.unsettled.dismiss(b)
    assert (book.pending, book.table.open_tokens) == ({}, 86)
    book.add("c")
    book.unsettled.dismiss(book.item("c"))  # of which nothing may run
    assert book.table.open_tokens == 86


def test_what_an_epoch_left_is_taken_up_for_buckets_and_keys_that_there_are() -> None:
    book = Book()
    book.bucket.take("a", 5)
    other, here = book.name + 1, [*book.place("a")]
    rows: list[Any] = [(book.name, *here, 5), (other, *here, 7), (book.name, *book.place("b"), 9)]
    book.unsettled.resume([*rows[1:], rows[0]])
    assert book.unsettled.pending == {book.item("a"): 5}


def test_what_peers_took_is_carried_at_most_once_in_a_while() -> None:
    book = Book()
    for key in "ab":
        book.bucket.take(key)
        book.other.take(key)
    book.unsettled.carry()
    entries = range(book.table.places)
    book.unsettled.push(entries)
    book.unsettled.carry()
    assert book.pending == {"a": 0, "b": 0}  # and nothing of the other bucket
    for key in "ab":
        book.unsettled.dismiss(book.item(key))
    book.unsettled.push(entries)
    for now, pending in ((CARRY_NS - 1, {}), (CARRY_NS, {"a": 0, "b": 0})):
        book.table.set_time(START + now)
        book.unsettled.carry()
        assert book.pending == pending
    for key in "ab":
        book.unsettled.dismiss(book.item(key))
    book.table.set_time(START + 3 * CARRY_NS)
    book.unsettled.carry()
    assert book.pending == {}  # all was carried


@pytest.mark.parametrize("max_keys", [16, 3 * SCAN])
def test_all_keys_of_strong_buckets_that_are_not_full_are_found_slice_by_slice(
    max_keys: int,
) -> None:
    book = Book(max_keys)
    keys = [str(number) for number in range(min(max_keys // 2, 100))]
    for key in keys:
        book.bucket.take(key)
        book.other.take(key)
    slices = list(book.unsettled.not_full())
    assert len(slices) == -(-book.table.places // SCAN)
    found = [item for one in slices for item in one]
    assert sorted(place for _, place in found) == sorted(map(book.place, keys))
    assert {bucket for bucket, _ in found} == {book.bucket}
    book.table.set_time(START + 10**12)
    assert not any(book.unsettled.not_full())


def test_a_key_of_a_candidate_is_full_by_the_capacity_of_that() -> None:
    book = Book()
    book.bucket.stage(BucketSpec("strong", 10, 100), 1.0)
    book.bucket.take("a", 5)
    assert [item for one in book.unsettled.not_full() for item in one] == [book.item("a")]
    book.table.set_time(START + 10**12)
    assert not any(book.unsettled.not_full())
