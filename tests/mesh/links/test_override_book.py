"""Orders about the limits of keys: which hold, which of two counts, and how many there is room
for."""

from __future__ import annotations

import contextlib
import itertools
import random
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links import override_book as module
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.override_book import OverrideBook, no_room
from crdtbucket.mesh.links.override_orders import OverrideOrder
from crdtbucket.mesh.links.signed_orders import packed

OPERATOR, STRANGER = NodeKey.make(), NodeKey.make()


def order(
    key: str = "k",
    counter: int = 1,
    limit: str | None = "5/s",
    *,
    bucket: str = "api",
    signer: NodeKey = OPERATOR,
    mesh_name: str = "mesh",
) -> OverrideOrder:
    return OverrideOrder.sign(signer, mesh_name, bucket, key, counter, limit)


def book(*operators: NodeKey) -> OverrideBook:
    return OverrideBook([one.fingerprint for one in operators or (OPERATOR,)], "mesh")


def rows(*orders: OverrideOrder) -> object:
    return msgpack.unpackb(packed(orders), use_list=False)


def changed(one: OverrideOrder, at: int, to: object) -> object:
    row: list[object] = list(one.row())
    row[at] = to
    return (tuple(row),)


def merge(held: OverrideBook, rows: object) -> list[OverrideOrder]:
    return held.merge_rows(rows, no_room)


def limits(held: OverrideBook) -> dict[str, str | None]:
    return {one.key: one.limit for one in held.listed(None, ("", ""), 100)}


def test_of_two_orders_about_a_key_the_higher_counter_holds() -> None:
    held = book()
    assert held.take(order(counter=5))
    assert not held.take(order(counter=5))  # it holds already
    assert held.take(order(counter=6, limit="9/s"))
    assert held.take(order("other", 1))
    assert limits(held) == {"k": "9/s", "other": "5/s"}
    assert held.take(order(counter=7, limit=None))
    assert limits(held) == {"other": "5/s"}
    for replayed in (order(counter=5), order(counter=6, limit="9/s"), order(counter=7)):
        with pytest.raises(MeshError, match=r"a later order holds.*counter 7"):
            held.take(replayed)
        assert merge(held, rows(replayed)) == []
    assert limits(held) == {"other": "5/s"}


def test_no_order_but_that_of_an_operator_for_this_mesh_holds() -> None:
    held, good = book(), order()
    with pytest.raises(MeshError, match=r"list it in mesh\.operator_keys"):
        held.take(order(signer=STRANGER))
    with pytest.raises(MeshError, match=r"another mesh\.mesh_name"):
        held.take(order(mesh_name="test"))
    for limit, command in (("5/s", "set BUCKET KEY LIMIT"), (None, "remove BUCKET KEY")):
        unsigned = OverrideOrder("api", "k", 1, limit, b"", b"")
        with pytest.raises(MeshError, match=f"`crdtbucket overrides {command} --key FILE`"):
            held.take(unsigned)
        with pytest.raises(MeshError) as caught:
            OverrideBook((), "mesh").take(unsigned)
        assert str(caught.value) == (
            "in a mesh an operator has to sign this, and mesh.operator_keys lists none. Run "
            '`crdtbucket identity make ops.pem`; write `operator_keys: ["..."]` with the '
            "fingerprint that it prints below `mesh` in the file of every node, which needs no "
            f"restart; and run `crdtbucket overrides {command} --key ops.pem`"
        )
    for at, to in ((0, "b"), (1, "l"), (2, 2), (3, "6/s"), (3, None), (5, bytes(64))):
        forged = changed(good, at, to)
        with pytest.raises(MeshError, match="somebody has changed it"):
            held.take(next(OverrideOrder.read(forged)))
        with pytest.raises(WireError, match="has not signed"):
            merge(held, forged)
    for unknown in (
        changed(good, 4, STRANGER.public),
        rows(replace(good, public=b"", signature=b"")),
    ):
        assert merge(held, unknown) == []
    assert len(held) == 0
    assert merge(OverrideBook(()), rows(good)) == []  # nobody may give orders
    ejected = EjectOrder.sign(OPERATOR, "mesh", "k", 1, ejected=True)
    with pytest.raises(WireError, match="has not signed"):  # a signature is for one kind of order
        merge(held, changed(good, 5, ejected.signature))


