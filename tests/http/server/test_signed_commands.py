"""The admin side where operators sign commands that reach other nodes: the token alone does not
suffice."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.mesh.links import order_spread
from crdtbucket.mesh.links.command_orders import CommandOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.rollout.staged import Position, Status
from tests.http.serving import HEADERS, TOKEN, Asker, serving

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

        def debt() -> int:
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
        assert debt() == 30
        for order, told in (
            (reset(1, by=stranger), "list it in mesh.operator_keys"),
            (reset(1, bucket="apy"), "no bucket 'apy'"),
            (reset(1, bucket="calls"), "has no tokens"),
        ):
            status, said = await ask("order", order=order)
            assert (status, told in said) == (409, True), said
        assert await ask("order", order=reset(1)) == (200, "True")
        assert debt() == 0
        limiter.bucket("api").take("k", 30)
        assert await ask("order", order=reset(1)) == (200, "False")
        assert debt() == 30
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


async def test_whichever_worker_is_asked_the_one_that_leads_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_spread, "LEARNS_S", 0.0)
    operator, stranger = NodeKey.make(), NodeKey.make()
    keys = [operator.fingerprint]
    mesh = MeshConfig(listen="127.0.0.1:0", secret="a secret of these tests", operator_keys=keys)

    def worker(index: int) -> AbstractAsyncContextManager[Asker]:
        spec = BucketSpec("api", 100, 1, "1d")
        limiter = Limiter([spec], node="a", mesh=mesh, max_keys=16, shared=tmp_path / "table")
        return serving(limiter, siblings=Siblings(tmp_path, index, 2), admin_token=TOKEN)

    async def said(client: Asker, by: NodeKey, counter: int) -> tuple[int, str]:
        order = CommandOrder.reset(by, "mesh", "api", "k", counter).as_text()
        status, answer, _ = await client.ask(
            "POST", "/admin/order", headers=HEADERS, json={"order": order}
        )
        return status, str(answer.get("detail", answer.get("new")))

    async with worker(0) as leader, worker(1) as other:
        assert await said(other, operator, 2) == (200, "True")
        for client in (leader, other):
            status, why = await said(client, stranger, 3)
            assert (status, "list it in mesh.operator_keys" in why) == (409, True), why
            status, why = await said(client, operator, 1)
            assert (status, "sign one with a counter above" in why) == (409, True), why
