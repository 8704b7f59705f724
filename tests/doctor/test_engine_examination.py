"""Each thing that can be wrong with a message engine is found, at real servers."""

from __future__ import annotations

import pytest

from crdtbucket.doctor.diagnosis import Diagnosis
from crdtbucket.doctor.engine_examination import examine_engine
from crdtbucket.mesh.mesh_config import MeshConfig
from tests.mesh.engines.nats_server import NatsServer
from tests.strong.redis_server import Server, free_port


async def examined(kind: str, port: int, credentials: str | None = None) -> list[Diagnosis]:
    mesh = MeshConfig(
        transport=kind,  # type: ignore[arg-type]
        servers=[f"{kind}://127.0.0.1:{port}"],
        credentials=credentials,
        secret="a secret of these tests",
    )
    return await examine_engine(mesh, "eu-1", 20.0)


@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_an_engine_that_is_in_order(kind: str) -> None:
    with NatsServer() if kind == "nats" else Server() as server:
        found = await examined(kind, server.port)
    assert [one.level for one in found] == ["ok", "ok", "ok", "note"]
    assert found[2].text == "lets node 'eu-1' in, publish under its name, and hear its peers"


@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_a_port_that_leads_nowhere(kind: str) -> None:
    found = await examined(kind, free_port())
    assert [one.level for one in found] == ["ok", "wrong", "wrong", "note"]
    assert "correct mesh.servers" in found[1].text


@pytest.mark.parametrize(
    ("credentials", "rights", "told"),
    [
        ("eu-1:wrong", "", "Authorization Violation"),
        ("eu-1:right", 'publish: "x"', "permissions violation for publish"),
        ("eu-1:right", 'subscribe: "x"', "permissions violation for subscription"),
    ],
)
async def test_what_nats_does_not_allow(credentials: str, rights: str, told: str) -> None:
    user = f"{{user: eu-1, password: right, permissions: {{{rights}}}}}"
    with NatsServer(f"authorization {{ users = [ {user} ] }}") as server:
        found = await examined("nats", server.port, credentials)
    assert found[2].level == "wrong"
    assert told.lower() in found[2].text.lower()
    assert "right" not in found[2].text.replace("rights", "")


async def test_a_nats_server_that_takes_small_messages_only() -> None:
    with NatsServer("max_payload: 65536") as server:
        found = await examined("nats", server.port)
    assert found[2].text.endswith("raise max_payload in its configuration")


@pytest.mark.parametrize(
    ("credentials", "rights", "told"),
    [
        ("eu-1:wrong", "+@all &*", "does not let user 'eu-1' in"),
        ("eu-1:good", "+@all resetchannels", "does not let this node hear"),
        ("eu-1:good", "+@all -publish &*", "permissions"),
    ],
)
async def test_what_redis_does_not_allow(credentials: str, rights: str, told: str) -> None:
    with Server() as server:
        server.call("ACL", "SETUSER", "eu-1", "on", ">good", *rights.split())
        found = await examined("redis", server.port, credentials)
    assert found[2].level == "wrong"
    assert told in found[2].text
