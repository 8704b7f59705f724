"""Keeps an endpoint connected, probes a server that was left, and starts its settling."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.deadline import within
from crdtbucket.errors import RedisReplyError, RedisUnavailable
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.outage import Failure
from crdtbucket.strong.deadlines import LOOK_S, LOOKS
from crdtbucket.strong.dispatcher import Dispatcher
from crdtbucket.strong.endpoint_health import EndpointHealth
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.resp import GarbledReply, RedisErrorReply
from crdtbucket.strong.redis.server_facts import ServerFacts, facts
from crdtbucket.strong.resync import SHARE, Resync
from crdtbucket.strong.server_link import ServerLink

LOG = logging.getLogger("crdtbucket.strong")
RECONNECT_S = 0.05
STUCK_NS = 2 * NS_PER_SECOND
"""A connection on which a request has been open for so long is given up for a new one."""
EVICTION_NS = NS_PER_SECOND
"""Between two looks at whether a server that evicts keys has done so."""
POLICY_NS = 60 * NS_PER_SECOND
"""Between two looks at whether a server has begun to evict."""
LATE_NS = 10_000_000
"""If a check for silence runs later than this (ns), it first waits until the loop has had time to
read answers."""
LAST_SETTLING_S = 2.0
"""The start and the end of a limiter wait no longer than this for what is still to be settled."""
Probe = tuple[script.Arguments, script.ScriptCall]
"""A call on a key of this node's own, to see whether a server decides."""


