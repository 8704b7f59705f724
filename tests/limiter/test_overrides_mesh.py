"""Limits that operators give to keys of a mesh, over real sockets."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.limiter.asked_limits import owed_tokens
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.override_orders import OverrideOrder
from tests.limiter.test_limiter_mesh import peers
from tests.waits import eventually

pytestmark = pytest.mark.processes
OPERATOR = NodeKey.make()
SPEC = BucketSpec("api", 100, 1, "1h")


def node(name: str, *others: Limiter, state: Path | None = None) -> Limiter:
    mesh = MeshConfig(
        listen="127.0.0.1:0",
        peers=[one.address for one in others],
        secret="a secret of this test",
        gossip_interval=0.02,
        operator_keys=[OPERATOR.fingerprint],
        state_dir=state,
    )
    return Limiter([SPEC], node=name, mesh=mesh)


def order(key: str, counter: int, limit: str | None) -> str:
    return OverrideOrder.sign(OPERATOR, "mesh", "api", key, counter, limit).as_text()


def seen(limiter: Limiter, key: str) -> tuple[int, int]:
    """The limit of a key, and the tokens that it owes."""
    bucket = limiter.bucket("api").of(key)
    return bucket.spec.capacity, owed_tokens(bucket, key)


async def test_all_nodes_follow_an_order_and_charge_what_was_consumed_once(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        a = await stack.enter_async_context(node("a"))
        b = await stack.enter_async_context(node("b", a))
        await eventually(lambda: peers(a) == ["b"] and peers(b) == ["a"])
        assert a.bucket("api").take("k", 40)
        await eventually(lambda: seen(b, "k") == (100, 40))
        assert b.overrides.give(order("k", 1, "1/1h burst 300"))
        await eventually(lambda: seen(a, "k") == seen(b, "k") == (300, 40))
        for n in range(30):
            a.overrides.give(order(f"k{n}", 1, "7/1h"))
        late = await stack.enter_async_context(node("c", a, state=tmp_path))
        every = (a, b, late)
        given = [f"k{n}" for n in range(30)]  # they come in no order
        await eventually(lambda: all(seen(one, key)[0] == 7 for one in every for key in given))
        await eventually(lambda: seen(late, "k") == (300, 40))
        assert a.overrides.give(order("k", 2, None))
        await eventually(lambda: all(seen(one, "k") == (100, 40) for one in every))
        await eventually(lambda: (tmp_path / "c.overrides").exists())
        late.overrides.beat()
    again = node("c", state=tmp_path)
    assert len(again.overrides.listed("api")) == 30
    assert again.overrides.limit_of("api", "k") is None
    assert again.bucket("api").of("k29").spec.capacity == 7
