"""Commands of operators: which are obeyed, which of two counts, how often, and which are kept."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links import command_orders as module
from crdtbucket.mesh.links import order_spread
from crdtbucket.mesh.links.command_orders import (
    MAX_COMMANDS,
    CommandBook,
    CommandOrder,
    order_from,
)
from crdtbucket.mesh.links.counters import MeshCounters, Refusals
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.order_spread import LEARNS_S, REPEAT_S, CommandSpread
from crdtbucket.mesh.links.session import Kind
from crdtbucket.mesh.links.signed_orders import packed
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.state_file import CheckedFile
from crdtbucket.rollout.staged import Position, Status
from tests.mesh.keys import KeptFile
from tests.virtual_loop import virtually

OPERATOR, STRANGER = NodeKey.make(), NodeKey.make()


def reset(counter: int, key: str = "k", *, by: NodeKey = OPERATOR, mesh: str = "mesh") -> Any:
    return CommandOrder.reset(by, mesh, "api", key, counter)


def rollout(counter: int, status: Status = Status.RUNNING, stage: int = 1) -> CommandOrder:
    to = Position(2, 0xABC, 0, status, stage)
    return CommandOrder.rollout(OPERATOR, "mesh", to, counter)


def book(kept: CheckedFile | None = None) -> CommandBook:
    return CommandBook([OPERATOR.fingerprint], "mesh", kept)


def test_an_order_says_all_that_is_done_and_survives_as_text() -> None:
    for order in (reset(7, "käse"), rollout(8, Status.HALTED, 3)):
        assert order_from(order.as_text()) == order
    assert rollout(8, Status.HALTED, 3).position == Position(2, 0xABC, 8, Status.HALTED, 3)
    assert (
        "version 2 (0000000000000abc) is halted at stage 4"
        in rollout(8, Status.HALTED, 3).in_words()
    )
    assert "key 'k' of bucket 'api' is reset" in reset(1).in_words()
    ejected = EjectOrder.sign(OPERATOR, "mesh", "b", 1, ejected=True)
    assert order_from(ejected.as_text()) == ejected
    with pytest.raises(MeshError, match="this is no order"):
        order_from("bm9uZQ==")
    with pytest.raises(MeshError, match="give 1 to 512 bytes"):
        reset(1, "k" * 513)


def test_what_was_obeyed_is_not_obeyed_again_also_after_a_restart() -> None:
    kept = KeptFile()
    first = book(kept)
    assert not first.remembers
    assert first.take(reset(5))
    assert not first.take(reset(5))
    assert first.merge(packed([rollout(6)])) == [rollout(6)]
    for one in (first, book(kept)):
        said: list[str] = []
        assert one.merge(packed([reset(5), rollout(6)]), said.append) == []
        assert not said  # peers repeat what holds
        assert one.merge(packed([reset(4), rollout(5, Status.ROLLED_BACK)]), said.append) == []
        assert not said  # of a peer that was cut off, and does not know the later ones yet
        with pytest.raises(MeshError, match=r"a later order holds.*counter 5"):
            one.take(reset(4))
        assert one.ordered(2, 0xABC) == rollout(6)
    assert book(kept).remembers
    kept.data = b"damaged"
    with pytest.raises(MeshError, match=r"in memory is damaged .*: remove it"):
        book(kept)


def test_nobody_elses_order_is_obeyed_and_each_is_said_with_its_fix() -> None:
    one, said = book(), list[str]()
    with pytest.raises(MeshError, match=r"list it in mesh\.operator_keys"):
        one.take(reset(1, by=STRANGER))
    assert one.merge(packed([reset(1, by=STRANGER)]), said.append) == []
    assert "no key of mesh.operator_keys" in said[0]
    with pytest.raises(MeshError, match=r"another mesh\.mesh_name"):
        one.take(reset(1, mesh="test"))
    with pytest.raises(WireError, match="has not signed"):
        one.merge(packed([reset(1, mesh="test")]))
    for good, changes in (
        (reset(1), ((0, ("reset", "api", "x")), (1, 2), (4, bytes(64)))),
        (rollout(1), ((0, ("rollout", "3", f"{0xABC:016x}")), (1, 2), (2, (1, 1)), (2, (0, 2)))),
    ):
        for at, to in changes:
            row = list(good.row())
            row[at] = to
            with pytest.raises(WireError, match="has not signed"):
                one.merge(msgpack.packb([row]))
            text = base64.urlsafe_b64encode(msgpack.packb([row])).decode()
            with pytest.raises(MeshError, match="somebody has changed it"):
                one.take(cast("CommandOrder", order_from(text)))
    # Beside a forged one a good one is not held, either: it would never be obeyed.
    with pytest.raises(WireError, match="has not signed"):
        one.merge(packed([reset(9), reset(1, mesh="test")]))
    # An order of another kind, signed by the operator, is none of these.
    other = EjectOrder.sign(OPERATOR, "mesh", "api", 1, ejected=True)
    with pytest.raises(WireError):
        one.merge(packed([other]))
    assert len(one) == 0


MANY = [reset(counter, f"k{key}") for counter in range(1, 5) for key in range(8)]


@pytest.mark.parametrize("seed", range(8))
def test_nodes_that_see_in_any_order_remember_the_same_and_obey_nothing_twice(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_COMMANDS", 4)
    draw = random.Random(seed)
    ends = []
    for _ in range(2):
        node, obeyed = CommandBook([OPERATOR.fingerprint], "mesh"), []
        seen = MANY * 2
        draw.shuffle(seen)
        for at in range(0, len(seen), 4):
            obeyed += node.merge(packed(seen[at : at + 4]), lambda _: None)
        assert len(obeyed) == len(set(obeyed))
        ends.append(node.encode())
    assert ends[0] == ends[1]


def test_beyond_what_is_remembered_older_orders_are_refused() -> None:
    one = book()
    for counter in range(MAX_COMMANDS + 2):
        assert one.take(reset(counter + 10, f"k{counter}"))
    assert len(one) == MAX_COMMANDS
    for old in (reset(10, "k0"), reset(11, "new")):
        with pytest.raises(MeshError, match="sign one with a counter above 12"):
            one.take(old)
        assert one.merge(packed([old]), lambda _: None) == []
    assert one.take(reset(13, "new"))


@given(st.binary(max_size=200))
def test_any_bytes_are_commands_or_a_wire_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        book().merge(data, lambda _: None)


@pytest.mark.parametrize(
    ("at", "to"),
    [
        (0, ()), (0, ("reset", "api")), (0, ("reset", "api", "")), (0, ("reset", "", "k")),
        (0, ("rollout", "2", "abc")), (0, ("rollout", "02", f"{1:016x}")),
        (0, ("rollout", "-1", f"{1:016x}")), (0, ("rollout", str(2**63), f"{1:016x}")),
        (0, ("rollout", "x", f"{1:016x}")), (0, ("reset", "api", 5)), (1, 0), (1, True),
        (1, 2**63), (2, (4, 0)), (2, (0, 100)), (2, (0,)), (2, None), (2, (True, 0)), (3, b"k"),
        (4, b""),
    ],
)  # fmt: skip
def test_what_cannot_be_ordered_is_refused(at: int, to: object) -> None:
    row: list[Any] = list(rollout(1).row())
    row[at] = to
    with pytest.raises(WireError):
        book().merge(msgpack.packb([row]))


def test_a_command_of_a_later_version_is_left_out() -> None:
    one = book()
    later: list[Any] = list(reset(1).row())
    later[0] = ("pause", "api", "k")
    assert one.merge(msgpack.packb([later, (*reset(2).row(), "more")])) == [reset(2)]


class Sent:
    """The links of a node, which go nowhere."""

    own_name = "a"

    def __init__(self, *names: str) -> None:
        self.peers = [NodeInfo(name, "", 1, "", 0) for name in names]
        self.frames: list[bytes] = []

    def all(self) -> list[Link]:
        return [cast("Link", self)] if self.peers else []

    @property
    def peer(self) -> NodeInfo:
        return self.peers[0]

    def offer(self, data: bytes, kind: Kind) -> None:
        assert kind is Kind.COMMANDS
        self.frames.append(data)


class Spread:
    """The commands of one process."""

    def __init__(self, kept: CheckedFile | None = None) -> None:
        self.obeyed: list[CommandOrder] = []
        self.links = Sent()
        self.counters = MeshCounters()
        known = CommandBook([OPERATOR.fingerprint], "mesh", kept, self.obey)
        links = cast("LinkTable", self.links)
        self.spread = CommandSpread(known, links, Refusals(self.counters))

    def obey(self, orders: Sequence[CommandOrder]) -> None:
        self.obeyed.extend(orders)

    def link(self, name: str = "b") -> Link:
        self.links.peers.append(NodeInfo(name, "", 1, "", 0))
        self.spread.begin(self.links.all()[0])
        return self.links.all()[0]


@virtually
async def test_a_process_without_memory_learns_which_resets_are_past(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else anybody who keeps an old order could have it obeyed by each new process."""
    caplog.set_level("INFO", "crdtbucket.mesh")
    kept = KeptFile()
    one = Spread(kept)
    one.spread.start()
    with pytest.raises(MeshError, match="try again in 15 s"):
        one.spread.order(reset(1))
    assert one.spread.order(rollout(2))  # says where it is to be: nothing of it is past
    await asyncio.sleep(LEARNS_S + 1)
    assert one.spread.order(reset(3, "alone"))
    link = one.link()
    one.spread.receive(link, packed([reset(4)]))  # a peer begins to send its orders
    await asyncio.sleep(LEARNS_S + 1)
    one.spread.receive(link, packed([reset(4)]))
    assert one.obeyed == [rollout(2), reset(3, "alone")]
    one.spread.receive(link, packed([reset(5)]))
    assert one.obeyed[2:] == [reset(5)]
    one.spread.change([])  # what is ordered meanwhile is not known here
    one.spread.change([OPERATOR.fingerprint])
    one.spread.receive(link, packed([reset(6)]))
    assert one.obeyed[3:] == []
    again = Spread(kept)
    again.spread.start()
    again.spread.receive(again.link(), packed([reset(6), reset(7)]))
    assert again.obeyed == [reset(7)]
    assert caplog.text.count("not obeyed, as this process has just begun") == 2


