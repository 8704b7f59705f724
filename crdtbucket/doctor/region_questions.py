"""Asks a server of a replicated Redis about its regions: whose keys it has, and their beats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crdtbucket.base.counted import counted
from crdtbucket.doctor.diagnosis import Diagnosis, note
from crdtbucket.doctor.redis_questions import Answer, RedisQuestions
from crdtbucket.strong.redis.beats import Beat, read_beat
from crdtbucket.strong.redis.redis_connection import ask
from crdtbucket.strong.redis.regions import ASSUMPTIONS, Regions
from crdtbucket.strong.redis.replicated import SILENT_US
from crdtbucket.strong.redis.topology import first_within

FRESH_US = 2_000_000
"""An own beat that is older (us) was written by nodes that no longer run."""
US_PER_SECOND = 1_000_000


def examine_regions(regions: Regions) -> Iterator[Diagnosis]:
    """Examines whose keys a server has, and what is assumed of the engine."""
    own = regions.own.decode()
    read = ", ".join(one.decode() for one in regions.others) or "no other region"
    yield note("redis regions", f"keys of {own} are written, copies of {read} are read")
    yield from (note("redis regions", one) for one in ASSUMPTIONS)


async def region_ages(asked: RedisQuestions) -> Sequence[Answer]:
    """How old the beat of each region is, as the nodes of the own region see it. It only reads: the
    doctor is no node, and writes no beat."""
    regions = asked.regions
    assert regions is not None, "asked of a replicated Redis"
    own = await _beat(asked, regions.own)
    now_us = await asked.time_us()
    if own is None or now_us - own.stamp_us > FRESH_US:
        return [await _unattended(asked, region) for region in regions.others]
    return [_age(region, own, now_us) for region in regions.others]


async def _unattended(asked: RedisQuestions, region: bytes) -> Answer:
    there = await _beat(asked, region) is not None
    what = "a beat of it has come" if there else "no beat of it has come"
    text = f"{what}; how old it is, is known once a node of this region runs"
    return f"region {region.decode()}", "note", text


async def _beat(asked: RedisQuestions, region: bytes) -> Beat | None:
    prefix = asked.config.prefix.encode()
    tags = (b"%s{%d}" % (prefix, number) for number in range(10**7))
    tag = first_within(asked.primary.ranges, tags)
    reply = await ask(asked.connection, "GET", b"%s:beat@%s" % (tag, region))
    return None if reply is None else read_beat(reply)


def _age(region: bytes, own: Beat, now_us: int) -> Answer:
    name, known = f"region {region.decode()}", own.regions.get(region)
    if known is None:
        text = (
            "unknown: no beat of it was ever seen. No node runs there yet, or it is called "
            "otherwise there, or its server does not replicate to this one"
        )
        return name, "note", text
    late_us = max(0, now_us - known.base_us - known.stamp_us)
    seconds = f"{late_us / US_PER_SECOND:.1f} s"
    if late_us <= SILENT_US:
        return name, "ok", f"its beat is {seconds} behind, {counted(known.nodes, 'node')}"
    text = (
        f"silent: its beat is {seconds} behind, so its share is held back. Look at the "
        "replication between the two servers, and whether nodes run there"
    )
    return name, "wrong", text
