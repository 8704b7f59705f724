"""Ejections by operators: which hold, which of two counts, and which are kept."""

from __future__ import annotations

import base64
import contextlib
import itertools
import random
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links import ejections as module
from crdtbucket.mesh.links.ejections import Ejections, EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.override_orders import OverrideOrder
from crdtbucket.mesh.links.signed_orders import packed, unpacked
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.mesh.state_file import CheckedFile
from tests.mesh.keys import KeptFile

OPERATOR, STRANGER, NODE = NodeKey.make(), NodeKey.make(), NodeKey.make()


def order(
    subject: str = "b",
    counter: int = 1,
    *,
    ejected: bool = True,
    key: NodeKey = OPERATOR,
    mesh_name: str = "mesh",
) -> EjectOrder:
    return EjectOrder.sign(key, mesh_name, subject, counter, ejected=ejected)


def held(kept: CheckedFile | None = None, *keys: NodeKey) -> Ejections:
    return Ejections([key.fingerprint for key in keys or (OPERATOR,)], "mesh", kept)


def changed(one: EjectOrder, at: int, to: object) -> bytes:
    row: list[object] = list(one.row())
    row[at] = to
    return bytes(msgpack.packb([row]))


def test_a_node_and_a_key_are_ejected_and_admitted_again() -> None:
    orders = held()
    assert orders.of("b", NODE.public) is None
    assert orders.take(order("b", 1))
    assert orders.take(order(NODE.fingerprint, 1))
    assert not orders.take(order("b", 1))  # it holds already
    assert orders.of("b", None)
    assert orders.of("renamed", NODE.public)
    assert orders.of("c", STRANGER.public) is None
    assert orders.of("renamed", None) is None
    assert orders.ejected == sorted(["b", NODE.fingerprint])
    assert orders.take(order("b", 2, ejected=False))
    assert orders.of("b", None) is None
    assert orders.ejected == [NODE.fingerprint]


def test_an_earlier_order_that_is_played_again_changes_nothing() -> None:
    orders = held()
    for one in (order("b", 5), order("b", 6, ejected=False)):
        orders.take(one)
    again = order("b", 5)
    with pytest.raises(MeshError, match=r"a later order holds.*counter 6"):
        orders.take(again)
    assert orders.merge(msgpack.packb([again.row()])) == []
    assert orders.of("b", None) is None


def test_no_order_but_that_of_an_operator_for_this_mesh_holds() -> None:
    orders = held()
    with pytest.raises(MeshError, match=r"list it in mesh\.operator_keys"):
        orders.take(order(key=STRANGER))
    with pytest.raises(MeshError, match=r"another mesh\.mesh_name"):
        orders.take(order(mesh_name="test"))
    good = order("b", 1)
    for at, to in ((0, "c"), (1, 2), (2, False), (4, bytes(64))):
        forged = changed(good, at, to)
        with pytest.raises(MeshError, match="somebody has changed it"):
            orders.take(next(EjectOrder.read(unpacked(forged))))
        with pytest.raises(WireError, match="has not signed"):
            orders.merge(forged)
    # Of an operator elsewhere, perhaps:
    assert orders.merge(changed(good, 3, STRANGER.public)) == []
    assert not orders.ejected
    with pytest.raises(MeshError, match=r"mesh\.operator_keys"):
        Ejections().take(good)  # nobody may give orders
    assert Ejections([OPERATOR.fingerprint]).take(order(mesh_name=""))


@given(st.integers(0, 2**32))
def test_nodes_come_to_the_same_in_whatever_order_they_see(seed: int) -> None:
    draw = random.Random(seed)
    nodes = [held(), held()]
    for node in nodes:
        shuffled = ALL[:]
        draw.shuffle(shuffled)
        for one in shuffled:
            node.merge(msgpack.packb([one.row()]))
    assert nodes[0].encode() == nodes[1].encode()
    assert nodes[0].ejected == ["b"]
    assert nodes[0].merge(nodes[1].encode()) == []


ALL = [EjectOrder.rebind(OPERATOR, "mesh", "b", 3, to=key.fingerprint) for key in (NODE, STRANGER)]
ALL += [
    order(subject, counter, ejected=ejected)
    for subject, (counter, ejected) in itertools.product(
        "bc", [(1, True), (2, False), (3, False), (3, True)]
    )
    if subject == "b" or counter < 3
]


