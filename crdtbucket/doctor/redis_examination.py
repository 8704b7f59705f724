"""Examines whether the Redis of a configuration can be reached and used; of a replicated one also
its regions: whose keys it has, and their beats."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial

from crdtbucket.base.address import Address
from crdtbucket.base.counted import counted
from crdtbucket.base.deadline import within
from crdtbucket.base.own_certificates import late_renewal
from crdtbucket.doctor.diagnosis import Diagnosis, note, ok, reach, wrong
from crdtbucket.doctor.redis_questions import QUESTIONS, Answer, Question, RedisQuestions
from crdtbucket.errors import ConfigError, CrdtbucketError, InvalidSpec, RedisUnavailable
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis.access import server_access, tls_context
from crdtbucket.strong.redis.beats import Beat, read_beat
from crdtbucket.strong.redis.locator import Locator
from crdtbucket.strong.redis.login import silent, unreachable
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask
from crdtbucket.strong.redis.regions import ASSUMPTIONS, Regions
from crdtbucket.strong.redis.replicated import SILENT_US
from crdtbucket.strong.redis.topology import Primary, first_within

CLIENT = "crdtbucket:doctor"
FRESH_US = 2_000_000
"""An own beat that is older (us) was written by nodes that no longer run."""
US_PER_SECOND = 1_000_000


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
    if fault := late_renewal("redis", config.tls_cert):
        found.append(wrong("redis certificate", fault))
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


def examine_regions(regions: Regions) -> Iterator[Diagnosis]:
    """Examines whose keys a server has, and what is assumed of the engine."""
    own = regions.own.decode()
    read = ", ".join(one.decode() for one in regions.others) or "no other region"
    yield note("redis regions", f"keys of {own} are written, copies of {read} are read")
    yield from (note("redis regions", one) for one in ASSUMPTIONS)


async def region_ages(asked: RedisQuestions) -> Sequence[Answer]:
    """How old the beat of each region is, as the nodes of the own region see it. It only reads: the
    doctor is no node, and writes no beat."""
    regions = asked.regions
    assert regions is not None, "asked of a replicated Redis"
    own = await _beat(asked, regions.own)
    now_us = await asked.time_us()
    if own is None or now_us - own.stamp_us > FRESH_US:
        return [await _unattended(asked, region) for region in regions.others]
    return [_age(region, own, now_us) for region in regions.others]


async def _unattended(asked: RedisQuestions, region: bytes) -> Answer:
    there = await _beat(asked, region) is not None
    what = "a beat of it has come" if there else "no beat of it has come"
    text = f"{what}; how old it is, is known once a node of this region runs"
    return f"region {region.decode()}", "note", text


async def _beat(asked: RedisQuestions, region: bytes) -> Beat | None:
    prefix = asked.config.prefix.encode()
    tags = (b"%s{%d}" % (prefix, number) for number in range(10**7))
    tag = first_within(asked.primary.ranges, tags)
    reply = await ask(asked.connection, "GET", b"%s:beat@%s" % (tag, region))
    return None if reply is None else read_beat(reply)


def _age(region: bytes, own: Beat, now_us: int) -> Answer:
    name, known = f"region {region.decode()}", own.regions.get(region)
    if known is None:
        text = (
            "unknown: no beat of it was ever seen. No node runs there yet, or it is called "
            "otherwise there, or its server does not replicate to this one"
        )
        return name, "note", text
    late_us = max(0, now_us - known.base_us - known.stamp_us)
    seconds = f"{late_us / US_PER_SECOND:.1f} s"
    if late_us <= SILENT_US:
        return name, "ok", f"its beat is {seconds} behind, {counted(known.nodes, 'node')}"
    text = (
        f"silent: its beat is {seconds} behind, so its share is held back. Look at the "
        "replication between the two servers, and whether nodes run there"
    )
    return name, "wrong", text
