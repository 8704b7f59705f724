"""`crdtbucket doctor` from the command line: its lines, its exit status, and nodes that examine
themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crdtbucket import Limiter
from crdtbucket.cli import doctor_command
from crdtbucket.http.server import admin
from tests.cli.fake_node import TOKEN, run
from tests.http.serving import serving
from tests.strong.redis_server import Server, free_port

FILE = """\
node: eu-1
services: {{api: {{limit: 100/minute, consistency: strong}}}}
rating:
  bucket_backend: {{connection: {{host: 127.0.0.1, port: {port}}}, deadline: 10s}}
  modes: {{latency_limit: 20s, outage_after: 30s}}
"""


def written(folder: Path, port: int) -> str:
    path = folder / "crdtbucket.yaml"
    path.write_text(FILE.format(port=port))
    return str(path)


async def test_a_line_each_and_status_0(tmp_path: Path) -> None:
    with Server() as redis:
        done = await run("doctor", written(tmp_path, redis.port), "--timeout", "20")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok     file: 1 bucket, version 0, hash ")
    assert f"ok     redis 127.0.0.1:{redis.port} script: it decides" in lines
    assert {line.split()[0] for line in lines} == {"ok", "note"}


async def test_what_is_wrong_has_status_1(tmp_path: Path) -> None:
    path = written(tmp_path, free_port())
    done = await run("doctor", path)
    assert done.exit_code == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("WRONG  redis 127.0.0.1")]
    done = await run("doctor", path, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"]) == (1, False)
    assert told["checks"][0]["subject"] == "file"
    assert {one["level"] for one in told["checks"]} == {"ok", "wrong"}


async def test_a_shared_table_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "unnamed.yaml"
    path.write_text("shared: auto\nservices: {api: {limit: 1/s}}\n")
    done = await run("doctor", str(path))
    assert done.exit_code == 1
    assert "no node is named" in done.stdout.splitlines()[0]
    assert "WRONG" not in (await run("doctor", str(path), "--node", "web-1")).stdout


async def test_a_file_that_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("services:\n  api: {limit: often}\nmehs: {}\n")
    done = await run("doctor", str(path))
    assert done.exit_code == 1
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == ["WRONG  file"] * 2
    assert "did you mean 'mesh'?" in done.stdout
    path.write_text("node: eu-1\n")
    assert "no bucket is defined: add services:" in (await run("doctor", str(path))).stdout
    path.write_text("services: {api: {limit: 1/s}}\nmesh: {}\n")
    assert "add node:, or give --node" in (await run("doctor", str(path))).stdout
    done = await run("doctor", str(path), "--node", "eu-1", "--listen", "127.0.0.1:1:1")
    assert "--node" not in done.stdout
    assert "WRONG  port 127.0.0.1:1:1" in done.stdout
    backend = "active_active: true, regions: [eu, us], connection: {url: 'unix:///not/there'}"
    path.write_text(
        f"services: {{api: {{limit: 1/s}}}}\nrating: {{bucket_backend: {{{backend}}}}}\n"
    )
    assert "give region, one of eu, us" in (await run("doctor", str(path))).stdout
    done = await run("doctor", str(path), "--region", "us")
    assert "keys of us are written, copies of eu are read" in done.stdout


async def test_a_node_examines_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "DOCTOR_STEP_S", 20.0)  # this machine may be busy
    monkeypatch.setattr(doctor_command, "NODE_TIMEOUT_S", 60.0)
    gone = f"http://127.0.0.1:{free_port()}"
    with Server() as redis:
        path = written(tmp_path, redis.port)
        limiter = Limiter.from_file(path, max_keys=64)
        settings = {"admin_token": TOKEN, "config": path, "request_deadline": 60.0}
        async with serving(limiter, **settings) as client:
            words = ("doctor", "--url", client.url)
            done = await run(*words, CRDTBUCKET_TOKEN=TOKEN)
            assert done.exit_code == 0, done.output
            assert done.stdout.startswith(f"{client.url}:\nok     file: 1 bucket")
            assert "memory: a full table takes 0 MiB" in done.stdout  # its own, of 64 keys
            redis.call("CONFIG", "SET", "maxmemory", "64mb", "maxmemory-policy", "allkeys-lru")
            done = await run(*words, "--url", gone, "--json", CRDTBUCKET_TOKEN=TOKEN)
            assert done.exit_code == 1
            wrong = [one for one in json.loads(done.stdout)["checks"] if one["level"] == "wrong"]
            assert [one["node"] for one in wrong] == [client.url, gone]
            assert "noeviction" in wrong[0]["text"]
            done = await run(*words)
            assert "wants the admin token" in str(done.exception)


async def test_a_node_without_a_file_refuses() -> None:
    async with serving(admin_token=TOKEN) as client:
        done = await run("doctor", "--url", client.url, CRDTBUCKET_TOKEN=TOKEN)
        assert "was not started from a configuration file" in str(done.exception)


async def test_there_is_something_to_examine() -> None:
    done = await run("doctor")
    assert done.exit_code == 2
    assert "give FILE, or --url" in done.output
