"""Finds each fault of a message engine, at real servers."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from crdtbucket import Limiter
from crdtbucket.config import load_config
from crdtbucket.doctor.diagnosis import Diagnosis
from crdtbucket.doctor.mesh_examination import examine_mesh
from crdtbucket.mesh.engines import engine_caller, engine_exchange
from tests.mesh.engines.nats_server import NatsServer
from tests.strong.redis_server import BOUND, Server, free_port

FILE = """
node: eu-1
mesh:
  {{transport: {kind}, servers: ["{kind}://127.0.0.1:{port}"], secret: a secret of tests{more}}}
services: {{api: {{limit: 100/s}}}}
"""


def written(folder: Path, kind: str, port: int, more: str = "") -> Path:
    path = folder / "crdtbucket.yaml"
    path.write_text(FILE.format(kind=kind, port=port, more=more))
    return path


async def examined(path: Path) -> list[Diagnosis]:
    config = load_config(path)
    assert config.mesh is not None
    return await examine_mesh(config, config.mesh, 20.0)


@pytest.fixture
def announced_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes announce themselves all the time, and are waited for as long as a test needs."""
    monkeypatch.setattr(engine_exchange, "ANNOUNCE_S", 0.05)
    monkeypatch.setattr(engine_caller, "ANNOUNCED_S", 0.3)


@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_an_engine_that_is_in_order_and_all_nodes_there(
    kind: str, tmp_path: Path, announced_soon: None
) -> None:
    with NatsServer() if kind == "nats" else Server() as server:
        path = written(tmp_path, kind, server.port)
        found = await examined(path)
        assert [one.level for one in found] == ["ok", "ok", "ok", "note"]
        assert (
            found[2].text
            == "lets node 'eu-1' in, publish under its name, and receive from its peers"
        )
        assert "no node announced itself" in found[3].text
        async with Limiter.from_file(path, node="us 1") as peer:
            deadline = time.monotonic() + BOUND
            while len(found := await examined(path)) < 6:
                assert time.monotonic() < deadline, found
            assert peer.stats()["peers"] == {}
    names = [(one.subject, one.level) for one in found[3:]]
    steps = ("handshake", "configuration", "clock")
    assert names == [(f"peer {kind}:us_201 {step}", "ok") for step in steps], found


async def test_rights_of_one_node_do_not_let_the_doctor_ask_others(tmp_path: Path) -> None:
    rights = 'publish: ["cb.mesh.*.*.eu-1", "cb.mesh.a.eu-1"], subscribe: ["cb.mesh.>"]'
    user = f"{{user: eu-1, password: right, permissions: {{{rights}}}}}"
    with NatsServer(f"authorization {{ users = [ {user} ] }}") as server:
        more = ", credentials: 'eu-1:right'"
        found = await examined(written(tmp_path, "nats", server.port, more))
    assert [one.level for one in found] == ["ok", "ok", "ok", "note"]
    assert "peers cannot be asked under the name 'doctor@" in found[3].text
    assert "crdtbucket mesh permissions" in found[3].text


@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_a_port_that_leads_nowhere(kind: str, tmp_path: Path) -> None:
    found = await examined(written(tmp_path, kind, free_port()))
    assert [one.level for one in found] == ["ok", "wrong", "wrong"]
    assert "correct mesh.servers" in found[1].text


@pytest.mark.parametrize(
    ("credentials", "rights", "told"),
    [
        ("eu-1:wrong", "", "authorization violation|refuses the credentials"),
        ("eu-1:right", 'publish: "x"', "permissions violation for publish"),
        ("eu-1:right", 'subscribe: "x"', "permissions violation for subscription"),
    ],
)
async def test_what_nats_does_not_allow(
    credentials: str, rights: str, told: str, tmp_path: Path
) -> None:
    user = f"{{user: eu-1, password: right, permissions: {{{rights}}}}}"
    with NatsServer(f"authorization {{ users = [ {user} ] }}") as server:
        more = f", credentials: '{credentials}'"
        found = await examined(written(tmp_path, "nats", server.port, more))
    assert found[2].level == "wrong"
    assert re.search(told, found[2].text.lower())
    assert "right" not in found[2].text.replace("rights", "")


async def test_a_nats_server_that_takes_small_messages_only(tmp_path: Path) -> None:
    with NatsServer("max_payload: 65536") as server:
        found = await examined(written(tmp_path, "nats", server.port))
    assert found[2].text.endswith("raise max_payload in its configuration")


@pytest.mark.parametrize(
    ("credentials", "rights", "told"),
    [
        ("eu-1:wrong", "+@all &*", "does not let user 'eu-1' in"),
        ("eu-1:good", "+@all resetchannels", "does not let this node read"),
        ("eu-1:good", "+@all -publish &*", "permissions"),
    ],
)
async def test_what_redis_does_not_allow(
    credentials: str, rights: str, told: str, tmp_path: Path
) -> None:
    with Server() as server:
        server.call("ACL", "SETUSER", "eu-1", "on", ">good", *rights.split())
        more = f", credentials: '{credentials}'"
        found = await examined(written(tmp_path, "redis", server.port, more))
    assert found[2].level == "wrong"
    assert told in found[2].text
