"""The mesh over real NATS servers: lost, frozen, killed, joined, and its peers killed."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import logging
import os
import random
import re
import shutil
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nkeys
import pytest

from crdtbucket.mesh.engines.nats_engine import LOOK_S, MAX_UNSENT, NatsEngine
from crdtbucket.mesh.engines.subjects import Subjects
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.certificates import Authority
from tests.mesh.engines.nats_server import NatsServer
from tests.mesh.network import RecordingNode, running
from tests.strong.redis_server import free_port
from tests.waits import eventually

SECRET = "a secret of these tests"
NUMBERS = itertools.count()


def mesh(node: RecordingNode, *servers: NatsServer, credentials: str | None = None) -> MeshNetwork:
    config = MeshConfig(
        transport="nats",
        servers=[server.url for server in servers],
        credentials=credentials,
        secret=SECRET,
    )
    return MeshNetwork(node, config)


async def linked(stack: AsyncExitStack, *meshes: MeshNetwork) -> tuple[MeshNetwork, ...]:
    await stack.enter_async_context(running(*meshes))
    await eventually(lambda: all(len(one.links) == len(meshes) - 1 for one in meshes))
    return meshes


async def frames_go(a: RecordingNode, b: RecordingNode) -> None:
    """Frames go both ways from now on; those that are lost are sent again."""
    new = b"frame %d" % next(NUMBERS)

    def arrived() -> bool:
        there, back = (a.info.name, new) in b.frames, (b.info.name, new) in a.frames
        if not (there or a.outbox):
            a.send(b.info.name, new)
        if not (back or b.outbox):
            b.send(a.info.name, new)
        return there and back

    await eventually(arrived)


async def test_links_outlive_a_server_that_is_killed_and_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    with NatsServer() as server:
        async with AsyncExitStack() as stack:
            await linked(stack, mesh(a, server), mesh(b, server))
            server.kill()
            await eventually(lambda: caplog.text.count("decides alone") == 2)
            assert a.events == [("connected", "b")]
            server.start()
            await frames_go(a, b)
            assert a.events == [("connected", "b")]
    assert "Traceback" not in caplog.text
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == 2  # one of each node
    for one in warnings:
        assert one.levelno == logging.WARNING
        assert "unexpected EOF" in one.getMessage()
        assert "See that the server runs" in one.getMessage()


async def test_what_is_sent_while_the_server_is_gone_never_arrives() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    with NatsServer() as server:
        async with AsyncExitStack() as stack:
            meshes = await linked(stack, mesh(a, server), mesh(b, server))
            server.kill()
            await eventually(lambda: all(one.counters.engine_losses for one in meshes))
            dropped = meshes[0].counters.frames_dropped
            for number in range(10):
                a.send("b", b"stale %d" % number)
            await eventually(lambda: meshes[0].counters.frames_dropped >= dropped + 10)
            server.start()
            await frames_go(a, b)
            assert not [frame for _, frame in b.frames if frame.startswith(b"stale")]


async def test_a_loss_is_told_by_its_own_reason_and_not_by_a_refusal_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rights = 'permissions: {publish: {deny: "cb.mesh.a.a"}}'
    block = f'authorization {{ users = [ {{user: a, password: "right", {rights}}} ] }}'
    with NatsServer(block) as server:
        a = RecordingNode("a")
        async with running(mesh(a, server, credentials="a:right")):
            await eventually(lambda: "permissions violation" in caplog.text.lower())
            caplog.clear()
            server.kill()
            await eventually(lambda: "decides alone" in caplog.text)
    assert "permissions violation" not in caplog.text.lower()


async def test_a_node_begins_without_its_engine(caplog: pytest.LogCaptureFixture) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    server = NatsServer()
    async with running(mesh(a, server), mesh(b, server)):
        await eventually(lambda: caplog.text.count("decides alone") == 2)
        with server:
            await eventually(lambda: a.linked and b.linked)
    assert "Traceback" not in caplog.text


async def test_an_end_while_it_connects_closes_the_connection() -> None:
    """The server is silent: what was begun with it is given up."""
    came, ended = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read(-1)
        ended.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    subjects, tls = Subjects("cb", "mesh", "node"), SimpleNamespace(now=lambda: None)
    engine = NatsEngine(
        [f"nats://127.0.0.1:{port}"], subjects, random.Random(1), tls=cast("Any", tls)
    )
    gc.disable()  # the collector would close it, some time
    try:
        engine.start(cast("Any", SimpleNamespace()))
        await came.wait()
        await engine.stop()
        await asyncio.wait_for(ended.wait(), 120)
    finally:
        gc.enable()
        server.close()


async def test_a_frozen_server_is_left_for_another_one_of_its_cluster(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routes = [free_port(), free_port()]

    def member(own: int) -> NatsServer:
        other = routes[1 - own]
        return NatsServer(
            f'cluster {{ name: c, listen: "127.0.0.1:{routes[own]}", '
            f'routes: ["nats://127.0.0.1:{other}"] }}'
        )

    a, b = RecordingNode("a"), RecordingNode("b")
    with member(0) as first, member(1) as second:
        moving = mesh(a, first, second)
        async with running(moving):
            engine = moving._transport._exchange._engine  # type: ignore[attr-defined]

            def port() -> int | None:
                url = engine._client and engine._client.connected_url
                return url.port if url else None

            await eventually(port)
            mine, other = (first, second) if port() == first.port else (second, first)
            async with running(mesh(b, other)):  # each at a server of its own
                await frames_go(a, b)
                mine.freeze()
                await eventually(lambda: port() == other.port)
                await frames_go(a, b)
    assert "Traceback" not in caplog.text


async def test_a_stall_of_the_server_ends_no_link(caplog: pytest.LogCaptureFixture) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    with NatsServer() as server:
        async with AsyncExitStack() as stack:
            await linked(stack, mesh(a, server), mesh(b, server))
            server.freeze()
            ticks = a.ticks
            await eventually(lambda: a.ticks > ticks + 10)
            server.thaw()
            await frames_go(a, b)
            assert a.events == [("connected", "b")]
    assert "Traceback" not in caplog.text


async def test_what_was_sent_before_the_end_arrives_though_the_server_stalls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("links.link", "engines.nats_engine"):  # a busy machine may need more than 1 s
        monkeypatch.setattr(f"crdtbucket.mesh.{module}.CLOSE_S", 60.0)
    monkeypatch.setattr("crdtbucket.mesh.engines.nats_engine.WAITS", 10_000)
    a, b = RecordingNode("a"), RecordingNode("b")
    b.last_words = [("a", bytes([number]) * MAX_UNSENT) for number in range(10)]
    with NatsServer() as server:
        leaving = mesh(b, server)
        async with AsyncExitStack() as stack:
            await linked(stack, mesh(a, server), leaving)
            writer = leaving._transport._exchange._engine._client._transport._io_writer  # type: ignore[attr-defined]
            small = socket.SOL_SOCKET, socket.SO_SNDBUF, 4096  # the system keeps little of it
            writer.get_extra_info("socket").setsockopt(*small)
            server.freeze()
            stopping = asyncio.create_task(leaving.stop())
            await asyncio.wait({stopping}, timeout=2 * LOOK_S)
            server.thaw()
            await stopping
            await eventually(lambda: not a.linked)
            assert a.frames == [("b", frame) for _, frame in b.last_words]


VICTIM = """
import asyncio, sys
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode

