"""Keeps an endpoint's connection, probes a server that was left, and has it told what it lacks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.deadline import within
from crdtbucket.errors import RedisReplyError, RedisUnavailable
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.mode_controller import Failure
from crdtbucket.strong.deadlines import LOOK_S
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.server_facts import ServerFacts, facts
from crdtbucket.strong.resync import SHARE, Resync
from crdtbucket.strong.store_request import Item

if TYPE_CHECKING:
    from crdtbucket.strong.endpoint import Endpoint
    from crdtbucket.strong.redis.access import Access
    from crdtbucket.strong.redis.redis_config import RedisConfig

LOG = logging.getLogger("crdtbucket.strong")
RECONNECT_S = 0.05
DEAF_NS = 2 * NS_PER_SECOND
"""A connection on which a call has been open for so long is given up for a new one."""
EVICTION_NS = NS_PER_SECOND
"""Between two looks at whether a server that evicts keys has done so."""
POLICY_NS = 60 * NS_PER_SECOND
"""Between two looks at whether a server has begun to evict."""
LAST_WORDS_S = 2.0
"""The start and the end of a limiter wait no longer than this for what is still to be settled."""


class Supervisor:
    """The upkeep of one endpoint: `connect` once, then `run` until it is cancelled, then `stop`."""

    def __init__(
        self,
        endpoint: Endpoint,
        access: Access,
        config: RedisConfig,
        probe: tuple[script.Arguments, script.ScriptCall],
        *,
        fences: Iterator[int],
        mine: Callable[[Item], bool],
        outage_after: float,
    ) -> None:
        """`probe`: a call on a key of this node's own. `fences`: ordinals of connections. `mine`:
        whether a key is decided at this endpoint. `outage_after`: seconds without an answer."""
        self.resync = Resync(endpoint, mine)
        self._endpoint = endpoint
        self._access = access
        self._config = config
        self._probe = probe
        self._probes = 0
        self._fences = fences
        # While decisions wait for it, a server that does not even connect is found out in time.
        self._quickly = min(config.connect_timeout, outage_after)
        self.facts = ServerFacts()
        """What the server said of itself last."""
        self._look_at = 0
        self.run_id: str | None = ""
        """Of the server when it was last met: "" before that, None when it is not known."""
        self._was_replica = False
        self._awake = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        """Look at once whether there is something to do."""
        self._awake.set()

    def distrust(self) -> None:
        """The server has lost something that it held: it is told all."""
        self.resync.everything = True
        self._awake.set()

    def next_fence(self) -> int:
        """A number above all that this process has used."""
        return next(self._fences)

    async def run(self) -> None:
        """Connects, probes, settles; until cancelled."""
        endpoint, controller = self._endpoint, self._endpoint.controller
        while True:
            now = endpoint.now()
            due = controller.next_tick(now)
            if due is not None and due <= now:
                # Silent, unless there is an answer that nobody has read.
                await asyncio.sleep(LOOK_S)
                now = endpoint.now()
            endpoint.note(controller.tick(now))
            endpoint.ledger.unsettled.carry()
            if controller.mode is Mode.STRONG:
                if endpoint.connection is None:
                    await self.connect()
                elif self.resync.due and now >= self.resync.at and endpoint.usable():
                    await self.resync.settle()
                elif now >= self._look_at:
                    await self._look_at_memory(now)
            elif controller.probe(now):
                await self._try()
            await self._rest()

    async def stop(self) -> None:
        """Settles what is owed as far as that goes quickly, and closes the connection."""
        self._closed = True
        endpoint = self._endpoint
        # In an outage as well: a server that was left may answer again by now.
        if endpoint.connection is not None and self.resync.due and endpoint.may_settle():
            await self.resync.settle(LAST_WORDS_S)
        self.drop()

    def drop(self) -> None:
        """Ends the connection, which is no failure of the server."""
        connection, self._endpoint.connection = self._endpoint.connection, None
        if connection is not None:
            connection.abort()
        self._endpoint.admit()

    def turn_away(self) -> None:
        """The server says that it is a replica: the connection may have outlived the failover of
        what its address leads to, so the address is looked up again."""
        self._was_replica = True
        self.drop()
        self._awake.set()

    async def connect(self) -> bool:
        """Whether there is a connection now; why not, the controller is told."""
        endpoint, address = self._endpoint, self._endpoint.address
        strong = endpoint.mode is Mode.STRONG
        timeout = self._quickly if strong else self._config.connect_timeout
        try:
            connection = await RedisConnection.open(
                address, self._access, timeout, scripts=[script.SOURCE]
            )
            found = await within(timeout, facts(connection))
        except (RedisUnavailable, asyncio.TimeoutError) as error:
            endpoint.fail(Failure(getattr(error, "kind", "timed_out")), str(error))
            return False
        connection.on_lost = partial(self._lost, connection)
        if connection.closed or self._closed or address != endpoint.address:
            connection.abort()
            return False
        another = found.run_id is None or found.run_id != self.run_id
        if self.run_id != "" and another:
            self.resync.everything = True
        if self._was_replica and another:
            endpoint.controller.moved(endpoint.now())  # it leads to another server by now
            self._was_replica = False
        self.run_id = found.run_id
        self._learn(found)
        self._look_later(endpoint.now())
        endpoint.fence = self.next_fence()
        endpoint.connection = connection
        return True

    def _learn(self, found: ServerFacts) -> None:
        """Of a server that evicts keys it is told, and all that it may lack is told to it."""
        before, self.facts = self.facts, found
        if found.warning and found.policy != before.policy:
            LOG.warning("Redis %s: %s", self._endpoint.address, found.warning)
        same = found.run_id is not None and found.run_id == before.run_id
        if same and (found.evicted or 0) > (before.evicted or 0):
            self.resync.everything = True

    def _look_later(self, now: int) -> None:
        self._look_at = now + (EVICTION_NS if self.facts.evicts else POLICY_NS)

    async def _look_at_memory(self, now: int) -> None:
        """Whether the server has forgotten keys: nobody else tells, until one of them is asked for
        by a node that knows what was taken of it."""
        connection = self._endpoint.connection
        assert connection is not None
        self._look_later(now)
        try:
            self._learn(await within(self._config.connect_timeout, facts(connection)))
        except (RedisUnavailable, asyncio.TimeoutError) as error:
            LOG.debug("%s: its memory was not looked at: %s", self._endpoint.address, error)
            return
        if self.resync.everything and self._endpoint.usable():
            started = self._endpoint.now()
            await self.resync.settle()
            # One that evicts all the time must not be told all the time.
            ended = self._endpoint.now()
            self._look_at = max(self._look_at, ended + SHARE * (ended - started))

    def _lost(self, connection: RedisConnection, error: RedisUnavailable) -> None:
        if connection is self._endpoint.connection:
            self._endpoint.connection = None
            self._endpoint.fail(Failure(error.kind), str(error))
            self._endpoint.admit()
            self._awake.set()

    async def _try(self) -> None:
        """One probe; what is owed is settled while the server is at it."""
        endpoint = self._endpoint
        connection = endpoint.connection
        if connection is not None and now_ns() - (connection.oldest_ns or now_ns()) > DEAF_NS:
            # What was sent on it may still be carried out: the fence tells the script.
            self.drop()
        if endpoint.connection is None and not await self.connect():
            return
        if await self._ask_probe() and self.resync.due and endpoint.may_settle():
            await self.resync.settle()

    async def _ask_probe(self) -> bool:
        """The script on a key of this node's own, which writes: a server that only answers decides
        nothing."""
        arguments, call = self._probe
        self._probes += 1
        call = replace(call, taken=self._probes, fence=self._endpoint.fence)
        reply = await self._in_time(arguments.command(call))
        if isinstance(reply, RedisErrorReply) and reply.code == "NOSCRIPT":
            reply = await self._in_time(arguments.eval_command(call))
        return isinstance(reply, script.ScriptAnswer)

    async def _in_time(self, command: bytes) -> object:
        """The answer, or the error that came; None when none came within the deadline."""
        endpoint, controller = self._endpoint, self._endpoint.controller
        connection = endpoint.connection
        if connection is None or connection.closed:
            return None
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        late = False
        controller.asked(endpoint.now())

        def replied(reply: object) -> None:
            latency = sent.latency_ns
            if isinstance(reply, RedisErrorReply):
                endpoint.refused(reply, latency, late=late)
            elif not isinstance(reply, RedisUnavailable):  # of a lost connection, all hear
                try:
                    reply = script.parse(reply)
                    wrote = reply.status is script.ScriptStatus.ALLOWED
                    now = endpoint.now()
                    endpoint.note(controller.answered(now, latency, late=late, wrote=wrote))
                except RedisReplyError as error:
                    endpoint.fail(Failure.SCRIPT, str(error))
            if not future.done():
                future.set_result(reply)

        sent = connection.send(command, replied)
        for seconds in (self._config.deadline, LOOK_S):
            await asyncio.wait({future}, timeout=seconds)
        if future.done():
            return future.result()
        late = True
        endpoint.note(controller.timed_out(endpoint.now()))
        return None

    async def _rest(self) -> None:
        """Until there is something to do again."""
        endpoint = self._endpoint
        now = endpoint.now()
        due = endpoint.controller.next_tick(now)
        delay = 1.0 if due is None else max(0.0, (due - now) / NS_PER_SECOND)
        if endpoint.connection is None and endpoint.mode is Mode.STRONG:
            delay = min(delay, RECONNECT_S)
        if self.resync.due and endpoint.usable():
            delay = min(delay, (self.resync.at - now) / NS_PER_SECOND)
        self._awake.clear()
        try:
            await within(max(delay, 0.001), self._awake.wait())
        except asyncio.TimeoutError:
            return


__all__ = ["LAST_WORDS_S", "Supervisor"]