ALL = [
    order(key, counter, limit)
    for key, (counter, limit) in itertools.product(
        "bc", [(1, "5/s"), (2, None), (3, "7/s"), (3, "8/s"), (3, None)]
    )
    if key == "b" or counter < 3
]


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_nodes_come_to_the_same_in_whatever_order_they_see(seed: int) -> None:
    draw, nodes = random.Random(seed), [book(), book()]
    for node in nodes:
        for one in draw.sample(ALL, len(ALL)):
            merge(node, rows(one))
    assert nodes[0].digests == nodes[1].digests
    assert nodes[0].listed(None, ("", ""), 9) == nodes[1].listed(None, ("", ""), 9) == []
    assert {one.about: one.limit for one in nodes[0].every()} == {
        ("api", "b"): None, ("api", "c"): None,
    }  # fmt: skip


VALUES = st.none() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=64) | st.text(max_size=9)


@settings(max_examples=40)
@given(st.lists(st.lists(VALUES, max_size=7) | VALUES, max_size=3) | VALUES)
def test_any_message_is_orders_or_a_wire_error(rows: object) -> None:
    packed = msgpack.packb(rows)
    with contextlib.suppress(WireError):
        merge(book(), msgpack.unpackb(packed, use_list=False))


@pytest.mark.parametrize(
    ("at", "to"),
    [
        (0, ""), (0, "x" * 201), (0, 7), (1, ""), (1, "é" * 257), (1, b"k"), (2, 0), (2, 2**63),
        (2, True), (3, ""), (3, 5), (3, "x" * 201), (4, b"short"), (4, None), (5, b"short"),
        (1, "\ud800"),
    ],
)  # fmt: skip
def test_an_impossible_order_is_refused(at: int, to: object) -> None:
    with pytest.raises(WireError):
        merge(book(), changed(order(), at, to))


def test_what_cannot_be_ordered_is_not_signed() -> None:
    for key, counter in (("", 1), ("x" * 513, 1), ("k", 0), ("k", 2**63)):
        with pytest.raises(MeshError):
            order(key, counter)
    for text in ("", "!", "abc", msgpack.packb([]).hex(), "\u00fc"):
        with pytest.raises(MeshError, match=r"no order|0 orders"):
            OverrideOrder.from_text(text)
    assert OverrideOrder.from_text(order().as_text()) == order()


def test_limits_are_listed_by_bucket_and_key_a_page_at_a_time() -> None:
    held = OverrideBook()  # without a mesh nothing is signed
    for bucket, key in itertools.product(("b", "a", "c"), ("3", "1", "2")):
        held.take(OverrideOrder(bucket, key, 1, "5/s", b"", b""))
    held.take(OverrideOrder("b", "2", 2, None, b"", b""))

    def page(bucket: str | None, after: tuple[str, str], most: int) -> list[str]:
        return ["".join(one.about) for one in held.listed(bucket, after, most)]

    assert page(None, ("", ""), 4) == ["a1", "a2", "a3", "b1"]
    assert page(None, ("b", "1"), 9) == ["b3", "c1", "c2", "c3"]
    assert page("b", ("", ""), 9) == ["b1", "b3"]
    assert page("b", ("b", "1"), 9) == ["b3"]
    assert page("a", ("b", "1"), 9) == []


