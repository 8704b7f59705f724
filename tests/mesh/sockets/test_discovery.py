"""Sources of addresses: one contract for all, then what is special to DNS."""

from __future__ import annotations

import asyncio
import logging
import random
import socket

import pytest

from crdtbucket.mesh.sockets import discovery
from crdtbucket.mesh.sockets.discovery import (
    REFRESH_S,
    Discovered,
    DnsDiscovery,
    refresh_delay,
)


class Resolver:
    """Answers from a list, the last one again and again."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_the_caller_owns_the_answer() -> None:
    source = DnsDiscovery("nodes", 1, Resolver(["10.0.0.1:1", "10.0.0.2:1"]))
    first = await source.addresses()
    assert first == ["10.0.0.1:1", "10.0.0.2:1"]
    first.clear()
    assert await source.addresses() == ["10.0.0.1:1", "10.0.0.2:1"]
    plain = Discovered(["10.0.0.1:1"])
    (await plain.ask()).clear()
    assert plain.addresses == ["10.0.0.1:1"]


@pytest.mark.parametrize(
    "failure", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label"), []]
)
async def test_dns_keeps_its_last_good_answer(
    failure: list[str] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    source = DnsDiscovery("nodes", 1, Resolver(["a:1"], failure, failure, ["b:1"]))
    with caplog.at_level(logging.INFO, "crdtbucket.mesh"):
        answers = [await source.addresses() for _ in range(3)]
        assert source.since > 0
        answers.append(await source.addresses())
    assert answers == [["a:1"], ["a:1"], ["a:1"], ["b:1"]]
    assert (source.fault, source.since) == ("", 0)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2  # once when it fails, once when it is back
    assert "going on with a:1" in said[0]
    assert "again" in said[1]


async def test_addresses_that_a_name_gains_and_loses_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = ["a:1", "b:1"], ["a:1", "b:1"], ["b:1", "c:1"], ["c:1"], ["c:1", "d:1"]
    source = DnsDiscovery("nodes", 1, Resolver(*answers))
    with caplog.at_level(logging.INFO, "crdtbucket.mesh"):
        for _ in answers:
            await source.addresses()
    assert [record.getMessage() for record in caplog.records] == [
        "nodes resolves to c:1 now, and no longer to a:1",
        "nodes resolves no longer to b:1",
        "nodes resolves to d:1 now",
    ]


async def test_dns_that_never_answered_is_no_address() -> None:
    source = DnsDiscovery("nodes", 1, Resolver(socket.gaierror(-3, "try again")))
    assert await source.addresses() == []


async def test_dns_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    monkeypatch.setattr(discovery, "RESOLVE_S", 0.01)
    assert await DnsDiscovery("nodes", 1, hang).addresses() == []


async def test_every_address_of_a_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        assert (host, port) == ("nodes.example", 7946)
        return [
            (socket.AF_INET, 1, 6, "", ("10.0.0.2", 7946)),
            (socket.AF_INET, 1, 6, "", ("10.0.0.1", 7946)),
            (socket.AF_INET, 1, 6, "", ("10.0.0.1", 7946)),
            (socket.AF_INET6, 1, 6, "", ("fd00::1", 7946, 0, 0)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    found = await Discovered(["dns+nodes.example:7946"]).ask()
    assert found == ["10.0.0.1:7946", "10.0.0.2:7946", "[fd00::1]:7946"]


async def test_the_systems_resolver_knows_localhost() -> None:
    found = await Discovered(["dns+localhost:7946"]).ask()
    assert {"127.0.0.1:7946", "[::1]:7946"} & set(found)


async def test_plain_peers_are_known_at_once_and_names_when_they_have_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolved(host: str, port: int) -> list[str]:
        return [f"{host}.1:{port}", f"{host}.2:{port}"]

    monkeypatch.setattr(discovery, "resolve_all", resolved)
    peers = Discovered(["a:1", "dns+b:2", "c:3", "dns+d:4"])
    assert peers.addresses == ["a:1", "c:3"]
    assert await peers.ask() == ["a:1", "c:3", "b.1:2", "b.2:2", "d.1:4", "d.2:4"]
    assert len(peers.searches(random.Random(0), list)) == 2
    assert Discovered([]).addresses == []


def test_refreshes_are_spread() -> None:
    rng = random.Random(0)
    delays = [refresh_delay(rng) for _ in range(200)]
    assert REFRESH_S * 0.8 <= min(delays) < REFRESH_S * 0.85
    assert REFRESH_S * 1.15 < max(delays) <= REFRESH_S * 1.2
