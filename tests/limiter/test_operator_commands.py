"""Commands of operators in a mesh of limiters, over real sockets, beside a bad member."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgpack
import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.mesh.links import order_spread
from crdtbucket.mesh.links.command_orders import CommandOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.session import Kind
from crdtbucket.mesh.links.signed_orders import packed
from crdtbucket.rollout.staged import Position, Status
from tests.limiter.test_limiter_mesh import peers
from tests.waits import eventually

pytestmark = pytest.mark.processes
OPERATOR = NodeKey.make()
BEFORE = "version: 1\nservices: {api: {limit: 100/day}}\n"
NEXT = "version: 2\nrollout: {stages: [{percent: 1}, {}]}\nservices: {api: {limit: 300/day}}\n"


class Fleet:
    """Nodes of one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def node(self, name: str, *others: Limiter, signs: bool = True) -> Limiter:
        path = self.folder / f"{name}.yaml"
        if not path.exists():
            path.write_text(BEFORE)
        mesh = MeshConfig(
            listen="127.0.0.1:0",
            peers=[one.address for one in others],
            secret="a secret of this test",
            gossip_interval=0.02,
            operator_keys=[OPERATOR.fingerprint] if signs else [],
            state_dir=self.folder / "state",
        )
        return Limiter.from_file(path, node=name, mesh=mesh)

    def roll_out(self, *nodes: Limiter) -> None:
        for node in nodes:
            (self.folder / f"{node.node}.yaml").write_text(NEXT)
            node.reload()


def at(node: Limiter) -> tuple[str, int]:
    state = node.rollout.state
    assert state is not None
    return state["status"], state["stage"]


def move(node: Limiter, counter: int, status: Status, stage: int) -> CommandOrder:
    position = node.rollout.position
    assert position is not None
    to = Position(*position.of, 0, status, stage)
    return CommandOrder.rollout(OPERATOR, "mesh", to, counter)


def reset(counter: int, *, by: NodeKey = OPERATOR, mesh: str = "mesh") -> CommandOrder:
    return CommandOrder.reset(by, mesh, "api", "k", counter)


def left(node: Limiter) -> int:
    return node.bucket("api").peek("k").remaining


def send(bad: Limiter, to: str, *orders: CommandOrder, row: list[object] | None = None) -> None:
    """Sends orders as a member may, from its own event loop."""
    mesh = bad._node.mesh
    assert mesh is not None
    link = mesh.links.get(to)
    assert link is not None
    link.offer(packed(orders) if row is None else msgpack.packb([row]), Kind.COMMANDS)


def refused(node: Limiter, reason: str) -> int:
    count: int = node.stats()["mesh"]["refused"].get(reason, 0)
    return count


@pytest.fixture(autouse=True)
def _knows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_spread, "LEARNS_S", 0.0)


async def test_a_member_without_the_operators_key_moves_no_roll_out(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        a = await stack.enter_async_context(fleet.node("a"))
        b = await stack.enter_async_context(fleet.node("b", a))
        bad = await stack.enter_async_context(fleet.node("bad", a, b, signs=False))
        await eventually(lambda: peers(a) == ["b", "bad"] and peers(b) == ["a", "bad"])
        fleet.roll_out(a, b, bad)
        bad.rollout.advance()
        bad.rollout.advance()
        # a and b know of it, and of an order after that; both go by the order alone.
        for node in (a, b):
            await eventually(
                lambda node=node: any(
                    row["node"] == "bad" and (row["rollout"] or {}).get("status") == "done"
                    for row in node.fleet()
                )
            )
            assert at(node) == ("running", 1)
        first = move(a, 10, Status.RUNNING, 1)
        forged = [*first.row()[:3], OPERATOR.public, bytes(64)]
        send(bad, "a", row=forged)
        send(bad, "a", move(a, 11, Status.DONE, 1).signed_with(NodeKey.make(), "mesh"))
        await eventually(lambda: refused(a, "frame") == refused(a, "order") == 1)
        assert at(a) == ("running", 1)
        assert b.order(first.as_text())
        await eventually(lambda: at(a) == at(b) == ("running", 2))
        assert b.order(move(b, 12, Status.ROLLED_BACK, 1).as_text())
        await eventually(lambda: at(a)[0] == at(b)[0] == "rolled back")
        send(bad, "a", first)  # and after it, for what is seen to be refused, a stranger's
        send(bad, "a", move(a, 13, Status.DONE, 1).signed_with(NodeKey.make(), "mesh"))
        await eventually(lambda: refused(a, "order") == 2)
        assert at(a)[0] == "rolled back"


async def test_an_order_holds_through_restarts_and_reaches_who_was_away(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with fleet.node("a") as a:
        async with fleet.node("b", a) as b:
            await eventually(lambda: peers(a) == ["b"] and peers(b) == ["a"])
            fleet.roll_out(a, b)
            first = move(a, 10, Status.RUNNING, 1)
            assert a.order(first.as_text())
            await eventually(lambda: at(b) == ("running", 2))
        assert a.order(move(a, 20, Status.ROLLED_BACK, 1).as_text())
        async with fleet.node("b", a) as b:
            await eventually(lambda: at(b)[0] == "rolled back")
            send(a, "b", first)
            send(a, "b", move(a, 30, Status.DONE, 1).signed_with(NodeKey.make(), "mesh"))
            await eventually(lambda: refused(b, "order") == 1)
            assert at(b)[0] == "rolled back"


async def test_a_signed_reset_is_done_by_every_node_once_through_restarts(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with fleet.node("a") as a:
        async with fleet.node("b", a) as b:
            await eventually(lambda: peers(a) == ["b"] and peers(b) == ["a"])
            assert a.bucket("api").take("k", 30)
            assert b.bucket("api").take("k", 40)
            await eventually(lambda: left(a) == left(b) == 30)
            assert a.order(reset(10).as_text())
            await eventually(lambda: left(a) == left(b) == 100)
            assert b.bucket("api").take("k", 25)
            await eventually(lambda: left(a) == 75)
            for order in (reset(9), reset(11, by=NodeKey.make())):
                send(a, "b", order)
            await eventually(lambda: refused(b, "order") == 1)
            send(a, "b", reset(11, mesh="another"))
            await eventually(lambda: refused(b, "frame") == 1)
            assert not a.order(reset(10).as_text())
        async with fleet.node("b", a) as b:
            await eventually(lambda: peers(b) == ["a"] and left(b) == 75)
            assert b.bucket("api").take("k", 10)
            send(a, "b", reset(10))
            send(a, "b", reset(9))  # after it
            send(a, "b", reset(13, by=NodeKey.make()))
            await eventually(lambda: refused(b, "order") == 1)
            assert left(b) == 65
            assert a.order(reset(12).as_text())
            # Nobody may give back what the process before had charged.
            await eventually(lambda: left(a) == left(b) == 75)
