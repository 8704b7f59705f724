"""The admin side: who has the token, what it allows, and what is logged of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.http.server import node_replies
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from tests.http.serving import API, HEADERS, TOKEN, serving
from tests.strong.redis_server import Server, free_port
from tests.waits import eventually

WRONG = {
    "none": {},
    "another one": {"Authorization": f"Bearer {TOKEN}x"},
    "a part": {"Authorization": f"Bearer {TOKEN[:-1]}"},
    "empty": {"Authorization": "Bearer "},
    "another scheme": {"Authorization": f"Basic {TOKEN}"},
    "no scheme": {"Authorization": TOKEN},
    "no ASCII": {"Authorization": "Bearer gr\u00fcn"},
}
RESET = {"bucket": "api", "key": "a"}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_without_the_token_there_is_nothing(headers: dict[str, str]) -> None:
    async with serving(admin_token=TOKEN) as client:
        await client.post("/v1/take", bucket="api", key="a", cost=60)
        for method, path in (("POST", "reset"), ("GET", "status"), ("GET", "anything")):
            status, problem, fields = await client.ask(
                method, f"/admin/{path}", headers=headers, json=RESET
            )
            assert status == 401
            assert fields["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN not in str(problem)
        assert client.limiter.bucket("api").peek("a").remaining == 40


async def test_without_a_token_of_its_own_the_side_is_off() -> None:
    async with serving() as client:
        for headers in ({}, HEADERS, {"Authorization": "Bearer None"}):
            status, problem, _ = await client.ask("GET", "/admin/status", headers=headers)
            assert status == 403
            assert "--admin-token-file" in problem["detail"]


async def test_a_reset_fills_a_key_and_leaves_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.audit")
    async with serving(admin_token=TOKEN) as client:
        await client.post("/v1/take", bucket="api", key="a\n", cost=60)
        client.limiter.bucket("api").settle("a\n", 90)
        status, answer, _ = await client.ask(
            "POST", "/admin/reset", headers=HEADERS, json={"bucket": "api", "key": "a\n"}
        )
        assert status == 200
        assert answer == {"given_back": 150, "remaining": 100, "limit": 100}
        (record,) = caplog.records
        assert record.name == "crdtbucket.audit"
        assert record.getMessage() == (
            "reset of key 'a\\n' in bucket 'api' from 127.0.0.1: 150 tokens given back, 100 of 100 "
            "left"
        )
        status, problem, _ = await client.ask(
            "POST", "/admin/reset", headers=HEADERS, json={"bucket": "none", "kye": "a"}
        )
        assert status == 400
        assert [one["field"] for one in problem["errors"]] == ["key", "kye"]
        assert len(caplog.records) == 1


async def test_the_reset_of_a_strong_key_reaches_redis() -> None:
    with Server() as redis:
        limiters = [
            Limiter([API], node=name, consistency="strong", **redis.patient())
            for name in ("n1", "n2")
        ]
        async with serving(limiters[0], admin_token=TOKEN) as client, limiters[1]:
            await client.post("/v1/take", bucket="api", key="a", cost=100)
            other = limiters[1].bucket("api")
            assert not await other.acquire("a")
            _, answer, _ = await client.ask("POST", "/admin/reset", headers=HEADERS, json=RESET)
            assert answer["given_back"] == 100
            await eventually(lambda: limiters[0].stats()["strong"]["unsettled"] == 0)
            assert await other.acquire("a", 100)


async def test_the_status_of_a_node() -> None:
    mesh = MeshConfig(listen=f"127.0.0.1:{free_port()}", peers=[])
    limiter = Limiter([API], node="eu-1", region="eu", mesh=mesh)
    async with serving(limiter, admin_token=TOKEN) as client:
        status, answer, _ = await client.ask("GET", "/admin/status", headers=HEADERS)
        assert status == 200
        assert (answer["node"], answer["region"], answer["peers"]) == ("eu-1", "eu", [])
        assert (answer["ready"], answer["warming_up"], answer["redis"]) == (True, False, {})
        assert [one["name"] for one in answer["buckets"]] == ["api"]


async def test_the_status_tells_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text("version: 3\nservices: {api: {limit: 100/day}}")
    limiter = Limiter.from_file(path)
    async with serving(limiter, admin_token=TOKEN) as client:
        path.write_text("version: 4\nservices: {api: {limit: 200/day}}")
        limiter.reload()
        _, answer, _ = await client.ask("GET", "/admin/status", headers=HEADERS)
        assert (answer["config"]["version"], answer["config"]["reloads"]) == (4, 1)
        assert len(answer["config"]["hash"]) == 16


async def test_the_status_tells_what_peers_run(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    limiters = []
    for place, port in enumerate(ports):
        path = tmp_path / f"{place}.yaml"
        path.write_text(f"""
            version: {place + 1}
            node: node-{place}
            mesh: {{listen: "127.0.0.1:{port}", peers: ["127.0.0.1:{ports[1 - place]}"]}}
            services: {{api: {{limit: 100/day}}}}""")
        limiters.append(Limiter.from_file(path))
    async with limiters[1], serving(limiters[0], admin_token=TOKEN) as client:

        def advertised() -> bool:
            return any(row["version"] == 2 for row in limiters[0].fleet())

        await eventually(advertised)
        _, answer, _ = await client.ask("GET", "/admin/status", headers=HEADERS)
        (peer,) = answer["peers"]
        assert (peer["name"], peer["state"], peer["config"]["version"]) == ("node-1", "alive", 2)
        assert peer["config"]["hash"] == limiters[1].stats()["config"]["hash"]
        assert answer["config"]["version"] == 1


def audited(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The audit's lines; what else was logged meanwhile is none of them."""
    return [one.getMessage() for one in caplog.records if one.name == "crdtbucket.audit"]


