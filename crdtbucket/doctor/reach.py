"""Tries the way to a server in steps: does its name resolve, its port accept, its TLS hold."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable

from crdtbucket.base.address import Address
from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import within
from crdtbucket.doctor.diagnosis import Diagnosis, ok, wrong

Explain = Callable[[Exception], str]
"""What an `OSError` or a `TimeoutError` on the way means, and what to do about it."""


async def reach(
    subject: str, address: Address, tls: ssl.SSLContext | None, timeout: float, explain: Explain
) -> AsyncIterator[Diagnosis]:
    """Each step, up to the first that fails; a step takes at most `timeout` seconds."""
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
