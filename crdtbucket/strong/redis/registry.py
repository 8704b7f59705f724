"""The registry of all processes that use one Redis: how many share a limit, and whether they hash
alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib.resources import files

from crdtbucket._core import Table
from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.deadline import within
from crdtbucket.base.hashing import fingerprint
from crdtbucket.errors import CrdtbucketError, RedisReplyError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis import script, topology
from crdtbucket.strong.redis.login import LOG, explained
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import arguments_of
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.shares import NOTHING, Division, WantedShare

SOURCE = files("crdtbucket.strong.redis").joinpath("registry.lua").read_text(encoding="utf-8")
BEAT_NS = 5 * NS_PER_SECOND
PATIENCE_S = 0.5
"""Seconds that a server may take to answer."""
SETTLED_S = 6
"""Seconds in which all processes that reach Redis have written themselves into a list that has just
begun: a beat, and a second more."""
GONE_S = 60
"""Seconds after which a process that was not seen is not counted."""
FORGOTTEN_S = 3_600
"""Seconds; a process that was seen so long ago, or so far in the future, is not counted either, as
Redis' clock must have changed."""
WHOLE = 1_000_000_000
"""The sum of all shares."""
PROBED = BucketSpec("probe", 1_000, 1_000)
PROBE_MS = 60_000