async def test_a_reload_takes_the_file_as_it_is_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.audit")
    path = tmp_path / "crdtbucket.yaml"
    path.write_text("version: 3\nservices: {api: {limit: 100/day}}")
    async with serving(Limiter.from_file(path), admin_token=TOKEN) as client:
        await client.post("/v1/take", bucket="api", key="a", cost=60)
        path.write_text("version: 4\nservices: {api: {limit: 200/day}}")
        status, answer, _ = await client.ask("POST", "/admin/reload", headers=HEADERS)
        assert status == 200
        assert (answer["config"]["version"], answer["config"]["reloads"]) == (4, 1)
        assert client.limiter.bucket("api").peek("a").remaining == 140
        path.write_text("version: 5\nservices: {api: {limt: 1/day}, web: {limit: x}}")
        status, problem, _ = await client.ask("POST", "/admin/reload", headers=HEADERS)
        assert status == 409
        assert problem["detail"].endswith("the configuration in force stays")
        assert len(problem["errors"]) >= 2
        assert all("crdtbucket.yaml:2:" in one["message"] for one in problem["errors"])
        assert client.limiter.bucket("api").spec.capacity == 200
        done, refused = audited(caplog)
        assert done.startswith("reload from 127.0.0.1: version 4, hash ")
        assert refused.startswith("reload from 127.0.0.1: refused with ")


async def test_a_limiter_of_no_file_has_nothing_to_reload() -> None:
    async with serving(admin_token=TOKEN) as client:
        status, problem, _ = await client.ask("POST", "/admin/reload", headers=HEADERS)
        assert status == 409
        assert "came from no file" in problem["detail"]


ROLLOUT = """
    version: {version}
    rollout: {{stages: [{{percent: 50}}, {{}}]}}
    services: {{api: {{limit: {limit}/day}}}}
"""


