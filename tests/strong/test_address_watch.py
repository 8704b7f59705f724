"""A name that leads to another address while the old server still answers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from crdtbucket import BucketSpec, Limiter, RedisConfig
from crdtbucket.base.address import Address
from crdtbucket.strong import address_watch
from crdtbucket.strong.address_watch import TURNS_NS, AddressWatch
from crdtbucket.strong.server_link import ServerLink
from tests.strong.moved_address import MovedAddress
from tests.strong.redis_server import Server
from tests.strong.test_strong_bucket import endpoint
from tests.waits import eventually

NAME = "redis.example"
HOUR_NS = TURNS_NS


class Connection:
    def __init__(self, remote: str) -> None:
        self.remote = remote


class Link:
    def __init__(self, used: str, path: str = "") -> None:
        self.address = Address(NAME, 6379, path)
        self.connection: Connection | None = Connection(used)


class Names:
    """What a name leads to; "" raises, as a resolver does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leads_to = "10.0.0.1"
        self.asked = 0
        real = asyncio.BaseEventLoop.getaddrinfo

        async def resolve(loop: Any, host: str, port: int, **more: Any) -> Any:
            if host != NAME:
                return await real(loop, host, port, **more)
            self.asked += 1
            if not self.leads_to:
                raise OSError("no answer")
            return [(2, 1, 6, "", (one, port)) for one in self.leads_to.split()]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)


class Watch:
    """A watch whose connection is made anew at once, at the first address."""

    def __init__(self, names: Names, path: str = "") -> None:
        self.names, self.link, self.now, self.moves = names, Link("10.0.0.1", path), 7, 0
        link = cast("ServerLink", self.link)
        self.watch = AddressWatch(link, lambda: self.now, self._moved)

    def _moved(self) -> None:
        self.moves += 1
        self.link.connection = Connection(self.names.leads_to.split()[0])

    async def sees(self, *answers: str, every_ns: int = 10**10) -> int:
        """How often it moves, where the name leads there, one look after the other."""
        before = self.moves
        for one in answers:
            self.names.leads_to = one
            self.now += every_ns
            await self.watch.look()
        return self.moves - before


async def test_it_moves_when_the_name_has_the_address_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(Names(monkeypatch))
    assert await watch.sees("10.0.0.1", "10.0.0.2 10.0.0.1", "10.0.0.1") == 0
    assert await watch.sees("10.0.0.3", "10.0.0.3") == 1
    (line,) = caplog.messages
    assert line == (
        "Redis redis.example:6379 leads to 10.0.0.3 now, and no longer to 10.0.0.1, which still "
        "answers: connecting again"
    )


async def test_addresses_that_take_turns_are_no_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a name with one answer of several at a time: each is new once."""
    watch = Watch(Names(monkeypatch))
    turns = ["10.0.0.1", "10.0.0.2", "10.0.0.3"] * 50
    assert await watch.sees(*turns, every_ns=10**11) == 2
    assert await watch.sees("10.0.0.1", every_ns=HOUR_NS) == 1  # the others have left since


async def test_what_does_not_resolve_and_what_is_no_name_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch)
    watch = Watch(names)
    assert await watch.sees("10.0.0.1", "", "") == 0
    watch.link.connection = None
    assert await watch.sees("10.0.0.9") == 0
    asked = names.asked
    await Watch(names, "/run/redis.sock").sees("10.0.0.9")
    literal = Watch(names)
    literal.link.address = Address("10.0.0.1", 6379)
    assert await literal.sees("10.0.0.9") == 0
    assert names.asked == asked


async def test_decisions_are_the_other_servers_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_watch, "LOOK_S", 0.01)
    names = Names(monkeypatch)
    names.leads_to = "127.0.0.1"
    spec = BucketSpec("b", 1_000, 1, "1h", consistency="strong")
    with Server() as first, Server() as second:
        async with MovedAddress(second).open("127.0.0.2", first.port):
            config = RedisConfig(host=NAME, port=first.port, deadline=10.0)
            async with Limiter([spec], node="n", redis=config) as limiter:
                assert await limiter.bucket("b").acquire("k", 400)
                store = await endpoint(limiter)
                await eventually(lambda: names.asked > 5)
                assert second.call("DBSIZE") == 0
                names.leads_to = "127.0.0.2"
                await eventually(lambda: second.call("DBSIZE") > 0)
                await eventually(store.usable)
                decision = await limiter.bucket("b").acquire("k", 1)
                assert (decision.mode, decision.remaining) == ("strong", 599)
                assert store.stats()["failed"] == {}
