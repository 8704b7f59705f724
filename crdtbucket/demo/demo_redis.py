"""The Redis of the demo: a server of its own or one at a URL, behind a proxy that slows or cuts."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable
from typing import Any

from crdtbucket.demo.modes import DEADLINE_S, SLOW_S
from crdtbucket.demo.processes import DemoError
from crdtbucket.demo.server_process import RedisProcess, taken_by_epoch
from crdtbucket.errors import ConfigError, RedisUnavailable
from crdtbucket.strong.redis.access import server_access
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask
from crdtbucket.strong.redis.replicated import read_entry
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.testing.fault_proxy import HOST, FaultProxy

AUTO = "auto"
ANSWER_S = 3.0


class DemoStore:
    """The Redis of a run, which is made slow, taken away or brought back. It can be asked for the
    records that it holds."""

    def __init__(self, redis: str) -> None:
        """`redis`: "auto" or a URL. Raises `DemoError` when it cannot be used."""
        self.server = RedisProcess() if redis == AUTO else None
        if self.server is not None:
            self._address, self._access = self.server.address, self.server.access
        else:
            config = _config(redis)
            self._address, self._access = config.target.addresses[0], server_access(config, None)
        # Of this run alone: the Redis at a URL may hold other limits.
        self.prefix = f"crdtbucket-demo-{secrets.token_hex(4)}:"
        address = self._address
        self._proxy = FaultProxy(address.port, host=address.host, path=address.path)

    async def start(self) -> None:
        """Raises `DemoError` when it does not start, or does not answer."""
        if self.server is not None:
            await self.server.start()
        else:
            (await self._connect()).abort()
        await self._proxy.start()

    def config(self) -> dict[str, Any]:
        """Arguments of the `RedisConfig` by which the regions reach it: through the proxy."""
        return {
            "host": HOST, "port": self._proxy.port, "db": self._access.db,
            "username": self._access.username, "password": self._access.password,
            "prefix": self.prefix, "deadline": DEADLINE_S, "retention": 60.0,
        }  # fmt: skip

    def slow(self) -> None:
        """The server answers late from now on."""
        self._proxy.delay = SLOW_S

    async def gone(self) -> None:
        """The server is killed, or cut off where it is somebody else's."""
        if self.server is not None:
            await self.server.kill()
        await self._proxy.down()

    async def back(self) -> None:
        """The server is quick again; one of our own is empty."""
        if self.server is not None:
            await self.server.start()
        self._proxy.delay = 0.0
        await self._proxy.up()

    async def records(self, key: str) -> list[dict[str, int]]:
        """Tokens taken less refunded of each process, by epoch, as the server holds them.

        Raises `DemoError` when it does not answer."""
        reply = await self._ask("HGETALL", key)
        if not isinstance(reply, list):
            raise DemoError(f"HGETALL was answered with {reply!r}")
        entry = read_entry(dict(zip(reply[::2], reply[1::2], strict=True)))
        return [taken_by_epoch(entry)]

    async def stop(self, keys: Iterable[str]) -> None:
        """Ends the server, or removes these keys from one that stays; closes the proxy."""
        await self._proxy.stop()
        if self.server is not None:
            await self.server.kill()
            return
        # A Redis that went away meanwhile cannot be asked; what counts there ends by itself.
        with contextlib.suppress(DemoError):
            await self._ask("DEL", *keys)

    async def _connect(self) -> RedisConnection:
        try:
            return await RedisConnection.open(self._address, self._access, ANSWER_S)
        except RedisUnavailable as error:
            raise DemoError(f"--redis: {error}") from error

    async def _ask(self, *words: str) -> object:
        connection = await self._connect()
        try:
            return await asyncio.wait_for(ask(connection, *words), ANSWER_S)
        except asyncio.TimeoutError as error:
            text = f"Redis at {self._address} did not answer {words[0]} within {ANSWER_S:g} s"
            raise DemoError(text) from error
        except (RedisUnavailable, RedisErrorReply) as error:
            raise DemoError(f"Redis at {self._address}, asked {words[0]}: {error}") from error
        finally:
            connection.abort()


def _config(url: str) -> RedisConfig:
    try:
        config = RedisConfig(url=url)
    except ConfigError as error:
        raise DemoError(f"--redis is neither auto nor a URL: {error}") from error
    target = config.target
    if target.master or target.cluster or target.tls:
        raise DemoError(
            "--redis: the demo puts a proxy before one server, without TLS: "
            "give redis://host:port or unix:///path"
        )
    return config