class Registry:
    """One hash in Redis with a field for each process; see `registry.lua`."""

    def __init__(
        self,
        prefix: str,
        node: str,
        table: Table,
        wish: Callable[[], WantedShare] = WantedShare,
        regions: Regions | None = None,
        elsewhere: Callable[[], int] | None = None,
    ) -> None:
        """`wish` is called at every beat. With `regions` the list holds only the processes of this
        region, and `elsewhere` returns the number of processes in the others; None: there are no
        others."""
        suffix = b"" if regions is None else b"@" + regions.own
        self.name = b"%snodes%s" % (prefix.encode(), suffix)
        self.here = 1
        """Processes of this list seen in the last minute, this one included, those of one group as
        one; the number stays while Redis is unreachable."""
        self.seen = False
        """Whether the processes were ever counted."""
        self.conflict = ""
        """Why this process may not use this Redis; empty when it may."""
        self._prefix = prefix.encode()
        self.node = node
        self._table = table
        self._wish = wish
        self._elsewhere = elsewhere
        self._probe = arguments_of(PROBED, 0, regions, PROBE_MS)
        self._print = fingerprint(table.hash_key)
        self._granted: int | None = None
        self._shown = b""
        self._answered_at: int | None = None
        self._complained = ""
        self._due = 0

    @property
    def processes(self) -> int:
        """The number of processes that are known, those of other regions too."""
        return self.here if self._elsewhere is None else self.here + self._elsewhere()

    def due(self) -> bool:
        """Whether this process has to write itself into the list again."""
        return self._table.now() >= self._due

    @property
    def delay_s(self) -> float:
        """Seconds until this process has to write itself into the list again."""
        return max(0, self._due - self._table.now()) / NS_PER_SECOND

    def division(self, known: int) -> Division:
        """Among how many processes every limit is divided when Redis is gone. `known`: how many the
        mesh shows, or the last process of this node knew. This process is in doubt while others do
        not know it yet, since they would grant its part."""
        wish = self._wish()
        usual = max(known, self.processes, wish.least)
        return Division(self._doubted(usual, wish), usual)

    def _doubted(self, nodes: int, wish: WantedShare) -> int:
        """The number of processes, or a larger one while that leaves a share of which others may
        still grant a part. A share that is wished since Redis was last asked is no larger than the
        one that Redis has granted."""
        if self._granted is None:
            return nodes
        share, most = self._granted, round(wish.ratio * WHOLE)
        fair = most // nodes if wish.fleet else min(most, WHOLE // nodes)
        if share >= fair:
            return nodes
        # The number of processes that gives a share which is not larger, by the rule of the quota.
        return max(nodes, -(-(most if wish.fleet else WHOLE) // share)) if share else NOTHING

    async def beat(self, connection: RedisConnection) -> bool:
        """Writes this process to the list and counts the others. Returns whether that went well; a
        failure is logged, and the next beat comes at its usual time."""
        self._due = self._table.now() + BEAT_NS
        try:
            await within(PATIENCE_S, self._show(connection))
        except asyncio.TimeoutError:
            LOG.info("Redis %s: nodes were not counted: no answer", connection.address)
        except RedisErrorReply as error:
            why = explained(connection.address, error)
            denied = error.kind == "auth" and why != self._complained
            self._complained = why if denied else self._complained
            level = logging.ERROR if denied else logging.INFO
            LOG.log(level, "Redis %s: nodes were not counted: %s", connection.address, why)
        except CrdtbucketError as error:
            LOG.info("Redis %s: nodes were not counted: %s", connection.address, error)
        else:
            return True
        return False

    async def leave(self, connection: RedisConnection) -> None:
        """Removes this process, which ends, from the list. After a failure the others drop it when
        it is not seen again."""
        try:
            await within(PATIENCE_S, ask(connection, "HDEL", self.name, self._field))
        except (asyncio.TimeoutError, CrdtbucketError) as error:
            LOG.debug("Redis %s: was not left in order: %s", connection.address, error)

    @property
    def _field(self) -> bytes:
        return script.owner_name(self._table.epochs.running, self.node)

    async def _show(self, connection: RedisConnection) -> None:
        wish, using, now = self._wish(), self._granted or 0, self._table.now()
        field = self._field
        since = -1 if self._answered_at is None else (now - self._answered_at) // NS_PER_SECOND
        group = f"{wish.group or self._table.epochs.running:016x}"
        numbers = (using, wish.least, round(wish.ratio * WHOLE), int(wish.fleet), GONE_S)
        more = (FORGOTTEN_S, group, self.processes - self.here, self._shown or field, since)
        words = (SOURCE, 1, self.name, field, self._print, *numbers, *more, self.here, SETTLED_S)
        reply = await ask(connection, "EVAL", *words)
        self.here, share, first, other, wait_s = _checked(reply)
        self.seen, self._shown, self._answered_at = True, field, now
        if wait_s:
            self._due = min(self._due, now + wait_s * NS_PER_SECOND)
        if self._granted is not None and share < using:
            # Processes that wait for the share of this one get it as soon as this is written.
            self._due = self._table.now()
        self._granted = share
        self.conflict = self._reason(first, other) if first else ""

    def _reason(self, first: bytes, other: bytes) -> str:
        return (
            f"process {first.decode(errors='replace')!r}, which uses it, hashes keys of buckets "
            f"otherwise (fingerprint {other.decode(errors='replace')}, here "
            f"{self._print}), so each of the two would grant the whole of every limit: give all "
            "users of this Redis the same redis.hash_secret or mesh.hash_secret, or none of them"
        )

    def probe(self, ranges: topology.Ranges) -> tuple[script.Arguments, script.ScriptCall]:
        """A call on a key of this node's own in these slots, to see whether a server decides."""
        node = self.node.encode()
        names = (b"%s{probe:%s:%d}" % (self._prefix, node, number) for number in range(10**7))
        name = topology.first_within(ranges, names)
        owner = script.owner_name(self._table.epochs.running, self.node)
        return self._probe, script.ScriptCall(name, 1, owner, 0, 1, 0, 0, 0, None)


def _checked(reply: object) -> tuple[int, int, bytes, bytes, int]:
    """The answer of the script. Raises `RedisReplyError` for anything else."""
    if isinstance(reply, list) and len(reply) == 5:
        processes, share, first, other, wait_s = reply
        numbers = all(type(one) is int for one in (processes, share, wait_s))
        texts = all(isinstance(one, bytes) and len(one) <= 1_024 for one in (first, other))
        if numbers and texts and processes >= 1 and 0 <= share <= WHOLE and wait_s >= 0:
            return processes, share, first, other, wait_s
    raise RedisReplyError(f"the list of processes was answered with {clipped(reply)}")
