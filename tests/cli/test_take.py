"""`crdtbucket take`, `peek` and `reset` against a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crdtbucket.cli.take import in_words
from crdtbucket.mesh.links.command_orders import CommandOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.spec.field_checks import canonical_name
from tests.cli.fake_node import TOKEN, fake_node, problem, run

ALLOWED = {
    "allowed": True, "limit": 10_000, "remaining": 9_997,
    "retry_after": 0.0, "reset_after": 0.0015, "mode": "strong",
}  # fmt: skip
DENIED = {**ALLOWED, "allowed": False, "remaining": 0, "retry_after": 12.4, "reset_after": 300.0}


@pytest.mark.parametrize("what", ["take", "peek"])
async def test_an_allowed_call(what: str) -> None:
    async with fake_node(**{f"POST_v1_{what}": ALLOWED}) as node:
        done = await run(what, "api", "tenant-42", "3", "--url", node.url)
        assert done.exit_code == 0
        assert done.output == "allowed: 9,997 of 10,000 left, full in 1.5 ms, mode strong\n"
        body = {"bucket": "api", "key": "tenant-42", "cost": 3}
        assert node.calls == [(f"POST /v1/{what}", body)]
        assert "Authorization" not in node.headers[0]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("what", ["take", "peek"])
async def test_a_denied_call_has_status_1(what: str, status: int) -> None:
    from aiohttp import web

    answer = {f"POST_v1_{what}": lambda: web.json_response(DENIED, status=status)}
    async with fake_node(**answer) as node:
        done = await run(what, "api", "k", "--url", node.url)
        assert done.exit_code == 1
        words = "denied: 0 of 10,000 left, retry in 12 s, full in 5 min 0 s, mode strong\n"
        assert done.output == words
        assert node.calls[0][1]["cost"] == 1
        done = await run(what, "api", "k", "--json", "--url", node.url)
        assert done.exit_code == 1
        assert json.loads(done.output) == DENIED


async def test_an_answer_without_a_decision_is_an_error() -> None:
    async with fake_node(POST_v1_take={}) as node:
        done = await run("take", "api", "k", "--url", node.url)
        assert "its answer is no decision" in str(done.exception)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"allowed": True}, "allowed"),
        ({"allowed": False, "mode": "a\x1b[2Jb"}, "denied: mode a\\x1b[2Jb"),
        ({"allowed": False, "retry_after": None, "remaining": None, "limit": 3}, "denied"),
        ({"allowed": False, "retry_after": 10**400, "reset_after": float("inf")}, "denied"),
        (
            {
                "allowed": False,
                "remaining": 0,
                "limit": 100,
                "mode": "fallback",
                "retry_after": 5,
                "detail": "api: the store is unreachable, this node grants 10 in 60 s",
            },
            "denied: api: the store is unreachable, this node grants 10 in 60 s, mode fallback",
        ),
    ],
)
def test_a_decision_in_words(decision: dict[str, Any], words: str) -> None:
    assert in_words(decision) == words


@pytest.mark.parametrize("how", ["file", "environment", "option"])
async def test_reset_sends_the_token(how: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    words = {"file": ["--token-file", str(path)], "option": ["--token", TOKEN]}.get(how, [])
    env = {"CRDTBUCKET_TOKEN": TOKEN if how == "environment" else None}
    back = {"given_back": 1_200, "remaining": 10_000, "limit": 10_000}
    async with fake_node(POST_admin_reset=back) as node:
        done = await run("reset", "api", "k", "--url", node.url, *words, **env)
        assert done.exit_code == 0, done.output
        assert done.output == "reset: 1,200 tokens came back, 10,000 of 10,000 left\n"
        assert node.calls == [("POST /admin/reset", {"bucket": "api", "key": "k"})]
        assert node.headers[0]["Authorization"] == f"Bearer {TOKEN}"
        done = await run("reset", "api", "k", "--json", "--url", node.url, *words, **env)
        assert json.loads(done.output) == back


async def test_a_reset_is_signed_with_a_key(tmp_path: Path) -> None:
    key, path = NodeKey.make(), tmp_path / "ops.pem"
    path.write_bytes(key.pem())
    words = ("reset", "a-b", "k", "--key", str(path), "--counter", "7")
    async with fake_node(POST_admin_order={"new": True}) as node:
        done = await run(*words, "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert (done.exit_code, done.output) == (0, "reset: taken, and passed on\n")
        ((call, body),) = node.calls
    signed = CommandOrder.reset(key, "mesh", canonical_name("a-b"), "k", 7)
    assert (call, body) == ("POST /admin/order", {"order": signed.as_text()})
    async with fake_node(POST_admin_order={"new": False}) as node:
        done = await run(*words, "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert (done.exit_code, done.output) == (0, "held already\n")


async def test_reset_without_and_with_a_wrong_token() -> None:
    async with fake_node(POST_admin_reset={}) as node:
        done = await run("reset", "api", "k", "--url", node.url)
        assert "wants the admin token: give --token-file, or set" in str(done.exception)
        done = await run("reset", "api", "k", "--url", node.url, CRDTBUCKET_TOKEN="another")
        assert "refuses this token" in str(done.exception)
        assert "another" not in str(done.exception)


async def test_a_reset_that_says_nothing() -> None:
    async with fake_node(POST_admin_reset={"given_back": 3}) as node:
        done = await run("reset", "api", "k", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert "does not say what came back" in str(done.exception)


async def test_an_unknown_bucket_is_reported_with_the_names_there_are() -> None:
    answer = problem(404, "no bucket 'apj'; there are: api, login")
    async with fake_node(POST_v1_take=answer) as node:
        done = await run("take", "apj", "k", "--url", node.url)
        assert str(done.exception) == f"{node.url}: no bucket 'apj'; there are: api, login"


@pytest.mark.parametrize("text", ["", " \n", "two\nlines", "caf\u00e9"])
async def test_a_token_file_without_a_token(text: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    done = await run("reset", "api", "k", "--token-file", str(path))
    assert done.exit_code == 2
    assert f"--token-file {path} holds no token: one line of ASCII is wanted" in done.output


async def test_two_tokens_are_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    done = await run("reset", "api", "k", "--token-file", str(path), "--token", TOKEN)
    assert done.exit_code == 2
    assert "not both" in done.output
