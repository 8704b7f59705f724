"""Orders of operators: whose hold, which of two, and what is kept."""

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
from crdtbucket.mesh.links.signed_orders import unpacked
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.mesh.state_file import StateFile
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


def held(kept: StateFile | None = None, *keys: NodeKey) -> Ejections:
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
    ("at", "to"),
    [
        (0, ""), (0, "x" * 256), (0, "a\nb"), (0, 7), (1, 0), (1, 2**63), (1, True), (1, "1"),
        (2, 1), (2, "ed25519:0"), (3, b"short"), (3, "text"), (4, b"short"), (4, None),
    ],
)  # fmt: skip
def test_an_impossible_order_is_refused(at: int, to: object) -> None:
    with pytest.raises(WireError):
        held().merge(changed(order(), at, to))


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
    assert "no operator of mesh.operator_keys has signed that c is ejected" in caplog.text
    (tmp_path / "a.orders").write_bytes(b"damaged")
    with pytest.raises(MeshError, match=r"a\.orders is damaged.*peers tell this node again"):
        held(kept)


def test_orders_that_cannot_be_kept_hold_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptFile()
    kept.full = True
    orders = held(kept)
    orders.take(order())
    assert orders.ejected == ["b"]
    assert "not kept over a restart: the disk is full" in caplog.text


def test_there_is_room_for_so_many_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ORDERS", 2)
    orders = held()
    for subject in "bc":
        orders.take(order(subject))
    with pytest.raises(MeshError, match="no room for more"):
        orders.take(order("d"))
    assert orders.merge(msgpack.packb([order("d").row()])) == []
    assert orders.take(order("b", 2, ejected=False))  # about what there is an order already


@pytest.mark.parametrize("data", [b"\x81\x80\x01", b"\x91" * 2_000, b"\xc1", b"\xa1\xff", b""])
def test_what_is_not_msgpack_is_refused(data: bytes) -> None:
    """Also a map as a key, which Python cannot have."""
    with pytest.raises(WireError, match="not msgpack"):
        list(EjectOrder.read(unpacked(data)))
    with pytest.raises(MeshError, match="no order"):
        EjectOrder.from_text(base64.urlsafe_b64encode(data).decode())
    with pytest.raises(MeshError, match="no order"):
        OverrideOrder.from_text(base64.urlsafe_b64encode(data).decode())