def test_there_is_room_for_so_many_keys(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_OVERRIDES", 4)
    held = book()
    held.take(order("b"))
    fitting, lacking = [order("c"), order("d"), order("e")], order("f")
    newer = order("b", 2, None)  # about what there is an order already
    assert merge(held, rows(*fitting, lacking, newer)) == [*fitting, newer]
    why = (
        "there are orders about 4 keys, those whose limit was taken away included, and no room for "
        "more: change the limit of one of these, or let a function or globs say the limits"
    )
    assert caplog.messages == [f"no room for the order that {lacking.in_words()}: {why}"]
    caplog.clear()
    held.recall([lacking], send=False)
    assert caplog.messages == [f"no room for the order that {lacking.in_words()}: {why}"]
    with pytest.raises(MeshError, match=f"^{why}$"):
        held.take(lacking)
    assert held.take(order("b", 3))
    assert len(merge(held, rows(order("b", 4), order("c", 4)))) == 2


def test_what_was_kept_holds_as_long_as_its_operator_does(caplog: pytest.LogCaptureFixture) -> None:
    held = book()
    held.recall([order("b"), order("c", signer=STRANGER)], send=False)
    assert limits(held) == {"b": "5/s"}
    assert caplog.text.endswith(
        " no operator of mesh.operator_keys has signed 1 of the 2 limits of keys that were kept: "
        "these no longer hold\n"
    )
    assert held.fresh() == []
    held.recall([order("d")], send=True)
    assert [one.key for one in held.fresh()] == ["d"]


def plain(key: str, counter: int = 1, limit: str | None = "5/s") -> OverrideOrder:
    """An order as without a mesh, where nothing is signed."""
    return OverrideOrder("api", key, counter, limit, b"", b"")


def test_each_new_order_is_passed_on_and_the_digests_are_those_of_what_holds() -> None:
    told: list[list[OverrideOrder]] = []
    calls: list[None] = []
    held = OverrideBook([OPERATOR.fingerprint], "mesh", told.append)
    one, two, later = order("b"), order("c"), order("b", 2, None)
    assert held.take(one)  # nobody sends
    held.subscribe(lambda: calls.append(None))
    assert merge(held, rows(two, two, later, one)) == [two, later]  # its peer sends it to all
    assert held.take(order("c", 3))
    assert not held.take(order("c", 3))
    assert told == [[one], [two, later], [order("c", 3)]]
    assert len(calls) == 1
    assert held.fresh() == [one, order("c", 3)]
    assert held.fresh() == []
    expected = [0] * 256
    for kept in (later, order("c", 3)):
        expected[kept.shard] ^= kept.digest
        assert kept in held.shard(kept.shard)
        assert held.about("api", kept.key) == kept
    assert held.digests == tuple(expected)
    assert held.about("api", "d") is None
    beside = next(one for one in (plain(str(n)) for n in range(9_999)) if one.shard == later.shard)
    held.take(beside := order(beside.key))
    expected[beside.shard] ^= beside.digest
    assert held.digests == tuple(expected)
    assert sum(len(held.shard(number)) for number in range(256)) == len(held) == 3


def test_nothing_of_a_frame_with_a_forged_order_holds() -> None:
    held = book()
    forged = changed(order("d"), 5, bytes(64))
    unknown, older = order("a", signer=STRANGER), order("b", 1)
    held.take(order("b", 2))
    frame = (*rows(older, unknown, order("c")), *forged, *rows(order("e")))  # type: ignore[misc]
    for old in (order("b", 1), order("b", 2)):
        assert merge(held, changed(old, 5, bytes(64))) == []  # nobody looks at these any more
    assert merge(held, rows(order("b", 4), order("b", 3))) == [order("b", 4)]
    with pytest.raises(WireError, match=r"operator has not signed: \('api', 'd'\)$"):
        merge(held, frame)
    assert sorted(limits(held)) == ["b"]


def test_only_the_newest_orders_are_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FRESH", 2)
    held = OverrideBook()
    for key in "abc":
        held.take(plain(key))
    assert [one.key for one in held.fresh()] == ["b", "c"]


def test_other_operators_give_orders_after_a_change_and_without_a_mesh_everybody_does() -> None:
    held, free = book(), OverrideBook()
    assert held.take(order("b"))
    for one in (held, free):
        one.change([STRANGER.fingerprint])
    assert held.take(order("c", signer=STRANGER))
    with pytest.raises(MeshError, match="list it"):
        held.take(order("d"))
    assert sorted(limits(held)) == ["b", "c"]
    assert free.take(plain("b"))
    assert OverrideBook([OPERATOR.fingerprint]).take(order(mesh_name=""))


def test_what_is_recalled_is_sorted_and_sent_once(caplog: pytest.LogCaptureFixture) -> None:
    held = OverrideBook()
    calls: list[int] = []
    held.subscribe(lambda: calls.append(len(held)))
    keys = [f"{n:03}" for n in range(300)]
    first, more, rest = keys[::3], keys[1::3], keys[2::3]
    for some in (first, [*reversed(more), "x"], rest[::-1]):  # one by one, and all at once
        held.recall([plain(key) for key in some], send=True)
    held.recall([plain("x")], send=True)
    assert [one.key for one in held.listed("api", ("", ""), 999)] == [*keys, "x"]
    assert calls == [100, 201, 301]
    assert caplog.text == ""
