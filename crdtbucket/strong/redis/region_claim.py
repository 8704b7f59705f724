"""Notices that two Redis servers are used under the name of one region."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from crdtbucket._core import Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.deadline import within
from crdtbucket.errors import CrdtbucketError
from crdtbucket.spec.bucket_spec import clipped
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask

LOG = logging.getLogger("crdtbucket.strong")
WITHIN_NS = 60 * NS_PER_SECOND
"""Another server's name must be found twice within this time: once may be an old copy."""
KEPT_MS = 3_600_000
PATIENCE_S = 0.5


class RegionClaim:
    """Writes which server is the region's, and looks whose name stands there.

    A server that restarts, or fails over, has a new run id and claims the region once. Two servers
    that are both used under one name overwrite each other's claims again and again.
    """

    def __init__(self, prefix: str, region: bytes, table: Table) -> None:
        self.conflict = ""
        """What is wrong, and what to do; empty while one server is used."""
        self._name = b"%sserver@%s" % (prefix.encode(), region)
        self._region = region.decode()
        self._table = table
        self._claimed = ""
        self._found: deque[int] = deque(maxlen=2)

    async def make(self, connection: RedisConnection, run_id: str | None) -> None:
        """Claims the region for a server. What fails is left to the next time."""
        if not run_id:
            return  # this server does not say which it is
        words = (b"SET", self._name, run_id, b"PX", KEPT_MS, b"GET")
        try:
            before = await within(PATIENCE_S, ask(connection, *words))
        except (asyncio.TimeoutError, CrdtbucketError) as error:
            LOG.debug("Redis %s: the region was not claimed: %s", connection.address, error)
            return
        now = self._table.now()
        if self._claimed == run_id and before not in (None, run_id.encode()):
            self._found.append(now)
        self._claimed = run_id
        recent = len(self._found) == 2 and now - self._found[0] <= WITHIN_NS
        if recent and not self.conflict:
            self.conflict = (
                f"another server (run id {clipped(before)}) is used as that of region "
                f"{self._region!r}, too: of two that write the same keys one loses what was taken. "
                "Give every server a region of its own, or name one server in all files of a region"
            )
            LOG.critical("Redis %s: %s", connection.address, self.conflict)
        elif not recent and self.conflict:
            self.conflict = ""
            LOG.info("Redis %s: it is the only one of its region now", connection.address)


__all__ = ["RegionClaim"]
