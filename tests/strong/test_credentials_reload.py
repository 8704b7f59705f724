"""The password of Redis is changed while a limiter works: in Redis, in the file, and the old one
removed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, ConfigError, Limiter, Mode, RedisConfig
from crdtbucket.base.address import Address
from crdtbucket.config import Config, load_config
from crdtbucket.config.compare import compare
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis import locator
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.topology import ALL_SLOTS, Primary, Topology
from tests.strong.redis_server import EAGER, Server

FILE = """\
services: {{api: {{limit: 1000/hour}}, free: {{limit: 1000/hour, consistency: eventual}}}}
rating:
  consistency: {consistency}
  bucket_backend:
    deadline: 10s
    connection: {{host: 127.0.0.1, port: {port}, username: {user}, password: "{password}"}}
  modes: {{{modes}}}
"""


@pytest.fixture
def guarded() -> Iterator[Server]:
    with Server() as server:
        for user in ("limits", "others"):
            server.call("ACL", "SETUSER", user, "on", ">the old one", "~*", "&*", "+@all")
        yield server


def write(
    path: Path, server: Server, password: str, user: str = "limits", consistency: str = "strong"
) -> Path:
    modes = ", ".join(f"{name}: {value}" for name, value in EAGER.items())
    path.write_text(
        FILE.format(
            port=server.port, user=user, password=password, modes=modes, consistency=consistency
        )
    )
    return path


def clients(server: Server, user: str) -> int:
    lines = server.call("CLIENT", "LIST").decode().splitlines()
    return sum(f" user={user} " in f"{line} " for line in lines)


async def reaches_redis(limiter: Limiter, *, wait: bool = False) -> bool:
    """Whether a call is answered by Redis; `wait`: until one is."""
    before = limiter.stats()["redis"]
    answered = sum(one["answered"] for one in before.values())
    while True:
        await limiter.bucket("api").acquire("k")
        if sum(one["answered"] for one in limiter.stats()["redis"].values()) > answered:
            return True
        if not wait:
            return False
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("user", ["limits", "others"])
async def test_a_new_password_is_used_without_a_restart_and_no_call_misses_redis(
    user: str, guarded: Server, tmp_path: Path
) -> None:
    path = write(tmp_path / "limits.yaml", guarded, "the old one")
    async with Limiter.from_file(path, node="eu-1") as limiter:
        bucket = limiter.bucket("api")
        assert (await bucket.acquire("k", 10)).mode is Mode.STRONG
        guarded.call("ACL", "SETUSER", user, ">the new one")
        limiter.reload(load_config(write(path, guarded, "the new one", user)))
        for one in {user, "limits"}:
            guarded.call("ACL", "SETUSER", one, "<the old one")
        decision = await bucket.acquire("k", 10)  # by the connection that there is
        assert (decision.mode, decision.remaining) == (Mode.STRONG, 980)
        guarded.call("CLIENT", "KILL", "USER", "limits")
        assert await reaches_redis(limiter, wait=True)  # by a new connection
        assert clients(guarded, user)
        in_thread = await asyncio.to_thread(bucket.acquire_sync, "other", 10)
        assert (in_thread.mode, in_thread.remaining) == (Mode.STRONG, 990)
    assert limiter.stats()["config"]["refused"] == 0


async def test_a_limiter_whose_password_was_refused_is_strong_once_it_has_the_new_one(
    guarded: Server, tmp_path: Path
) -> None:
    path = write(tmp_path / "limits.yaml", guarded, "a wrong one")
    async with Limiter.from_file(path, node="eu-1") as limiter:
        assert not await reaches_redis(limiter)
        write(path, guarded, "the old one")
        limiter.reload()
        assert await reaches_redis(limiter, wait=True)


def test_what_else_is_of_redis_asks_for_a_restart(guarded: Server, tmp_path: Path) -> None:
    path = write(tmp_path / "limits.yaml", guarded, "the old one")
    limiter = Limiter.from_file(path, node="eu-1")
    config = load_config(path)
    assert config.redis is not None
    for change in ({"port": 1}, {"hash_secret": "x" * 16}, {"db": 1, "password": "new"}):
        with pytest.raises(ConfigError) as caught:
            limiter.reload(replace(config, redis=replace(config.redis, **change)))
        assert len(caught.value.problems) == 1
        assert "password" not in caught.value.problems[0].path
    given = Limiter.from_file(
        path, node="eu-1", redis=RedisConfig(url=guarded.url, password="mine")
    )
    write(path, guarded, "the new one")
    with pytest.raises(ConfigError, match=r"connection\.password.*cannot change"):
        given.reload()  # an argument holds in place of the file
    limiter.reload()
    (changed,) = compare(config, load_config(path)).settings
    assert changed.words == "rating.bucket_backend.connection.password: another secret"


def test_a_limiter_that_asks_no_redis_takes_another_password(
    guarded: Server, tmp_path: Path
) -> None:
    path = write(tmp_path / "limits.yaml", guarded, "the old one", consistency="eventual")
    limiter = Limiter.from_file(path, node="eu-1")
    write(path, guarded, "the new one", consistency="eventual")
    limiter.reload()
    assert limiter.stats()["config"]["reloads"] == 1


async def test_a_limiter_without_a_file_takes_another_password(guarded: Server) -> None:
    spec = BucketSpec("api", 100, 1, "1h", consistency="strong")
    how = Degradation(modes=ControllerSettings(**EAGER))  # type: ignore[arg-type]
    redis = RedisConfig(host=guarded.host, port=guarded.port, username="limits", password="wrong")
    async with Limiter([spec], node="eu-1", redis=redis, degradation=how) as limiter:
        assert not await reaches_redis(limiter)
        right = replace(redis, password="the old one")
        limiter.reload(Config("limits.yaml", [spec], redis=right, degradation=how))
        assert await reaches_redis(limiter, wait=True)


async def test_nodes_of_a_cluster_and_sentinels_are_asked_with_the_new_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str | None] = []

    async def ask(who: Address, access: Access, *_: object) -> Topology:
        asked.append(access.password)
        return Topology((Primary(who, ALL_SLOTS),))

    monkeypatch.setattr(locator, "asking", ask)
    old = RedisConfig(cluster=True, nodes=["127.0.0.1:1"], password="old")
    found = locator.Locator(old, None)
    await found.locate()
    found.renew(replace(old, password="new"), None)
    await found.locate()
    assert asked == ["old", "new"]