@virtually
async def test_a_command_is_kept_before_it_is_obeyed() -> None:
    """A process that dies in between does not obey it a second time."""
    kept, found = KeptFile(), []

    def obey(orders: Sequence[CommandOrder]) -> None:
        found.append((list(orders), len(book(kept))))

    links = cast("LinkTable", Sent("b"))
    known = CommandBook([OPERATOR.fingerprint], "mesh", kept, obey)
    spread = CommandSpread(known, links, Refusals(MeshCounters()))
    spread.start()
    assert spread.order(rollout(1))
    spread.receive(links.all()[0], packed([rollout(2)]))
    assert found == [([rollout(1)], 1), ([rollout(2)], 1)]
    assert book(kept).ordered(2, 0xABC) == rollout(2)


@virtually
async def test_a_reset_that_could_not_be_kept_is_not_obeyed_again() -> None:
    kept = KeptFile()
    first = Spread(kept)
    first.spread.start()
    link = first.link()
    await asyncio.sleep(LEARNS_S + 1)
    first.spread.receive(link, packed([reset(1)]))
    kept.full = True
    first.spread.receive(link, packed([reset(2)]))
    assert first.obeyed == [reset(1), reset(2)]
    after = Spread(kept)
    after.spread.start()
    after.spread.receive(after.link(), packed([reset(1), reset(2)]))
    assert after.obeyed == []


