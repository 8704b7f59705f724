"""The results of an examination: what is in order, and what is wrong and how to mend it. The way to
a server is tried in steps: does its name resolve, does its port accept, does its TLS hold."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from crdtbucket.base.address import Address
from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import within

Level = Literal["ok", "note", "wrong"]
Explain = Callable[[Exception], str]
"""Explains an `OSError` or a `TimeoutError` on the way, and says what to do about it."""
Reached = tuple[asyncio.WriteTransport, str]
"""A connection, and what is said of it."""


@dataclass(frozen=True)
class Diagnosis:
    """One line of the report."""

    subject: str
    """The thing that was examined, such as "redis 10.0.0.5:6379 clock"."""
    level: Level
    """"note": in order, or unknown, but worth knowing."""
    text: str
    """The result in words; with "wrong" it ends with what to do."""


def ok(subject: str, text: str) -> Diagnosis:
    """A subject that is in order."""
    return Diagnosis(subject, "ok", text)


def note(subject: str, text: str) -> Diagnosis:
    """A subject that works, and what the reader should know about it."""
    return Diagnosis(subject, "note", text)


def wrong(subject: str, text: object) -> Diagnosis:
    """A subject that does not work; the text says what to do."""
    return Diagnosis(subject, "wrong", str(text))


async def reach(
    subject: str, address: Address, tls: ssl.SSLContext | None, timeout: float, explain: Explain
) -> AsyncIterator[Diagnosis]:
    """Tries each step up to the first that fails; a step takes at most `timeout` seconds."""
    if not address.path:
        try:
            yield ok(f"{subject} name", await within(timeout, _resolve(address)))
        except (OSError, UnicodeError, asyncio.TimeoutError) as error:
            yield wrong(f"{subject} name", explain(error))
            return
    link: asyncio.WriteTransport | None = None
    try:
        for step in ("port", "TLS"):
            work = _connect(address) if link is None else _secure(link, tls, address.host)
            try:
                link, text = await within(timeout, work)
            except (OSError, UnicodeError, asyncio.TimeoutError) as error:
                yield wrong(f"{subject} {step}", explain(error))
                return
            yield ok(f"{subject} {step}", text)
            if tls is None or address.path:
                return
    finally:
        if link is not None:
            link.abort()


async def _resolve(address: Address) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port)
    return "resolves to " + ", ".join(sorted({str(entry[4][0]) for entry in found}))


async def _connect(address: Address) -> Reached:
    began, loop = now_ns(), asyncio.get_running_loop()
    if address.path:
        link, _ = await loop.create_unix_connection(asyncio.Protocol, address.path)
    else:
        link, _ = await loop.create_connection(asyncio.Protocol, address.host, address.port)
    return link, f"accepts in {_ms_since(began)}"


async def _secure(plain: asyncio.WriteTransport, tls: ssl.SSLContext | None, host: str) -> Reached:
    """TLS over a connection that is there: where that ended before its handshake, the server would
    log a fault of its caller."""
    assert tls is not None, "there is nothing to try without"
    began, loop = now_ns(), asyncio.get_running_loop()
    link = await loop.start_tls(plain, plain.get_protocol(), tls, server_hostname=host)
    assert link is not None, "it raises where there is none"
    found = link.get_extra_info("ssl_object")
    until = (found.getpeercert() or {}).get("notAfter")
    more = f", certificate until {until}" if until else ""
    return link, f"{found.version()} in {_ms_since(began)}{more}"


def _ms_since(began: int) -> str:
    return f"{(now_ns() - began) / 1e6:.1f} ms"
