"""A command that the user may not call is an outage, and its log names the command and the fix."""

from __future__ import annotations

import asyncio
import logging

import pytest

from crdtbucket import BucketSpec, Limiter, Mode, RedisConfig
from crdtbucket.base.address import Address
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.redis.login import explained
from crdtbucket.strong.redis.resp import RedisErrorReply
from tests.strong.redis_server import Server
from tests.waits import eventually

STILL = BucketSpec("b", 1_000, 1, "1h", consistency="strong")
COMMANDS = (
    "evalsha", "eval", "script|load", "hgetall", "hmget", "hlen", "hset", "hdel", "pexpire", "time",
    "info", "ping",
)  # fmt: skip
CALL_GAP_S = 0.005


def user(server: Server, missing: str = "", keys: str = "~crdtbucket:*") -> RedisConfig:
    """Settings for a user with every right that a limiter needs but one."""
    rights = [f"+{command}" for command in COMMANDS if command != missing]
    rules = ("reset", "on", ">pw", keys, "resetchannels", "-@all", *rights)
    server.call("ACL", "SETUSER", "limiter", *rules)
    return RedisConfig(
        host=server.host, port=server.port, username="limiter", password="pw", deadline=10.0
    )


def opened(config: RedisConfig, told: list[ModeNotice] | None = None, node: str = "n1") -> Limiter:
    notices = [] if told is None else told
    modes = ControllerSettings(latency_limit=5.0, outage_after=5.1, least_return_gap=0.0)
    how = Degradation(modes=modes, on_mode_change=notices.append)
    return Limiter([STILL], node=node, redis=config, degradation=how)


async def until_fallback(limiter: Limiter, keys: int = 1) -> None:
    """Calls until the mode says that Redis does not decide, not as fast as the processor can."""
    bucket, number = limiter.bucket("b"), 0

    async def asked() -> bool:
        nonlocal number
        number += 1
        decision = await bucket.acquire(f"k{number % keys}")
        assert decision.mode is Mode.FALLBACK or not decision.allowed
        return bucket.mode is Mode.FALLBACK

    while not await asked():
        assert number < 20_000
        await asyncio.sleep(CALL_GAP_S)


@pytest.mark.parametrize("missing", ["hset", "hmget", "pexpire", "time"])
async def test_a_right_that_is_missing_is_an_outage_and_named(
    missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[ModeNotice] = []
    with Server() as server:
        async with opened(user(server, missing), told) as limiter:
            await until_fallback(limiter)
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert any(f"user 'limiter' the command {missing.upper()}: allow it" in one for one in errors)
    assert any(f"+{missing}" in one for one in errors)
    assert len(errors) == len(set(errors))
    (critical,) = (r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL)
    assert f"the command {missing.upper()}" in critical
    assert f"+{missing}" in told[0].reason


async def test_denials_do_not_hide_that_nothing_can_be_written() -> None:
    """Keys that others have emptied are denied rightly; no other one can be charged."""
    with Server() as server:
        admin = RedisConfig(host=server.host, port=server.port, deadline=10.0)
        async with opened(admin, node="n2") as other:
            for number in range(10):
                assert await other.bucket("b").acquire(f"k{number}", 1_000)
            async with opened(user(server, "hset")) as limiter:
                await until_fallback(limiter, keys=20)


async def test_what_a_script_sends_back_is_no_sign_of_health() -> None:
    """A key of which Redis has no record of this node, which has taken of it before."""
    with Server() as server:
        config = user(server)
        async with opened(config) as limiter:
            for number in range(10):
                assert await limiter.bucket("b").acquire(f"k{number}", 10)
            server.call("FLUSHALL")
            user(server, "hset")
            await until_fallback(limiter, keys=10)


@pytest.mark.parametrize("missing", ["hgetall", "hdel", "info", "ping"])
async def test_what_is_not_needed_for_every_decision_stops_none(missing: str) -> None:
    """PING is needed to come in; the others now and then."""
    with Server() as server:
        async with opened(user(server, missing)) as limiter:
            decision = await limiter.bucket("b").acquire("k")
            if missing != "ping":
                assert decision.mode is Mode.STRONG


async def test_a_right_that_only_new_keys_need_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server:
        async with opened(user(server, "hlen")) as limiter:
            assert (await limiter.bucket("b").acquire("k")).mode is Mode.FALLBACK
            # To settle it makes the record, with other commands.
            await eventually(lambda: not limiter.stats()["strong"]["unsettled"])
            assert (await limiter.bucket("b").acquire("k")).mode is Mode.STRONG
    assert "the command HLEN: allow it" in caplog.text


async def test_keys_that_are_not_allowed_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server:
        async with opened(user(server, keys="~other:*")) as limiter:
            await until_fallback(limiter)
    (critical,) = (r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL)
    assert "the keys of a limiter: allow it the keys that begin with redis.prefix" in critical


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"password": "wrong"}, "WRONGPASS: check password and username of the connection"),
        ({}, "NOAUTH: set password of the connection"),
        ({"host": "nowhere.invalid", "password": "x"}, "does not resolve"),
    ],
)
async def test_the_first_critical_line_has_the_cause_and_the_fix(
    fields: dict[str, str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Server("requirepass right") as server:
        config = RedisConfig(**{"host": server.host, "port": server.port, **fields})  # type: ignore[arg-type]
        async with opened(config) as limiter:
            await eventually(lambda: limiter.bucket("b").mode is Mode.FALLBACK)
    first = next(r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL)
    assert told in first
    assert "wrong" not in first


@pytest.mark.parametrize(
    ("message", "denied", "told"),
    [
        ("NOPERM User u has no permissions to run the 'script|load' command", True, "SCRIPT LOAD"),
        ("NOPERM No permissions to access a key", True, "redis.prefix"),
        ("NOPERM nothing known", True, "a limiter needs EVALSHA"),
        ("ERR ACL failure in script: User u has no permissions to run the 'hset' command script: 1",
         True, "+hset"),
        ("CRDTBUCKET ERR ACL failure in script: User has no permissions to run the 'time' command",
         True, "+time"),
        ("OOM command not allowed", False, "answered OOM command not allowed"),
        ("ERR " + "x" * 100 + " ACL failure in script", False, "answered ERR xxx"),
    ],
)  # fmt: skip
def test_errors_are_explained(message: str, denied: bool, told: str) -> None:
    error = RedisErrorReply(message)
    assert error.denied is denied
    assert (error.kind == "auth") is denied
    assert told in explained(Address("h", 1), error)
