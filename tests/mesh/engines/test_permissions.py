"""Nodes run with the rights that the command prints, and a real server refuses messages in the name
of others."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner
from nats.aio.client import Client

from crdtbucket.cli.commands import cli
from crdtbucket.mesh.engines.subjects import password_variable
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.engines.nats_server import NatsServer
from tests.mesh.network import RecordingNode, running
from tests.strong.redis_server import Server
from tests.waits import eventually

SECRET = "a secret of these tests"
FILE = f"""
node: eu-1
mesh: {{transport: KIND, servers: [KIND://127.0.0.1:1], secret: {SECRET}, mesh_name: shop}}
services: {{api: {{limit: 1/s}}}}
"""
NODES = ("eu-1", "us 1")


def printed(tmp_path: Path, kind: str) -> str:
    """What the command prints for both nodes."""
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(FILE.replace("KIND", kind))
    nodes = [word for name in NODES for word in ("--node", name)]
    done = CliRunner().invoke(cli, ["mesh", "permissions", str(path), *nodes])
    assert done.exit_code == 0, done.output
    return done.output


def test_rules_without_names_are_those_of_one_node_and_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(FILE.replace("KIND", "nats"))
    done = CliRunner().invoke(cli, ["mesh", "permissions", str(path)])
    assert done.stdout.count("user:") == 1
    assert done.stderr == (
        "crdtbucket: these are the rules for eu-1 alone; name all nodes with --node\n"
    )


def mesh(kind: str, port: int, name: str, user: str) -> tuple[RecordingNode, MeshNetwork]:
    node = RecordingNode(name)
    config = MeshConfig(
        transport=kind,  # type: ignore[arg-type]
        servers=[f"{kind}://127.0.0.1:{port}"],
        credentials=f"{user}:a-password",
        mesh_name="shop",
        secret=SECRET,
    )
    return node, MeshNetwork(node, config)


async def frames_come(kind: str, port: int, stack: AsyncExitStack) -> None:
    """Two nodes with these rights link, and exchange frames."""
    (a, mesh_a), (b, mesh_b) = (
        mesh(kind, port, name, user) for name, user in zip(NODES, ("eu-1", "us_201"), strict=True)
    )
    await stack.enter_async_context(running(mesh_a, mesh_b))
    await eventually(lambda: a.linked and b.linked)
    a.send("us 1", b"there")
    b.send("eu-1", b"back")
    await eventually(lambda: a.frames == [("us 1", b"back")] and b.frames)


async def test_a_nats_server_refuses_to_publish_in_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NODES:
        monkeypatch.setenv(password_variable(name), '"a-password"')
    refused: list[str] = []

    async def failed(error: Exception) -> None:
        refused.append(str(error))

    with NatsServer(printed(tmp_path, "nats")) as server:
        async with AsyncExitStack() as stack:
            await frames_come("nats", server.port, stack)
            forger = Client()
            await forger.connect(
                server.url,
                user="us_201",
                password="a-password",
                error_cb=failed,
                max_reconnect_attempts=1,
            )
            stack.push_async_callback(forger.close)
            for subject in ("cb.shop.f.us_201.eu-1", "cb.shop.a.eu-1", "cb.shop.f.other.eu-1"):
                await forger.publish(subject, b"forged")
                await forger.flush()
                await eventually(lambda subject=subject: subject in " ".join(refused).lower())
            await forger.subscribe("cb.shop.f.eu-1.*")
            await forger.flush()
            await eventually(lambda: any("subscription" in one.lower() for one in refused))


async def test_a_redis_refuses_to_publish_in_another_name(tmp_path: Path) -> None:
    acl = tmp_path / "users.acl"
    lines = re.sub(r">PASSWORD_OF_\S+", ">a-password", printed(tmp_path, "redis"))
    acl.write_text(f"user default on nopass ~* &* +@all\n{lines}")
    with Server(f"aclfile {acl}") as server:
        async with AsyncExitStack() as stack:
            await frames_come("redis", server.port, stack)

        def dry(*words: str) -> str:
            return server.call("ACL", "DRYRUN", "us_201", *words).decode()

        assert dry("PUBLISH", "cb.shop.f.eu-1.us_201", "mine") == "OK"
        assert dry("PUBLISH", "cb.shop.a.us_201", "mine") == "OK"
        for channel in ("cb.shop.f.us_201.eu-1", "cb.shop.a.eu-1", "cb.shop.f.other.eu-1"):
            assert "no permissions" in dry("PUBLISH", channel, "forged")
        assert "no permissions" in dry("PSUBSCRIBE", "cb.shop.f.eu-1.*")
        assert "no permissions" in dry("GET", "key")


@pytest.mark.parametrize(
    ("text", "words", "told"),
    [
        ("services: {a: {limit: 1/s}}\n", [], "has no mesh"),
        ("node: a\nmesh: {}\nservices: {a: {limit: 1/s}}\n", [], "a mesh of sockets"),
        ("mesh: {}\nservices: {a: {limit: 1/s}}\n", ["--format", "nats"], "names no node"),
    ],
)
def test_what_has_no_rules_says_why(text: str, words: list[str], told: str, tmp_path: Path) -> None:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(text)
    done = CliRunner().invoke(cli, ["mesh", "permissions", str(path), *words])
    assert done.exit_code == 2
    assert told in done.output


async def test_a_node_without_the_right_to_listen_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rights = 'permissions: {subscribe: "x"}'
    block = f'authorization {{ users = [ {{user: a, password: "a-password", {rights}}} ] }}'
    with NatsServer(block) as server:
        _, one = mesh("nats", server.port, "a", "a")
        async with running(one):
            await eventually(
                lambda: "permissions violation for subscription" in caplog.text.lower()
            )
    assert "Traceback" not in caplog.text
    assert all(
        "`crdtbucket mesh permissions`" in one.message
        for one in caplog.records
        if "violation" in one.message
    )


async def test_a_node_that_may_publish_no_longer_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server:
        server.call("ACL", "SETUSER", "a", "on", ">a-password", "+@all", "&*")
        _, one = mesh("redis", server.port, "a", "a")
        async with running(one):
            await eventually(lambda: one.counters.engine_connections)
            server.call("ACL", "SETUSER", "a", "-publish")
            one._transport._exchange.engine_up("again")  # type: ignore[attr-defined]
            await eventually(lambda: "did not take a message" in caplog.text)
    assert "`crdtbucket mesh permissions`" in caplog.text
