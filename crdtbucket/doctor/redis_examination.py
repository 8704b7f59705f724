"""Examines whether the Redis of a configuration can be reached and used."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from functools import partial

from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.doctor.diagnosis import Diagnosis, ok, reach, wrong
from crdtbucket.doctor.redis_questions import QUESTIONS, Question, RedisQuestions
from crdtbucket.doctor.region_questions import examine_regions, region_ages
from crdtbucket.errors import ConfigError, CrdtbucketError, InvalidSpec, RedisUnavailable
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis.access import server_access, tls_context
from crdtbucket.strong.redis.locator import Locator
from crdtbucket.strong.redis.login import silent, unreachable
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.topology import Primary

CLIENT = "crdtbucket:doctor"


async def examine_redis(
    config: RedisConfig, modes: ControllerSettings, timeout: float, region: str | None = None
) -> list[Diagnosis]:
    """Every server on the way, and every primary. `timeout` (s) bounds each step. `region`: this
    node's."""
    found: list[Diagnosis] = []
    regions = None
    try:
        tls = tls_context(config)
        if config.active_active:
            regions = Regions(region or "", config.regions)
            found = [*examine_regions(regions)]
    except ConfigError as error:
        return [wrong("redis TLS", error)]
    except InvalidSpec as error:
        return [wrong("redis regions", error)]
    target = config.target
    if target.master or target.cluster:
        kind = "sentinel" if target.master else "cluster node"
        ways = (_way(f"{kind} {one}", one, config, tls, timeout) for one in target.addresses)
        found += [step for steps in await asyncio.gather(*ways) for step in steps]
    try:
        topology = await within(timeout, Locator(config, tls).locate())
    except RedisUnavailable as error:
        return [*found, wrong("redis", error)]
    except asyncio.TimeoutError:
        return [*found, wrong("redis", f"nobody named the primary within {timeout:g} s")]
    servers = (_server(one, regions, config, modes, tls, timeout) for one in topology.primaries)
    return found + [step for steps in await asyncio.gather(*servers) for step in steps]


async def _server(
    primary: Primary,
    regions: Regions | None,
    config: RedisConfig,
    modes: ControllerSettings,
    tls: ssl.SSLContext | None,
    timeout: float,
) -> list[Diagnosis]:
    subject = f"redis {primary.address}"
    found = await _way(subject, primary.address, config, tls, timeout)
    if found[-1].level == "wrong":
        return found
    access = server_access(config, tls, CLIENT)
    try:
        connection = await RedisConnection.open(primary.address, access, timeout)
    except RedisUnavailable as error:
        return [*found, wrong(f"{subject} password", error)]
    user = "the default user" if access.username is None else f"user {access.username!r}"
    asks = "with its password" if access.password is not None else "without a password"
    found.append(ok(f"{subject} password", f"{user} is let in {asks}"))
    questions = RedisQuestions(connection, primary, config, modes, timeout / 3, regions)
    every = QUESTIONS if regions is None else (*QUESTIONS, region_ages)
    asked: list[Question] = [partial(one, questions) for one in every]
    try:
        async for one in _answers(asked, subject, timeout):
            found.append(one)
    finally:
        connection.abort()
    return found


async def _answers(
    questions: Sequence[Question], subject: str, timeout: float
) -> AsyncIterator[Diagnosis]:
    for question in questions:
        try:
            for what, level, text in await within(timeout, question()):
                yield Diagnosis(f"{subject} {what}", level, text)
        except asyncio.TimeoutError:  # noqa: PERF203 - a handful of questions
            yield wrong(subject, f"it did not answer within {timeout:g} s: is it overloaded?")
            return
        except CrdtbucketError as error:
            yield wrong(subject, error)
            return


async def _way(
    subject: str,
    address: Address,
    config: RedisConfig,
    tls: ssl.SSLContext | None,
    timeout: float,
) -> list[Diagnosis]:
    def explain(error: Exception) -> str:
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)) or not isinstance(
            error, OSError
        ):
            return str(silent(address, server_access(config, tls, CLIENT), timeout))
        return str(unreachable(address, error))

    return [step async for step in reach(subject, address, tls, timeout, explain)]
