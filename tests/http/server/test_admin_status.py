"""The status of a node when its Redis is gone, or when its state cannot be saved."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig, MeshError, Mode
from crdtbucket.http.server import node_replies
from tests.certificates import Authority
from tests.http.serving import API, HEADERS, TOKEN, serving
from tests.strong.redis_server import Server
from tests.waits import eventually


async def test_the_status_of_an_outage() -> None:
    specs = [
        BucketSpec("api", 100, 10, consistency="strong"),
        BucketSpec("deny", 100, 10, consistency="strong", on_outage="deny"),
        BucketSpec.concurrency("jobs", 20, consistency="strong"),
        BucketSpec("local", 100, 10),
    ]
    with Server() as redis:
        limiter = Limiter(specs, node="eu-1", **redis.patient())
        async with serving(limiter, admin_token=TOKEN) as client:

            async def status() -> Any:
                _, answer, _ = await client.ask("GET", "/admin/status", headers=HEADERS)
                node_replies.StatusReply.model_validate(answer)
                return answer, {one["name"]: one["outage"] for one in answer["buckets"]}

            answer, rules = await status()
            assert (answer["outages"], answer["redis_fault"]) == ({}, "")
            assert set(rules.values()) == {None}
            redis.kill()
            await eventually(lambda: limiter.bucket("api").mode is Mode.FALLBACK)
            await limiter.bucket("api").acquire("a", 4)
            answer, rules = await status()
            (out,) = answer["outages"].values()
            assert out["answering"] is None
            assert out["seconds"] >= 0
            assert "start it" in out["reason"]
            assert rules["api"] == {"rule": "quota", "tokens": 10, "seconds": 10.0}
            assert rules["deny"] == {"rule": "deny"}
            assert rules["jobs"] == {"rule": "quota", "tokens": 2}
            assert rules["local"] is None


async def test_the_status_says_that_no_snapshot_can_be_written(tmp_path: Path) -> None:
    mesh = MeshConfig(listen="127.0.0.1:0", secret="x" * 32, state_dir=tmp_path)
    limiter = Limiter([API], node="eu-1", mesh=mesh)
    (tmp_path / "eu-1.snapshot.new").mkdir()
    async with serving(limiter, admin_token=TOKEN) as client:
        with pytest.raises(MeshError):
            await asyncio.to_thread(limiter._node.saved.save)
        _, answer, _ = await client.ask("GET", "/admin/status", headers=HEADERS)
        node_replies.StatusReply.model_validate(answer)
        assert answer["snapshot"]["age"] >= 0
        assert answer["snapshot"]["fault"].endswith("cannot be written: Is a directory")
        (tmp_path / "eu-1.snapshot.new").rmdir()


@pytest.mark.parametrize("certified", [True, False])
async def test_the_status_says_until_when_the_certificate_is_valid(
    certified: bool, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ca")
    tls = {**authority.issue("eu-1", "eu-1", hours=(-1, 9)), "tls_ca": authority.file}
    mesh = MeshConfig(listen="127.0.0.1:0", secret="x" * 32, **(tls if certified else {}))
    limiter = Limiter([API], node="eu-1", mesh=mesh)
    async with serving(limiter, admin_token=TOKEN) as client:
        if certified:
            await eventually(lambda: limiter.stats()["certificates"])
        _, answer, _ = await client.ask("GET", "/admin/status", headers=HEADERS)
    node_replies.StatusReply.model_validate(answer)
    if not certified:
        assert answer["certificates"] == {}
        return
    (found,) = answer["certificates"].items()
    assert found == ("mesh", {"left": pytest.approx(9 * 3600, abs=120), "validity": 10 * 3600})