@given(st.binary(max_size=200))
def test_any_bytes_are_orders_or_a_wire_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        held().merge(data)


@pytest.mark.parametrize(
    ("at", "to", "why"),
    [
        *((0, to, "about no name of a node, and no key") for to in ("", "x" * 256, "a\nb", 7)),
        *((1, to, "with an impossible counter") for to in (0, 2**63, True, "1")),
        (2, 1, "that says nothing"),
        (2, "ed25519:0", "that gives no key to the name of a node"),
        *((3, to, "without a signature") for to in (b"short", "text", b"")),
        *((4, to, "without a signature") for to in (b"short", None, b"")),
    ],
)
def test_an_impossible_order_is_refused(at: int, to: object, why: str) -> None:
    with pytest.raises(WireError, match=f"^an order {why}$"):
        held().merge(changed(order(), at, to))


def test_an_order_that_nobody_signed_is_none() -> None:
    with pytest.raises(WireError, match="without a signature"):
        held().merge(packed([EjectOrder("b", 1, True, b"", b"")]))


def test_what_cannot_be_ordered_is_not_signed() -> None:
    for subject, counter in (("", 1), ("x" * 256, 1), ("b", 0), ("b", 2**63)):
        with pytest.raises(MeshError):
            order(subject, counter)
    for subject, to in (("b", "b"), (NODE.fingerprint, NODE.fingerprint)):
        with pytest.raises(MeshError, match="gives no key to the name"):
            EjectOrder.rebind(OPERATOR, "mesh", subject, 1, to=to)
    for text in ("", "!", "abc", msgpack.packb([]).hex(), "\u00fc"):
        with pytest.raises(MeshError, match=r"no order|0 orders"):
            EjectOrder.from_text(text)
    assert EjectOrder.from_text(order().as_text()) == order()


def test_orders_outlive_the_process_and_their_operator_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = StateDir(tmp_path, "a").orders
    held(kept, OPERATOR, STRANGER).take(order("b"))
    held(kept, OPERATOR, STRANGER).take(order("c", key=STRANGER))
    assert held(kept, OPERATOR, STRANGER).ejected == ["b", "c"]
    assert held(kept).ejected == ["b"]
    (lost,) = caplog.messages
    assert lost.startswith("no operator of mesh.operator_keys has signed that c is ejected")
    assert lost.endswith(", counter 1): it no longer holds")
    (tmp_path / "a.orders").write_bytes(b"damaged")
    with pytest.raises(
        MeshError, match=r"a\.orders is damaged.* peers tell this node again what was ordered$"
    ):
        held(kept)


def test_orders_that_cannot_be_kept_hold_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptFile()
    kept.full = True
    orders = held(kept)
    orders.take(order())
    assert orders.ejected == ["b"]
    lost = "orders of operators are not kept over a restart: the disk is full"
    assert caplog.messages == [lost]


def test_there_is_room_for_so_many_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ORDERS", 2)
    orders = held()
    for subject in "bc":
        orders.take(order(subject))
    with pytest.raises(MeshError, match="no room for more"):
        orders.take(order("d"))
    assert orders.merge(msgpack.packb([order("d").row()])) == []
    assert orders.take(order("b", 2, ejected=False))  # about what there is an order already


def test_what_a_peer_passes_on_and_does_not_hold_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_ORDERS", 3)
    orders, told = held(kept := KeptFile()), list[str]()
    first, later, again = (order("b", counter) for counter in (2, 3, 3))
    forged = (*order("c").row()[:4], bytes(64))
    with pytest.raises(
        WireError, match=r"^an order that its operator has not signed: \('c', False"
    ):
        orders.merge(msgpack.packb([first.row(), forged]), told.append)
    assert (len(orders), kept.data, told) == (0, None, [])  # all are checked first
    assert orders.merge(packed([first, later, again]), told.append) == [first, later]
    same = order("b", 3, key=STRANGER)
    assert orders.merge(packed([later, same]), told.append) == told == []  # it holds already
    assert kept.data == orders.encode() == packed([later])
    kept.data = None
    unknown, lacking = order("c", key=STRANGER), order("e")
    assert orders.merge(packed([first, unknown]), told.append) == []
    assert kept.data is None  # nothing was new
    assert orders.merge(packed([order("d", 2), order("d"), order("a")])) == [
        order("d", 2),
        order("a"),
    ]
    assert orders.merge(packed([lacking, order("d", 3)]), told.append) == [order("d", 3)]
    assert told == [  # not of `first`: the peer was cut off, and gets the later one now
        f"{unknown.in_words()}: no key of mesh.operator_keys of this node",
        f"{lacking.in_words()}: there are orders about 3 subjects, and no room for more",
    ]
    by_subject = [order("a"), later, order("d", 3)]
    assert unpacked(orders.encode()) == tuple(one.row() for one in by_subject)
    assert not caplog.messages
    orders.merge(packed([first, unknown]))
    assert caplog.messages == [told[0]]