async def main():
    config = MeshConfig(transport="nats", servers=[sys.argv[1]], secret=sys.argv[2])
    await MeshNetwork(RecordingNode("victim"), config).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_process_that_is_killed_is_noticed_at_once_and_its_place_refuses() -> None:
    a = RecordingNode("a")
    with NatsServer() as server:
        async with running(mesh(a, server)):
            victim = await asyncio.create_subprocess_exec(
                sys.executable, "-c", VICTIM, server.url, SECRET
            )
            try:
                await eventually(lambda: a.linked)
                victim.kill()
                # Far sooner than the silence of 15 s by which a lost peer would be noticed.
                await eventually(lambda: a.ends)
                assert a.ends == [("victim", True)]
                await eventually(lambda: a.failed_dials)
                assert a.failed_dials[0] == ("victim", "nats:victim", True)
            finally:
                if victim.returncode is None:
                    victim.kill()
                await victim.wait()


async def test_a_wrong_password_is_a_warning_that_does_not_repeat_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    block = 'authorization { user: a, password: "the right one" }'
    with NatsServer(block) as server:
        a = RecordingNode("a")
        async with running(mesh(a, server, credentials="a:the wrong one")):
            # The server's own words are lost where it hangs up before they are read.
            words = re.compile("Authorization Violation|refuses the credentials")
            await eventually(lambda: words.search(caplog.text))
        b, c = RecordingNode("b"), RecordingNode("c")
        right = "a:the right one"
        async with AsyncExitStack() as stack:
            meshes = [mesh(node, server, credentials=right) for node in (b, c)]
            await linked(stack, *meshes)
    assert "the wrong one" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_tls_by_an_authority_of_ones_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    files = ours.issue("server")
    block = f'tls {{ cert_file: "{files["tls_cert"]}", key_file: "{files["tls_key"]}" }}'
    with NatsServer(block) as server:
        url = server.url.replace("nats://", "tls://")

        def secured(node: RecordingNode, authority: Authority) -> MeshNetwork:
            settings = {"servers": [url], "tls_ca": authority.file, "secret": SECRET}
            return MeshNetwork(node, MeshConfig(transport="nats", **settings))  # type: ignore[arg-type]

        a, b, other = RecordingNode("a"), RecordingNode("b"), RecordingNode("other")
        async with AsyncExitStack() as stack:
            await linked(stack, secured(a, ours), secured(b, ours))
            await frames_go(a, b)
            await stack.enter_async_context(running(secured(other, theirs)))
            await eventually(lambda: "certificate verify failed" in caplog.text)
            assert not other.linked
            shutil.copy(ours.file, theirs.file)  # the changed file comes into use
            await eventually(lambda: other.linked)
    assert "Traceback" not in caplog.text


