"""Finds the addresses of other nodes: fixed ones, or all to which a DNS name resolves."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from crdtbucket.base.address import Address, split_address, why_unreachable
from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import within
from crdtbucket.mesh.links.unreached import PeerSource
from crdtbucket.mesh.mesh_config import DNS_PREFIX

LOG = logging.getLogger("crdtbucket.mesh")
REFRESH_S = 10.0
RESOLVE_S = 5.0

Resolver = Callable[[str, int], Coroutine[Any, Any, list[str]]]


class DnsDiscovery:
    """Every A and AAAA record of a name, each with the port given."""

    def __init__(self, host: str, port: int, resolve: Resolver | None = None) -> None:
        """`resolve(host, port)` replaces the system's resolver in tests."""
        self._host = host
        self._port = port
        self._resolve = resolve or resolve_all
        self._last: list[str] = []
        self.fault = ""
        """Why the last question had no answer; "" where it had."""
        self.since = 0
        """When that fault began, ns by `now_ns`; 0 without one."""

    async def addresses(self) -> list[str]:
        """All addresses of the name; the last good answer while it cannot be resolved."""
        try:
            found = await within(RESOLVE_S, self._resolve(self._host, self._port))
        except (OSError, UnicodeError, asyncio.TimeoutError) as error:
            self._say_failed(_why(error))
            return list(self._last)
        if not found:
            self._say_failed("the name has no address")
            return list(self._last)
        if self.fault:
            self.fault, self.since = "", 0
            LOG.info("%s can be resolved again: %s", self._host, ", ".join(found))
        elif self._last:
            self._say_changed(found)
        self._last = found
        return list(found)

    def _say_changed(self, found: list[str]) -> None:
        came = ", ".join(one for one in found if one not in self._last)
        went = ", ".join(one for one in self._last if one not in found)
        changes = [f"to {came} now"] if came else []
        changes += [f"no longer to {went}"] if went else []
        if changes:
            LOG.info("%s resolves %s", self._host, ", and ".join(changes))

    def _say_failed(self, why: str) -> None:
        if not self.fault:
            self.since = now_ns()
            LOG.warning(
                "%s cannot be resolved (%s); going on with %s",
                self._host,
                why,
                ", ".join(self._last) or "no address, and asking again",
            )
        self.fault = why


def _why(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {RESOLVE_S:g} s"
    if isinstance(error, OSError):
        return why_unreachable(error)
    return str(error) or type(error).__name__


async def resolve_all(host: str, port: int) -> list[str]:
    """Every address of `host` by the system's resolver, sorted; raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = {str(entry[4][0]) for entry in found}
    return sorted(str(Address(one, port)) for one in hosts)


class Discovered:
    """The addresses that `MeshConfig.peers` names: plain ones, and all of each "dns+" name, which
    are asked for again every `REFRESH_S` seconds or so."""

    def __init__(self, peers: Iterable[str]) -> None:
        self._fixed = [peer for peer in peers if not peer.startswith(DNS_PREFIX)]
        self._names = {
            peer: DnsDiscovery(*split_address(peer[len(DNS_PREFIX) :]))
            for peer in peers
            if peer.startswith(DNS_PREFIX)
        }
        self._found: dict[str, list[str]] = {name: [] for name in self._names}

    @property
    def addresses(self) -> list[str]:
        """All addresses that are known now, perhaps also that of this node."""
        return [*self._fixed, *(one for found in self._found.values() for one in found)]

    async def ask(self) -> list[str]:
        """Asks for all names, and returns all addresses."""
        for name, source in self._names.items():
            self._found[name] = await source.addresses()
        return self.addresses

    def sources(self) -> list[PeerSource]:
        """Each entry, with all addresses that are known of it now."""
        return [
            *(PeerSource(one, (one,)) for one in dict.fromkeys(self._fixed)),
            *(
                PeerSource(name, tuple(self._found[name]), source.fault, source.since)
                for name, source in self._names.items()
            ),
        ]

    def searches(
        self, rng: random.Random, changed: Callable[[], None]
    ) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """The work of a task for each name, which lasts and calls `changed` after each answer."""
        return [partial(self._search, name, rng, changed) for name in self._names]

    async def _search(self, name: str, rng: random.Random, changed: Callable[[], None]) -> None:
        while True:
            self._found[name] = await self._names[name].addresses()
            changed()
            await asyncio.sleep(refresh_delay(rng))


def refresh_delay(rng: random.Random) -> float:
    """Seconds until a source is asked again, spread so that nodes do not ask in step."""
    return REFRESH_S * rng.uniform(0.8, 1.2)
