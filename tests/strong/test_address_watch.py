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
    """A resolver: one text for each question, in turns; "" raises, as a resolver does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leads_to = ["10.0.0.1"]
        self.asked = 0
        monkeypatch.setattr(address_watch, "AGAIN_S", 0)
        real = asyncio.BaseEventLoop.getaddrinfo

        async def resolve(loop: Any, host: str, port: int, **more: Any) -> Any:
            if host != NAME:
                return await real(loop, host, port, **more)
            return [(2, 1, 6, "", (one, port)) for one in self.answer()]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)

    def answer(self) -> list[str]:
        self.asked += 1
        found = self.leads_to[self.asked % len(self.leads_to)].split()
        if not found:
            raise OSError("no answer")
        return found


class Watch:
    """A watch whose connection is made anew at once, at the first address."""

    def __init__(self, names: Names, path: str = "") -> None:
        self.names, self.link, self.now, self.moves = names, Link("10.0.0.1", path), 7, 0
        link = cast("ServerLink", self.link)
        self.watch = AddressWatch(link, lambda: self.now, self._moved)

    def _moved(self) -> None:
        self.moves += 1
        self.link.connection = Connection(self.names.answer()[0])

    async def sees(self, *answers: str | list[str], every_ns: int = 10**10) -> int:
        """How often it moves, where the name leads there, one look after the other."""
        before = self.moves
        for one in answers:
            self.names.leads_to = [one] if isinstance(one, str) else one
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


@pytest.mark.parametrize("count", [2, 3, 4, 5, 40])
@pytest.mark.parametrize("shown", [1, 2])
async def test_addresses_that_take_turns_are_no_move(
    monkeypatch: pytest.MonkeyPatch, count: int, shown: int
) -> None:
    """The answers for a name with several addresses, some of them in each."""
    watch = Watch(Names(monkeypatch))
    each = [f"10.0.0.{number + 1}" for number in range(count)]
    turns = [" ".join((each * 2)[at : at + shown]) for at in range(count)]
    assert await watch.sees(*[turns] * 500) == 0


async def test_addresses_that_take_long_turns_are_known_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a resolver keeps each answer for a while: then the first turns of each address look
    like a move."""
    watch = Watch(Names(monkeypatch))
    turns = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert await watch.sees(*turns, *turns, every_ns=10**11) == 3
    assert await watch.sees(*turns * 50, every_ns=10**11) == 0
    now = watch.now
    while await watch.sees("10.0.0.9") == 0:  # no longer one of them
        pass
    assert 2 * 10**11 < watch.now - now < HOUR_NS / 4


async def test_a_move_and_one_back_within_an_hour_are_followed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(Names(monkeypatch))
    assert await watch.sees("10.0.0.1", "10.0.0.2") == 1
    assert await watch.sees(*["10.0.0.2"] * 20) == 0
    assert await watch.sees("10.0.0.1") == 1


async def test_a_move_that_not_all_resolvers_know_yet_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(Names(monkeypatch))
    assert await watch.sees("10.0.0.1", *[["10.0.0.1", "10.0.0.2"]] * 10) == 0
    assert await watch.sees(*["10.0.0.2"] * 5) == 1


async def test_a_move_to_many_addresses_is_followed_within_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(Names(monkeypatch))
    turns = [f"10.0.1.{number}" for number in range(10)]
    assert await watch.sees("10.0.0.1", turns) == 0
    assert await watch.sees(*[turns] * 30) == 1


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
    names.leads_to = ["127.0.0.1"]
    spec = BucketSpec("b", 1_000, 1, "1h", consistency="strong")
    with Server() as first, Server() as second:
        async with MovedAddress(second).open("127.0.0.2", first.port):
            config = RedisConfig(host=NAME, port=first.port, deadline=10.0)
            async with Limiter([spec], node="n", redis=config) as limiter:
                assert await limiter.bucket("b").acquire("k", 400)
                store = await endpoint(limiter)
                await eventually(lambda: names.asked > 5)
                assert second.call("DBSIZE") == 0
                names.leads_to = ["127.0.0.2"]
                await eventually(lambda: second.call("DBSIZE") > 0)
                await eventually(store.dispatcher.usable)
                decision = await limiter.bucket("b").acquire("k", 1)
                assert (decision.mode, decision.remaining) == ("strong", 599)
                assert store.stats()["failed"] == {}
