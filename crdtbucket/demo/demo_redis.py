"""The Redis of a run: one server that a proxy slows or cuts off, or one in each region, replicated
to the others."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.demo.modes import DEADLINE_S, PATIENCE, REGIONAL_PATIENCE, SLOW_S
from crdtbucket.demo.processes import DemoError
from crdtbucket.demo.server_process import RedisProcess
from crdtbucket.demo.traffic import REGIONS
from crdtbucket.errors import ConfigError, CrdtbucketError, RedisUnavailable
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.access import Access, server_access
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import all_of, ask, sent
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments, read_entry
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.script import ScriptCall, owner_name, read_owner
from crdtbucket.testing.copy_queue import ReplicationFaults
from crdtbucket.testing.fault_proxy import HOST, FaultProxy
from crdtbucket.testing.replicated_member import ReplicatedMember
from crdtbucket.testing.replicator import Replicator

AUTO = "auto"
ANSWER_S = 3.0
_CAUGHT_UP_S = 2.0
_OBSERVER = owner_name(2**64 - 1, "demo")
"""The caller of the demo's own requests. It takes nothing, so it gets no record."""


class DemoStore:
    """One Redis, which is made slow, taken away or brought back. It can be asked for the records
    that it holds."""

    patience = PATIENCE
    """Settings of the mode controllers of the regions that ask it."""

    def __init__(self, redis: str) -> None:
        """`redis`: "auto" or a URL. Raises `CrdtbucketError` when it cannot be used."""
        self.program: str | None = None
        """The program that was started for the run; None for a server that was there before."""
        self.server = RedisProcess() if redis == AUTO else None
        if self.server is not None:
            self.program = self.server.program
            self._address, self._access = self.server.address, self.server.access
        else:
            self._address, self._access = _at(redis)
        # This run has a prefix of its own, since the Redis at a URL may hold other limits.
        self.prefix = f"crdtbucket-demo-{secrets.token_hex(4)}:"
        address = self._address
        self._proxy = FaultProxy(address.port, host=address.host, path=address.path)

    async def start(self) -> None:
        """Raises `DemoError` when it does not start, or does not answer."""
        if self.server is not None:
            await self.server.start()
        else:
            await self._ask("PING")
        await self._proxy.start()

    def config(self, region: str) -> dict[str, Any]:
        """Arguments of the `RedisConfig` by which a region reaches it: through the proxy."""
        access = self._access
        return {
            "host": HOST, "port": self._proxy.port, "db": access.db, "username": access.username,
            "password": access.password, "prefix": self.prefix, "deadline": DEADLINE_S,
            "retention": 60.0,
        }  # fmt: skip

    def slow(self) -> None:
        """The server answers late from now on."""
        self._proxy.delay = SLOW_S

    async def gone(self) -> None:
        """The server is killed, or cut off if the demo has not started it."""
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
        assert isinstance(reply, list)
        return [_taken_by_epoch(dict(zip(reply[::2], reply[1::2], strict=True)))]

    async def stop(self, keys: Iterable[str]) -> None:
        """Ends the server, or removes these keys from one that stays; closes the proxy."""
        await self._proxy.stop()
        if self.server is not None:
            await self.server.kill()
            return
        # A Redis that went away meanwhile cannot be asked; its keys expire by themselves.
        with contextlib.suppress(DemoError):
            await self._ask("DEL", *keys)

    async def _ask(self, *words: str) -> object:
        try:
            return await within(ANSWER_S, self._reply(*words))
        except asyncio.TimeoutError as error:
            text = f"Redis at {self._address} did not answer {words[0]} within {ANSWER_S:g} s"
            raise DemoError(text) from error
        except (RedisUnavailable, RedisErrorReply) as error:
            raise DemoError(f"Redis at {self._address}, asked {words[0]}: {error}") from error

    async def _reply(self, *words: str) -> object:
        async with ReplicatedMember("", self._address, self._access).asking() as connection:
            return await ask(connection, *words)


class RegionStores:
    """Three servers that are started for the run, and the replication between them. It is used as
    `DemoStore` is, but has other faults: `cut` and `heal`."""

    patience = REGIONAL_PATIENCE

    def __init__(self, lag: float, spec: BucketSpec) -> None:
        """`lag`: seconds that a copy is under way. `spec`: of the bucket in which the calls are
        made. Raises `DemoError` where no Redis is installed."""
        self._servers = {region: RedisProcess() for region in REGIONS}
        self.program = self._servers[REGIONS[0]].program
        self._spec = spec
        members = (ReplicatedMember(name, s.address, s.access) for name, s in self._servers.items())
        self._replicator = Replicator(members, ReplicationFaults(lag=lag))

    async def start(self) -> None:
        """Raises `DemoError` when a server does not start."""
        for server in self._servers.values():
            await server.start()
        await self._replicator.start()

    def config(self, region: str) -> dict[str, Any]:
        """Arguments of the `RedisConfig` by which a region reaches its own server."""
        server = self._servers[region]
        return {
            "host": server.address.host, "port": server.address.port,
            "password": server.access.password, "deadline": DEADLINE_S, "retention": 60.0,
            "active_active": True, "regions": list(REGIONS),
        }  # fmt: skip

    def cut(self, region: str) -> None:
        """No copy passes between this region's Redis and the others."""
        self._replicator.isolate(region)

    def heal(self, _region: str) -> None:
        """Copies pass again, those of the cut first."""
        self._replicator.heal()

    async def records(self, key: str) -> list[dict[str, int]] | None:
        """Tokens taken less refunded of each process, by epoch, as each region's own key has them;
        None while copies are under way.

        A region merges the copies of others only when it is called, so each gets a call that takes
        nothing."""
        try:
            await self._replicator.caught_up(_CAUGHT_UP_S)
            return [await self._observed(region, key.encode()) for region in REGIONS]
        except (RedisUnavailable, TimeoutError, asyncio.TimeoutError):
            return None

    async def _observed(self, region: str, key: bytes) -> dict[str, int]:
        regions = Regions(region, REGIONS)
        arguments = ReplicatedArguments(self._spec, self._spec.capacity, regions)
        call = ScriptCall(key, 0, _OBSERVER, 1, 1, 0, 0, 0)
        async with self._replicator.members[region].asking() as connection:
            command = arguments.command(call, source=True)
            [reply] = await within(ANSWER_S, all_of([sent(connection, command)]))
            arguments.parse(reply)
        version = (await self._replicator.held(region, region)).get(regions.key(key))
        return _taken_by_epoch({} if version is None else version.fields)

    async def stop(self, keys: Iterable[str]) -> None:
        """Ends the replication and the servers, with all their keys."""
        await self._replicator.stop()
        for server in self._servers.values():
            await server.kill()


def _at(url: str) -> tuple[Address, Access]:
    try:
        config = RedisConfig(url=url)
    except ConfigError as error:
        raise CrdtbucketError(f"--redis is neither auto nor a URL: {error}") from error
    target = config.target
    if target.master or target.cluster or target.tls:
        raise CrdtbucketError(
            "--redis: the demo puts a proxy before one server, without TLS: "
            "give redis://host:port or unix:///path"
        )
    return target.addresses[0], server_access(config, None)


def _taken_by_epoch(fields: Mapping[bytes, bytes]) -> dict[str, int]:
    """Tokens taken less refunded of each process, by its epoch, as a key in Redis has them."""
    entry = read_entry(fields)
    return {
        f"{read_owner(owner)[0]:x}": one.taken - one.refunded
        for owner, one in ({} if entry is None else entry.records).items()
    }
