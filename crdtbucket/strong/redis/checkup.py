"""Asks the Redis of a configuration, before anything depends on it, whether it would serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from crdtbucket._core import Table
from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.errors import CrdtbucketError, RedisUnavailable
from crdtbucket.strong.redis.access import server_access, tls_context
from crdtbucket.strong.redis.locator import Locator
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.registry import Registry
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.rights import explained
from crdtbucket.strong.redis.script import SOURCE, parse
from crdtbucket.strong.redis.server_facts import facts
from crdtbucket.strong.redis.topology import Primary

NODE = "config check"


async def checkup(config: RedisConfig) -> AsyncIterator[tuple[Address | None, str]]:
    """Each primary, and what is wrong with it, a sentence; empty when nothing is.

    Each is asked with a call on a key of its own, which writes and is gone after a minute. Address
    None: no primary is known.
    """
    tls = tls_context(config)
    try:
        layout = await Locator(config, tls).locate()
    except RedisUnavailable as error:
        yield None, str(error)
        return
    access = server_access(config, tls, "crdtbucket:check")
    for primary in layout.primaries:
        try:
            connection = await RedisConnection.open(
                primary.address, access, config.connect_timeout, scripts=[SOURCE]
            )
        except RedisUnavailable as error:
            yield primary.address, str(error)
            continue
        try:
            yield (
                primary.address,
                await within(config.connect_timeout, _fault(connection, primary, config)),
            )
        except asyncio.TimeoutError:
            yield primary.address, f"it did not answer within {config.connect_timeout:g} s"
        except CrdtbucketError as error:
            yield primary.address, str(error)
        finally:
            connection.abort()


async def _fault(connection: RedisConnection, primary: Primary, config: RedisConfig) -> str:
    registry = Registry(config.prefix, NODE, Table(max_keys=16))
    arguments, call = registry.probe(primary.ranges)
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def replied(reply: object) -> None:
        if not future.done():
            future.set_result(reply)

    connection.send(arguments.eval_command(call), replied)
    reply = await future
    if isinstance(reply, RedisErrorReply):
        return explained(primary.address, reply)
    if isinstance(reply, CrdtbucketError):
        raise reply
    parse(reply)
    return (await facts(connection)).warning


__all__ = ["checkup"]
