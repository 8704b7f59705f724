"""The results of an examination: what is in order, and what is wrong and how to mend it. The way to
a server is tried in steps: does its name resolve, does its port accept, does its TLS hold."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Literal

from crdtbucket.base.address import Address
from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import within

Level = Literal["ok", "note", "wrong"]
Explain = Callable[[Exception], str]
"""Explains an `OSError` or a `TimeoutError` on the way, and says what to do about it."""


@dataclass(frozen=True)
class Diagnosis:
    """One line of the report."""

    subject: str
    """The thing that was examined, such as "redis 10.0.0.5:6379 clock"."""
    level: Level
    """"note": in order, or unknown, but worth knowing."""
    text: str
    """The result in words; with "wrong" it ends with what to do."""

    def as_dict(self) -> dict[str, str]:
        """The diagnosis as a dict for JSON."""
        return asdict(self)


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
    steps = [("port", None), *([("TLS", tls)] if tls is not None else [])]
    if not address.path:
        try:
            yield ok(f"{subject} name", await within(timeout, _resolve(address)))
        except (OSError, UnicodeError, asyncio.TimeoutError) as error:
            yield wrong(f"{subject} name", explain(error))
            return
    for step, context in steps:
        try:
            yield ok(f"{subject} {step}", await within(timeout, _connect(address, context)))
        except (OSError, UnicodeError, asyncio.TimeoutError) as error:  # noqa: PERF203 - a handful of steps
            yield wrong(f"{subject} {step}", explain(error))
            return


async def _resolve(address: Address) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port)
    return "resolves to " + ", ".join(sorted({str(entry[4][0]) for entry in found}))


async def _connect(address: Address, context: ssl.SSLContext | None) -> str:
    began = now_ns()
    if address.path:
        _, writer = await asyncio.open_unix_connection(address.path)
    else:
        _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    took = f"in {(now_ns() - began) / 1e6:.1f} ms"
    found = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    if found is None:
        return f"accepts {took}"
    until = (found.getpeercert() or {}).get("notAfter")
    return f"{found.version()} {took}" + (f", certificate until {until}" if until else "")
