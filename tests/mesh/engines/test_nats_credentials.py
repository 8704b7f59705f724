"""Credentials at a real NATS server: passwords, tokens, the text of a `.creds` file, TLS."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import nkeys
import pytest

from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.certificates import Authority
from tests.mesh.engines.nats_server import SECRET, NatsServer, frames_go, linked, mesh
from tests.mesh.network import RecordingNode, running
from tests.waits import eventually


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
