"""The limiter without a mesh: building it, finding buckets, opening, closing, upkeep."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket import (
    AcquireRequired,
    BucketSpec,
    CrdtbucketError,
    InvalidSpec,
    Limiter,
    LimiterClosed,
    MeshConfig,
    MeshError,
    Mode,
    NodeConflict,
    UnknownBucket,
)
from crdtbucket._core import Table
from crdtbucket.limiter.tables import Tables
from crdtbucket.limiter.upkeep import BEAT_S, BUG, MENDED, SAVE_NS, Upkeep
from tests.virtual_loop import VirtualTime, virtually

EXAMPLES = Path(__file__).parents[2] / "examples"
ARTICLE = "ai\u2011agent\u2011inference"
SPEC = BucketSpec("api", capacity=10, refill_rate=10)


def limiter_in(time: VirtualTime, *specs: BucketSpec, **more: Any) -> Limiter:
    return Limiter(specs or [SPEC], _table=time.table, **more)


def tables_of(table: Table) -> Tables:
    return Tables(None, node="a", mesh=None, redis=None, max_keys=table.max_keys, main=table)


# -- building


def test_takes_work_at_once_without_opening() -> None:
    limiter = Limiter([SPEC])
    decision = limiter.bucket("api").take("tenant-42", cost=3)
    assert decision
    assert (decision.remaining, decision.mode) == (7, Mode.EVENTUAL)
    assert (limiter.node, limiter.region, limiter.address) == ("local", "", "")
    assert repr(limiter) == "Limiter([api], node='local', not opened)"


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("what", ["limiter", "bucket"])
def test_it_goes_to_no_other_process(what: str, copied: Callable[[object], object]) -> None:
    """It cannot be sent to a child that multiprocessing spawns; the error says what to do
    instead."""
    limiter = Limiter([SPEC])
    one = limiter if what == "limiter" else limiter.bucket("api")
    with pytest.raises(
        TypeError, match=f"a {what} cannot be pickled or copied: make one in each process"
    ):
        copied(one)


def test_buckets_keep_apart_and_in_order() -> None:
    limiter = Limiter([SPEC, BucketSpec("other", 5, 1)], node="eu-1", region="eu")
    assert list(limiter.buckets) == ["api", "other"]
    limiter.bucket("api").take("a", 10)
    assert limiter.bucket("other").peek("a").remaining == 5
    assert limiter.buckets["other"] is limiter.bucket("other")
    with pytest.raises(TypeError):
        limiter.buckets["x"] = limiter.bucket("api")  # type: ignore[index]


def test_names_are_found_with_any_hyphen() -> None:
    limiter = Limiter([BucketSpec(ARTICLE, 10, 1)])
    assert limiter.bucket("ai-agent-inference") is limiter.bucket(ARTICLE)
    assert list(limiter.buckets) == [ARTICLE]


@pytest.mark.parametrize("name", ["apy", "", None, 7])
def test_an_unknown_bucket_lists_the_names(name: Any) -> None:
    limiter = Limiter([SPEC, BucketSpec("other", 5, 1)])
    with pytest.raises(UnknownBucket) as caught:
        limiter.bucket(name)
    assert caught.value.names == ("api", "other")
    assert caught.value.__context__ is None
    assert "api, other" in str(caught.value)
    for limit in (100, 0):
        with pytest.raises(UnknownBucket, match="api, other"):
            limiter.keys(name, limit)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"buckets": [SPEC, BucketSpec("api", 1, 1)]}, InvalidSpec, "two buckets are called 'api'"),
        (
            {"buckets": [BucketSpec("a-b", 1, 1), BucketSpec("a\u2011b", 1, 1)]},
            InvalidSpec,
            "all kinds of hyphens",
        ),
        ({"buckets": ["100/minute"]}, InvalidSpec, "BucketSpec.parse"),
        ({"node": ""}, InvalidSpec, "node"),
        ({"node": "a\nb"}, InvalidSpec, "node"),
        ({"region": "a\0b"}, InvalidSpec, "region"),
        ({"max_keys": 0}, CrdtbucketError, "max_keys"),
        ({"max_keys": "many"}, InvalidSpec, "max_keys is 'many'"),
        ({"mesh": MeshConfig()}, MeshError, "pass node="),
        (
            {"node": "a", "mesh": {"secret": "s"}},
            InvalidSpec,
            r"mesh is of type dict: pass MeshConfig\(",
        ),
        ({"redis": object()}, InvalidSpec, "redis is of type object: pass a URL, or RedisConfig"),
        ({"shared": True}, InvalidSpec, 'shared is of type bool: pass "auto", or a path'),
    ],
)
def test_what_cannot_be_built_says_why(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Limiter(**{"buckets": [SPEC], **arguments})


def test_late_updates_of_a_mesh_always_have_room_in_the_debt() -> None:
    slow_to_fill = BucketSpec("api", capacity=10, refill_rate=100, max_debt=0)
    mesh = MeshConfig(listen="127.0.0.1:0", gossip_interval=0.3)
    limiter = Limiter([slow_to_fill], node="eu-1", mesh=mesh)
    bucket = limiter.bucket("api")
    with limiter:
        assert bucket.settle("a", 10_000) == 10 + 4 * 50  # 4 x 100/s x (0.2 s + 0.3 s)
        assert bucket.max_debt == 200
    assert Limiter([slow_to_fill]).bucket("api").settle("a", 10_000) == 10


# -- files


@pytest.mark.parametrize(
    ("file", "mode"), [("openclaw.yaml", "strong"), ("openclaw-flat.yaml", "eventual")]
)
def test_the_article_runs_in_the_mode_that_it_asks_for(file: str, mode: str) -> None:
    limiter = Limiter.from_file(EXAMPLES / file, node="eu-1", region="eu")
    assert (limiter.node, limiter.region) == ("eu-1", "eu")
    bucket = limiter.bucket("ai-agent-inference")
    assert (bucket.spec.capacity, bucket.spec.refill_rate) == (10_000, 2_000)
    assert bucket.mode == mode
    if mode == "eventual":
        assert bucket.take("tenant-42").mode == "eventual"
    else:
        with pytest.raises(AcquireRequired, match=r"await bucket\.acquire\(key, cost\)"):
            bucket.take("tenant-42")


def test_strong_without_a_redis_is_eventual_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(
        "rating:\n  consistency: strong\n  bucket_backend:\n    connection: {host: }\n"
        "services:\n  api:\n    limit: 10/s\n"
    )
    with caplog.at_level(logging.INFO, "crdtbucket"):
        limiter = Limiter.from_file(file, node="eu-1")
    assert limiter.bucket("api").take("k").mode == "eventual"
    (line,) = [record for record in caplog.records if record.name == "crdtbucket"]
    assert line.levelno == logging.WARNING
    assert "asks for strong consistency and names no Redis" in line.getMessage()


def test_arguments_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(
        "node: eu-1\nregion: eu\nmesh:\n  listen: 127.0.0.1:7946\nservices:\n"
        "  api:\n    limit: 10/s\n"
    )
    plain = Limiter.from_file(file)
    assert (plain.node, plain.region) == ("eu-1", "eu")
    other = Limiter.from_file(str(file), node="us-1", region="")
    assert (other.node, other.region) == ("us-1", "")


# -- the off switch


@pytest.mark.parametrize("given", ["false", 0, None])
def test_an_off_switch_that_is_no_bool_is_refused(given: Any) -> None:
    """The text of an environment variable would be true, whatever it says."""
    with pytest.raises(InvalidSpec, match="write true or false"):
        Limiter([BucketSpec("api", 1, 1)], enabled=given)


def test_a_limiter_that_is_switched_off_admits_everything_and_counts() -> None:
    overrides = [("gold-*", BucketSpec("x", 2, 1, "1d"))]
    limiter = Limiter([BucketSpec("api", 1, 1, "1d", overrides=overrides)], enabled=False)
    for name, key in (("api", "k"), ("api[gold-*]", "gold-1")):
        bucket = limiter.bucket("api")
        assert all(bucket.take(key) for _ in range(5))
        counted = limiter.stats()["buckets"][name]
        assert (counted["allowed"] + counted["shadowed"], counted["denied"]) == (5, 0)
        assert counted["shadowed"] == 4 if name == "api" else 3


def test_a_file_switches_limiting_off_and_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "limits.yaml"
    text = "rating:\n  enabled: {}\nservices:\n  api:\n    limit: 2/d\n"
    file.write_text(text.format("false"))
    limiter = Limiter.from_file(file)
    assert "rating.enabled is false: every call is admitted" in caplog.text
    bucket = limiter.bucket("api")
    assert [bucket.take("k").allowed for _ in range(4)] == [True] * 4
    file.write_text(text.format("true"))
    limiter.reload()
    assert not bucket.take("k")  # what was taken before counts
    file.write_text(text.format("false"))
    limiter.reload()
    assert bucket.take("k").shadowed
    assert limiter.stats()["config"]["reloads"] == 2


# -- mistakes


@pytest.mark.parametrize("buckets", [SPEC, "100/minute", None, 7, ["100/minute"], [None]])
@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_no_list_of_definitions_names_the_fix(buckets: Any, enabled: bool) -> None:
    with pytest.raises(InvalidSpec, match=r"BucketSpec\.parse\(") as caught:
        Limiter(buckets, enabled=enabled)
    assert caught.value.field == "buckets"


def test_a_limiter_and_a_bucket_say_why_they_cannot_be_pickled() -> None:
    limiter = Limiter([SPEC])
    for one in (limiter, limiter.bucket("api")):
        for copying in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="make one in each process"):
                copying(one)


# -- looking


def test_keys_lists_what_was_taken_here() -> None:
    limiter = Limiter([SPEC, BucketSpec("other", 5, 1)])
    for key in ("a", b"\xff", "c"):
        limiter.bucket("api").take(key)
    limiter.bucket("other").take("elsewhere")
    limiter.bucket("api").peek("only looked at")
    assert set(limiter.keys("api")) == {"a", b"\xff", "c"}
    assert limiter.keys("other") == ["elsewhere"]
    assert len(limiter.keys("api", limit=2)) == 2
    assert limiter.keys("api", limit=0) == []


def test_stats_count_what_happened() -> None:
    limiter = Limiter([SPEC], node="eu-1", region="eu")
    bucket = limiter.bucket("api")
    bucket.take("a", 4)
    bucket.take("a", 9)
    bucket.reserve("a", 2).__enter__()
    stats = limiter.stats()
    assert (stats["node"], stats["region"]) == ("eu-1", "eu")
    assert stats["table"]["keys"] == 1
    counted = stats["buckets"]["api"]
    assert {name: counted[name] for name in ("allowed", "denied", "granted")} == {
        "allowed": 2,
        "denied": 1,
        "granted": 6,
    }
    assert (counted["reservations_held"], counted["waiting"], counted["late_commits"]) == (1, 0, 0)
    assert "mesh" not in stats


# -- opening and closing


def test_with_runs_the_upkeep_in_a_thread_and_ends_it() -> None:
    before = set(threading.enumerate())
    with Limiter([SPEC]) as limiter:
        assert limiter.bucket("api").take("a")
        assert len(set(threading.enumerate()) - before) == 1
        assert "open in a thread" in repr(limiter)
    assert set(threading.enumerate()) <= before  # one of an earlier test may end meanwhile
    with pytest.raises(LimiterClosed):
        limiter.bucket("api").take("a")
    limiter.close()


@virtually
async def test_async_with_opens_and_closes(time: VirtualTime) -> None:
    async with limiter_in(time) as limiter:
        assert await limiter.bucket("api").acquire("a")
        assert "open on an event loop" in repr(limiter)
    with pytest.raises(LimiterClosed):
        await limiter.bucket("api").acquire("a")
    await limiter.aclose()
    limiter.close()


def test_every_decision_of_a_closed_limiter_says_so() -> None:
    limiter = Limiter([SPEC])
    bucket = limiter.bucket("api")
    limiter.close()
    calls = [
        lambda: bucket.take("a"),
        lambda: bucket.peek("a"),
        lambda: bucket.take_many(["a"]),
        lambda: bucket.settle("a", 1),
        lambda: bucket.reserve("a", 1).__enter__(),
        limiter.__enter__,
        lambda: asyncio.run(limiter.__aenter__()),
        lambda: asyncio.run(bucket.wait("a")),
    ]
    for call in calls:
        with pytest.raises(LimiterClosed):
            call()
    with pytest.raises(LimiterClosed, match="decide before its `with` block ends"):
        bucket.take("a")
    assert limiter.stats()["table"]["keys"] == 0


def test_a_limiter_is_opened_once() -> None:
    async def main() -> None:
        async with Limiter([SPEC]) as limiter:
            with pytest.raises(CrdtbucketError, match="open on an event loop already"):
                await limiter.__aenter__()
            with pytest.raises(CrdtbucketError, match="open on an event loop already"):
                limiter.__enter__()
            with pytest.raises(CrdtbucketError, match="await aclose"):
                limiter.close()
            assert limiter.bucket("api").take("a")
        with pytest.raises(LimiterClosed, match="make a new one"):
            await limiter.__aenter__()

    asyncio.run(main())
    with Limiter([SPEC]) as limiter, pytest.raises(CrdtbucketError, match="in a thread already"):
        limiter.__enter__()


def test_a_limiter_is_closed_where_it_was_opened() -> None:
    limiter = Limiter([SPEC])
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(limiter.__aenter__())
        with pytest.raises(CrdtbucketError, match="event loop on which it was opened"):
            asyncio.run(limiter.aclose())
        assert limiter.bucket("api").take("a")
        loop.run_until_complete(limiter.aclose())
    finally:
        loop.close()


def test_aclose_also_closes_what_runs_in_a_thread() -> None:
    before = set(threading.enumerate())
    limiter = Limiter([SPEC]).__enter__()

    async def main() -> None:
        await limiter.aclose()
        await limiter.aclose()
        # What ran the blocking close is a thread of the event loop's own pool.
        assert not [t for t in threading.enumerate() if "upkeep" in t.name]

    asyncio.run(main())
    assert set(threading.enumerate()) <= before  # one of an earlier test may end meanwhile


@pytest.mark.parametrize("error", [LimiterClosed, NodeConflict])
@virtually
async def test_who_waits_sees_the_end_at_once(error: type[Exception], time: VirtualTime) -> None:
    limiter = limiter_in(time, BucketSpec("api", 10, 1, "1h"))
    bucket = limiter.bucket("api")
    bucket.take("a", 10)
    async with limiter:
        waiting = asyncio.ensure_future(bucket.wait("a"))
        await asyncio.sleep(0.5)
        if error is NodeConflict:
            limiter._tables.main.refuse(NodeConflict("two are called eu-1"))
            limiter._node._refused(NodeConflict("two are called eu-1"))
            with pytest.raises(NodeConflict):
                await waiting
    if error is LimiterClosed:
        with pytest.raises(LimiterClosed):
            await waiting
    assert time.elapsed == pytest.approx(0.5)


# -- upkeep


@virtually
async def test_a_lost_reservation_comes_back_while_the_limiter_is_open(time: VirtualTime) -> None:
    async with limiter_in(time, BucketSpec("llm", 1_000, 1, "1h")) as limiter:
        bucket = limiter.bucket("llm")
        await asyncio.sleep(0.35)
        bucket.reserve("a", estimate=800, ttl=2.5).__enter__()
        await asyncio.sleep(2.5 - 0.01)
        assert bucket.peek("a").remaining == 200
        await asyncio.sleep(0.02)  # the beat before it saw when it would be due
        assert bucket.peek("a").remaining == 1_000
        assert limiter.stats()["buckets"]["llm"]["reservations_expired"] == 1


@virtually
async def test_full_and_idle_keys_are_evicted_while_the_limiter_is_open(time: VirtualTime) -> None:
    async with limiter_in(time) as limiter:
        bucket = limiter.bucket("api")
        bucket.take_many([f"key {n}" for n in range(10_000)])
        bucket.settle("in debt", 1_000)
        assert limiter.stats()["table"]["keys"] == 10_001
        await asyncio.sleep(120)
        assert limiter.stats()["table"]["keys"] == 0


class StubNode:
    """The node of a limiter, as upkeep sees it."""

    def __init__(self, save: Callable[[], None] | None = None, *, alone: bool = True) -> None:
        self.alone = alone
        self.saved = SimpleNamespace(save=save, directory=save)

    def beat(self) -> None:
        """Nothing is due."""


def test_upkeep_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    time = VirtualTime()
    bucket = time.bucket()
    beats: list[float] = []

    class Failing(Upkeep):
        def beat(self) -> float:
            beats.append(time.elapsed)
            if len(beats) == 2:
                raise ZeroDivisionError("a planted failure")
            return super().beat()

    async def main() -> None:
        upkeep = Failing(tables_of(time.table), [bucket], StubNode())
        upkeep.start_on_loop()
        await asyncio.sleep(3 * BEAT_S + 0.1)
        upkeep.stop()
        await asyncio.sleep(5 * BEAT_S)

    with caplog.at_level(logging.ERROR, "crdtbucket"):
        time.run(main())
    assert beats == [pytest.approx(n * BEAT_S) for n in range(4)]
    assert ["planted" in (record.exc_text or "") for record in caplog.records] == [True]


async def test_a_snapshot_is_written_beside_the_event_loop() -> None:
    """It takes as long as the disk does, and decisions and gossip must not wait for it."""
    table = Table(max_keys=16, virtual=True)
    began, may_end = asyncio.Event(), threading.Event()
    saves: list[threading.Thread] = []
    loop = asyncio.get_running_loop()

    def save() -> None:
        saves.append(threading.current_thread())
        loop.call_soon_threadsafe(began.set)
        assert may_end.wait(60)

    upkeep = Upkeep(tables_of(table), [], StubNode(alone=False, save=save))
    table.set_time(SAVE_NS)
    upkeep.start_on_loop()
    try:
        await asyncio.wait_for(began.wait(), 60)
        table.set_time(2 * SAVE_NS)
        upkeep.beat()  # the first one is still being written
    finally:
        may_end.set()
        upkeep.stop()
    await loop.shutdown_default_executor()
    assert len(saves) == 1
    assert saves[0] is not threading.main_thread()


def test_a_disk_that_stays_full_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(max_keys=16, virtual=True)
    full, read_only = MeshError("the disk is full"), MeshError("the disk is read-only")
    answers: list[Exception | None] = [full, MeshError(str(full)), read_only, None, None]

    def save() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    upkeep = Upkeep(tables_of(table), [], StubNode(alone=False, save=save))
    with caplog.at_level(logging.INFO, "crdtbucket"):
        for n in range(1, 6):
            table.set_time(n * SAVE_NS)
            upkeep.beat()
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [
        ("ERROR", None),
        ("ERROR", None),
        ("INFO", None),
    ]
    fix = "make room there, or make it writable; it is tried again every 10 s"
    assert caplog.messages == [
        f"no snapshot is kept: {full}; {fix}",
        f"no snapshot is kept: {read_only}; {fix}",
        "a snapshot is kept again",
    ]
    assert not answers


def test_a_bug_in_saving_is_logged_once_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(max_keys=16, virtual=True)
    answers: list[Exception | None] = [ZeroDivisionError(), ZeroDivisionError(), None, None]

    def save() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    upkeep = Upkeep(tables_of(table), [], StubNode(alone=False, save=save))
    with caplog.at_level(logging.INFO, "crdtbucket"):
        for n in range(1, 5):
            table.set_time(n * SAVE_NS)
            upkeep.beat()
    assert caplog.messages == [BUG, MENDED]
    assert not answers
