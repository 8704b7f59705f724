"""How limits spread: at once over links, and by digests to nodes that lack some."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import msgpack
import pytest

from crdtbucket.errors import WireError
from crdtbucket.mesh.links import override_spread as module
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.override_book import OverrideBook
from crdtbucket.mesh.links.override_orders import OverrideOrder
from crdtbucket.mesh.links.override_spread import OverrideSpread
from crdtbucket.mesh.links.session import Kind
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.wire import MAX_FRAME
from tests.virtual_loop import VirtualTime, virtually

OPERATOR = NodeKey.make()
ORDERS = [
    OverrideOrder.sign(OPERATOR, "mesh", "api", f"k{n}", 1, f"{n % 7 + 1}/s") for n in range(120)
]


@dataclass(eq=False)
class Wire:
    """One direction of a link, which may lose frames."""

    peer: NodeInfo
    deliver: Callable[[bytes], None]
    lossy: random.Random | None = None
    dropped: str = ""
    """A kind of message of which the next one is lost."""
    frames: list[bytes] = field(default_factory=list)

    def offer(self, frame: bytes, kind: Kind) -> None:
        assert kind is Kind.OVERRIDES
        assert len(frame) <= MAX_FRAME
        self.frames.append(frame)
        if self.dropped and msgpack.unpackb(frame)[0] == self.dropped:
            self.dropped = ""
        elif self.lossy is None or self.lossy.random() > 0.3:
            asyncio.get_running_loop().call_later(0.01, self.deliver, frame)


class Node:
    """A book, and what spreads it."""

    def __init__(self, name: str, *operators: NodeKey) -> None:
        self.name = name
        self.book = OverrideBook([one.fingerprint for one in operators or (OPERATOR,)], "mesh")
        self.links: list[Wire] = []
        self.forged: list[str] = []
        self.tasks = BackgroundTasks()
        self.spread = OverrideSpread(
            self.book,
            cast("LinkTable", self),
            self.tasks,
            lambda link, error: self.forged.append(str(error)),
        )

    def all(self) -> list[Wire]:
        """All links, as a table of links returns them."""
        return self.links

    def link(self, other: Node, lossy: random.Random | None = None) -> None:
        """Links both, and begins."""
        ends: dict[str, Wire] = {}

        def wire(here: Node, there: Node) -> Wire:
            return Wire(
                NodeInfo(there.name, "", 1, "", 0),
                lambda frame: there.spread.receive(cast("Link", ends[there.name]), frame),
                lossy,
            )

        for here, there in ((self, other), (other, self)):
            ends[here.name] = wire(here, there)
            here.links.append(ends[here.name])
        for node in (self, other):
            node.spread.begin(cast("Link", ends[node.name]))

    def sent(self, kind: str) -> list[Any]:
        """The messages of a kind that it has sent."""
        unpacked = [msgpack.unpackb(one) for link in self.links for one in link.frames]
        return [one for one in unpacked if one[0] == kind]


async def pass_time(seconds: float, *nodes: Node) -> None:
    """Half a second at a time, as the network looks."""
    for _ in range(round(seconds * 2)):
        for node in nodes:
            node.spread.look()
        await asyncio.sleep(0.5)


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@virtually
async def test_a_new_order_is_sent_to_every_linked_peer_at_once(time: VirtualTime) -> None:
    a, b, c = nodes = Node("a"), Node("b"), Node("c")
    a.link(b)
    a.link(c)
    a.book.take(ORDERS[0])
    await pass_time(0.5, *nodes)
    assert all(node.book.digests == a.book.digests for node in nodes)
    assert len(a.sent("orders")) == 2
    assert b.sent("orders") == c.sent("orders") == []  # who learns of it does not pass it on


@virtually
async def test_a_late_joiner_gets_everything_once_and_its_peers_what_it_has(
    time: VirtualTime,
) -> None:
    a, b, late = nodes = Node("a"), Node("b"), Node("late")
    for node in (a, b):
        node.book.recall(ORDERS[:-1], send=False)
    late.book.recall(ORDERS[-1:], send=False)
    a.link(b)
    late.link(a)
    late.link(b)
    await pass_time(2, *nodes)
    assert late.book.digests == a.book.digests == b.book.digests
    assert len(late.book) == len(ORDERS)
    carried = [row[1] for one in a.sent("orders") + b.sent("orders") for row in one[1]]
    assert sorted(carried) == sorted(one.key for one in ORDERS[:-1])
    before = len(late.sent("ask"))
    await pass_time(30, *nodes)
    assert len(late.sent("ask")) == before  # nothing differs any more


@virtually
async def test_what_a_link_loses_comes_later(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)  # so that answers have several frames
    a, b, c = nodes = Node("a"), Node("b"), Node("c")
    a.link(b, lossy=random.Random(1))
    b.link(c, lossy=random.Random(2))  # c is not linked with a
    for order in ORDERS[:60]:
        a.book.take(order)
    for _ in range(40):
        await pass_time(10, *nodes)
        if all(node.book.digests == a.book.digests for node in nodes):
            break
    assert len(c.book) == 60
    assert c.book.digests == a.book.digests


@virtually
async def test_a_part_of_an_answer_that_is_lost_is_asked_for_again(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    shard = next(n for n in range(256) if sum(one.shard == n for one in ORDERS) > 1)
    a, b = nodes = Node("a"), Node("b")
    a.book.recall([one for one in ORDERS if one.shard == shard], send=False)
    a.link(b)
    a.links[0].dropped = "orders"  # the first frame of the answer, and not the last
    await pass_time(2, *nodes)
    assert b.book.digests != a.book.digests
    assert len(b.book) > 0
    await pass_time(20, *nodes)
    assert b.book.digests == a.book.digests


@virtually
async def test_a_peer_with_other_operators_is_not_asked_again_and_again(time: VirtualTime) -> None:
    a, b = nodes = Node("a"), Node("b", NodeKey.make())
    a.book.recall(ORDERS[:40], send=False)
    a.link(b)
    await pass_time(15, *nodes)
    asked = len(b.sent("ask"))
    assert asked >= 30
    await pass_time(60, *nodes)
    assert len(b.sent("ask")) == asked
    assert len(b.book) == 0
    assert a.forged == b.forged == []


@virtually
async def test_very_many_new_orders_are_fetched_and_not_pushed(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 50)
    a, b = nodes = Node("a"), Node("b")
    a.link(b)
    a.book.recall(ORDERS, send=True)
    await pass_time(2, *nodes)
    assert b.book.digests == a.book.digests
    assert all(len(one) == 5 for one in a.sent("orders"))  # each answers a question


@virtually
async def test_frames_that_no_honest_peer_sends_are_reported(time: VirtualTime) -> None:
    node, peer = Node("a"), Node("b")
    node.link(peer)
    link = cast("Link", node.links[0])
    forged = list(ORDERS[0].row())
    forged[3] = "900/s"
    for message in (
        ("digests", b"short"),
        ("ask", 256),
        ("ask", True),
        ("orders", [ORDERS[0].row()] * (module.PAGE + 1)),
        ("orders", [forged]),
        ("orders", 5),
    ):
        node.spread.receive(link, msgpack.packb(message))
    for data in (b"\xc1", msgpack.packb([]), msgpack.packb({"a": 1}), msgpack.packb([5])):
        with pytest.raises(WireError):
            node.spread.receive(link, data)
    node.spread.receive(link, msgpack.packb(("of a later version", 1)))
    await pass_time(1, node, peer)
    assert len(node.forged) == 6
    assert len(node.book) == 0
    node.spread.receive(link, msgpack.packb(("orders", [ORDERS[0].row()], 3, 1, 1)))
    await pass_time(1, node, peer)  # an answer to what was not asked is an order as any
    assert len(node.book) == 1


@virtually
async def test_each_node_writes_what_it_takes_over_to_its_audit_log(
    time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = nodes = Node("a"), Node("b")
    a.book.recall(ORDERS[:100], send=False)
    a.link(b)
    await pass_time(30, *nodes)
    assert b.book.digests == a.book.digests
    named = [text for text in caplog.messages if text.startswith("override from node a: key")]
    counts = [int(text.split()[0]) for text in caplog.messages if text not in named]
    assert sum(counts) + len(named) == 100
    assert any(
        text.endswith(" overrides from node a hold here from now on") for text in caplog.messages
    )
    caplog.clear()
    a.book.take(ORDERS[100])
    removed = OverrideOrder.sign(OPERATOR, "mesh", "api", "k100", 2, None)
    b.book.take(removed)
    await pass_time(30, *nodes)
    by = f"(operator {OPERATOR.fingerprint}, counter"
    assert {record.name for record in caplog.records} == {"crdtbucket.audit"}
    assert caplog.messages == [  # the first one is late at b, where a later one holds
        f"override from node b: key 'k100' of bucket 'api' has no limit from outside {by} 2)",
    ]
    caplog.clear()
    a.book.take(ORDERS[101])
    await pass_time(1, *nodes)
    assert caplog.messages == [
        f"override from node a: key 'k101' of bucket 'api' has '{101 % 7 + 1}/s' {by} 1)"
    ]
