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
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.blocking_connection import BlockingConnection
from crdtbucket.strong.redis.redis_connection import RedisConnection, RedisConnectionLost
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.store_request import StoreRequest

IDLE_NS = NS_PER_SECOND
"""A connection that was not used for so long is looked at before it is used."""
AGAIN_NS = NS_PER_SECOND
"""After a connection that could not be made, the event loop is asked for so long."""


class ThreadConnection(NamedTuple):
    """A thread's way to one server; without a connection it could not be had."""

    connection: BlockingConnection | None
    beside: RedisConnection | None
    """The connection of the event loop then: with another one, the server may be another, too."""
    made_ns: int


class PerThread(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.lines: weakref.WeakKeyDictionary[Endpoint, ThreadConnection] = (
            weakref.WeakKeyDictionary()
        )


class Threads:
    """All threads that ask for one limiter."""

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop, deadline_ns: int) -> None:
        self._ledger = ledger
        self._loop = loop
        self._deadline_ns = deadline_ns
        self._local = PerThread()
        self._made: weakref.WeakSet[BlockingConnection] = weakref.WeakSet()
        self._under_way = 0
        self._idle: asyncio.Event | None = None

    def acquire(
        self, endpoint: Endpoint, bucket: BucketCore, key: str | bytes, cost: int
    ) -> Decision | None:
        """The decision; None when the event loop is to be asked for it. Raises as `take`."""
        ledger = self._ledger
        if not endpoint.usable():
            return ledger.away(bucket, key, cost, endpoint.away_mode())
        if self._idle is not None:
            return None  # the limiter is being closed, as the event loop will say
        if ledger.in_flight.unseen or not ledger.in_flight.by_key:
            ledger.in_flight.by_key = True
            return None
        connection = self._connection(endpoint)
        if connection is None:
            return None
        with ledger.lock:
            opened = ledger.open(bucket, key, cost, endpoint.fence, threaded=True)
            if isinstance(opened, Decision):
                return opened
            self._under_way += 1
        try:
            endpoint.controller.asked(endpoint.now())
            return self._ask(endpoint, connection, opened)
        finally:
            with ledger.lock:
                self._under_way -= 1
                if self._idle is not None and not self._under_way:
                    self._tell(self._idle.set)

    async def stop(self) -> None:
        """Waits until the calls under way have ended, which they do by their deadlines, and ends
        the connections."""
        self._idle = asyncio.Event()
        if self._under_way:
            await self._idle.wait()
        with self._ledger.lock:
            for connection in list(self._made):
                connection.close()

    # ---- a call ----

    def _ask(
        self, endpoint: Endpoint, connection: BlockingConnection, request: StoreRequest
    ) -> Decision | None:
        started, left, source = now_ns(), self._deadline_ns, False
        while left > 0:
            arguments, call = request.rules.arguments, request.call
            command = arguments.eval_command(call) if source else arguments.command(call)
            try:
                reply = connection.ask(command, left)
            except (TimeoutError, RedisConnectionLost) as error:
                return self._lost(endpoint, request, error)
            except BaseException as error:  # such as KeyboardInterrupt: nobody waits any more
                self._lost(endpoint, request, error)
                raise
            if isinstance(reply, RedisErrorReply):
                if reply.code in ELSEWHERE:
                    self._ledger.withdraw(request)
                    return None
                self._tell(partial(endpoint.refused, reply, connection.latency_ns, late=False))
                source = reply.code == "NOSCRIPT" and not source
                if not source:
                    break
            else:
                result = self._answered(endpoint, connection, request, reply)
                if not isinstance(result, StoreRequest):
                    return result
                request = result
            left = self._deadline_ns - (now_ns() - started)
        # It did not run, or was answered and is to be asked again for which there is no time.
        with self._ledger.lock:
            decision = self._ledger.lost(request, endpoint.away_mode())
            self._ledger.ended(request)
        return decision

    def _answered(
        self,
        endpoint: Endpoint,
        connection: BlockingConnection,
        request: StoreRequest,
        reply: object,
    ) -> Decision | StoreRequest | None:
        """Books an answer: the decision, or what is to be asked next."""
        ledger = self._ledger
        try:
            answer = script.parse(reply)
            wrote = answer.status is script.ScriptStatus.ALLOWED
            endpoint.answered(connection.latency_ns, wrote, self._tell)
            if answer.status is script.ScriptStatus.FENCED:
                endpoint.renew_fence(request)
                return request
            if (
                answer.status is script.ScriptStatus.UNKNOWN
                and request.item not in ledger.unsettled.pending
            ):
                self._tell(endpoint.supervisor.distrust)
            with ledger.lock:
                result = ledger.answer(request, answer, endpoint.fence)
        except RedisReplyError as error:
            self._tell(partial(endpoint.fail, Failure.SCRIPT, str(error)))
            result = None
        if result is None:
            with ledger.lock:
                result = ledger.lost(request, endpoint.away_mode())
                ledger.ended(request)
        return result

    def _lost(
        self, endpoint: Endpoint, request: StoreRequest, error: BaseException
    ) -> Decision | None:
        """No answer came, and whether the call ran, or still will, is not known."""
        wanted = isinstance(error, (TimeoutError, RedisConnectionLost))
        ledger = self._ledger
        with ledger.lock:
            decision = ledger.lost(request, endpoint.away_mode(), wanted)
            ledger.adrift(request)
            endpoint.fence = endpoint.supervisor.next_fence()
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
        lines[endpoint] = ThreadConnection(made, beside, now)
        if made is not None:
            with self._ledger.lock:
                self._made.add(made)
        return made


__all__ = ["Threads"]
