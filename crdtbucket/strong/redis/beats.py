"""Beats: how the regions of a replicated Redis see that replication goes on between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from crdtbucket.base.clipped import clipped
from crdtbucket.errors import RedisReplyError
from crdtbucket.strong.redis.lua import LuaScript
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import SILENT_US, beat_words
from crdtbucket.strong.redis.script import words

EVERY_MS = 100
"""Each process asks for a beat so often; one of them writes it, the others read it."""
_BEAT = re.compile(
    rb"(\d{1,16}) (\d{1,16}) (\d{1,9})\|((?:\S+ \d{1,16} \d{1,16} -?\d{1,16} \d{1,9} )*)"
)


class RegionBeat(NamedTuple):
    """The newest beat of another region that one region has seen.

    `stamp_us` is of the other's clock. The reader's clock is ahead of it by at most `base_us`.
    `nodes` is how many nodes the other had.
    """

    version: int
    stamp_us: int
    base_us: int
    nodes: int


class Beat(NamedTuple):
    """One region's beat at `stamp_us` of its member's clock, with what it knows of the others."""

    version: int
    stamp_us: int
    nodes: int
    regions: dict[bytes, RegionBeat]


@dataclass(frozen=True)
class RegionBeats:
    """The beats of all regions as the own region knows them."""

    regions: Regions
    own: Beat

    def late_us(self, region: bytes) -> int | None:
        """How late the newest beat of another region is, at the own beat, beyond the quickest
        way that one has come. None when none has ever come."""
        other = self.own.regions.get(region)
        if other is None:
            return None
        return max(0, self.own.stamp_us - other.base_us - other.stamp_us)

    def silent(self) -> frozenset[bytes]:
        """The silent regions, whose takes are predicted; a region of which no beat ever came is not
        among them."""
        late = {one: self.late_us(one) for one in self.regions.others}
        return frozenset(one for one, us in late.items() if us is not None and us > SILENT_US)

    @property
    def nodes(self) -> int:
        """How many nodes all regions have, those of silent ones as last known."""
        others = (self.own.regions.get(one) for one in self.regions.others)
        return self.own.nodes + sum(one.nodes for one in others if one is not None)

    @cached_property
    def words(self) -> bytes:
        """The beats as words of a call, see `ScriptCall.beats`."""
        known = [self.own.regions.get(region) for region in self.regions.others]
        others = [(0, 0) if one is None else (one.base_us, one.stamp_us) for one in known]
        return beat_words(self.own.stamp_us, others)


class BeatArguments:
    """The arguments of the scripts that write and read one region's beats on one server."""

    script = LuaScript.load("beat.lua")

    def __init__(self, regions: Regions, prefix: bytes = b"crdtbucket:", tag: bytes = b"0") -> None:
        """`tag`: decides the slot of a cluster, see `topology.slot`."""
        self.regions = regions
        self.keys = tuple(
            b"%b{%b}:beat@%b" % (prefix, tag, region) for region in (regions.own, *regions.others)
        )

    def command(self, nodes: int, source: bool = False) -> bytes:
        """The bytes of EVALSHA, or with `source` of EVAL, for a server that lacks the script.

        `nodes`: how many nodes this region has; 0 where this process has not counted them yet, so
        that what another one wrote is left.
        """
        script = (b"EVAL", self.script.source) if source else (b"EVALSHA", self.script.sha)
        texts = (self.regions.own, b"%d" % nodes, *self.regions.others)
        texts = (script[0], script[1].encode(), b"%d" % len(self.keys), *self.keys, *texts)
        return b"*%d\r\n%b" % (len(texts), words(*texts))

    def parse(self, reply: object) -> RegionBeats:
        """The answer in a reply. Raises `RedisReplyError` for anything else."""
        return RegionBeats(self.regions, read_beat(reply))


def read_beat(text: object) -> Beat:
    """A region's beat, as its key holds it. Raises `RedisReplyError`."""
    match = _BEAT.fullmatch(text) if isinstance(text, bytes) else None
    if match is None:
        raise RedisReplyError(f"{clipped(text)} is no beat of a region")
    version, stamp, nodes = map(int, match.groups()[:3])
    items = match[4].split()
    regions = {
        items[i]: RegionBeat(*map(int, items[i + 1 : i + 5])) for i in range(0, len(items), 5)
    }
    return Beat(version, stamp, nodes, regions)
