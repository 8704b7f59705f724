"""Decisions of threads without an event loop: each thread has a connection of its own.

Threads count and book in the same ledger as the event loop, under its lock. A request without an
answer in time ends its connection: the server may still run it, as any request of an ended
connection, and a new fence keeps it out. Everything that concerns the server's mode, except plain
answers, is done on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from crdtbucket._core import BucketCore, Decision
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.errors import RedisReplyError, RedisUnavailable
from crdtbucket.strong.dispatcher import ELSEWHERE
from crdtbucket.strong.endpoint import Endpoint, ThreadConnection
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.redis.blocking_connection import AnswerTooLate, BlockingConnection
from crdtbucket.strong.redis.redis_connection import RedisConnectionLost
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.script import ALLOWED
from crdtbucket.strong.store_request import StoreRequest

IDLE_NS = NS_PER_SECOND
"""A connection that was idle for this long is checked before it is used."""
AGAIN_NS = NS_PER_SECOND
"""After a connection could not be made, the event loop decides for this long (ns)."""


class Threads:
    """Makes decisions for threads without an event loop: all of them that use one limiter."""

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop, deadline_ns: int) -> None:
        self._ledger = ledger
        self._loop = loop
        self._deadline_ns = deadline_ns
        self._made: weakref.WeakSet[BlockingConnection] = weakref.WeakSet()
        self._idle: asyncio.Event | None = None

    def acquire(
        self, endpoint: Endpoint, bucket: BucketCore, key: str | bytes, cost: int
    ) -> Decision | None:
        """The decision; None when the event loop is to make it. Raises as `take`."""
        ledger = self._ledger
        if not endpoint.dispatcher.usable():
            return ledger.decide_here(bucket, key, cost, endpoint.health.mode_without_store)
        if not ledger.in_flight.ready_for_threads:
            ledger.in_flight.count_by_key()
            return None
        if self._idle is not None:
            return None  # closing: no connection is made any more
        connection = self._connection(endpoint)
        if connection is None or connection.asking:
            return None  # asking: a signal handler or a finalizer has interrupted this thread
        opened: Decision | StoreRequest | None = None
        connection.requests += 1
        try:
            with ledger.lock:
                if self._idle is not None:
                    return None  # the limiter is being closed, as the event loop will say
                opened = ledger.open(bucket, key, cost, endpoint.link.fence, threaded=True)
                if isinstance(opened, Decision):
                    return opened
            return self._ask(endpoint, connection, opened)
        except BaseException as error:
            self._broken_off(endpoint, connection, opened, error)
            raise
        finally:
            connection.requests -= 1
            if self._idle is not None and not self.in_flight:
                self._on_loop(self._idle.set)

    @property
    def in_flight(self) -> int:
        """The requests of threads that are neither decided nor given up."""
        with self._ledger.lock:
            return sum(connection.requests for connection in self._made)

    async def stop(self) -> None:
        """Waits until the requests in flight have ended, which they do by their deadlines, and ends
        the connections."""
        with self._ledger.lock:  # no request begins after this
            self._idle = asyncio.Event()
        if self.in_flight:
            await self._idle.wait()
        with self._ledger.lock:
            for connection in list(self._made):
                connection.close()

    # ---- a request ----

    def _ask(
        self, endpoint: Endpoint, connection: BlockingConnection, request: StoreRequest
    ) -> Decision | None:
        left, source = self._deadline_ns, False
        try:
            endpoint.health.asked()
            while left > 0:
                reply = connection.ask(request.command(endpoint.link.beats, source), left)
                if isinstance(reply, RedisErrorReply):
                    if reply.code in ELSEWHERE:
                        self._ledger.ended(request)
                        return None
                    latency = connection.latency_ns
                    self._on_loop(partial(endpoint.health.refused, reply, latency, late=False))
                    source = reply.code == "NOSCRIPT" and not source
                    if not source:
                        break
                else:
                    result = self._answered(endpoint, connection, request, reply)
                    if not isinstance(result, StoreRequest):
                        return result
                    request = result
                left -= now_ns() - connection.asked_ns
            # The request did not run, or it has to be sent again and there is no time left for
            # that.
            return self._give_up(endpoint, request)
        except (AnswerTooLate, RedisConnectionLost) as error:
            return self._lost(endpoint, request, error)
        except BaseException as error:
            self._broken_off(endpoint, connection, request, error)
            raise

    def _broken_off(
        self,
        endpoint: Endpoint,
        connection: BlockingConnection,
        request: StoreRequest | Decision | None,
        error: BaseException,
    ) -> None:
        """An exception has broken into the thread, such as `KeyboardInterrupt`, wherever it was in
        a call: its caller has given up."""
        if isinstance(request, StoreRequest) and request.is_in_flight:
            connection.close()  # no later call shall read the answer, if it still comes
            self._lost(endpoint, request, error)

    def _answered(
        self,
        endpoint: Endpoint,
        connection: BlockingConnection,
        request: StoreRequest,
        reply: object,
    ) -> Decision | StoreRequest | None:
        """Books an answer. Returns the decision, or the request to send next."""
        latency = connection.latency_ns
        try:
            answer = request.parse(reply)
            wrote = answer.status is ALLOWED
            forgot = partial(self._on_loop, endpoint.supervisor.server_forgot)
            with self._ledger.lock:
                endpoint.health.answered_by_thread(latency, wrote, self._on_loop)
                endpoint.dispatcher.counters["answered"] += 1
                result = endpoint.link.book(request, answer, True, forgot)
        except RedisReplyError as error:
            connection.close()  # it is not known any more which answer belongs to which request
            return self._lost(endpoint, request, RedisConnectionLost(str(error), "script"))
        if result is None:
            return self._give_up(endpoint, request)
        assert isinstance(result, (Decision, StoreRequest)), "it is about tokens"
        return result

    def _give_up(self, endpoint: Endpoint, request: StoreRequest) -> Decision | None:
        with self._ledger.lock:
            try:
                return self._ledger.give_up(request, endpoint.health.mode_without_store)
            finally:
                self._ledger.ended(request)

    def _lost(
        self, endpoint: Endpoint, request: StoreRequest, error: BaseException
    ) -> Decision | None:
        """No answer came, and it is not known whether the request ran, or still will."""
        wanted = isinstance(error, (AnswerTooLate, RedisConnectionLost))
        ledger = self._ledger
        with ledger.lock:
            try:
                return ledger.give_up(request, endpoint.health.mode_without_store, wanted)
            finally:
                ledger.connection_ended(request)
                endpoint.link.raise_fence()
                self._on_loop(partial(endpoint.thread_lost, error))

    def _on_loop(self, what: Callable[[], Any]) -> None:
        """Runs something on the event loop, if there is still one."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    # ---- connections ----

    def _connection(self, endpoint: Endpoint) -> BlockingConnection | None:
        known, now = endpoint.of_thread.known, now_ns()
        if known is not None and known.loops_connection is endpoint.link.connection:
            found = known.connection
            if found is not None and found.closed:
                found = None
            elif found is None and now - known.made_ns < AGAIN_NS:
                return None
            if found is not None and (now - found.used_ns < IDLE_NS or found.alive()):
                return found
        elif known is not None and known.connection is not None:
            known.connection.close()
        loops_connection, made = endpoint.link.connection, None
        with contextlib.suppress(RedisUnavailable):  # the event loop's own attempts say why
            made = BlockingConnection(
                endpoint.address, endpoint.link.access, self._deadline_ns / NS_PER_SECOND
            )
        endpoint.of_thread.known = ThreadConnection(made, loops_connection, now)
        if made is not None:
            with self._ledger.lock:
                self._made.add(made)
        return made