class Supervisor:
    """The upkeep of one endpoint: `connect` once, then `run` until it is cancelled, then `stop`."""

    def __init__(
        self,
        ledger: Ledger,
        link: ServerLink,
        dispatcher: Dispatcher,
        resync: Resync,
        config: RedisConfig,
        probe: Probe,
        run_id: str | None,
    ) -> None:
        """`run_id`: the run id (see `ServerFacts`) of the server when it was last met; "" if it was
        never met, None if it was met but the run id is unknown."""
        self.facts = ServerFacts()
        """The last facts about the server."""
        self.run_id = run_id
        self._ledger, self._unsettled = ledger, ledger.unsettled
        self._link = link
        self._dispatcher = dispatcher
        self._health: EndpointHealth = dispatcher.health
        self._resync = resync
        self._config = config
        self._probe = probe
        self._probes = 0
        # While decisions wait for a server, it is noticed in time if it does not even connect.
        self._quickly = min(config.connect_timeout, self._health.controller.outage_after)
        self._look_at = 0
        self._was_replica = False
        self._awake = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        """Has `run` look at once whether there is something to do."""
        self._awake.set()

    def probe_with(self, probe: Probe) -> None:
        """Probes are this call from now on."""
        self._probe = probe

    def server_forgot(self) -> None:
        """The server has lost something that it held: everything is sent to it."""
        self._resync.send_everything()
        self._awake.set()

    def server_is_replica(self) -> None:
        """The server takes no writes: the connection may have outlived the failover of what its
        address leads to, so the address is looked up again."""
        self._was_replica = True
        self.connect_anew()

    def connect_anew(self) -> None:
        """Ends the connection, and makes another one."""
        self.drop()
        self._awake.set()

    async def run(self) -> None:
        """Connects, probes, settles; until cancelled."""
        health = self._health
        while True:
            self._awake.clear()  # first: what happens from here on is looked at again
            now = health.now()
            due = health.next_tick(now)
            if due is not None and due <= now:
                if await self._silent(now, now - due > LATE_NS):
                    health.tick()
                now = health.now()
            with self._ledger.lock:  # threads keep their accounts meanwhile
                self._unsettled.carry()
            if health.mode is Mode.STRONG:
                if self._link.connection is None:
                    await self.connect()
                elif self._settles() and self._resync_ns() <= 0:
                    await self._resync.settle()
                elif now >= self._look_at:
                    await self._look_at_memory(now)
            elif health.probe():
                await self._try()
            await self._rest()

    async def _silent(self, now: int, late: bool) -> bool:
        """Returns whether the silence goes on after the loop has had time to read answers that have
        already arrived. `late`: this check runs late, for example because the process was stopped;
        a waiting thread, or the server, may have resumed only now."""
        within_s = min(self._config.deadline, self._health.controller.outage_after)
        for _ in range(LOOKS if late else 1):
            await asyncio.sleep(within_s / LOOKS if late else LOOK_S)
            # A silence that has begun meanwhile is another one.
            due = self._health.next_tick(now)
            if due is None or due > now:
                return False
        return True

    async def stop(self) -> None:
        """Settles what it can quickly, and closes the connection."""
        self._closed = True
        # In an outage, too: a server that was left may answer again by now.
        try:
            if self._link.connection is not None:
                await self.settle_briefly()
        finally:
            self.drop()

    async def settle_briefly(self) -> None:
        """Settles what is due, for `LAST_SETTLING_S` at most."""
        if self._resync.due and not self._dispatcher.barred():
            await self._resync.settle(LAST_SETTLING_S)

    def drop(self) -> None:
        """Ends the connection, which is no failure of the server."""
        self._link.drop()
        self._dispatcher.queue.admit()

    async def connect(self) -> bool:
        """Whether there is a connection now; if not, the controller gets the reason."""
        health, address = self._health, self._link.address
        strong = health.mode is Mode.STRONG
        timeout = self._quickly if strong else self._config.connect_timeout
        try:
            opened = await self._link.open(timeout)
        except (RedisUnavailable, asyncio.TimeoutError) as error:
            said = str(error) or f"Redis at {address} did not answer INFO within {timeout:g} s"
            health.fail(Failure(getattr(error, "kind", "timed_out")), said)
            return False
        if opened is None:
            return False
        connection, found = opened
        if connection.closed or self._closed:
            connection.abort()
            return False
        another = found.run_id is None or found.run_id != self.run_id
        if self.run_id != "" and another:
            self._resync.send_everything()
        if self._was_replica and another:
            health.moved()  # the address leads to another server by now
            self._was_replica = False
        self.run_id = found.run_id
        self._learn(found)
        self._look_later(health.now())
        with self._ledger.lock:
            self._link.use(connection)
        return True

    def _learn(self, found: ServerFacts) -> None:
        """Warns of a server that evicts keys, and sends everything to one that has evicted some."""
        before, self.facts = self.facts, found
        if found.warning and found.policy != before.policy:
            LOG.warning("Redis %s: %s", self._link.address, found.warning)
        same = found.run_id is not None and found.run_id == before.run_id
        if same and (found.evicted or 0) > (before.evicted or 0):
            self._resync.send_everything()

    def _look_later(self, now: int) -> None:
        self._look_at = now + (EVICTION_NS if self.facts.evicts else POLICY_NS)

    async def _look_at_memory(self, now: int) -> None:
        """Checks whether the server has evicted keys: otherwise nobody notices before a node asks
        for an evicted key of which it knows the takes."""
        connection, health = self._link.connection, self._health
        assert connection is not None
        self._look_later(now)
        try:
            self._learn(await within(self._config.connect_timeout, facts(connection)))
        except (RedisUnavailable, asyncio.TimeoutError) as error:
            LOG.debug("%s: its memory was not looked at: %s", self._link.address, error)
            return
        if self._resync.everything_due and self._dispatcher.usable():
            started = health.now()
            await self._resync.settle()
            # A server that evicts all the time must not be sent everything all the time.
            ended = health.now()
            self._look_at = max(self._look_at, ended + SHARE * (ended - started))

    async def _try(self) -> None:
        """Sends one probe, and settles when the server answers it."""
        connection = self._link.connection
        if connection is not None and now_ns() - (connection.oldest_ns or now_ns()) > STUCK_NS:
            # The server may still run what was sent on it: the fence makes the script refuse it.
            self.drop()
        if self._link.connection is None and not await self.connect():
            return
        if await self._send_probe() and self._resync.due and not self._dispatcher.barred():
            await self._resync.settle()

    async def _send_probe(self) -> bool:
        """Runs the script on a key of this node's own, which writes: a server that only answers
        decides nothing."""
        arguments, call = self._probe
        self._probes += 1
        call = replace(call, taken=self._probes, fence=self._link.fence)
        reply = await self._in_time(arguments, arguments.command(call))
        if isinstance(reply, RedisErrorReply) and reply.code == "NOSCRIPT":
            reply = await self._in_time(arguments, arguments.command(call, source=True))
        return isinstance(reply, script.ScriptAnswer)

    async def _in_time(self, arguments: script.Arguments, command: bytes) -> object:
        """The answer, or the error that came; None when none came within the deadline."""
        health, connection = self._health, self._link.connection
        if connection is None or connection.closed:
            return None
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        late = False

        def replied(reply: object) -> None:
            latency = sent.latency_ns
            self._dispatcher.tally.tell()  # of the answers before this one
            if isinstance(reply, RedisErrorReply):
                health.refused(reply, latency, late=late)
            elif not isinstance(reply, RedisUnavailable):  # the link learns of a lost connection
                try:
                    reply = arguments.parse(reply)
                    wrote = reply.status is script.ScriptStatus.ALLOWED
                    health.answered(latency, late=late, wrote=wrote)
                except RedisReplyError as error:
                    health.fail(Failure.SCRIPT, str(error))
                    reply = GarbledReply("what is no answer of the script")
            if not future.done():
                future.set_result(reply)
            if isinstance(reply, GarbledReply):
                raise reply

        sent = connection.send(command, replied)
        sent.when_written(health.asked)
        for seconds in (self._config.deadline, LOOK_S):
            await asyncio.wait({future}, timeout=seconds)
        if future.done():
            return future.result()
        late = True
        health.timed_out()
        return None

    async def _rest(self) -> None:
        """Sleeps until there is something to do again."""
        now = self._health.now()
        due = self._health.next_tick(now)
        delay = 1.0 if due is None else max(0.0, (due - now) / NS_PER_SECOND)
        if self._link.connection is None and self._health.mode is Mode.STRONG:
            delay = min(delay, RECONNECT_S)
        if self._settles():
            delay = min(delay, self._resync_ns() / NS_PER_SECOND)
        try:
            await within(max(delay, 0.001), self._awake.wait())
        except asyncio.TimeoutError:
            return

    def _settles(self) -> bool:
        return self._resync.due and self._dispatcher.usable()

    def _resync_ns(self) -> int:
        return self._resync.at - self._ledger.table.now()
