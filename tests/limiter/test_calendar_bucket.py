"""Quotas of calendar periods in one process."""

from __future__ import annotations

import asyncio
import datetime
import zoneinfo
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket._core import Table
from crdtbucket.base.clock import WallClock
from crdtbucket.errors import InvalidSpec, WaitTimeout
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.calendar_bucket import CalendarBucket
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.protocol.roster import Roster
from tests.virtual_loop import VirtualTime, virtually

NS = 1_000_000_000
HOUR = 3_600
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Machine:
    """A table and a wall clock that go on together, and either alone."""

    def __init__(self, *when: int, boot: int = 1_000) -> None:
        moment = datetime.datetime(*when, tzinfo=BERLIN)  # type: ignore[arg-type,misc]
        self.wall_ns = round(moment.timestamp()) * NS
        self.table = Table(max_keys=1_000, hash_key=bytes(16), virtual=True)
        self.table.set_time(boot * NS)
        self.clock = WallClock(lambda: self.wall_ns)

    def advance(self, seconds: float) -> None:
        self.wall_ns += round(seconds * NS)
        self.table.set_time(self.table.now() + round(seconds * NS))

    def bucket(self, limit: int = 10, **more: Any) -> CalendarBucket:
        spec = BucketSpec.calendar("api", limit, time_zone="Europe/Berlin", **more)
        return CalendarBucket(self.table, spec, wall=self.clock)


def takes(bucket: Bucket, cost: int = 1, key: str = "k") -> int:
    """How many takes are admitted until one is denied."""
    return next(n for n in range(10**6) if not bucket.take(key, cost))


def test_the_quota_comes_back_at_midnight_and_not_a_moment_before() -> None:
    here = Machine(2026, 11, 29, 3)
    api = here.bucket()
    assert takes(api) == 10
    here.advance(21 * HOUR - 1.5)
    denied = api.take("k")
    assert (denied.allowed, denied.remaining, denied.retry_after) == (False, 0, 1.5)
    assert (denied.reset_after, denied.next_token, denied.limit) == (1.5, 2, 10)
    assert denied.as_dict()["bucket"] == "api"
    here.advance(1.4)
    assert not api.take("k")
    here.advance(0.1)
    assert takes(api) == 10
    assert api.peek("other").reset_after == 0


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25)])
def test_a_day_in_which_the_hour_changes_has_its_quota_once(
    day: tuple[int, int, int], hours: int
) -> None:
    here = Machine(*day)
    api = here.bucket(limit=3 * hours)
    every_ten_minutes = [bool(api.take("k")) for _ in range(6 * hours) if not here.advance(599.999)]
    assert sum(every_ten_minutes) == 3 * hours
    here.advance(6 * hours * 0.001)
    assert takes(api) == 3 * hours


def test_large_quotas_are_exact_to_the_token() -> None:
    here = Machine(2026, 1, 1)
    api = here.bucket(2**46, per="month")
    for _ in range(8):
        assert api.take("k", 2**43 - 1)
        here.advance(3 * 86_400)
    assert api.peek("k").remaining == 8
    assert takes(api) == 8


def test_what_is_given_back_after_midnight_goes_to_the_day_of_its_take() -> None:
    here = Machine(2026, 11, 29, 23, 59)
    api = here.bucket()
    taken = api.take("k", 4)
    with api.reserve("k", 6, ttl=600) as held:
        here.advance(120)
        assert takes(api, 5) == 2
        assert api.refund(taken) == 4
        held.commit(1)
        assert not api.take("k")
    here.wall_ns -= 120 * NS
    assert api.peek("k").remaining == 9


def test_a_clock_that_is_set_back_finds_the_day_before_as_it_was_left() -> None:
    here = Machine(2026, 11, 30)
    api = here.bucket()
    here.wall_ns -= 5 * NS
    assert takes(api) == 10
    here.wall_ns += 10 * NS
    assert takes(api, 2) == 5
    here.wall_ns -= 10 * NS
    assert not api.take("k")
    here.wall_ns += 9 * 86_400 * NS
    assert takes(api) == 10
    here.wall_ns -= 9 * 86_400 * NS
    here.advance(3)
    assert not api.take("k")


def test_what_others_take_early_is_kept_for_the_next_period() -> None:
    here = Machine(2026, 11, 29, 1)
    api = here.bucket()
    today = api.look().number
    early = next(part for part in api.parts if part.number == today + 1)
    assert early.take("k", 4)  # as it comes from a node whose clock is ahead
    here.advance(23 * HOUR)
    assert api.look().number == today + 1
    assert api.peek("k").remaining == 6


def test_keys_of_past_periods_leave_the_table() -> None:
    here = Machine(2026, 11, 29, 12)
    api = here.bucket()
    for day in range(5):
        for n in range(20):
            assert api.take(f"{day} {n}", 1 + n % 10)
        here.table.outbox.collect()
        here.table.outbox.trim(here.table.outbox.version)
        here.advance(86_400)
        api.beat()
        here.table.sweep(1_000)
        assert here.table.stats()["keys"] == 0