def identity(kind: int) -> nkeys.KeyPair:
    """A fresh key of an operator, an account or a user."""
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def token(by: nkeys.KeyPair, of: nkeys.KeyPair, kind: str) -> str:
    """What `by` signs for `of`, as NATS reads it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    claims = {
        "jti": os.urandom(8).hex(),
        "iat": 1_700_000_000,
        "iss": by.public_key.decode(),
        "sub": of.public_key.decode(),
        "name": kind,
        "nats": {"type": kind, "version": 2, **NO_LIMITS[kind]},
    }
    head = part(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    signed = f"{head}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(by.sign(signed.encode()))}"


FREE = {"subs": -1, "data": -1, "payload": -1}
BOUNDLESS = FREE | {"conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": True}
NO_LIMITS: dict[str, dict[str, object]] = {
    "operator": {},
    "account": {"limits": BOUNDLESS},
    "user": FREE,
}


async def test_the_text_of_a_creds_file_lets_a_node_in() -> None:
    operator, account, user = map(
        identity,
        (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER),
    )
    preload = f"{account.public_key.decode()}: {token(operator, account, 'account')}"
    creds = (
        f"-----BEGIN NATS USER JWT-----\n{token(account, user, 'user')}\n"
        "------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    lines = (
        f"operator: {token(operator, operator, 'operator')}",
        f"resolver: MEMORY\nresolver_preload: {{ {preload} }}",
    )
    with NatsServer(*lines) as server:
        a, b = RecordingNode("a"), RecordingNode("b")
        async with AsyncExitStack() as stack:
            meshes = [mesh(node, server, credentials=creds) for node in (a, b)]
            await linked(stack, *meshes)
            await frames_go(a, b)


async def test_a_token_lets_a_node_in() -> None:
    with NatsServer("authorization { token: secret-token }") as server:
        a, b = RecordingNode("a"), RecordingNode("b")
        async with AsyncExitStack() as stack:
            meshes = [mesh(node, server, credentials="secret-token") for node in (a, b)]
            await linked(stack, *meshes)
