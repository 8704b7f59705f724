"""The admin side where operators sign what moves other nodes: the token alone does not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.mesh.links import order_spread
from crdtbucket.mesh.links.command_orders import CommandOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.rollout.staged import Position, Status
from tests.http.serving import HEADERS, TOKEN, serving

FILE = """
version: {version}
rollout: {{stages: [{{percent: 50}}, {{}}]}}
services: {{api: {{limit: {limit}/day}}, calls: {{concurrency: {{slots: 5, ttl: 1m}}}}}}
"""


async def test_what_is_not_signed_is_refused_and_what_an_operator_signed_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_spread, "LEARNS_S", 0.0)
    caplog.set_level(logging.INFO, "crdtbucket.audit")
    operator, stranger = NodeKey.make(), NodeKey.make()
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(FILE.format(version=1, limit=100))
    mesh = MeshConfig(
        listen="127.0.0.1:0",
        secret="a secret of these tests",
        state_dir=tmp_path,
        operator_keys=[operator.fingerprint],
    )
    limiter = Limiter.from_file(path, node="a", mesh=mesh)
    async with serving(limiter, admin_token=TOKEN) as client:

        async def ask(what: str, **body: object) -> tuple[int, str]:
            status, answer, _ = await client.ask(
                "POST", f"/admin/{what}", headers=HEADERS, json=body
            )
            return status, str(answer.get("detail", answer.get("new")))

        def reset(counter: int, bucket: str = "api", by: NodeKey = operator) -> str:
            return CommandOrder.reset(by, "mesh", bucket, "k", counter).as_text()

        def owed() -> int:
            found = limiter.bucket("api").peek("k")
            return found.limit - found.remaining

        path.write_text(FILE.format(version=2, limit=300))
        limiter.reload()
        limiter.bucket("api").take("k", 30)
        at = limiter.rollout.position
        assert at is not None
        for unsigned in (ask("reset", bucket="api", key="k"), ask("rollout", action="advance")):
            status, said = await unsigned
            assert (status, "mesh.operator_keys" in said, "--key FILE" in said) == (409, True, True)
        unsigned_said = said
        assert limiter.rollout.position == at
        assert owed() == 30
        for order, told in (
            (reset(1, by=stranger), "list it in mesh.operator_keys"),
            (reset(1, bucket="apy"), "no bucket 'apy'"),
            (reset(1, bucket="calls"), "has no tokens"),
        ):
            status, said = await ask("order", order=order)
            assert (status, told in said) == (409, True), said
        assert await ask("order", order=reset(1)) == (200, "True")
        assert owed() == 0
        limiter.bucket("api").take("k", 30)
        assert await ask("order", order=reset(1)) == (200, "False")
        assert owed() == 30
        to = Position(*at.of, 0, Status.RUNNING, 1)
        order = CommandOrder.rollout(operator, "mesh", to, 5).as_text()
        assert await ask("order", order=order) == (200, "True")
        assert (limiter.rollout.position or at).stage == 1
        shown = await client.get("/v1/peers")
        assert shown["identity"]["operators"] == [operator.fingerprint]
    said = [one.getMessage() for one in caplog.records if one.name == "crdtbucket.audit"]
    assert said[:2] == [
        "reset from 127.0.0.1: refused: not signed",
        f"rollout from 127.0.0.1: advance refused: {unsigned_said}",
    ]
    assert any("tokens given back here" in text for text in said)