async def test_a_roll_out_is_moved_and_each_command_is_audited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.audit")
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(ROLLOUT.format(version=1, limit=100))
    async with serving(Limiter.from_file(path), admin_token=TOKEN) as client:

        async def steer(action: str) -> tuple[int, Any]:
            status, answer, _ = await client.ask(
                "POST", "/admin/rollout", headers=HEADERS, json={"action": action}
            )
            return status, answer

        assert (await steer("advance"))[0] == 409
        path.write_text(ROLLOUT.format(version=2, limit=200))
        await client.ask("POST", "/admin/reload", headers=HEADERS)
        _, now, _ = await client.ask("GET", "/admin/status", headers=HEADERS)
        node_replies.StatusReply.model_validate(now)
        assert (now["rollout"]["status"], now["rollout"]["stage"]) == ("running", 1)
        assert (now["config"]["version"], now["config"]["stage"]) == (2, "1")
        status, answer = await steer("advance")
        node_replies.RolloutReply.model_validate(answer)
        assert (status, answer["stage"], answer["percent"]) == (200, 2, 100)
        assert client.limiter.bucket("api").peek("k").limit == 200
        assert (await steer("rollback"))[1]["status"] == "rolled back"
        assert client.limiter.bucket("api").peek("k").limit == 100
        status, problem = await steer("advance")
        assert status == 409
        assert problem["detail"].startswith("version 2 was rolled back")
        assert (await steer("explode"))[0] == 400
        assert (await client.refused("/admin/rollout", action="halt"))[0] == 401
        assert [one.getMessage() for one in caplog.records if "rollout" in one.getMessage()] == [
            "rollout from 127.0.0.1: advance refused: no version is being rolled out",
            "rollout from 127.0.0.1: advance of version 2, which is running at stage 2 of 2",
            "rollout from 127.0.0.1: rollback of version 2, which is rolled back at stage 2 of 2",
            f"rollout from 127.0.0.1: advance refused: {problem['detail']}",
        ]


async def test_a_command_says_which_version_was_refused_and_why(tmp_path: Path) -> None:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(ROLLOUT.format(version=1, limit=100))
    async with serving(Limiter.from_file(path), admin_token=TOKEN) as client:

        async def advance() -> str:
            _, answer, _ = await client.ask(
                "POST", "/admin/rollout", headers=HEADERS, json={"action": "advance"}
            )
            return str(answer.get("detail"))

        async def reload(version: int, limit: str) -> int:
            path.write_text(ROLLOUT.format(version=version, limit=limit))
            return (await client.ask("POST", "/admin/reload", headers=HEADERS))[0]

        assert await reload(2, "-200") == 409
        none = "no version is being rolled out; the newest file was refused: "
        assert (await advance()).startswith(f"{none}{path}:")
        assert await reload(1, "200") == 409  # another file under the same number
        assert (await advance()).startswith(f"{none}version 1: {path}")
        assert await reload(2, "200") == 200
        for _ in range(2):
            assert await advance() == "None"
        assert (await advance()).endswith("is everywhere: there is no stage left")
        assert await reload(3, "-200") == 409
        assert "; the newest file was refused: " in await advance()


async def test_an_operator_ejects_a_node(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    operator, stranger = NodeKey.make(), NodeKey.make()
    mesh = MeshConfig(
        listen="127.0.0.1:0", secret="a secret of these tests", state_dir=tmp_path,
        operator_keys=[operator.fingerprint],
    )  # fmt: skip

    def order(key: NodeKey, counter: int, *, ejected: bool = True) -> str:
        return EjectOrder.sign(key, "mesh", "us-1", counter, ejected=ejected).as_text()

    async with serving(Limiter([API], node="eu-1", mesh=mesh), admin_token=TOKEN) as client:

        async def give(text: str) -> tuple[int, dict[str, Any]]:
            options = {"headers": HEADERS, "json": {"order": text}}
            status, answer, _ = await client.ask("POST", "/admin/order", **options)
            return status, answer

        assert await give(order(operator, 2)) == (200, {"new": True})
        assert await give(order(operator, 2)) == (200, {"new": False})
        assert (await client.get("/v1/peers"))["identity"]["ejected"] == ["us-1"]
        for text, told in (
            (order(operator, 1, ejected=False), "a later order holds"),
            (order(stranger, 3), "list it in mesh.operator_keys"),
            ("bm9uZQ==", "this is no order"),
        ):
            status, problem = await give(text)
            assert (status, told in problem["detail"]) == (409, True), problem
        assert (await client.refused("/admin/order", order="x"))[0] == 401
        said = [one.getMessage() for one in caplog.records if one.name == "crdtbucket.audit"]
        assert said[:2] == [
            "order from 127.0.0.1: taken",
            "order from 127.0.0.1: it held already",
        ]
    async with serving(Limiter([API], node="eu-1", mesh=mesh), admin_token=TOKEN) as client:
        assert (await client.get("/v1/peers"))["identity"]["ejected"] == ["us-1"]
    async with serving(admin_token=TOKEN) as client:
        status, problem, _ = await client.ask(
            "POST", "/admin/order", headers=HEADERS, json={"order": order(operator, 4)}
        )
        assert (status, "has no mesh" in problem["detail"]) == (409, True)
