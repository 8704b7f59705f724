"""A server that sends what a test gives it: any bytes, at any time, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import hiredis
import pytest

from crdtbucket import RedisConfig
from crdtbucket.base.address import Address
from crdtbucket.strong.redis import locator

Command = list[bytes]
ScriptAnswer = Callable[[Command], bytes]


class FakeServer:
    """Answers every command with the bytes of `answer`; b"" means no answer.

    `commands`: those that arrived. `writes`: the number of pieces in which they arrived.
    """

    def __init__(self, answer: ScriptAnswer) -> None:
        self.answer = answer
        self.commands: list[Command] = []
        self.writes = 0
        self.clients: list[asyncio.StreamWriter] = []
        self.address = Address()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.append(writer)
        parser = hiredis.Reader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                self.writes += 1
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    self.commands.append(command)
                    writer.write(self.answer(command))
        writer.close()


def friendly(command: Command) -> bytes:
    """What every Redis answers to a handshake."""
    return b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n"


def echo(command: Command) -> bytes:
    """Answers a handshake; it answers any other command with the last word of that command."""
    if command[0] in (b"PING", b"CLIENT", b"AUTH", b"SELECT"):
        return friendly(command)
    return b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1])


@contextlib.asynccontextmanager
async def fake(answer: ScriptAnswer = friendly) -> AsyncIterator[FakeServer]:
    server = FakeServer(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.address = Address("127.0.0.1", listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for client in server.clients:
            client.transport.abort()


def given_up_at_once(silent: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives this sentinel 50 ms to answer. The others have the time of the settings, since they do
    answer sooner or later."""
    ask_sentinel = locator.ask_sentinel

    def ask(
        who: Address, master: str, config: RedisConfig, tls: ssl.SSLContext | None
    ) -> Coroutine[Any, Any, Any]:
        if who == silent.address:
            config = replace(config, connect_timeout=0.05)
        return ask_sentinel(who, master, config, tls)

    monkeypatch.setattr(locator, "ask_sentinel", ask)