def test_an_order_says_whom_it_is_about_and_who_gave_it() -> None:
    by = f"(operator {OPERATOR.fingerprint}, counter 7)"
    rebound = EjectOrder.rebind(OPERATOR, "mesh", "b", 7, to=NODE.fingerprint)
    assert [one.in_words() for one in (order("b", 7), order("b", 7, ejected=False), rebound)] == [
        f"b is ejected from the mesh {by}",
        f"b is admitted again to the mesh {by}",
        f"b has the key {NODE.fingerprint} in the mesh {by}",
    ]
    orders = held()
    for one in (rebound, order("b", 1), order("a", 1)):
        assert orders.take(one)
    assert orders.rebound == {"b": NODE.fingerprint}
    assert orders.key_of("b") == rebound
    assert orders.key_of("a") is None
    assert orders.of("b", None) == order("b", 1)
    assert orders.of("c", NODE.public) is None  # a key that was given to a name is not ejected
    assert orders.ejected == ["a", "b"]


def test_it_is_known_whether_the_orders_of_an_earlier_process_are_known() -> None:
    kept = KeptFile()
    assert not held(kept).remembers
    held(kept).take(order())
    assert held(kept).remembers
    nobody = Ejections((), "mesh", kept)
    assert (nobody.remembers, nobody.ejected, list(nobody.operators)) == (False, [], [])
    orders = held(kept)
    orders.change([STRANGER.fingerprint])
    assert list(orders.operators) == [STRANGER.fingerprint]
    assert (orders.remembers, orders.ejected) == (True, ["b"])
    assert orders.take(order("c", key=STRANGER))
    orders.change([])
    orders.change([OPERATOR.fingerprint])  # what was ordered meanwhile is not known here
    assert not orders.remembers


def test_what_was_ordered_holds_again_when_a_reload_lists_the_operator() -> None:
    kept = KeptFile()
    held(kept).take(order("b", 2))
    nobody = Ejections((), "mesh", kept)
    assert nobody.change([STRANGER.fingerprint]) == []
    assert nobody.take(order("b", 1, key=STRANGER, ejected=False))
    assert nobody.change([OPERATOR.fingerprint]) == [order("b", 2)]
    assert nobody.change([OPERATOR.fingerprint]) == []
    assert nobody.ejected == ["b"]
    assert nobody.take(order("c"))
    assert held(kept).ejected == ["b", "c"]


@pytest.mark.parametrize("subject", ["x" * 255, "\u00fc" * 127])
def test_a_name_has_up_to_255_bytes(subject: str) -> None:
    assert held().take(order(subject, 2**63 - 1))
    with pytest.raises(MeshError, match="an order about no name of a node, and no key"):
        order(subject + "\u00fc")


@pytest.mark.parametrize("data", [b"\x81\x80\x01", b"\x91" * 2_000, b"\xc1", b"\xa1\xff", b""])
def test_what_is_not_msgpack_is_refused(data: bytes) -> None:
    """Also a map as a key, which Python cannot have."""
    with pytest.raises(WireError, match="not msgpack"):
        list(EjectOrder.read(unpacked(data)))
    with pytest.raises(MeshError, match="no order"):
        EjectOrder.from_text(base64.urlsafe_b64encode(data).decode())
    with pytest.raises(MeshError, match="no order"):
        OverrideOrder.from_text(base64.urlsafe_b64encode(data).decode())