def test_a_restart_within_the_period_gives_nothing_back() -> None:
    here = Machine(2026, 11, 29, 1)
    assert takes(here.bucket()) == 10
    saved = b"".join(snapshot.dump(here.table, Roster(here.table, "a")))
    later = Machine(2026, 11, 29, 22, boot=1_000 + 21 * HOUR)
    api = later.bucket()
    assert snapshot.load(later.table, Roster(later.table, "a"), saved) == 1
    assert not api.take("k")
    later.advance(2 * HOUR)
    assert takes(api) == 10


def test_processes_that_share_a_table_have_one_definition() -> None:
    here = Machine(2026, 11, 29, 1)
    one = here.bucket()
    count = here.table.definitions.made
    here.wall_ns += NS // 3
    other = here.bucket()
    assert here.table.definitions.made == count
    assert (takes(one, 3), takes(other)) == (3, 1)


def test_a_clock_that_is_compared_with_others_counts_as_these_say() -> None:
    here = Machine(2026, 11, 29, 23)
    api = here.bucket()
    assert takes(api) == 10
    here.clock.ahead_ns = here.wall_ns - here.table.now() + HOUR * NS
    here.wall_ns -= 5 * HOUR * NS
    assert takes(api) == 10
    here.clock.ahead_ns -= 2 * HOUR * NS
    here.advance(60)
    api.beat()
    assert api.take("k").retry_after == 2 * HOUR - 60


@pytest.mark.parametrize("leads", [True, False])
def test_a_node_of_a_mesh_goes_by_the_clock_that_the_mesh_moves(
    leads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = -1_000_000
    spec = BucketSpec.calendar("api", 10)
    limiter = Limiter([spec], node="a", mesh=MeshConfig(listen="127.0.0.1:0"))
    node: Any = limiter._node
    if leads:
        node.machine = SimpleNamespace(follow_wall=lambda shows, now: moved * NS)
    else:  # another process speaks to the peers
        monkeypatch.setattr(node, "view", lambda: {"mesh": {"wall_clock_moved": moved}})
    node.follow_wall()
    wall = node._wall
    assert abs(wall(node._table.now()) - wall.machine_ns() - moved * NS) < HOUR * NS


def test_the_leaders_view_is_read_for_calendar_buckets_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mesh = MeshConfig(listen="127.0.0.1:0")
    for spec, wanted in (BucketSpec("api", 10, 10), 0), (BucketSpec.calendar("api", 10), 1):
        limiter = Limiter([spec], node="a", mesh=mesh)
        node: Any = limiter._node
        read: list[None] = []
        monkeypatch.setattr(node, "view", partial(read.append, None))
        node.follow_wall()
        assert len(read) == wanted
        node.advertise(None, None)
        assert len(read) == 2 * wanted


@virtually
async def test_callers_wait_for_the_next_period(time: VirtualTime) -> None:
    spec = BucketSpec.calendar("api", 2)
    offset = datetime.date(2026, 11, 29).toordinal() * 86_400 * NS  # midnights are those of UTC
    api = CalendarBucket(time.table, spec, wall=WallClock(lambda: offset + time.now_ns))
    assert await api.wait("k", 2)
    begun = time.now_ns
    with pytest.raises(WaitTimeout, match="s or more, the caller waits 60 s"):
        await api.wait("k", timeout=60)
    first, second = (asyncio.create_task(api.wait("k")) for _ in range(2))
    assert await first
    assert await second
    midnight = 86_400 * NS
    assert midnight <= time.now_ns < midnight + NS > begun
    assert not api.take("k")


def test_overrides_and_several_buckets_at_once() -> None:
    spec = BucketSpec.calendar(
        "api", 10, per="month", overrides=[("big:*", BucketSpec.calendar("x", 50, per="month"))]
    )
    limiter = Limiter([spec, BucketSpec.parse("rate", "5/s")])
    api = limiter.bucket("api")
    assert api.take("big:1", 50)
    assert limiter.take_all([("api", "k", 4), ("rate", "k", 4)])
    assert not limiter.take_all([("api", "k", 7), ("rate", "k", 1)])
    assert list(api.take_many(["k", "big:1", "k", "k"], [3, 1, 4, 3]).allowed) == [1, 0, 0, 1]
    assert api.take("j", 5, floor=0.5)
    assert not api.take("j", 1, floor=0.5)
    assert limiter.take_first([("api", "big:1"), ("rate", "k")]).bucket.spec.name == "rate"
    counters = limiter.stats()["buckets"]["api"]
    assert (counters["granted"], counters["allowed"], counters["keys"]) == (15, 4, 2)
    assert limiter.keys("api") == ["big:1", "k", "j"]
    assert api.settle("k", 3) == 3
    assert api.reset("k") == 10 + 3
    assert limiter.reset_all() == 2 + 1


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("limit", {"limit": 0}),
        ("limit", {"limit": 2**46 + 1}),
        ("per", {"per": "year"}),
        ("time_zone", {"time_zone": "Mars/Olympus"}),
        ("consistency", {"consistency": "strong"}),
        ("overrides", {"overrides": [("x", BucketSpec.parse("x", "1/s"))]}),
        ("overrides", {"overrides": [("x", BucketSpec.calendar("x", 1, per="week"))]}),
        ("slots", {"limit": 1_000, "slots": 3}),
    ],
)
def test_what_a_calendar_cannot_be_is_refused(field: str, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        BucketSpec.calendar("api", **{"limit": 5, **more})
    assert refused.value.field == field
