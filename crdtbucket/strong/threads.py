"""Decisions of threads without an event loop: each thread asks over a connection of its own.

What is counted and booked is what the event loop counts and books, under one lock. A call whose
answer does not come in time ends its connection; it is then adrift like any call of an ended
connection, and a new fence keeps it out. What concerns the server's mode beyond plain answers is
told to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from crdtbucket._core import BucketCore, Decision
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.errors import RedisReplyError, RedisUnavailable
from crdtbucket.strong.controller.mode_controller import Failure
from crdtbucket.strong.endpoint import ELSEWHERE, Endpoint
from crdtbucket.strong.ledger import Desk
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.blocking_connection import BlockingConnection
from crdtbucket.strong.redis.redis_connection import Connection, ConnectionLost
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.store_request import Ask

IDLE_NS = NS_PER_SECOND
"""A connection that was not used for so long is looked at before it is used."""
AGAIN_NS = NS_PER_SECOND
"""After a connection that could not be made, the event loop is asked for so long."""


class Line(NamedTuple):
    """A thread's way to one server; without a connection it could not be had."""

    connection: BlockingConnection | None
    beside: Connection | None
    """The connection of the event loop then: with another one, the server may be another, too."""
    made_ns: int


class Local(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.lines: weakref.WeakKeyDictionary[Endpoint, Line] = weakref.WeakKeyDictionary()


class Threads:
    """All threads that ask for one limiter."""

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop, deadline_ns: int) -> None:
        self._desk = desk
        self._loop = loop
        self._deadline_ns = deadline_ns
        self._local = Local()
        self._made: weakref.WeakSet[BlockingConnection] = weakref.WeakSet()
        self._under_way = 0
        self._idle: asyncio.Event | None = None

    def acquire(
        self, endpoint: Endpoint, bucket: BucketCore, key: str | bytes, cost: int
    ) -> Decision | None:
        """The decision; None when the event loop is to be asked for it. Raises as `take`."""
        desk = self._desk
        if not endpoint.usable():
            return desk.away(bucket, key, cost, endpoint.away_mode())
        if self._idle is not None:
            return None  # the limiter is being closed, as the event loop will say
        if desk.flights.unseen or not desk.flights.by_key:
            desk.flights.by_key = True
            return None
        connection = self._connection(endpoint)
        if connection is None:
            return None
        with desk.lock:
            opened = desk.open(bucket, key, cost, endpoint.fence, threaded=True)
            if isinstance(opened, Decision):
                return opened
            self._under_way += 1
        try:
            endpoint.controller.asked(endpoint.now())
            return self._ask(endpoint, connection, opened)
        finally:
            with desk.lock:
                self._under_way -= 1
                if self._idle is not None and not self._under_way:
                    self._tell(self._idle.set)

    async def stop(self) -> None:
        """Waits until the calls under way have ended, which they do by their deadlines, and ends
        the connections."""
        self._idle = asyncio.Event()
        if self._under_way:
            await self._idle.wait()
        with self._desk.lock:
            for connection in list(self._made):
                connection.close()

    # ---- a call ----

    def _ask(self, endpoint: Endpoint, connection: BlockingConnection, ask: Ask) -> Decision | None:
        started, left, source = now_ns(), self._deadline_ns, False
        while left > 0:
            arguments, call = ask.rules.arguments, ask.call
            command = arguments.eval_command(call) if source else arguments.command(call)
            try:
                reply = connection.ask(command, left)
            except (TimeoutError, ConnectionLost) as error:
                return self._lost(endpoint, ask, error)
            except BaseException as error:  # such as KeyboardInterrupt: nobody waits any more
                self._lost(endpoint, ask, error)
                raise
            if isinstance(reply, RedisErrorReply):
                if reply.code in ELSEWHERE:
                    self._desk.withdraw(ask)
                    return None
                self._tell(partial(endpoint.refused, reply, connection.latency_ns, late=False))
                source = reply.code == "NOSCRIPT" and not source
                if not source:
                    break
            else:
                result = self._answered(endpoint, connection, ask, reply)
                if not isinstance(result, Ask):
                    return result
                ask = result
            left = self._deadline_ns - (now_ns() - started)
        # It did not run, or was answered and is to be asked again for which there is no time.
        with self._desk.lock:
            decision = self._desk.lost(ask, endpoint.away_mode())
            self._desk.ended(ask)
        return decision

    def _answered(
        self, endpoint: Endpoint, connection: BlockingConnection, ask: Ask, reply: object
    ) -> Decision | Ask | None:
        """Books an answer: the decision, or what is to be asked next."""
        desk = self._desk
        try:
            answer = script.parse(reply)
            wrote = answer.status is script.Status.ALLOWED
            endpoint.answered(connection.latency_ns, wrote, self._tell)
            if answer.status is script.Status.FENCED:
                endpoint.renew_fence(ask)
                return ask
            if answer.status is script.Status.UNKNOWN and ask.item not in desk.owed.unsettled:
                self._tell(endpoint.keeper.distrust)
            with desk.lock:
                result = desk.answer(ask, answer, endpoint.fence)
        except RedisReplyError as error:
            self._tell(partial(endpoint.fail, Failure.SCRIPT, str(error)))
            result = None
        if result is None:
            with desk.lock:
                result = desk.lost(ask, endpoint.away_mode())
                desk.ended(ask)
        return result

    def _lost(self, endpoint: Endpoint, ask: Ask, error: BaseException) -> Decision | None:
        """No answer came, and whether the call ran, or still will, is not known."""
        wanted = isinstance(error, (TimeoutError, ConnectionLost))
        desk = self._desk
        with desk.lock:
            decision = desk.lost(ask, endpoint.away_mode(), wanted)
            desk.adrift(ask)
            endpoint.fence = endpoint.keeper.next_fence()
        self._tell(partial(endpoint.lost_elsewhere, error))
        return decision

    def _tell(self, what: Callable[[], Any]) -> None:
        """Has the event loop do something, if there is still one."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    # ---- connections ----

    def _connection(self, endpoint: Endpoint) -> BlockingConnection | None:
        lines = self._local.lines
        line, now = lines.get(endpoint), now_ns()
        if line is not None and line.beside is endpoint.connection:
            found = line.connection
            if found is not None and found.closed:
                found = None
            elif found is None and now - line.made_ns < AGAIN_NS:
                return None
            if found is not None and (now - found.used_ns < IDLE_NS or found.alive()):
                return found
        elif line is not None and line.connection is not None:
            line.connection.close()
        beside, made = endpoint.connection, None
        with contextlib.suppress(RedisUnavailable):  # the event loop's own attempts tell why
            made = BlockingConnection(
                endpoint.address, endpoint.access, self._deadline_ns / NS_PER_SECOND
            )
        lines[endpoint] = Line(made, beside, now)
        if made is not None:
            with self._desk.lock:
                self._made.add(made)
        return made


__all__ = ["Threads"]
