"""Keeps the beats of the regions of a replicated Redis, as one server knows them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from crdtbucket.errors import RedisReplyError
from crdtbucket.strong.redis.beats import EVERY_MS, BeatArguments, RegionBeats
from crdtbucket.strong.redis.redis_connection import RedisConnection, RedisConnectionLost
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import SILENT_US
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.server_link import ServerLink

LOG = logging.getLogger("crdtbucket.strong")
ELSEWHERE = ("MOVED", "ASK", "CROSSSLOT")
US_PER_SECOND = 1_000_000
UNKNOWN_AFTER_US = 60 * US_PER_SECOND
"""Time (us) in which a region may still be starting; after that it is logged that no beat of it has
come."""
TRIES = 16
"""Tags that are tried one after the other until a server of a cluster holds the slot of one."""


class RegionWatch:
    """Sends the own region's beat to one server, and keeps the beats of other regions that the
    server has.

    Every process does so; the first one in each `EVERY_MS` writes the beat, and the others only
    read. The answer is sent along with every call to that server (`ServerLink.beats`).
    """

    def __init__(
        self, regions: Regions, prefix: bytes, link: ServerLink, nodes: Callable[[], int]
    ) -> None:
        """`nodes`: processes of this region, 0 before they were counted; the others are sent it."""
        self.beats: RegionBeats | None = None
        """The last answer; None before the first."""
        self._regions = regions
        self._prefix = prefix
        self._link = link
        self._nodes = nodes
        self._connection: RedisConnection | None = None
        self._is_asking = False
        self._tag = 0
        self._arguments = self._of_tag(0)
        self._silent: frozenset[bytes] = frozenset()
        self._since_us: int | None = None
        """The time of the first answer, on the server's clock."""
        self._unknown: frozenset[bytes] = frozenset()
        """The regions of which it was logged that no beat has ever come."""
        self._complained = ""

    async def run(self) -> None:
        """Sends a beat every `EVERY_MS` while there is a connection; until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(EVERY_MS / 1000)

    def beat(self) -> None:
        """Sends a beat, unless there is no connection, or the last beat is not answered yet."""
        connection = self._link.connection
        if connection is None or connection.closed or connection.congested:
            return
        if connection is not self._connection:
            self._connection, self._is_asking = connection, False
            self._tag, self._arguments = 0, self._of_tag(0)
        if not self._is_asking:
            self._send(connection, self._arguments.command(self._nodes()))

    def states(self) -> dict[str, dict[str, Any]]:
        """The state of each other region: `state` (seen, silent, or unknown before its first beat),
        `late` (seconds that its updates are behind, None when unknown), and `nodes`."""
        beats, found = self.beats, {}
        for region in self._regions.others:
            late = None if beats is None else beats.late_us(region)
            state = "unknown" if late is None else "silent" if late > SILENT_US else "seen"
            known = None if beats is None else beats.own.regions.get(region)
            found[region.decode()] = {
                "state": state,
                "late": None if late is None else late / US_PER_SECOND,
                "nodes": 0 if known is None else known.nodes,
            }
        return found

    def silent(self) -> frozenset[bytes]:
        """The regions of which nothing new has come for so long that their share is held back."""
        return self._silent

    def nodes_elsewhere(self) -> int:
        """The number of processes in all other regions, as these last stated."""
        return 0 if self.beats is None else self.beats.nodes - self.beats.own.nodes

    def _of_tag(self, tag: int) -> BeatArguments:
        # Equal tags on equal clusters: each takes the first that its server holds.
        return BeatArguments(self._regions, self._prefix, b"%d" % tag)

    def _send(self, connection: RedisConnection, command: bytes) -> None:
        self._is_asking = True
        connection.send(command, partial(self._replied, connection))

    def _replied(self, connection: RedisConnection, reply: object) -> None:
        if connection is not self._connection:
            return
        self._is_asking = False
        if isinstance(reply, RedisConnectionLost):
            return
        if isinstance(reply, RedisErrorReply):
            self._refused(connection, reply)
            return
        try:
            self.beats = beats = self._arguments.parse(reply)
        except RedisReplyError as error:
            self._complain(str(error))
            return
        self._link.note_beats(beats.words)
        self._complained = ""
        self._tell(beats)

    def _refused(self, connection: RedisConnection, error: RedisErrorReply) -> None:
        if error.code == "NOSCRIPT":
            self._send(connection, self._arguments.command(self._nodes(), source=True))
        elif error.code in ELSEWHERE:
            self._tag += 1
            self._arguments = self._of_tag(self._tag)
            if self._tag % TRIES:  # the next beat tries the next tag
                self._send(connection, self._arguments.command(self._nodes()))
        else:
            self._complain(str(error))

    def _complain(self, why: str) -> None:
        level = logging.DEBUG if why == self._complained else logging.ERROR
        self._complained = why
        text = "Redis %s: the beat of this region was not written, so others see it silent: %s"
        LOG.log(level, text, self._link.address, why)

    def _tell(self, beats: RegionBeats) -> None:
        self._tell_unknown(beats)
        silent = beats.silent()
        before, self._silent = self._silent, silent
        if silent == before:
            return
        for region in sorted(silent - before):
            LOG.warning(
                "Redis %s: region %s is silent: nothing new of it has come for %.1f s. What it is "
                "likely to take is held back until it is seen again",
                self._link.address,
                region.decode(),
                (beats.late_us(region) or 0) / US_PER_SECOND,
            )
        for region in sorted(before - silent):
            LOG.info("Redis %s: region %s is seen again", self._link.address, region.decode())

    def _tell_unknown(self, beats: RegionBeats) -> None:
        now = beats.own.stamp_us
        if self._since_us is None or now < self._since_us:
            self._since_us = now
        if now - self._since_us < UNKNOWN_AFTER_US:
            return
        unknown = frozenset(one for one in self._regions.others if beats.late_us(one) is None)
        before, self._unknown = self._unknown, unknown
        for region in sorted(unknown - before):
            LOG.warning(
                "Redis %s: region %s is unknown: no beat of it has come for %d s. Nothing is held "
                "back for it, so if its nodes run, each region grants the whole limit: see whether "
                "the servers replicate, and whether it has this name in regions there",
                self._link.address,
                region.decode(),
                UNKNOWN_AFTER_US // US_PER_SECOND,
            )
        for region in sorted(before - unknown):
            LOG.info("Redis %s: region %s is known now", self._link.address, region.decode())
