"""The dialing side: tries every known address again and again until its node is linked."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import within
from crdtbucket.base.lasting import lasting
from crdtbucket.errors import WireError
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.channel import CLOSE_S, ChannelLost, Transport
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.handshake import (
    HANDSHAKE_S,
    MeshEndpoint,
    PendingDials,
    handshake_as_dialer,
    report,
)
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.links.unreached import DialState, Unreached, unreached
from crdtbucket.mesh.node_info import NodeInfo

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
OWN_PAUSE_S = 60.0
"""An address that turned out to be this node's own is left alone for so long."""


class Backoff:
    """Pauses that double from `first` to `last` s, each drawn from its upper half."""

    def __init__(
        self, rng: random.Random, first: float = FIRST_PAUSE_S, last: float = LAST_PAUSE_S
    ) -> None:
        self._rng, self._first, self._last = rng, first, last
        self._pause = first

    def next(self) -> float:
        """The pause before the next attempt (s)."""
        pause = self._pause
        self._pause = min(2 * pause, self._last)
        return pause * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begins with the shortest pause again, after a success."""
        self._pause = self._first


class DialTarget:
    """One address that is dialled until its node is linked."""

    def __init__(self, address: str, rng: random.Random) -> None:
        self.address = address
        self.backoff = Backoff(rng)
        self.state = DialState()
        self.wake = asyncio.Event()
        self.hurry = asyncio.Event()
        """Ends the pause before the next attempt."""
        self.failing = False


class Dialer:
    """Dials all addresses of `update`; where a link has ended, it dials again."""

    def __init__(self, host: MeshEndpoint, transport: Transport, rng: random.Random) -> None:
        self._host = host
        self._transport = transport
        self._rng = rng
        self._targets: dict[str, tuple[DialTarget, asyncio.Task[None]]] = {}
        self.pending = PendingDials()
        self._serving = BackgroundTasks()

    def follow(self, known: Sequence[str]) -> None:
        """Dials what the transport has found, and the addresses that members gave (`known`)."""
        sources = self._transport.sources()
        self._host.links.places.change(one for source in sources for one in source.addresses)
        self.update(self._transport.wanted(known)[: 4 * self._host.max_peers])

    def update(self, addresses: Iterable[str]) -> None:
        """Dials these addresses from now on, and no others. Links that exist are left alone."""
        wanted = set(addresses)
        for address in self._targets.keys() - wanted:
            _, task = self._targets.pop(address)
            task.cancel()
        for address in sorted(wanted - self._targets.keys()):
            if self._transport.may_dial(address):
                target = DialTarget(address, self._rng)
                dialling = lasting(partial(self._keep_dialling, target), "the mesh's dials", LOG)
                task = asyncio.create_task(dialling, name=f"mesh dial {address}")
                self._targets[address] = (target, task)
        if not self._targets:
            self._host.counters.last_failure = ""

    def lost(self, peer: NodeInfo, *, left: bool) -> None:
        """The link to this node has ended: it is dialled again. `left`: it said that it leaves."""
        addressed = {peer.address: peer.name}
        for target, _ in self._targets.values():
            # Where the peer has dialled this node, its own address may not have been tried yet.
            if (target.state.node or addressed.get(target.address)) == peer.name:
                target.state = DialState(node=peer.name, left=left)
                target.wake.set()

    def unreached(self) -> list[Unreached]:
        """The entries of `mesh.peers` that no node is linked at; from any thread."""
        return unreached(self._transport.sources(), self._state_of, now_ns())

    def _state_of(self, address: str) -> DialState | None:
        target, _ = self._targets.get(address, (None, None))
        return None if target is None else replace(target.state, linked=self._linked(target))

    def _linked(self, target: DialTarget) -> bool:
        name = target.state.node
        return bool(name) and self._host.links.get(name) is not None

    def hurry(self, address: str) -> None:
        """This address is said to answer now: it is dialled at once."""
        if address in self._targets:
            target, _ = self._targets[address]
            target.backoff.reset()
            target.hurry.set()

    async def cease(self) -> None:
        """Begins no more dials. A listener that has our proof gets a second to answer it."""
        verdicts = asyncio.ensure_future(self.pending.end())
        await asyncio.wait({verdicts}, timeout=CLOSE_S)
        tasks = [verdicts, *(task for _, task in self._targets.values())]
        self._targets.clear()
        await _cancelled(tasks)

    async def stop(self) -> None:
        """Ends all dials and their links at once."""
        tasks = [task for _, task in self._targets.values()]
        self._targets.clear()
        await _cancelled(tasks)
        await self._serving.end()

    async def _keep_dialling(self, target: DialTarget) -> None:
        await self._pause(target, self._transport.first_pause(target.address))
        while True:
            if self._linked(target):
                target.wake.clear()
                await target.wake.wait()
                # Both ends have lost it. They begin at different times, so that one dial wins.
                pause = target.backoff.next()
            else:
                target.hurry.clear()
                pause = await self._dial(target)
            await self._pause(target, pause)

    async def _pause(self, target: DialTarget, pause: float) -> None:
        with suppress(asyncio.TimeoutError):
            await within(pause, target.hurry.wait())

    async def _dial(self, target: DialTarget) -> float:
        """Makes one attempt; returns the pause before the next (s)."""
        links, most = self._host.links, self._host.max_peers
        if len(links) >= most and not (links.crowded or links.yields_to(target.address)):
            target.state.reason = f"there are {most} links, as many as mesh.max_peers allows"
            return LAST_PAUSE_S
        await self._transport.ready()
        try:
            link = await within(HANDSHAKE_S, self._attempt(target.address))
        except HandshakeError as error:
            return self._refused(target, error)
        except asyncio.TimeoutError:
            return self._failed(target, f"no answer within {HANDSHAKE_S:g} s", refused=False)
        except ChannelLost as error:
            return self._failed(target, str(error), refused=error.by_peer)
        except WireError as error:
            target.state.left = False  # something answers, which is no node that has left
            return self._failed(target, str(error), refused=False)
        except Exception as error:  # noqa: BLE001 - logged; a bug must not end the calls
            LOG.exception("a bug in the mesh's dials")
            return self._failed(target, f"a bug, {error!r}, which the log has", refused=False)
        self._met(target, link.peer.name)
        target.state = DialState(node=link.peer.name)
        target.failing = False
        target.backoff.reset()
        self._host.counters.last_failure = ""
        return 0.0

    async def _attempt(self, address: str) -> Link:
        channel = await self._transport.connect(address)
        self._host.links.places.reached(address, channel.source)
        try:
            link = await handshake_as_dialer(channel, self._host, self.pending, address)
        except BaseException:
            # Cancelled too: a channel that nobody serves must not stay open.
            await channel.close()
            raise
        # Served from here on, even if the task that waits for this attempt is cancelled just now.
        self._serving.spawn(self._host.serve(link))
        return link

    def _met(self, target: DialTarget, name: str) -> None:
        """A node has proved its name at this address. If another node was met there before, that
        one no longer runs there."""
        if target.state.node not in ("", name):
            self._host.dial_failed(target.state.node, "", refused=True)

    def _refused(self, target: DialTarget, error: HandshakeError) -> float:
        if error.from_peer and error.peer is not None:
            self._met(target, error.peer.name)
        # A peer without the key of a name proves nothing about the node of that name.
        known = "" if error.peer is None or error.reason is Reason.KEY else error.peer.name
        self._host.dial_failed(known, "", refused=False)
        state = target.state
        state.node = error.peer.name if error.peer is not None else state.node
        state.reason, state.own = str(error), error.reason is Reason.SELF
        state.left = error.reason is Reason.LEAVING
        if text := report(self._host, error, "no link with", target.address):
            self._count_failure(text)
        if error.reason is Reason.SELF:
            state.node = ""
            return OWN_PAUSE_S
        return target.backoff.next()

    def _failed(self, target: DialTarget, why: str, *, refused: bool) -> float:
        text = f"cannot reach {target.address}: {why}"
        self._count_failure(text)
        self._host.dial_failed(target.state.node, target.address, refused=refused)
        target.state.reason, target.state.own = why, False
        expected = target.failing or target.state.left
        level = logging.DEBUG if expected else logging.WARNING
        LOG.log(level, "%s; trying again, at most %g s apart", text, LAST_PAUSE_S)
        target.failing |= not expected
        return target.backoff.next()

    def _count_failure(self, text: str) -> None:
        self._host.counters.dials_failed += 1
        self._host.counters.last_failure = text


async def _cancelled(tasks: Collection[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
