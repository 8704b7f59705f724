"""`crdtbucket config check --redis`: what a Redis would do is known before it matters."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crdtbucket.cli.commands import cli
from tests.strong.redis_server import Server, free_port

FILE = """
node: eu-1
rating:
  consistency: strong
  bucket_backend:
    connection: {{{where}}}
    connect_timeout: 5
services:
  chat: {{limit: 10/s burst 100}}
"""


def check(folder: Path, where: str) -> Result:
    path = folder / "limits.yaml"
    path.write_text(FILE.format(where=where))
    return CliRunner().invoke(cli, ["config", "check", "--redis", str(path)])


def at(server: Server) -> str:
    return f"host: {server.host}, port: {server.port}"


def test_a_redis_that_serves(tmp_path: Path) -> None:
    with Server("maxmemory 64mb") as server:
        result = check(tmp_path, at(server))
        assert result.exit_code == 0
        assert f"Redis {server.host}:{server.port}: it serves" in result.output
        (left,) = server.call("KEYS", "*")
        assert 0 < server.call("PTTL", left) <= 120_000


@pytest.mark.parametrize(
    ("rules", "more", "told"),
    [
        (("maxmemory 64mb", "maxmemory-policy allkeys-lru"), "", "maxmemory-policy is allkeys-lru"),
        (("requirepass right",), ", password: wrong", "WRONGPASS: check redis.password"),
        (("user default on nopass ~* +@all -hset",), "", "the command HSET: allow it"),
        (("user default on nopass ~other:* +@all",), "", "the keys of a limiter: allow it"),
    ],
)
def test_one_that_would_not(tmp_path: Path, rules: tuple[str, ...], more: str, told: str) -> None:
    with Server(*rules) as server:
        result = check(tmp_path, at(server) + more)
    assert result.exit_code == 1
    assert told in result.output


def test_one_that_is_not_there(tmp_path: Path) -> None:
    result = check(tmp_path, f"host: 127.0.0.1, port: {free_port()}")
    assert result.exit_code == 1
    assert "cannot be reached" in result.output


def test_no_sentinel_that_answers(tmp_path: Path) -> None:
    where = f"sentinel: {{master: main, nodes: ['127.0.0.1:{free_port()}']}}"
    result = check(tmp_path, where)
    assert result.exit_code == 1
    assert "no sentinel names a primary 'main'" in result.output


def test_without_the_option_nobody_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text(FILE.format(where="host: 127.0.0.1, port: 1"))
    result = CliRunner().invoke(cli, ["config", "check", str(path)])
    assert result.exit_code == 0
    assert "Redis" not in result.output
