"""`crdtbucket rollout` against a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crdtbucket.mesh.links.command_orders import CommandOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.rollout.staged import Position, Status
from tests.cli.fake_node import TOKEN, fake_node, problem, run

STATE: dict[str, Any] = {
    "version": 2, "hash": "0123456789abcdef", "before": 1, "status": "running", "reason": "",
    "stage": 1, "stages": 3, "reach": "10% of the keys in eu", "percent": 10, "since": 12.0,
    "hold": 600.0, "halts": 0,
    "buckets": {"api": {"old": {"admitted": 1_000, "denied": 0},
                        "new": {"admitted": 75, "denied": 25}}},
}  # fmt: skip
HALTED = {**STATE, "status": "halted", "reason": "api: 25% of 100 calls denied", "hold": None}


async def test_the_status_of_a_roll_out_is_shown_in_lines() -> None:
    async with fake_node(GET_admin_status={"rollout": STATE}) as node:
        done = await run("rollout", "status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 0
        assert done.output.splitlines() == [
            "version 2 after 1: running",
            "  stage 1 of 3: 10% of the keys in eu; for 12 s of 10 min 0 s",
            "  on this node: 10% of the keys",
            "  api: old 1,000 admitted and 0 denied (0%), new 75 admitted and 25 denied (25%)",
        ]
        done = await run("rollout", "--url", node.url, "--json", CRDTBUCKET_TOKEN=TOKEN)
        assert json.loads(done.output) == STATE


async def test_a_state_of_another_shape_is_shown_without_what_cannot_be_read() -> None:
    async with fake_node(GET_admin_status={"rollout": {**STATE, "buckets": {"api": 7}}}) as node:
        done = await run("rollout", "status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert (done.exit_code, done.exception) == (0, None)
        counts = "0 admitted and 0 denied (0%)"
        assert done.output.splitlines()[-1] == f"  api: old {counts}, new {counts}"


async def test_what_is_halted_is_in_the_exit_status_and_in_status() -> None:
    config = {"version": 2, "hash": "0123456789abcdef", "stage": "1"}
    answer = {"node": "eu-1", "config": config, "rollout": HALTED}
    async with fake_node(GET_admin_status=answer) as node:
        done = await run("rollout", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        first, second, *_ = done.output.splitlines()
        assert first == "version 2 after 1: halted (api: 25% of 100 calls denied)"
        assert second.endswith("for 12 s, until the command")
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        head, *_, wrong = done.output.splitlines()
        assert head.endswith("configuration 2 01234567 stage 1 halted")
        assert wrong == (
            "WRONG  eu-1: the roll-out of version 2 is halted (api: 25% of 100 calls denied)"
        )


async def test_none_is_under_way() -> None:
    async with fake_node(GET_admin_status={"rollout": None}) as node:
        done = await run("rollout", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert (done.exit_code, done.output) == (0, "no version is being rolled out\n")


@pytest.mark.parametrize("state", [None, HALTED])
async def test_a_file_that_was_refused_is_said(
    state: dict[str, Any] | None, tmp_path: Path
) -> None:
    fault = "version 3: limits.yaml:4:5: services: \x1b"
    answer = {"rollout": state, "config": {"fault": fault}}
    said = "the newest file was refused: version 3: limits.yaml:4:5: services: \\x1b"
    async with fake_node(GET_admin_status=answer) as node:
        done = await run("rollout", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.output.splitlines()[-1] == said
        if state is None:
            path = tmp_path / "ops.pem"
            path.write_bytes(NodeKey.make().pem())
            words = ("advance", "--key", str(path), "--url", node.url)
            done = await run("rollout", *words, CRDTBUCKET_TOKEN=TOKEN)
            assert str(done.exception).endswith(f"no version is being rolled out; {said}")


@pytest.mark.parametrize("action", ["advance", "halt", "rollback"])
async def test_a_command_goes_to_the_node(action: str) -> None:
    async with fake_node(POST_admin_rollout=HALTED) as node:
        done = await run("rollout", action, "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 0
        assert node.calls == [("POST /admin/rollout", {"action": action})]
        assert done.output.startswith("version 2 after 1: halted")


async def test_with_a_key_the_command_is_signed_and_says_where_the_version_is_to_be(
    tmp_path: Path,
) -> None:
    key, path = NodeKey.make(), tmp_path / "ops.pem"
    path.write_bytes(key.pem())
    words = ("--key", str(path), "--mesh-name", "eu", "--counter", "7")
    wanted = {
        "advance": (Status.RUNNING, 1),
        "halt": (Status.HALTED, 0),
        "rollback": (Status.ROLLED_BACK, 0),
    }
    answers = {"GET_admin_status": {"rollout": STATE}, "POST_admin_order": {"new": True}}
    async with fake_node(**answers) as node:
        for action in wanted:
            done = await run("rollout", action, *words, "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
            assert done.exit_code == 0
            signed, version, *_ = done.output.splitlines()
            assert signed.startswith("signed: version 2 (0123456789abcdef) is ")
            assert version == "version 2 after 1: running"
        given = [body["order"] for call, body in node.calls if call == "POST /admin/order"]
    for text, (status, stage) in zip(given, wanted.values(), strict=True):
        order = CommandOrder.from_text(text)
        assert order.position == Position(2, 0x0123456789ABCDEF, 7, status, stage)
        assert order.is_signed("eu")
        assert order.public == key.public
    for state, told in (
        (None, "no version is being rolled out"),
        ({**STATE, "status": "done"}, "version 2 is everywhere: there is no stage left"),
        ({**STATE, "hash": "?"}, "does not say how its roll-out stands"),
    ):
        async with fake_node(**{**answers, "GET_admin_status": {"rollout": state}}) as node:
            done = await run(
                "rollout", "advance", *words, "--url", node.url, CRDTBUCKET_TOKEN=TOKEN
            )
            assert told in str(done.exception)
            assert [call for call, _ in node.calls if call.startswith("POST")] == []


async def test_a_refusal_is_one_line() -> None:
    async with fake_node(POST_admin_rollout=problem(409, "version 2 is everywhere")) as node:
        done = await run("rollout", "advance", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert str(done.exception) == f"{node.url}: version 2 is everywhere"
        done = await run("rollout", "advance", "--url", node.url)
        assert "wants the admin token" in str(done.exception)


async def test_a_deliberate_roll_out_is_no_version_split() -> None:
    """Nodes at one stage and at the next run one version; one that lacks the file does not."""
    config = {"version": 2, "hash": "bb", "stage": "1"}
    peers = [
        {"name": "us-1", "state": "alive", "config": {**config, "stage": "2"}},
        {"name": "ap-1", "state": "alive", "config": {**config, "stage": ""}},
    ]
    answer = {"node": "eu-1", "config": config, "rollout": STATE, "peers": peers}
    async with fake_node(GET_admin_status=answer) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 0
        assert "us-1  alive  2 bb stage 2" in done.output
    peers[0]["config"] = {"version": 1, "hash": "aa", "stage": ""}
    async with fake_node(GET_admin_status=answer) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert "WRONG  version split: eu-1, ap-1 on 2 bb; us-1 on 1 aa" in done.output


async def test_a_version_that_was_rolled_back_is_shown_beside_the_one_that_runs() -> None:
    back = {"version": 2, "hash": "bb", "status": "rolled back"}
    config = {"version": 1, "hash": "aa", "stage": ""}
    peer = {"name": "us-1", "state": "alive", "config": config, "rollout": back}
    async with fake_node(GET_admin_status={"node": "eu-1", "peers": [peer]}) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert "us-1  alive  1 aa (2 rolled back)" in done.output