@virtually
async def test_what_is_refused_is_counted_each_time_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Spread(KeptFile())
    one.spread.start()
    link = one.link("bad")
    for _ in range(3):
        one.spread.receive(link, packed([reset(1, by=STRANGER)]))
    assert one.counters.refused == {"order": 3}
    with pytest.raises(MeshError):
        one.spread.order(rollout(1).signed_with(STRANGER, "mesh"))
    assert one.counters.refused == {"order": 4}
    assert not one.obeyed
    said = [one.getMessage() for one in caplog.records if "refused an order" in one.getMessage()]
    assert sum("from bad" in text for text in said) == 1


@virtually
async def test_a_new_command_goes_on_at_once_and_all_of_them_every_so_often() -> None:
    one = Spread(KeptFile())
    one.spread.start()
    one.link()
    for order in (rollout(1), rollout(2)):
        one.spread.order(order)
    assert one.links.frames == [packed([rollout(1)]), packed([rollout(2)])]
    await asyncio.sleep(REPEAT_S)
    one.spread.look()
    one.spread.look()
    assert one.links.frames[2:] == [packed([rollout(2)])]


async def test_an_order_that_a_busy_loop_does_not_take_names_the_node_and_the_way_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(order_spread, "WAIT_S", 0.01)
    one = Spread(KeptFile())
    one.spread.start()
    with ThreadPoolExecutor(1) as other:
        error = other.submit(one.spread.order, rollout(1)).exception()  # this loop is held up
    assert isinstance(error, MeshError)
    assert "'a' has not taken the order" in str(error)
    assert "give the order again" in str(error)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not one.spread.order(rollout(1))  # it was taken after all
    assert one.obeyed == [rollout(1)]


def test_a_kept_file_is_on_disk(tmp_path: Path) -> None:
    file = CheckedFile(tmp_path / "a.commands", "remove it")
    book(file).take(rollout(3))
    assert book(file).ordered(2, 0xABC) == rollout(3)
