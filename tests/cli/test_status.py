"""`crdtbucket status` against one node and several."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest
from aiohttp import web

from crdtbucket import Limiter, MeshConfig
from tests.cli.fake_node import TOKEN, fake_node, problem, run
from tests.cli.test_node_client import REFUSED
from tests.http.serving import API, serving
from tests.strong.redis_server import free_port

CONFIG = {"version": 3, "hash": "0123456789abcdef", "stage": None, "reloads": 1, "refused": 0}
WELL: dict[str, Any] = {
    "node": "eu-1", "region": "eu", "warming_up": False, "config": CONFIG,
    "ready": True, "redis": {"redis.internal:6379": "strong"},
    "buckets": [{"name": "ai-agent-inference", "mode": "strong", "capacity": 10_000}],
    "peers": [{"name": "us-1", "state": "alive", "lag": 0.12, "config": CONFIG}],
}  # fmt: skip
ILL = {
    **WELL,
    "buckets": [{"name": "ai-agent-inference", "mode": "fallback", "capacity": 10_000}],
    "peers": [{"name": "us-1", "state": "dead", "lag": 75.0, "config": CONFIG}],
}


async def test_a_mesh_that_is_well_has_status_0_and_no_fault() -> None:
    async with fake_node(GET_admin_status=WELL) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 0
        lines = [line.rstrip() for line in done.output.splitlines()]
        assert lines == [
            f"eu-1 (eu) at {node.url}, configuration 3 01234567",
            "  bucket              mode",
            "  ai-agent-inference  strong",
            "  redis                mode",
            "  redis.internal:6379  strong",
            "  peer  state  lag     configuration",
            "  us-1  alive  0.12 s  3 01234567",
            "",
            "ok",
        ]


async def test_keys_are_shown_and_what_a_mesh_without_them_is_not_protected_from() -> None:
    keyed = {
        **WELL,
        "identity": {"policy": "pinned", "fingerprint": "ed25519:01", "operators": ["ed25519:02"]},
        "peers": [{"name": "us-1", "state": "alive", "fingerprint": "ed25519:02"}],
    }
    bare = {
        **WELL,
        "node": "us-1",
        "identity": {"policy": "off", "fingerprint": None, "operators": []},
    }
    async with (
        fake_node(GET_admin_status=keyed) as node,
        fake_node(GET_admin_status=bare) as other,
    ):
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 0
        lines = [line.split() for line in done.output.splitlines()]
        assert lines[0][-2:] == ["key", "ed25519:01"]
        assert ["us-1", "alive", "ed25519:02"] in lines
        assert "note" not in done.output
        words = ("status", "--url", node.url, "--url", other.url)
        done = await run(*words, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 0
        note, moved, ok = done.output.splitlines()[-3:]
        assert note.startswith(
            "note   us-1: mesh.identity is off, so whoever has the mesh's secret"
        )
        assert moved.startswith("note   us-1: mesh.operator_keys is empty, so any member")
        assert ok == "ok"
        done = await run(*words, "--json", CRDTBUCKET_TOKEN=TOKEN)
        told = [one.removeprefix("note   ") for one in (note, moved)]
        assert json.loads(done.output)["notes"] == told


async def test_the_regions_of_a_replicated_redis_are_shown() -> None:
    regions = {"us": {"state": "silent", "late": 12.0}, "ap": {"state": "unknown", "late": None}}
    async with fake_node(GET_admin_status={**WELL, "regions": regions}) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        lines = [line.split() for line in done.output.splitlines()]
        assert ["region", "state", "behind"] in lines
        assert ["us", "silent", "12", "s"] in lines
        assert ["ap", "unknown"] in lines


async def test_an_outage_says_since_when_why_what_callers_get_and_when_it_ends() -> None:
    out = {"seconds": 12.0, "reason": "no answer for 0.5 s to the calls made", "answering": 8.0,
           "steady": 8.0, "stable_after": 5.0, "gap": 41.0}  # fmt: skip
    answer = {
        **ILL,
        "peers": [],
        "redis": {"redis.internal:6379": "fallback"},
        "outages": {"redis.internal:6379": out, "gone:6379": 7},
        "buckets": [{**ILL["buckets"][0], "outage": {"rule": "deny"}}],
        "redis_fault": "others hash keys otherwise",
    }
    async with fake_node(GET_admin_status=answer) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
    assert done.exit_code == 1
    redis, unused, bucket = done.output.splitlines()[-3:]
    assert redis.startswith(
        "WRONG  eu-1: Redis redis.internal:6379 is slow or out of reach, mode fallback for 12 s, "
        "after: no answer for 0.5 s to the calls made; it answers well, and strong mode returns in "
        "41 s, as least_return_gap"
    )
    assert unused == "WRONG  eu-1: Redis is not used: others hash keys otherwise"
    assert bucket.endswith(
        "fallback, the rule for an outage decides: deny, so every call is denied"
    )


async def test_a_snapshot_that_cannot_be_written_is_wrong() -> None:
    fault = "/var/lib/crdtbucket/eu-1.snapshot cannot be written: No space left on device"
    for kept in (None, {}, {"age": 3.5, "fault": ""}, {"age": "?", "fault": 7}):
        async with fake_node(GET_admin_status={**WELL, "snapshot": kept}) as node:
            assert (await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)).exit_code == 0
    full = {"age": 75.0, "fault": fault}
    async with fake_node(GET_admin_status={**WELL, "snapshot": full}) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        assert f"WRONG  eu-1: no snapshot is kept: {fault}; the last one is 75 s old" in done.output


async def test_a_certificate_that_should_have_been_renewed_is_wrong() -> None:
    day = {"left": 21_600, "validity": 86_400}
    for shown in (None, {}, {"left": 9e5, "validity": 9e6}, {"left": "?", "validity": 7}, day):
        certificates = {"mesh": shown, "of a later version": shown}
        async with fake_node(GET_admin_status={**WELL, "certificates": certificates}) as node:
            assert (await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)).exit_code == 0
    ends = {"mesh": {"left": 3e5, "validity": 9e6}, "redis": {"left": -3e5, "validity": 9e6}}
    async with fake_node(GET_admin_status={**WELL, "certificates": ends}) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        for said in (
            "WRONG  eu-1: its certificate, mesh.tls.cert, expires in 3 days: after that nodes",
            "WRONG  eu-1: its certificate, redis.tls_cert, expired 3 days ago: after that Redis",
        ):
            assert said in done.output


async def test_what_is_wrong_stands_at_the_end_and_in_the_status() -> None:
    async with fake_node(GET_admin_status=ILL) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        fallback, dead = done.output.splitlines()[-2:]
        assert fallback.startswith("WRONG  eu-1: ai-agent-inference is in fallback")
        assert dead == "WRONG  eu-1: us-1 is dead, last seen 75 s ago"


async def test_a_configured_peer_that_was_never_reached_is_wrong() -> None:
    missed = {
        "address": "10.0.0.3:7946", "node": "", "seconds": 75.0, "left": False,
        "reason": "Connection refused",
    }  # fmt: skip
    gone = {**missed, "address": "10.0.0.4:7946", "node": "ap-1", "left": True}
    answer = {**WELL, "unreached": 1, "unreached_peers": [missed, gone, "nonsense", {"node": 7}]}
    async with fake_node(GET_admin_status=answer) as node:
        done = await run("status", "--url", node.url, "--json", CRDTBUCKET_TOKEN=TOKEN)
        told = json.loads(done.output)
        assert (done.exit_code, told["ok"]) == (1, False)
        assert told["wrong"][0] == "eu-1: no link with 10.0.0.3:7946 for 75 s: Connection refused"
        assert told["notes"] == [
            "eu-1: ap-1 at 10.0.0.4:7946 has left, and nobody answers there for 75 s"
        ]


async def test_without_the_token_status_says_how_many_peers_were_not_reached() -> None:
    port = free_port()
    mesh = MeshConfig(
        listen="127.0.0.1:0",
        peers=[f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"],
        secret="a secret of these tests",
    )
    other = MeshConfig(
        listen=f"127.0.0.1:{port}", peers=mesh.peers, secret="a secret of these tests"
    )
    async with (
        Limiter([API], node="eu-2", mesh=other),
        serving(Limiter([API], node="eu-1", mesh=mesh), admin_token=TOKEN) as client,
    ):
        for _ in range(500):
            if (await client.get("/v1/peers"))["unreached"]:
                break
            await asyncio.sleep(0.02)
        done = await run("status", "--url", client.url)
        assert done.exit_code == 1
        assert "WRONG  eu-1: no link at 1 of its mesh.peers" in done.output.replace("\n", " ")
        done = await run("status", "--url", client.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        (missed,) = client.limiter.stats()["mesh"]["unreached"]
        assert f"WRONG  eu-1: no link with {missed['address']} for " in done.output


async def test_why_a_node_is_not_ready_is_said_with_and_without_the_token() -> None:
    ill = {**WELL, "ready": False, "not_ready": "another process is called so"}
    ready = problem(503, "another process is called so")
    peers, buckets = ({name: WELL[name]} for name in ("peers", "buckets"))
    async with fake_node(
        GET_admin_status=ill,
        GET_readyz=ready,
        GET_v1_peers={"node": "eu-1", **peers},
        GET_v1_buckets=buckets,
    ) as node:
        for token in (TOKEN, None):
            done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=token)
            assert "WRONG  eu-1 is not ready: another process is called so\n" in done.output


async def test_a_node_out_of_reach_is_wrong_and_the_others_are_shown() -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    async with fake_node(GET_admin_status=WELL) as node:
        words = ("status", "--url", gone, "--url", node.url)
        done = await run(*words, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        assert done.output.startswith("eu-1 (eu)")
        assert f"WRONG  {gone} is not reachable: Connection refused" in done.output
        done = await run(*words, "--json", CRDTBUCKET_TOKEN=TOKEN)
        told = json.loads(done.output)
        assert (done.exit_code, told["ok"]) == (1, False)
        assert told["wrong"] == [f"{gone} is not reachable: {REFUSED}"]
        assert told["nodes"] == [
            {"url": gone, "error": f"{gone} is not reachable: {REFUSED}"},
            {"url": node.url, **WELL},
        ]


@pytest.mark.parametrize(("limit", "status"), [("0.1", 1), ("0.2", 0)])
async def test_the_lag_that_is_too_much(limit: str, status: int) -> None:
    async with fake_node(GET_admin_status=WELL) as node:
        words = ("status", "--url", node.url, "--max-lag", limit)
        assert (await run(*words, CRDTBUCKET_TOKEN=TOKEN)).exit_code == status


async def test_nodes_on_two_versions_are_a_version_split() -> None:
    other = {**WELL, "node": "us-1", "peers": [], "config": {**CONFIG, "version": 2, "hash": "ff"}}
    async with fake_node(GET_admin_status=WELL) as one, fake_node(GET_admin_status=other) as two:
        done = await run("status", "--url", one.url, "--url", two.url, CRDTBUCKET_TOKEN=TOKEN)
        assert done.exit_code == 1
        assert "WRONG  version split: eu-1 on 3 01234567; us-1 on 2 ff" in done.output


async def test_where_no_node_answers_there_is_no_word_of_what_is_shown() -> None:
    done = await run("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert (done.exit_code, done.stderr) == (1, "")


async def test_without_a_token_it_shows_what_is_public() -> None:
    async with serving() as client:
        done = await run("status", "--url", client.url)
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith(f"local at {client.url}\n")
        assert ["api", "eventual"] in [line.split() for line in done.stdout.splitlines()]
        assert done.stdout.endswith("ok\n")
        assert "only what is public is shown" in done.stderr
        client.server.api.views.drain()
        done = await run("status", "--url", client.url, "--json")
        assert done.exit_code == 1
        assert "is not ready" in json.loads(done.stdout)["wrong"][0]


async def test_a_node_behind_a_proxy_that_fails_is_wrong_and_the_others_are_shown() -> None:
    page = web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")
    async with (
        fake_node(GET_admin_status=page) as behind,
        fake_node(GET_admin_status=WELL) as well,
    ):
        urls = ("--url", behind.url, "--url", well.url)
        done = await run("status", *urls, "--json", CRDTBUCKET_TOKEN=TOKEN)
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [one.get("node") for one in found["nodes"]] == [None, "eu-1"]
    assert "answers GET /admin/status with status 502" in found["wrong"][0]


async def test_a_token_that_can_be_read_once_is_enough() -> None:
    pipe, writer = os.pipe()  # as a shell makes it of <(pass show token)
    os.write(writer, TOKEN.encode())
    os.close(writer)
    async with fake_node(GET_admin_status=WELL) as node:
        done = await run("status", "--url", node.url, "--token-file", f"/dev/fd/{pipe}")
    os.close(pipe)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("ok\n")


async def test_a_wrong_token_is_an_error_not_a_fault() -> None:
    async with fake_node(GET_admin_status=WELL) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN="guessed")
        assert "refuses this token" in str(done.exception)


async def test_it_is_readable_at_80_columns() -> None:
    silent = {"state": "suspect", "lag": 3.0, "config": CONFIG}
    peers = [{"name": f"region-with-a-name-{n}", **silent} for n in range(3)]
    async with fake_node(GET_admin_status={**WELL, "peers": peers}) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN, COLUMNS="80")
        assert max(len(line.rstrip()) for line in done.output.splitlines()) <= 80


async def test_what_a_node_does_not_tell_has_no_column() -> None:
    peers = [{"name": "us-1", "state": "alive"}]
    async with fake_node(GET_admin_status={**WELL, "peers": peers}) as node:
        done = await run("status", "--url", node.url, CRDTBUCKET_TOKEN=TOKEN)
        lines = [line.split() for line in done.output.splitlines()]
        assert ["peer", "state"] in lines
        assert ["us-1", "alive"] in lines
